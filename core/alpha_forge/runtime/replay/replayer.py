"""Replayer: a configuration over a range of history, to an output."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from alpha_forge.contracts.clock import Clock
from alpha_forge.contracts.errors import SourceError, UsageError
from alpha_forge.contracts.interval import iso
from alpha_forge.contracts.plugin import DataSource
from alpha_forge.plan.graph import EventFlowDAG
from alpha_forge.runtime.progress import Progress, Silent
from alpha_forge.runtime.replay.outputs import Digest, Output, flattened, kept_rows
from alpha_forge.runtime.replay.reading import Chunk, HistoryReader, first_rows
from alpha_forge.runtime.replay.rows import RowGraph
from alpha_forge.runtime.replay.whole import FrameChunk, WholeGraph, obstacle
from alpha_forge.runtime.sources import opened

log = logging.getLogger("alpha_forge.replay")

Int = npt.NDArray[np.int64]


@dataclass(slots=True)
class ReplayReport:
    """What a replay did. Times are real seconds; ``bars`` are those read, the warm-up's among them."""

    start: int
    end: int
    evaluation: str
    """``whole arrays``, or ``bar by bar``."""
    reason: str = ""
    """Why it went bar by bar."""
    bars: int = 0
    warmup_bars: int = 0
    records: int = 0
    not_ready: int = 0
    seconds: float = 0.0
    compute_seconds: float = 0.0
    digest: Digest = field(default_factory=Digest)
    absent: dict[str, int] = field(default_factory=dict)
    """By data frame: bars within the range that its history does not have."""
    first_bars: dict[str, dict[str, int]] = field(default_factory=dict)
    """By data frame: ts of each symbol's first bar, where that is after the range's first close."""


