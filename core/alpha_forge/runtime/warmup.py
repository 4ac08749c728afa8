"""Warm-up without a gap: the stream is open first, then history up to the bar in progress, then one merged past."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from alpha_forge.contracts.interval import Interval, iso
from alpha_forge.contracts.plugin import DataSource
from alpha_forge.contracts.types import Bar, BarBatch, BarBlock
from alpha_forge.plan.graph import EventFlowDAG, FrameSpec
from alpha_forge.runtime.catch_up import CatchUp
from alpha_forge.runtime.engine import Engine
from alpha_forge.runtime.feed import Feed
from alpha_forge.runtime.ledger.frame import Past
from alpha_forge.runtime.ledger.origins import Origins
from alpha_forge.runtime.ledger.recorder import BarLedger
from alpha_forge.runtime.progress import Progress
from alpha_forge.runtime.recent import Revision
from alpha_forge.runtime.results import PredictedRow
from alpha_forge.runtime.sequencer import refusal

log = logging.getLogger("alpha_forge.warmup")

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.uint8]

T = TypeVar("T")

Emit = Callable[[Sequence[PredictedRow]], object]

CHUNK = 64
"""Rows that go to the engine at once: often enough for a progress bar, seldom enough to cost nothing."""


@dataclass(slots=True)
class History:
    """Bars of one frame on the grid: ``values`` (5, rows, symbols), NaN where absent; row 0 is number ``first``.

    ``origins`` (rows, symbols) has the code of where each bar came from. The last ``young`` rows are so young that
    history may lack bars that exist. ``revisions`` are bars that the stream brought meanwhile with other values than
    history had; here, the stream's are what is processed.
    """

    first: int
    values: Float
    origins: Codes = field(default_factory=lambda: np.empty((0, 0), dtype=np.uint8))
    revisions: list[Revision] = field(default_factory=list)
    young: int = 0

    def __post_init__(self) -> None:
        if self.origins.shape != self.values.shape[1:]:
            self.origins = np.zeros(self.values.shape[1:], dtype=np.uint8)

    @property
    def rows(self) -> int:
        return int(self.values.shape[1])

    @property
    def present(self) -> Bool:
        found: Bool = ~np.isnan(self.values[3])
        return found

    def last_rows(self) -> Int:
        """(symbols,) number of each symbol's newest bar; -1 for one without any."""
        mask = self.present
        back = mask[::-1].argmax(axis=0)
        return np.where(mask.any(axis=0), self.first + self.rows - 1 - back, -1)

    def owed_from(self) -> Int:
        """(symbols,) first row that the stream, or a repair, still owes: after the newest bar; of a symbol without any
        bar, after the rows for which its silence is an answer."""
        last = self.last_rows()
        return np.where(last >= 0, last + 1, self.first + self.rows - min(self.young, self.rows))


@dataclass(frozen=True, slots=True)
class FrameWarmup:
    """How one data frame was warmed."""

    anchor: int
    """Close of the last bar of the past, ns."""
    bars: int
    next_rows: Int
    """(symbols,) row of the first bar that the stream still owes."""


@dataclass(frozen=True, slots=True)
class WarmupResult:
    """What warm-up leaves behind, by data frame."""

    frames: Mapping[str, FrameWarmup]

    @property
    def bars(self) -> int:
        return sum(f.bars for f in self.frames.values())


class WarmupDataService:
    """Fetches history and merges it with what the stream has brought meanwhile."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    async def fetch(self, feed: Feed, anchor_row: int, bars: int) -> History:
        """The last `bars` rows up to `anchor_row` from the feed's source."""
        return await fetch_history(feed.source, feed.spec, anchor_row, bars, self._progress, feed.origins)

    def merge(self, history: History, feed: Feed) -> None:
        """Closed bars of the stream that belong to the past win over history.

        One with a hole between it and history's newest bar is left to the gate, which knows how to have the hole
        repaired: history may lag behind the stream, so that its silence there proves nothing.
        """
        rest: list[tuple[int, Bar, str]] = []
        interval = feed.spec.interval
        newest = history.owed_from() - 1
        for item in sorted(feed.inbox, key=lambda item: item[1].ts):
            place, bar, origin = item
            row = interval.row(bar.ts)
            if row >= history.first + history.rows or newest[place] < row - 1:
                rest.append(item)
            elif row >= history.first and refusal(bar, interval) is None:
                self._take_over(history, row, place, bar, feed.origins.code(origin))
                newest[place] = max(newest[place], row)
        feed.inbox = rest
        feed.report(history.revisions)

    def _take_over(self, history: History, row: int, place: int, bar: Bar, origin: int) -> None:
        at = row - history.first
        known = history.values[:, at, place].tolist()
        new = (bar.open, bar.high, bar.low, bar.close, bar.volume)
        if known[3] == known[3] and tuple(known) != new:
            its = int(history.origins[at, place])
            history.revisions.append(Revision(place, row, new, origin, tuple(known), its))
        history.values[:, at, place] = new
        history.origins[at, place] = origin


