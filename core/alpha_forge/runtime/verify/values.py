"""Values of columns by bar and symbol, compared by their bits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from alpha_forge.runtime.results import PredictedRow

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

Column = tuple[str, str]
"""Frame and column."""


@dataclass(frozen=True, slots=True)
class Cells:
    """Values of one column, sorted by ts, then by the symbol's place: (n,) each."""

    ts: Int
    symbols: Int
    values: Float

    def keys(self) -> npt.NDArray[np.void]:
        keys = np.empty(len(self.ts), dtype=[("ts", "<i8"), ("symbol", "<i8")])
        keys["ts"], keys["symbol"] = self.ts, self.symbols
        return keys

    def where(self, kept: Bool) -> Cells:
        return Cells(self.ts[kept], self.symbols[kept], self.values[kept])


@dataclass(frozen=True, slots=True)
class Difference:
    """One cell that is not the same on both sides; a side that lacks it has None."""

    frame: str
    column: str
    ts: int
    symbol: int
    expected: float | None
    got: float | None


class Collector:
    """Gathers rows into `Cells`. The last value given for a cell stands; ``twice`` counts those given before."""

    def __init__(self) -> None:
        self._parts: dict[Column, list[tuple[Int, Int, Float]]] = {}
        self.twice: dict[Column, int] = {}

    def add(self, frame: str, column: str, ts: int | Int, symbols: Int, values: Float) -> None:
        """Values of a column at one ts, or at one ts each."""
        times = np.broadcast_to(np.asarray(ts, dtype=np.int64), symbols.shape)
        self._parts.setdefault((frame, column), []).append((times, symbols, values))

    def rows(self, rows: Iterable[PredictedRow]) -> Collector:
        for row in rows:
            self.add(row.frame, row.column, row.ts, row.symbols, row.values)
        return self

    def cells(self) -> dict[Column, Cells]:
        return {key: self._sorted(key, parts) for key, parts in self._parts.items()}

    def _sorted(self, key: Column, parts: list[tuple[Int, Int, Float]]) -> Cells:
        ts, symbols, values = (np.concatenate(column) for column in zip(*parts, strict=True))
        order = np.lexsort((np.arange(len(ts)), symbols, ts))
        ts, symbols, values = ts[order], symbols[order], values[order]
        last = np.ones(len(ts), dtype=np.bool_)
        last[:-1] = (ts[1:] != ts[:-1]) | (symbols[1:] != symbols[:-1])
        self.twice[key] = int((~last).sum())
        return Cells(ts[last], symbols[last], values[last])


NOTHING = Cells(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))


def differences(
    expected: Mapping[Column, Cells], got: Mapping[Column, Cells], columns: Iterable[Column]
) -> Iterator[Difference]:
    """The first differing cell of each of `columns`, in their order. A NaN equals a NaN, and a cell that is not there
    differs from one that is."""
    for column in columns:
        found = _first(column, expected.get(column, NOTHING), got.get(column, NOTHING))
        if found is not None:
            yield found


def _first(column: Column, expected: Cells, got: Cells) -> Difference | None:
    a, b = expected.keys(), got.keys()
    if len(a) == len(b) and bool((a == b).all()):
        wrong = ~same_bits(expected.values, got.values)
        if not wrong.any():
            return None
        at = int(wrong.argmax())
        return Difference(
            *column,
            int(expected.ts[at]),
            int(expected.symbols[at]),
            float(expected.values[at]),
            float(got.values[at]),
        )
    left = {
        (int(t), int(s)): float(v)
        for t, s, v in zip(expected.ts, expected.symbols, expected.values, strict=True)
    }
    right = {(int(t), int(s)): float(v) for t, s, v in zip(got.ts, got.symbols, got.values, strict=True)}
    for key in sorted(left.keys() | right.keys()):
        x, y = left.get(key), right.get(key)
        if x is None or y is None or not bool(same_bits(np.array([x]), np.array([y]))[0]):
            return Difference(*column, *key, x, y)
    return None


def same_bits(a: Float, b: Float) -> Bool:
    """Where the bits of two arrays of one shape are equal; all NaN are one."""
    equal: Bool = (a.view(np.int64) == b.view(np.int64)) | (np.isnan(a) & np.isnan(b))
    return equal
