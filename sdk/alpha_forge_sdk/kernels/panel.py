"""Across the symbols of one bar.

Both take (bars, symbols) float64 and give the same shape; a NaN is an absent symbol: it counts for nobody
and gets NaN.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from alpha_forge_sdk.kernels.compiling import COLUMN, OUTPUT, jit

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]


@jit(signature=f"{OUTPUT}({COLUMN})")
def cross_rank(values: Array) -> Array:
    """Rank of each symbol among those present at its bar, scaled to 0 (lowest) … 1 (highest), ties averaged.

    A symbol that is alone has 0.5, as all have who are equal.
    """
    bars, symbols = values.shape
    out = np.empty((bars, symbols))
    for t in range(bars):
        row, ranks = values[t], out[t]
        # NaNs sort to the end.
        order = np.argsort(row)
        present = symbols
        while present > 0 and np.isnan(row[order[present - 1]]):
            present -= 1
            ranks[order[present]] = np.nan
        first = 0
        while first < present:
            stop = first + 1
            while stop < present and row[order[stop]] == row[order[first]]:
                stop += 1
            rank = 0.5 * (first + stop - 1) / (present - 1) if present > 1 else 0.5
            for k in range(first, stop):
                ranks[order[k]] = rank
            first = stop
    return out


@jit(signature=f"{OUTPUT}({COLUMN})")
def cross_zscore(values: Array) -> Array:
    """Distance of each symbol from the mean of those present at its bar, in their population deviations.

    NaN where all are equal. Sums run in the order of the symbols, so another order may give other last bits.
    """
    bars, symbols = values.shape
    out = np.empty((bars, symbols))
    for t in range(bars):
        row, scores = values[t], out[t]
        present = 0
        # Measured from one of them, so that equal values have deviations of exactly zero.
        base = 0.0
        total = 0.0
        for s in range(symbols):
            if not np.isnan(row[s]):
                if present == 0:
                    base = row[s]
                present += 1
                total += row[s] - base
        mean = total / present
        squares = 0.0
        for s in range(symbols):
            if not np.isnan(row[s]):
                deviation = (row[s] - base) - mean
                squares += deviation * deviation
        std = np.sqrt(squares / present)
        for s in range(symbols):
            scores[s] = ((row[s] - base) - mean) / std
    return out
