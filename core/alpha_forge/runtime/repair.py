"""Repairer: fetches over history what the stream does not bring, and says when a bar does not exist."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace

from alpha_forge.contracts.clock import Clock
from alpha_forge.contracts.errors import AlphaForgeError, SourceError
from alpha_forge.contracts.interval import NS, iso
from alpha_forge.contracts.types import Bar
from alpha_forge.runtime.delivery.backoff import Backoff
from alpha_forge.runtime.feed import Feed
from alpha_forge.runtime.sequencer import RepairRequest

log = logging.getLogger("alpha_forge.repair")

AT_ONCE = 8
"""Requests to sources that are under way side by side."""

POLL = 1.0
"""Seconds between two questions about a bar that history lacks, while its lag still excuses it; doubling."""


class Repairer:
    """Answers the gates' repair requests, each in a task of its own. Everything runs on the event loop.

    A request that fails is tried again, with back-off, for as long as the run lasts: its symbols wait, the others go
    on. A failed request for several symbols goes on as two halves, so that one symbol that the source can't serve does
    not keep the others from being repaired. A source that says when it may be asked again is left alone until then.
    """

    def __init__(self, clock: Clock, buffer_ns: int, wake: asyncio.Event) -> None:
        self._clock = clock
        self._buffer_ns = buffer_ns
        self._wake = wake
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._broken: BaseException | None = None
        self._failures = _Sparse()
        self._answers = _Sparse()

    @property
    def busy(self) -> bool:
        """True while any request is under way."""
        return bool(self._tasks)

    def check(self) -> None:
        """Raise SourceError for what a source raised without a code: its symbols would wait for ever."""
        if self._broken is not None:
            raise SourceError(
                "AF5032",
                f"a repair failed: {type(self._broken).__name__}: {self._broken}",
                "ALPHA_FORGE_DEBUG=1 shows the traceback",
            ) from self._broken

    def start(self, feeds: Sequence[Feed]) -> bool:
        """Begin to fetch what is missing now; True if anything is."""
        asked = False
        for feed in feeds:
            # A source that has ended will bring nothing more: what is missing then is late at once.
            now = (
                self._clock.now()
                if not feed.ended
                else max(self._clock.now(), feed.newest_ts + self._buffer_ns)
            )
            for request in feed.sequencer.requests(now, self._buffer_ns):
                asked = True
                self._begin(feed, request, 0)
        return asked

    def _begin(self, feed: Feed, request: RepairRequest, failures: int) -> None:
        task = asyncio.create_task(self._repair(feed, request, failures))
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    async def stop(self) -> None:
        """Cancel what is under way."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._broken = self._broken or error
            self._wake.set()

    async def _repair(self, feed: Feed, request: RepairRequest, failures: int) -> None:
        """Ask until the request is answered. What comes is let through at once, whatever is still missing."""
        backoff = Backoff(1.0)
        backoff.failures = failures
        poll = Backoff(POLL)
        left: RepairRequest | None = request
        while left is not None:
            try:
                passed, bars = await self._ask(feed, left)
            except AlphaForgeError as error:
                self._complain(feed, left, error)
                after = error.after if isinstance(error, SourceError) else None
                await self._clock.sleep(max(backoff.failed(), after or 0.0))
                # A ban is no symbol's fault.
                if len(left.symbols) > 1 and after is None:
                    half = len(left.symbols) // 2
                    for symbols in (left.symbols[:half], left.symbols[half:]):
                        self._begin(feed, replace(left, symbols=symbols), backoff.failures)
                    return
                # The stream may have brought it meanwhile.
                left = feed.sequencer.settle(left)
                continue
            backoff.reset()
            left = self._answer(feed, left, passed, bars)
            self._wake.set()
            if left is not None:
                wait = max((self._proof(feed, left) - passed) / NS, 0.0)
                await self._clock.sleep(min(wait, POLL + poll.failed()))

    def _proof(self, feed: Feed, request: RepairRequest) -> int:
        """The instant that the source must have passed for its silence about the newest bar to prove anything."""
        return request.end + int(type(feed.source).history_lag * NS)

    async def _ask(self, feed: Feed, request: RepairRequest) -> tuple[int, list[tuple[int, Bar]]]:
        """(instant that the source had passed before it answered, the bars it has)."""
        proof = self._proof(feed, request)
        async with self._slots:
            # Asked first: only what the source had passed before it answered is proved by its silence.
            passed = proof if feed.ended else await feed.source.passed(proof, self._clock.now())
            return passed, await self._bars(feed, request)

    def _answer(
        self, feed: Feed, request: RepairRequest, passed: int, bars: list[tuple[int, Bar]]
    ) -> RepairRequest | None:
        """Give an answer to the gate; what is left to ask for."""
        gate = feed.sequencer
        before = gate.counts.repaired
        for problem in gate.fill(bars):
            log.warning("%s: bar of a repair refused: %s", feed.name, problem)
        left = gate.settle(request)
        absent = 0
        if left is not None:
            absent = gate.certify(left, passed - int(type(feed.source).history_lag * NS), passed)
            left = gate.settle(left)
        self._tell(feed, request, gate.counts.repaired - before, absent)
        return left

    def _tell(self, feed: Feed, request: RepairRequest, fetched: int, absent: int) -> None:
        more = self._answers.more() if fetched or absent else None
        if more is not None:
            text = "%s: %d missing bar(s) of %s up to %s fetched, %d certified absent%s"
            rest = f"; {more} more repairs since the last such line" if more else ""
            log.info(text, feed.name, fetched, _names(feed, request), iso(request.end), absent, rest)

    def _complain(self, feed: Feed, request: RepairRequest, error: AlphaForgeError) -> None:
        more = self._failures.more()
        if more is not None:
            text = "%s: repair of %s up to %s failed and will be tried again: %s%s"
            rest = f"; {more} more failures since the last such line" if more else ""
            log.warning(text, feed.name, _names(feed, request), iso(request.end), error.message, rest)

    async def _bars(self, feed: Feed, request: RepairRequest) -> list[tuple[int, Bar]]:
        place = {feed.spec.symbols[s]: s for s in request.symbols}
        bars: list[tuple[int, Bar]] = []
        async for block in feed.source.history(list(place), request.start, request.end):
            columns = (block.ts, block.open, block.high, block.low, block.close, block.volume)
            rows = zip(*(c.tolist() for c in columns), strict=True)
            bars += [(place[block.symbol], Bar(*row)) for row in rows]
        return bars


class _Sparse:
    """Lets one log line through a minute: hundreds of symbols fail together when a service does.

    A minute of real time: however fast the run's clock is, a disk is not.
    """

    EVERY = 60.0

    def __init__(self) -> None:
        self._last: float | None = None
        self._unsaid = 0

    def more(self) -> int | None:
        """None if the line must not be written; else how many have not been since the last one."""
        now = asyncio.get_running_loop().time()
        if self._last is not None and now - self._last < self.EVERY:
            self._unsaid += 1
            return None
        unsaid, self._last, self._unsaid = self._unsaid, now, 0
        return unsaid


def _names(feed: Feed, request: RepairRequest) -> str:
    names = ", ".join(feed.spec.symbols[s] for s in request.symbols[:3])
    return f"{names} and {len(request.symbols) - 3} more" if len(request.symbols) > 3 else names
