"""Comparisons of a bar with one earlier bar: lags, changes, true range.

All take (bars, symbols) float64, oldest bar first, and give arrays of the same shape; rows that would read
before the first bar are NaN, and so is whatever meets a NaN. ValueError for a period below 1 (below 0 for
`lag`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from alpha_forge_sdk.kernels.compiling import COLUMN, OUTPUT, jit

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

ONE_COLUMN = f"{OUTPUT}({COLUMN}, intp)"
"""Signature of a kernel over one column and a period."""


@jit
def _blank(values: Array, rows: int) -> Array:
    """An output for `values`: its first `rows` rows are NaN, the others not yet written."""
    out = np.empty(values.shape)
    for t in range(min(rows, len(out))):
        row = out[t]
        for s in range(row.shape[0]):
            row[s] = np.nan
    return out


@jit(signature=ONE_COLUMN)
def lag(values: Array, period: int) -> Array:
    """The value `period` bars ago (pandas shift)."""
    if period < 0:
        raise ValueError("a lag must not be negative: it would read the future")
    bars, symbols = values.shape
    out = _blank(values, period)
    for t in range(period, bars):
        row, before = out[t], values[t - period]
        for s in range(symbols):
            row[s] = before[s]
    return out


@jit(signature=ONE_COLUMN)
def difference(values: Array, period: int) -> Array:
    """``x[t] - x[t - period]`` (TA-Lib MOM)."""
    if period < 1:
        raise ValueError("period must be at least 1")
    bars, symbols = values.shape
    out = _blank(values, period)
    for t in range(period, bars):
        row, now, before = out[t], values[t], values[t - period]
        for s in range(symbols):
            row[s] = now[s] - before[s]
    return out


@jit(signature=ONE_COLUMN)
def rate_of_change(values: Array, period: int) -> Array:
    """``x[t] / x[t - period] - 1`` (TA-Lib ROCP); from 0 it is an infinity, NaN from 0 to 0."""
    if period < 1:
        raise ValueError("period must be at least 1")
    bars, symbols = values.shape
    out = _blank(values, period)
    for t in range(period, bars):
        row, now, before = out[t], values[t], values[t - period]
        for s in range(symbols):
            row[s] = now[s] / before[s] - 1.0
    return out


@jit(signature=f"{OUTPUT}({COLUMN}, {COLUMN}, {COLUMN})")
def true_range(high: Array, low: Array, close: Array) -> Array:
    """Largest of high - low and the distances of both from the close before (Wilder 1978; TA-Lib TRANGE).

    The first row is NaN: it has no close before.
    """
    if high.shape != close.shape or low.shape != close.shape:
        raise ValueError("high, low and close must have one shape")
    bars, symbols = close.shape
    out = _blank(close, 1)
    for t in range(1, bars):
        row, top, bottom, before = out[t], high[t], low[t], close[t - 1]
        for s in range(symbols):
            span = top[s] - bottom[s]
            up = abs(top[s] - before[s])
            down = abs(bottom[s] - before[s])
            most = up if up > span else span
            most = down if down > most else most
            # A comparison with NaN is false and would drop it: the sum of all three knows.
            row[s] = np.nan if np.isnan(span + up + down) else most
    return out
