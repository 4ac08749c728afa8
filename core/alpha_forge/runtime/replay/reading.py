"""The history of a range, in chunks of bounded memory, the next one fetched while the last one is worked on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import numpy as np

from alpha_forge.contracts.plugin import DataSource
from alpha_forge.plan.graph import EventFlowDAG
from alpha_forge.runtime.progress import Silent
from alpha_forge.runtime.warmup import History, fetch_history

CHUNK_ROWS = 16_384
CHUNK_VALUES = 4_000_000
"""Bars of all symbols in one chunk, at most: bounds the memory, and keeps columns near the processor."""
LEAST_ROWS = 256


@dataclass(frozen=True, slots=True)
class Chunk:
    """The bars with ``start < ts <= end`` (ns) of every data frame."""

    start: int
    end: int
    histories: Mapping[str, History]


def chunk_rows(dag: EventFlowDAG) -> int:
    """Rows of the finest data frame that a chunk has."""
    symbols = max(len(dag.frames[n.frame].symbols) for n in dag.data_nodes())
    return max(LEAST_ROWS, min(CHUNK_ROWS, CHUNK_VALUES // symbols))


def first_rows(dag: EventFlowDAG, start: int) -> dict[str, int]:
    """By data frame: the first row that must be known, so that every value after `start` is what a run would give."""
    return {
        n.frame: dag.frames[n.frame].interval.row(start) - dag.warmup[n.frame].fetch + 1
        for n in dag.data_nodes()
    }


class HistoryReader:
    """Reads all data frames in step, from the warm-up before `start` to `end`."""

    def __init__(
        self,
        dag: EventFlowDAG,
        sources: Mapping[str, DataSource],
        start: int,
        end: int,
        rows: int | None = None,
    ) -> None:
        self._dag = dag
        self._sources = sources
        self._first = first_rows(dag, start)
        self._grids = {name: dag.frames[name].interval for name in self._first}
        self._begin = min(grid.ts(self._first[name] - 1) for name, grid in self._grids.items())
        self._end = end
        self._span = (rows or chunk_rows(dag)) * min(grid.ns for grid in self._grids.values())

    @property
    def bars(self) -> int:
        """Bars of the whole range on the grids: what there is to read at most."""
        return sum(
            max(0, grid.row(self._end) - self._first[name] + 1) * len(self._dag.frames[name].symbols)
            for name, grid in self._grids.items()
        )

    async def chunks(self) -> AsyncIterator[Chunk]:
        """In order of time, without a gap. Raises what `DataSource.history` raises."""
        start = self._begin
        pending = asyncio.create_task(self._read(start, min(start + self._span, self._end)))
        try:
            while True:
                chunk = await pending
                if chunk.end < self._end:
                    stop = min(chunk.end + self._span, self._end)
                    pending = asyncio.create_task(self._read(chunk.end, stop))
                yield chunk
                if chunk.end >= self._end:
                    return
        finally:
            pending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(pending, return_exceptions=True)

    async def _read(self, start: int, end: int) -> Chunk:
        histories = {}
        for name, grid in self._grids.items():
            first, last = max(grid.row(start) + 1, self._first[name]), grid.row(end)
            if last < first:
                nothing = np.empty((5, 0, len(self._dag.frames[name].symbols)))
                histories[name] = History(first, nothing)
                continue
            spec = self._dag.frames[name]
            histories[name] = await fetch_history(self._sources[name], spec, last, last - first + 1, Silent())
        return Chunk(start, end, histories)