class Replayer:
    """Runs a graph over the bars with ``start < ts <= end`` (ns), after the warm-up before them.

    ``clock`` and ``sources`` as in `RealTimeRunner`. ``rows`` is the length of a chunk; the result does not depend on
    it. ``bar_by_bar`` has the engine that streams do all of it.
    """

    def __init__(
        self,
        dag: EventFlowDAG,
        start: int,
        end: int | None,
        wanted: Sequence[tuple[str, str]],
        *,
        scheduled: bool,
        bar_by_bar: bool = False,
        cache_dir: Path = Path(".alpha_forge/cache"),
        progress: Progress | None = None,
        clock: Clock | None = None,
        sources: Mapping[str, DataSource] | None = None,
        rows: int | None = None,
    ) -> None:
        self._dag = dag
        self._start = start
        self._end = end
        self._wanted = wanted
        self._grid = dag.emit_interval if scheduled else None
        self._cache_dir = cache_dir
        self._progress = progress or Silent()
        self._clock = clock
        self._sources = sources
        self._rows = rows
        reason = "asked for" if bar_by_bar else obstacle(dag)
        self._graph: WholeGraph | RowGraph = (
            WholeGraph(dag, wanted=wanted) if reason is None else RowGraph(dag, wanted=wanted)
        )
        self._report = ReplayReport(
            start, end or 0, "whole arrays" if reason is None else "bar by bar", reason or ""
        )
        self._seen: dict[str, Int] = {}

    async def run(self, output: Output) -> ReplayReport:
        """Read, compute, write. Raises SourceError for a range without bars, UsageError for one that can't be."""
        began = time.perf_counter()
        loop = asyncio.get_running_loop()
        try:
            with ThreadPoolExecutor(1, thread_name_prefix="compute") as compute:
                async with opened(self._dag, self._cache_dir, clock=self._clock, sources=self._sources) as (
                    sources,
                    clock,
                ):
                    await loop.run_in_executor(compute, self._graph.load_models)
                    end = self._report.end = await self._checked_end(sources, clock)
                    reader = HistoryReader(self._dag, sources, self._start, end, self._rows)
                    await self._read(reader, output, compute)
        except BaseException:
            await asyncio.to_thread(output.abandon)
            raise
        await asyncio.to_thread(output.close)
        self._report.seconds = time.perf_counter() - began
        return self._report

    async def _checked_end(self, sources: Mapping[str, DataSource], clock: Clock) -> int:
        now = clock.now()
        passed = min([await source.passed(self._end or now, now) for source in sources.values()])
        end = passed if self._end is None else self._end
        if end > passed:
            raise UsageError(
                "AF8102",
                f"the range ends {iso(end)}, in the future: the source's time is {iso(passed)}",
                "leave --end out to replay up to the last closed bar",
            )
        if end <= self._start:
            raise UsageError(
                "AF8103",
                f"the range from {iso(self._start)} to {iso(end)} holds no time",
                "--start must lie before --end, and in the past",
            )
        return end

    async def _read(self, reader: HistoryReader, output: Output, compute: ThreadPoolExecutor) -> None:
        task = "replay"
        self._progress.start(task, reader.bars)
        first = first_rows(self._dag, self._start)
        self._graph.begin(
            {name: np.full(len(self._dag.frames[name].symbols), row) for name, row in first.items()}
        )
        loop = asyncio.get_running_loop()
        async for chunk in reader.chunks():
            await loop.run_in_executor(compute, self._work, chunk, output)
            self._progress.advance(task, sum(h.values[3].size for h in chunk.histories.values()))
        self._progress.finish(task)
        self._check_bars()

    def _work(self, chunk: Chunk, output: Output) -> None:
        """On the compute thread: one chunk through the graph."""
        self._count(chunk)
        began = time.perf_counter()
        last = chunk.end >= self._report.end
        for made in self._graph.run(chunk.start, chunk.end, chunk.histories, last=last):
            kept = kept_rows(made, self._start, self._grid)
            if len(kept):
                self._note(made, kept)
                output.write(made, kept)
        self._report.compute_seconds += time.perf_counter() - began

    def _count(self, chunk: Chunk) -> None:
        for name, history in chunk.histories.items():
            grid, size = self._dag.frames[name].interval, len(self._dag.frames[name].symbols)
            present = history.present
            before = max(0, min(history.rows, grid.row(self._start) - history.first + 1))
            self._report.bars += int(present.sum())
            self._report.warmup_bars += int(present[:before].sum())
            inside = present[before:]
            self._report.absent[name] = self._report.absent.get(name, 0) + inside.size - int(inside.sum())
            seen = self._seen.setdefault(name, np.full(size, -1, dtype=np.int64))
            new = np.flatnonzero((seen < 0) & inside.any(axis=0))
            if len(new):
                seen[new] = history.first + before + inside[:, new].argmax(axis=0)

    def _note(self, made: FrameChunk, kept: Int) -> None:
        ts, places, columns = flattened(made, kept)
        for column, found in columns.items():
            self._report.digest.add(made.frame, column, ts, places, found)
            ready = int((~np.isnan(found)).sum())
            self._report.records += ready
            self._report.not_ready += len(found) - ready

    def _check_bars(self) -> None:
        """A range without any bar is an error; one that begins before a symbol's listing is told."""
        for name, seen in self._seen.items():
            spec = self._dag.frames[name]
            if (seen < 0).all():
                raise SourceError(
                    "AF5036",
                    f"no bar of '{name}' from {iso(self._start)} to {iso(self._report.end)}",
                    "choose another range, or another source",
                )
            first = spec.interval.row(self._start) + 1
            late = {spec.symbols[s]: spec.interval.ts(int(seen[s])) for s in np.flatnonzero(seen > first)}
            missing = [spec.symbols[s] for s in np.flatnonzero(seen < 0)]
            self._report.first_bars[name] = late
            if missing:
                log.warning("%s: no bar in the range of %s", name, _some(missing))
            if late:
                begins = [f"{symbol} {iso(ts)}" for symbol, ts in late.items()]
                log.warning("%s: history begins within the range for %s", name, _some(begins))


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more
