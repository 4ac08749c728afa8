"""Bars in any order and grouping that a runtime may meet, and what an engine makes of them, to the bit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from alpha_forge.contracts.types import BarBatch
from alpha_forge.runtime.engine import Engine

FIRST = 400_000
"""Row of the time grid at which every made-up history begins."""

Batch = tuple[int, list[int], list[int]]
"""Row, and the places of the symbols whose bar is there, or certified absent."""

Bits = dict[tuple[str, str, int, int], bytes]
"""By (frame, column, ts, place of the symbol). All NaNs are one."""


def made_up_bars(rng: np.random.Generator, rows: int, symbols: int, holes: float = 0.0) -> np.ndarray:
    """(5, rows, symbols): random walks; NaN where a symbol has no bar."""
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, (rows, symbols)), axis=0))
    before = np.vstack((close[:1], close[:-1]))
    high = np.maximum(before, close) * (1 + np.abs(rng.normal(0, 0.003, close.shape)))
    low = np.minimum(before, close) * (1 - np.abs(rng.normal(0, 0.003, close.shape)))
    bars = np.stack((before, high, low, close, rng.uniform(1, 9, close.shape)))
    bars[:, rng.random((rows, symbols)) < holes] = np.nan
    return bars


def in_order(bars: np.ndarray, start: int = 0) -> list[Batch]:
    """Row by row from `start` on, everybody at once."""
    here = ~np.isnan(bars[3])
    return [
        (row, np.flatnonzero(here[row]).tolist(), np.flatnonzero(~here[row]).tolist())
        for row in range(start, bars.shape[1])
    ]


def interleaved(
    rng: np.random.Generator, bars: np.ndarray, start: int = 0, *, apart: int = 20, together: float = 0.5
) -> list[Batch]:
    """Each symbol's rows in order, but symbols up to `apart` rows apart, of one row any number of them at once."""
    here = ~np.isnan(bars[3])
    rows, symbols = here.shape
    at = np.full(symbols, start)
    found: list[Batch] = []
    while (at < rows).any():
        free = np.flatnonzero((at < rows) & (at < at.min() + apart))
        one = int(rng.choice(free))
        row = int(at[one])
        also = (at == row) & (rng.random(symbols) < together)
        also[one] = True
        members = np.flatnonzero(also)
        at[members] += 1
        found.append((row, members[here[row, members]].tolist(), members[~here[row, members]].tolist()))
    return found


def calls(rng: np.random.Generator, batches: Sequence[Batch], most: int) -> Iterable[Sequence[Batch]]:
    """The same, up to `most` at a time."""
    at = 0
    while at < len(batches):
        stop = at + int(rng.integers(1, most + 1))
        yield batches[at:stop]
        at = stop


def results(dag, bars: np.ndarray, turns: Iterable[Sequence[Batch]], *, known: int = 0) -> tuple[Bits, Bits]:
    """(every value that came into a frame, what goes on to the sinks) of an engine that knows rows from `known` on."""
    engine = Engine(dag)
    (name,) = {node.frame for node in dag.data_nodes()}
    grid = dag.frames[name].interval
    stored: Bits = {}
    emitted: Bits = {}
    engine.observe(_into(stored))
    engine.begin({name: np.full(bars.shape[2], FIRST + known)})
    note = _into(emitted)
    for turn in turns:
        batches = []
        for row, present, absent in turn:
            members = np.array(present, dtype=np.int64)
            values = np.ascontiguousarray(bars[:, row, members])
            batch = BarBatch(grid.ts(FIRST + row), members, values, np.array(absent, dtype=np.int64))
            batches.append((name, batch))
        for found in engine.process(batches):
            note(found.frame, found.column, found.ts, found.symbols, found.values)
    return stored, emitted


def _into(bits: Bits) -> Callable[[str, str, int, np.ndarray, np.ndarray], None]:
    def note(frame: str, column: str, ts: int, symbols: np.ndarray, values: np.ndarray) -> None:
        for symbol, value in zip(symbols.tolist(), values.tolist(), strict=True):
            key = (frame, column, ts, symbol)
            assert key not in bits, f"{key} was made twice"
            bits[key] = b"NaN" if value != value else np.float64(value).tobytes()

    return note
