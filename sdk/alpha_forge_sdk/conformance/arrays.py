"""Columns of numbers compared: bit for bit, or within a tolerance; and where they differ first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]


class Place(NamedTuple):
    """Where two sets of columns differ first: the earliest bar, then the first column, then the first symbol."""

    bar: int
    symbol: int
    column: str
    expected: float
    found: float

    def __str__(self) -> str:
        return (
            f"'{self.column}' at bar {self.bar}, symbol {self.symbol}: "
            f"{float(self.expected)!r} became {float(self.found)!r}"
        )


def differing(expected: Float, found: Float, tolerance: float = 0.0) -> Bool:
    """True where values differ: in any bit, or by more than `tolerance`. One NaN is as good as another."""
    known, also = ~np.isnan(expected), ~np.isnan(found)
    if tolerance:
        with np.errstate(all="ignore"):
            other = (expected != found) & ~(np.abs(expected - found) <= tolerance)
    else:
        bits = np.ascontiguousarray(expected).view(np.int64), np.ascontiguousarray(found).view(np.int64)
        other = bits[0] != bits[1]
    result: Bool = np.where(known & also, other, known != also)
    return result


def first_difference(
    names: Sequence[str],
    expected: Sequence[Float],
    found: Sequence[Float],
    tolerance: Sequence[float] | None = None,
    first_bar: int = 0,
) -> Place | None:
    """Where the columns differ first, or None. ``first_bar`` is the number of row 0, for the message."""
    best: Place | None = None
    for i, name in enumerate(names):
        differs = differing(expected[i], found[i], tolerance[i] if tolerance else 0.0)
        places = np.argwhere(differs)
        if len(places) and (best is None or places[0][0] + first_bar < best.bar):
            bar, symbol = (int(n) for n in places[0])
            best = Place(
                bar + first_bar, symbol, name, float(expected[i][bar, symbol]), float(found[i][bar, symbol])
            )
    return best


def sizes(columns: Sequence[Float]) -> list[float]:
    """Largest finite magnitude of each column; 1 where there is none."""
    found = []
    for column in columns:
        finite = np.abs(column[np.isfinite(column)])
        found.append(float(finite.max()) if finite.size and finite.max() > 0 else 1.0)
    return found