async def fetch_history(
    source: DataSource,
    spec: FrameSpec,
    last_row: int,
    bars: int,
    progress: Progress,
    origins: Origins | None = None,
) -> History:
    """The last `bars` rows up to `last_row` from a source's history, checked at the gate. `origins` gives the codes
    of where they came from."""
    origins = origins or Origins()
    young = math.ceil(type(source).history_lag / spec.interval.seconds)
    history = History(last_row - bars + 1, np.full((5, bars, len(spec.symbols)), np.nan), young=young)
    task = f"history of {spec.name}"
    progress.start(task, len(spec.symbols) * bars)
    place = {s: i for i, s in enumerate(spec.symbols)}
    refused = 0
    start, end = spec.interval.ts(history.first - 1), spec.interval.ts(last_row)
    async for block in source.history(spec.symbols, start, end):
        code = origins.code(block.origin)
        refused += put_block(history, place[block.symbol], block, spec.interval, code)
        progress.advance(task, len(block))
    progress.finish(task)
    if refused:
        log.warning("%s: %d bar(s) of the history refused at the gate", spec.name, refused)
    return history


def put_block(history: History, place: int, block: BarBlock, interval: Interval, origin: int) -> int:
    """Write a block's bars that pass the gate (as `sequencer.refusal` has it); returns how many did not."""
    values = np.stack((block.open, block.high, block.low, block.close, block.volume))
    ts = np.asarray(block.ts, dtype=np.int64)
    at = (ts - interval.offset) // interval.ns - history.first
    good = (ts - interval.offset) % interval.ns == 0
    good &= np.isfinite(values).all(axis=0) & (values[:4] > 0).all(axis=0) & (values[4] >= 0)
    good &= (values[1] >= values[[0, 2, 3]].max(axis=0)) & (values[2] <= values[[0, 3]].min(axis=0))
    inside = good & (at >= 0) & (at < history.rows)
    history.values[:, at[inside], place] = values[:, inside]
    history.origins[at[inside], place] = origin
    return int((~good).sum())


class WarmupProcessor:
    """Runs the past through the engine, row by row: the same code that the stream goes through.

    `emit` gets what closes after `since` (ns) predict: bars that closed while no process ran.
    """

    def __init__(
        self,
        dag: EventFlowDAG,
        engine: Engine,
        progress: Progress,
        since: int | None = None,
        emit: Emit | None = None,
    ) -> None:
        self._dag = dag
        self._engine = engine
        self._progress = progress
        self._since = since
        self._emit = emit

    def run(self, histories: Mapping[str, History]) -> None:
        """Process all rows of all frames in the order of their closes."""
        run_history(
            self._dag, self._engine, histories, self._progress, "warm-up", since=self._since, emit=self._emit
        )


def run_history(
    dag: EventFlowDAG,
    engine: Engine,
    histories: Mapping[str, History],
    progress: Progress,
    task: str,
    after: Callable[[], None] | None = None,
    *,
    since: int | None = None,
    emit: Emit | None = None,
) -> None:
    """Take an engine through the past; `after` is called when some rows, at most `CHUNK`, have been processed.

    `emit` gets the predictions of closes after `since` (ns); without it, nothing of the past predicts.
    """
    progress.start(task, sum(h.rows for h in histories.values()))
    engine.begin({name: np.full(h.values.shape[2], h.first) for name, h in histories.items()})
    for chunk in batched(merged(dag, histories), CHUNK):
        past = [item for item in chunk if since is None or emit is None or item[1].ts <= since]
        engine.warm(past)
        if emit is not None and len(past) < len(chunk):
            emit(engine.process(chunk[len(past) :]))
        if after is not None:
            after()
        progress.advance(task, len(chunk))
    progress.finish(task)


