"""Repairer: fetches over history what the stream does not bring, and says when a bar does not exist."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from alpha_forge.contracts.clock import Clock
from alpha_forge.contracts.errors import AlphaForgeError, SourceError
from alpha_forge.contracts.interval import NS, iso
from alpha_forge.contracts.types import Bar
from alpha_forge.runtime.delivery.backoff import Backoff
from alpha_forge.runtime.feed import Feed
from alpha_forge.runtime.sequencer import RepairRequest

log = logging.getLogger("alpha_forge.repair")


class Repairer:
    """Answers the gates' repair requests, each in a task of its own. Everything runs on the event loop."""

    def __init__(self, clock: Clock, buffer_ns: int, wake: asyncio.Event) -> None:
        self._clock = clock
        self._buffer_ns = buffer_ns
        self._wake = wake
        self._tasks: set[asyncio.Task[None]] = set()
        self._broken: BaseException | None = None

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
                task = asyncio.create_task(self._fetch(feed, request))
                self._tasks.add(task)
                task.add_done_callback(self._finished)
        return asked

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

    async def _fetch(self, feed: Feed, request: RepairRequest) -> None:
        """Answer one request. The source's silence is proof only once its lag has passed."""
        proof = request.end + int(type(feed.source).history_lag * NS)
        backoff = Backoff(1.0)
        while True:
            try:
                # Asked first: only what the source had passed before it answered is proved by its silence.
                passed = proof if feed.ended else await feed.source.passed(proof, self._clock.now())
                bars = await self._bars(feed, request)
                break
            except AlphaForgeError as error:
                log.warning("%s: repair up to %s failed: %s", feed.name, iso(request.end), error.message)
                await self._clock.sleep(backoff.failed())
        certain = passed >= proof
        row = feed.spec.interval.row
        wanted = len(request.symbols) * (row(request.end) - row(request.start))
        if not certain and len(bars) < wanted:
            await self._clock.sleep((proof - passed) / NS)
        for problem in feed.sequencer.resolve(request, bars, certain):
            log.warning("%s: bar of a repair refused: %s", feed.name, problem)
        if certain or bars:
            some = ", ".join(feed.spec.symbols[s] for s in request.symbols[:3])
            more = " …" if len(request.symbols) > 3 else ""
            text = "%s: %d of %d missing bar(s) of %s%s up to %s fetched"
            log.info(text, feed.name, len(bars), wanted, some, more, iso(request.end))
        self._wake.set()

    async def _bars(self, feed: Feed, request: RepairRequest) -> list[tuple[int, Bar]]:
        place = {feed.spec.symbols[s]: s for s in request.symbols}
        bars: list[tuple[int, Bar]] = []
        async for block in feed.source.history(list(place), request.start, request.end):
            columns = (block.ts, block.open, block.high, block.low, block.close, block.volume)
            rows = zip(*(c.tolist() for c in columns), strict=True)
            bars += [(place[block.symbol], Bar(*row)) for row in rows]
        return bars
