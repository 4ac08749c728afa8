"""Feed: one data step at work: its source, the events that have come, and its gate."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from alpha_forge.contracts.errors import AlphaForgeError, SourceError
from alpha_forge.contracts.interval import iso
from alpha_forge.contracts.plugin import DataSource
from alpha_forge.contracts.types import BAR_CLOSE, Bar, BarBatch, MarketEvent
from alpha_forge.plan.graph import FrameSpec, Node
from alpha_forge.runtime.ledger.origins import Origins
from alpha_forge.runtime.recent import Revision
from alpha_forge.runtime.sequencer import BarSequencer

log = logging.getLogger("alpha_forge.feed")

RECONNECTED = "source.reconnected"
"""`MarketEvent.type` by which a source says that its stream was interrupted and goes on: bars may be missing."""

INBOX_LIMIT = 20_000
"""Closed bars that may wait; beyond it a source that is faster than the graph is paused."""


class LogLimit:
    """Lets one line through for each close, and counts the others: what goes wrong often must not fill a disk."""

    def __init__(self) -> None:
        self._row = -1
        self._unsaid = 0

    def more(self, row: int, count: int) -> int | None:
        """None if `count` things must stay unsaid at `row`; else how many there are besides the first one."""
        if row == self._row:
            self._unsaid += count
            return None
        more = count - 1 + self._unsaid
        self._row, self._unsaid = row, 0
        return more


class Feed:
    """Takes events from a source as they come. Everything runs on the event loop."""

    def __init__(self, node: Node, spec: FrameSpec, source: DataSource, wake: asyncio.Event) -> None:
        self.node = node
        self.spec = spec
        self.source = source
        self.sequencer = BarSequencer(spec.interval, spec.symbols)
        self.origins = Origins()
        self.inbox: list[tuple[int, Bar, str]] = []
        self.first = asyncio.Event()
        self.first_row: int | None = None
        """Row of the bar that the first event belongs to: everything before it is history."""
        self.newest_ts = 0
        self.events = 0
        self.reconnected = 0
        """How often the source has said that its stream was interrupted."""
        self.ended = False
        self._place = {s: i for i, s in enumerate(spec.symbols)}
        self._wake = wake
        self._room = asyncio.Event()
        self._room.set()
        self._task: asyncio.Task[None] | None = None
        self._refusals = LogLimit()
        self._revisions = LogLimit()

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def ticks(self) -> bool:
        """True if its bars are mere instants: they follow the others' time, and no market is in them."""
        return type(self.source).ticks

    def start(self) -> None:
        """Begin to take events. Must be called before history is fetched, so that nothing falls between."""
        self._task = asyncio.create_task(self._take(), name=f"feed {self.name}")

    async def _take(self) -> None:
        try:
            async for event in self.source.stream():
                self._note(event)
                if len(self.inbox) >= INBOX_LIMIT:
                    self._room.clear()
                    await self._room.wait()
        finally:
            self.ended = True
            self.first.set()
            self._wake.set()

    def _note(self, event: MarketEvent) -> None:
        self.events += 1
        if event.type != BAR_CLOSE:
            if event.type == RECONNECTED:
                self.reconnected += 1
                self._wake.set()
            return
        if self.first_row is None:
            self.first_row = self.spec.interval.row(event.ts)
            self.first.set()
        if event.closed and event.bar is not None and event.symbol is not None:
            place = self._place.get(event.symbol)
            if place is not None:
                self.inbox.append((place, event.bar, event.origin))
                self.newest_ts = max(self.newest_ts, event.ts)
                self._wake.set()

    async def wait_first(self, seconds: float) -> int:
        """Row of the bar that the first event belongs to. Raises SourceError after `seconds` of silence."""
        try:
            await asyncio.wait_for(self.first.wait(), seconds)
        except TimeoutError:
            raise SourceError(
                "AF5030",
                f"{self.node.using} sent no event for {', '.join(self.spec.symbols[:3])}"
                f"{' …' if len(self.spec.symbols) > 3 else ''} within {seconds:g} s of connecting",
                "check the endpoints, the symbols, and that nothing between filters the connection",
            ) from None
        self.check()
        if self.first_row is None:
            raise SourceError(
                "AF5031",
                f"{self.node.using} ended before it sent a bar",
                "check the range that it reads (stream_from of data.files)",
            )
        return self.first_row

    def check(self) -> None:
        """Raise what ended the stream, if it failed."""
        if self._task is not None and self._task.done() and not self._task.cancelled():
            error = self._task.exception()
            if isinstance(error, AlphaForgeError):
                raise error
            if error is not None:
                raise SourceError(
                    "AF5032",
                    f"{self.node.using} failed: {type(error).__name__}: {error}",
                    "ALPHA_FORGE_DEBUG=1 shows the traceback",
                ) from error

    def sort_in(self) -> list[Revision]:
        """Offer everything that has come to the gate; returns the revisions among it, which are logged."""
        inbox, self.inbox = self.inbox, []
        self._room.set()
        offer, code = self.sequencer.offer, self.origins.code
        refused = [
            (place, problem)
            for place, bar, origin in inbox
            if (problem := offer(place, bar, code(origin))) is not None
        ]
        if refused:
            self._report_refused(refused)
        revisions, self.sequencer.revisions = self.sequencer.revisions, []
        self.report(revisions)
        return revisions

    @property
    def _newest_row(self) -> int:
        return self.spec.interval.row(self.newest_ts)

    def _report_refused(self, refused: list[tuple[int, str]]) -> None:
        more = self._refusals.more(self._newest_row, len(refused))
        if more is not None:
            place, problem = refused[0]
            rest = f"; and {more} more bars" if more else ""
            log.warning("%s: bar of %s refused: %s%s", self.name, self.spec.symbols[place], problem, rest)

    def report(self, revisions: list[Revision]) -> None:
        """Log revisions: the first one that is seen in each interval, and how many there were besides."""
        more = self._revisions.more(self._newest_row, len(revisions)) if revisions else None
        if more is None:
            return
        first, name = revisions[0], self.origins.name
        known = f"{first.processed} ({name(first.processed_origin)})" if first.processed else "nothing"
        log.warning(
            "%s: the bar of %s at %s came again with other values: %s was processed and stands, %s now says %s%s",
            self.name,
            self.spec.symbols[first.symbol],
            iso(self.spec.interval.ts(first.row)),
            known,
            name(first.other_origin),
            first.other,
            f"; and {more} more revisions" if more else "",
        )

    def take(self) -> Iterable[tuple[str, BarBatch]]:
        """What may go to the frames now."""
        return [(self.name, batch) for batch in self.sequencer.take()]

    async def stop(self) -> None:
        """Stop taking events and close the source. Idempotent; a source that fails to close is logged."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        try:
            await self.source.close()
        except Exception as error:  # noqa: BLE001 - a source's code; the run is over and its data is safe
            log.warning("%s: closing failed: %s: %s", self.node.using, type(error).__name__, error)