def batched(items: Iterator[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items, the last one shorter."""
    while chunk := list(islice(items, size)):
        yield chunk


def merged(
    dag: EventFlowDAG, histories: Mapping[str, History], *, certain: bool = False
) -> Iterator[tuple[str, BarBatch]]:
    """Batches of all frames, by close, then by the order of the frames.

    Rows after a symbol's newest bar are neither bars nor certified absent: the stream, or a repair, still owes them;
    unless it is ``certain`` that what the histories lack does not exist.
    """
    closes: list[tuple[int, int, str, int]] = []
    for order, (name, history) in enumerate(histories.items()):
        interval = dag.frames[name].interval
        closes += [(interval.ts(history.first + k), order, name, k) for k in range(history.rows)]
    masks = {name: h.present for name, h in histories.items()}
    owed = {name: h.owed_from() for name, h in histories.items()}
    for ts, _, name, k in sorted(closes):
        history = histories[name]
        mask = masks[name][k]
        symbols = np.flatnonzero(mask)
        absent = np.flatnonzero(~mask & (certain | (owed[name] > history.first + k)))
        values = np.ascontiguousarray(history.values[:, k, symbols])
        yield name, BarBatch(ts, symbols, values, absent)


class WarmupOrchestrator:
    """The whole of phase 2: waits for the first event, fetches, merges, processes, and sets the gates."""

    def __init__(
        self,
        dag: EventFlowDAG,
        engine: Engine,
        progress: Progress,
        compute: Executor,
        ledger: BarLedger,
        *,
        catch_up: CatchUp | None = None,
        emit: Emit | None = None,
    ) -> None:
        """`emit` gets, on the compute thread, what the bars predict that `catch_up` finds missed."""
        self._dag = dag
        self._data = WarmupDataService(progress)
        self._catch_up = catch_up
        since = None if catch_up is None else catch_up.since
        self._processor = WarmupProcessor(dag, engine, progress, since, emit if since is not None else None)
        self._engine = engine
        self._compute = compute
        self._ledger = ledger

    async def run(self, feeds: Sequence[Feed], first_event_seconds: float) -> WarmupResult:
        """Warm every frame. The feeds are running already, so that nothing falls between history and stream."""
        import asyncio

        rows = [await feed.wait_first(first_event_seconds) for feed in feeds]
        histories: dict[str, History] = {}
        for feed, row in zip(feeds, rows, strict=True):
            # The bar that the first event belongs to is the stream's; the past ends right before it.
            anchor = row - 1
            bars = self._dag.warmup[feed.name].fetch
            if self._catch_up is not None:
                bars += self._catch_up.more_rows(feed.name, anchor)
            log.info("Warming %s: %d bars up to %s", feed.name, bars, iso(feed.spec.interval.ts(anchor)))
            histories[feed.name] = await self._data.fetch(feed, anchor, bars)
            self._data.merge(histories[feed.name], feed)
        self._set_cutoffs(histories)
        pasts = {
            name: Past(h.first, h.values, h.origins, h.owed_from())
            for name, h in histories.items()
            if not self._dag.is_ticking(name)
        }
        processing = asyncio.get_running_loop().run_in_executor(self._compute, self._processor.run, histories)
        await asyncio.gather(processing, self._ledger.begin(pasts))
        self._ledger.note([(name, h.revisions) for name, h in histories.items() if h.revisions])
        return self._finish(feeds, histories)

    def _finish(self, feeds: Sequence[Feed], histories: Mapping[str, History]) -> WarmupResult:
        found: dict[str, FrameWarmup] = {}
        for feed in feeds:
            history = histories[feed.name]
            anchor_row = history.first + history.rows - 1
            owed = history.owed_from()
            feed.sequencer.begin(owed)
            feed.sequencer.recent.seed(history.first, history.values, history.origins)
            found[feed.name] = FrameWarmup(
                feed.spec.interval.ts(anchor_row), int(history.present.sum()), owed
            )
        return WarmupResult(found)

    def _set_cutoffs(self, histories: Mapping[str, History]) -> None:
        """Say which closes predict: those after the past, and those of it that were missed."""
        anchors = {
            name: self._dag.frames[name].interval.ts(h.first + h.rows - 1) for name, h in histories.items()
        }
        self._engine.emit_after(anchors, None if self._catch_up is None else self._catch_up.cutoffs(anchors))
