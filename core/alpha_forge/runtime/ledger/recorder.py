"""BarLedger: the ledgers of all frames of a run and its certificate, written on a thread of their own."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from alpha_forge.contracts.clock import Clock
from alpha_forge.contracts.interval import NS
from alpha_forge.contracts.types import BarBatch
from alpha_forge.runtime.feed import Feed
from alpha_forge.runtime.ledger import certificate as certificates
from alpha_forge.runtime.ledger.frame import FrameLedger, Keep, Past
from alpha_forge.runtime.recent import Revision
from alpha_forge.runtime.sequencer import Unsettled
from alpha_forge.runtime.state import StateDirectory

log = logging.getLogger("alpha_forge.ledger")

HOUR = 3600 * NS
BACKLOG = 20_000
"""Batches that may wait for the ledger; beyond it, whoever adds one waits too."""


class BarLedger:
    """Takes what a run processes, in order, and says at any time whether anything is missing.

    ``begin``, ``note`` and ``tick`` cost the run next to nothing: hashing and writing happen on the ledger's thread.
    With a state directory, segments are kept in ``NAME.bars``, a folder for each frame, and the newest certificate in
    ``NAME.certificate.json``; without one, everything is in memory.
    """

    def __init__(
        self,
        name: str,
        feeds: Sequence[Feed],
        clock: Clock,
        buffer_ns: int,
        state: StateDirectory | None = None,
        keep: Keep | None = None,
    ) -> None:
        self.name = name
        self.file = state.path("certificate.json") if state is not None else None
        self.newest: Mapping[str, Any] | None = None
        """The certificate that was made last."""
        self._clock = clock
        self._buffer_ns = buffer_ns
        self._feeds = feeds
        self._frames = {feed.name: _frame_ledger(feed, state, keep) for feed in feeds}
        self._certifier = Certifier(feeds, clock.now())
        self._making: Future[Mapping[str, Any] | None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        self._queue: deque[tuple[str, BarBatch | list[Revision]]] = deque()
        self._lock = threading.Lock()
        self._scheduled: Future[None] | None = None
        self._begun = False
        self._closed = False
        self._now = 0

    async def begin(self, pasts: Mapping[str, Past]) -> None:
        """Take what the run begins with. Raises UsageError AF5061 for a ledger of a newer version."""
        now = self._clock.now()

        def work() -> None:
            for name, past in pasts.items():
                self._frames[name].begin(past, now)

        await asyncio.wrap_future(self._thread.submit(work))
        self._begun, self._now = True, now

    def note(self, items: Sequence[tuple[str, BarBatch]] | Sequence[tuple[str, list[Revision]]]) -> None:
        """Batches that were processed, or revisions, by frame. From any one thread."""
        now = self._clock.now()
        with self._lock:
            self._queue.extend(items)
            self._now = max(self._now, now)
            if self._queue and self._scheduled is None:
                self._scheduled = self._thread.submit(self._drain)
            waiting = self._scheduled if len(self._queue) > BACKLOG else None
        if waiting is not None:
            waiting.result()

    def _drain(self) -> None:
        while True:
            with self._lock:
                items, now = list(self._queue), self._now
                self._queue.clear()
                if not items:
                    self._scheduled = None
                    return
            try:
                self._take(items, now)
            except Exception:
                # The run does not depend on its ledger; but a ledger that misses something must not certify.
                log.exception("the ledger of %s failed; this run gets no certificate any more", self.name)
                self._begun = False

    def _take(self, items: list[tuple[str, BarBatch | list[Revision]]], now: int) -> None:
        for name, frame in self._frames.items():
            batches: list[BarBatch] = []
            for whose, item in items:
                if whose == name and isinstance(item, BarBatch):
                    batches.append(item)
                elif whose == name and isinstance(item, list):
                    frame.revise(item)
            if batches:
                frame.add(batches, now)

    def tick(self) -> None:
        """Make a certificate if one is due and none is being made. Call often, while no batch is being processed."""
        if self._making is not None and not self._making.done():
            return
        reason = self._certifier.due(self._clock.now())
        if reason is not None:
            self._making = self.certify(reason)

    def certify(self, reason: str) -> Future[Mapping[str, Any] | None]:
        """Make a certificate of everything noted until now, and put it in place; None before `begin`.

        A disk that refuses is logged.
        """
        now = self._clock.now()
        unsettled, facts = {}, {}
        for feed in self._feeds:
            gate = feed.sequencer
            # A source that has ended will bring nothing more: what is missing then is late at once.
            instant = max(now, feed.newest_ts + self._buffer_ns) if feed.ended else now
            unsettled[feed.name] = gate.unsettled(instant, self._buffer_ns)
            counts = {"repeated": gate.counts.repeated, "refused": gate.counts.refused}
            facts[feed.name] = {"source": feed.node.using, **counts}
        return self._thread.submit(self._guarded, now, reason, unsettled, facts)

    def _guarded(self, *what: Any) -> Mapping[str, Any] | None:
        try:
            return self._certify(*what)
        except Exception:
            # The sinks must still be drained and closed, whatever becomes of the certificate.
            log.exception("the certificate of %s could not be made", self.name)
            return None

    def _certify(
        self,
        created: int,
        reason: str,
        unsettled: Mapping[str, Sequence[Unsettled]],
        facts: Mapping[str, Mapping[str, Any]],
    ) -> Mapping[str, Any] | None:
        self._drain()
        if not self._begun:
            return None
        frames = {}
        for name, frame in self._frames.items():
            frame.sync()
            frames[name] = certificates.frame_section(
                frame.state, unsettled.get(name, ()), frame.position, facts[name]
            )
        self.newest = content = certificates.certificate(self.name, created, reason, frames)
        if self.file is not None:
            try:
                certificates.write(self.file, content)
            except OSError as error:
                log.error("the certificate %s can't be written: %s", self.file, error.strerror or error)
        return content

    async def finish(self) -> None:
        """Make the last certificate, and let go of the files. Idempotent."""
        if self._closed:
            return
        self._closed = True
        content = await asyncio.wrap_future(self.certify("shutdown"))
        if content is not None:
            told = "holds" if content["holds"] else "does NOT hold"
            sums = content["totals"]
            log.info(
                "Certificate of the bars %s: %d of %d, %d in holes, %d still missing, %d revision(s)%s",
                *(told, sums["bars"], sums["expected"], sums["holes"], sums["open"], sums["revisions"]),
                f"; {self.file}" if self.file is not None else "",
            )
        self._thread.shutdown(wait=True)
        for frame in self._frames.values():
            frame.close()


def _frame_ledger(feed: Feed, state: StateDirectory | None, keep: Keep | None) -> FrameLedger:
    spec = feed.spec
    folder = state.path("bars") / f"{feed.name}-{spec.interval}" if state is not None else None
    return FrameLedger(feed.name, spec.interval, spec.symbols, feed.origins, folder, keep)


class Certifier:
    """Says when a certificate is due: every hour of the run's clock, and once everything that a broken connection may
    have swallowed is here."""

    def __init__(self, feeds: Sequence[Feed], now: int) -> None:
        self._feeds = feeds
        self._hour = now + HOUR
        self._seen = {feed.name: feed.reconnected for feed in feeds}
        self._owed: dict[str, int] = {}
        """Frame → the newest row that had closed when its source said that it is connected again."""

    def due(self, now: int) -> str | None:
        """Why a certificate is due now (``hour`` or ``reconnect``); each reason is told once. None if none is."""
        for feed in self._feeds:
            if feed.reconnected != self._seen[feed.name]:
                self._seen[feed.name] = feed.reconnected
                self._owed[feed.name] = feed.spec.interval.row(now)
        if self._owed and all(
            feed.sequencer.passed(self._owed[feed.name]) for feed in self._feeds if feed.name in self._owed
        ):
            self._owed.clear()
            return "reconnect"
        if now >= self._hour:
            self._hour = now + HOUR
            return "hour"
        return None
