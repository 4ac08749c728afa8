"""F12 over whole histories by the product: ``… history_ours graph|replay BARS FOUND``, a child of ``history``."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import numpy as np

from alpha_forge.plan.graph import EventFlowDAG
from alpha_forge.runtime.replay.outputs import TableFile
from alpha_forge.runtime.replay.reading import chunk_rows
from alpha_forge.runtime.replay.replayer import Replayer
from alpha_forge.runtime.replay.whole import WholeGraph
from alpha_forge.runtime.warmup import History
from alpha_forge_sdk import BarBlock, DataSource
from benchmarks.graphs import COLUMNS, FRAME, compiled, f12_config
from benchmarks.history_peers import peak_bytes, samples
from benchmarks.market import Float, close_of, names
from benchmarks.scripted import SteppedClock

WANTED = [(FRAME, column) for column in COLUMNS]


Told = tuple[float, int, Float]
"""Seconds, peak bytes, and the sampled values (14, samples, symbols)."""


def by_graph(path: str, folder: Path, rows: int | None = None) -> Told:
    """The graph in the chunks of a replay, each dropped when it is read."""
    bars = np.load(path, mmap_mode="r")[:rows]
    count, _, symbols = bars.shape
    _, dag = compiled(f12_config(symbols))
    interval, size = dag.frames[FRAME].interval, chunk_rows(dag)
    first = interval.row(close_of(0))
    # Histories as a reader hands them over: (5, rows, symbols).
    chunks = [
        (k, History(first + k, np.ascontiguousarray(bars[k : k + size].transpose(1, 0, 2))))
        for k in range(0, count, size)
    ]
    rows_sampled = samples(count)
    found = np.empty((14, len(rows_sampled), symbols))
    start = time.perf_counter()
    graph = WholeGraph(dag, wanted=WANTED)
    graph.begin({FRAME: np.full(symbols, first)})
    for k, history in chunks:
        begin, end = interval.ts(first + k - 1), interval.ts(first + k + history.rows - 1)
        (made,) = graph.run(begin, end, {FRAME: history})
        here = (rows_sampled >= k) & (rows_sampled < k + history.rows)
        found[:, here] = [made.columns[c][rows_sampled[here] - k] for c in COLUMNS]
    return time.perf_counter() - start, peak_bytes(), found


class _InMemory(DataSource):
    """History from an array (bars, 5, symbols)."""

    def __init__(self, values: Float) -> None:
        self._values = values

    async def find_clock(self) -> SteppedClock:
        return SteppedClock(close_of(len(self._values)))

    async def open(self, context: object) -> None:
        pass

    async def close(self) -> None:
        pass

    async def history(self, symbols: Sequence[str], start: int, end: int) -> AsyncIterator[BarBlock]:
        hour, first = close_of(1) - close_of(0), close_of(0)
        begin = max(0, (start - first) // hour + 1)
        stop = min(len(self._values), (end - first) // hour + 1)
        ts = first + hour * np.arange(begin, stop)
        place = {name: k for k, name in enumerate(names(self._values.shape[2]))}
        for symbol in symbols:
            yield BarBlock(symbol, ts, *np.ascontiguousarray(self._values[begin:stop, :, place[symbol]].T))


def by_replay(path: str, folder: Path, rows: int | None = None) -> Told:
    """As `by_graph`, by the whole of ``replay --features``: history from a source, digests, a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    bars = np.load(path, mmap_mode="r")[:rows]
    symbols = bars.shape[2]
    _, dag = compiled(f12_config(symbols))
    table = folder / "features.parquet"
    seconds = asyncio.run(_replayed(dag, np.asarray(bars), table))
    peak = peak_bytes()
    wanted = samples(len(bars))
    stamps = np.array([close_of(int(row)) for row in wanted])
    found = np.empty((14, len(wanted), symbols))
    file = pq.ParquetFile(table)
    for k in range(file.num_row_groups):
        group = file.read_row_group(k)
        ts = group["ts"].cast(pa.timestamp("ns", "UTC")).cast(pa.int64()).to_numpy()
        at = np.flatnonzero(np.isin(ts, stamps))
        if len(at):
            here = np.searchsorted(stamps, np.unique(ts[at]))
            for c, column in enumerate(COLUMNS):
                found[c, here] = group[column].to_numpy()[at].reshape(-1, symbols)
    table.unlink()
    return seconds, peak, found


async def _replayed(dag: EventFlowDAG, values: Float, path: Path) -> float:
    source = _InMemory(values)
    warm = dag.warmup[FRAME].fetch
    replayer = Replayer(
        dag,
        close_of(warm),
        close_of(len(values) - 1),
        WANTED,
        scheduled=False,
        sources={FRAME: source},
        clock=SteppedClock(close_of(len(values))),
    )
    start = time.perf_counter()
    report = await replayer.run(TableFile(path, dag, wide=True, frames=1))
    seconds = time.perf_counter() - start
    assert report.evaluation == "whole arrays"
    return seconds


def main() -> None:
    what, path, found = sys.argv[1:]
    work = {"graph": by_graph, "replay": by_replay}[what]
    folder = Path(found).parent
    work(path, folder, 4000)  # compiled code is loaded before the clock runs
    seconds, peak, values = work(path, folder)
    np.save(found, values)
    print(json.dumps({"seconds": seconds, "peak": peak}))


if __name__ == "__main__":
    main()
