"""Sums over the last bars of each symbol, and what is made of them, read again for each bar.

All take (bars, symbols) float64, oldest bar first, and give arrays of the same shape. Row t is a function
of the rows of its window alone, with the same bits whatever else the arrays hold: no running sums, no
reductions, one fixed order (oldest to newest). A NaN in the window gives NaN; the first rows, whose window
isn't full, are NaN. Infinities pass through by the rules of IEEE arithmetic. ValueError for a window below
1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from alpha_forge_sdk.kernels.compiling import COLUMN, OUTPUT, jit

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

ONE_COLUMN = f"{OUTPUT}({COLUMN}, intp)"
"""Signature of a kernel over one column and a window."""


@jit
def _blank(values: Array, window: int, rows: int) -> Array:
    """An output for `values`: its first `rows` rows are NaN, the others not yet written."""
    if window < 1:
        raise ValueError("window must be at least 1")
    out = np.empty(values.shape)
    for t in range(min(rows, len(out))):
        row = out[t]
        for s in range(row.shape[0]):
            row[s] = np.nan
    return out


@jit
def _sum(values: Array, first: int, stop: int, total: Array) -> None:
    """``total`` (symbols,) = sum of the rows first … stop-1, added from the oldest on."""
    symbols = total.shape[0]
    oldest = values[first]
    for s in range(symbols):
        total[s] = oldest[s]
    k = first + 1
    # Four rows a turn halve the time; they are still added one by one.
    while k + 4 <= stop:
        a, b, c, d = values[k], values[k + 1], values[k + 2], values[k + 3]
        for s in range(symbols):
            total[s] = (((total[s] + a[s]) + b[s]) + c[s]) + d[s]
        k += 4
    while k < stop:
        row = values[k]
        for s in range(symbols):
            total[s] += row[s]
        k += 1


@jit
def _moments(values: Array, first: int, stop: int, offset: Array, squares: Array) -> None:
    """``offset`` = mean less the newest row; ``squares`` = summed squares of the deviations from the mean.

    Everything is measured from the newest row, so that a constant window has deviations of exactly zero and a
    level of 1e12 costs no digits.
    """
    newest = values[stop - 1]
    n = stop - first
    symbols = offset.shape[0]
    for s in range(symbols):
        offset[s] = 0.0
        squares[s] = 0.0
    k = first
    while k + 4 <= stop:
        a, b, c, d = values[k], values[k + 1], values[k + 2], values[k + 3]
        for s in range(symbols):
            x = newest[s]
            offset[s] = (((offset[s] + (a[s] - x)) + (b[s] - x)) + (c[s] - x)) + (d[s] - x)
        k += 4
    while k < stop:
        row = values[k]
        for s in range(symbols):
            offset[s] += row[s] - newest[s]
        k += 1
    for s in range(symbols):
        offset[s] /= n
    k = first
    while k + 2 <= stop:
        a, b = values[k], values[k + 1]
        for s in range(symbols):
            older = (a[s] - newest[s]) - offset[s]
            newer = (b[s] - newest[s]) - offset[s]
            squares[s] = (squares[s] + older * older) + newer * newer
        k += 2
    while k < stop:
        row = values[k]
        for s in range(symbols):
            deviation = (row[s] - newest[s]) - offset[s]
            squares[s] += deviation * deviation
        k += 1


@jit(signature=ONE_COLUMN)
def rolling_sum(values: Array, window: int) -> Array:
    """Sum of the last `window` bars."""
    out = _blank(values, window, window - 1)
    for t in range(window - 1, len(values)):
        _sum(values, t - window + 1, t + 1, out[t])
    return out


@jit(signature=ONE_COLUMN)
def rolling_mean(values: Array, window: int) -> Array:
    """Simple mean of the last `window` bars (TA-Lib SMA)."""
    out = _blank(values, window, window - 1)
    bars, symbols = values.shape
    for t in range(window - 1, bars):
        mean = out[t]
        _sum(values, t - window + 1, t + 1, mean)
        for s in range(symbols):
            mean[s] /= window
    return out


@jit(signature=f"{OUTPUT}({COLUMN}, intp, intp)")
def rolling_std(values: Array, window: int, ddof: int) -> Array:
    """Standard deviation of the last `window` bars, in two passes; exactly 0 where they are all equal.

    ``ddof`` 0 divides by `window` (the population's; TA-Lib STDDEV), 1 by ``window - 1`` (the sample's;
    pandas). A window not above ddof gives NaN.
    """
    out = _blank(values, window, window - 1)
    bars, symbols = values.shape
    offset = np.empty(symbols)
    for t in range(window - 1, bars):
        std = out[t]
        _moments(values, t - window + 1, t + 1, offset, std)
        for s in range(symbols):
            std[s] = np.sqrt(std[s] / (window - ddof))
    return out


@jit(signature=f"{OUTPUT}({COLUMN}, intp, intp)")
def rolling_return_std(values: Array, window: int, ddof: int) -> Array:
    """Standard deviation (as `rolling_std`) of the last `window` one-bar returns ``x[t] / x[t-1] - 1``.

    Reads ``window + 1`` bars: the first `window` rows are NaN.
    """
    out = _blank(values, window, window)
    bars, symbols = values.shape
    if bars <= window:
        return out
    offset = np.empty(symbols)
    # Once for all windows: a division costs more than all the rest of a window's step.
    returns = np.empty((bars - 1, symbols))
    for t in range(bars - 1):
        now, before, row = values[t + 1], values[t], returns[t]
        for s in range(symbols):
            row[s] = now[s] / before[s] - 1.0
    for t in range(window, bars):
        std = out[t]
        _moments(returns, t - window, t, offset, std)
        for s in range(symbols):
            std[s] = np.sqrt(std[s] / (window - ddof))
    return out


@jit(signature=f"{OUTPUT}({COLUMN}, intp, intp)")
def rolling_zscore(values: Array, window: int, ddof: int) -> Array:
    """Distance of the newest of the last `window` bars from their mean, in their standard deviations.

    NaN where they are all equal: 0 / 0 is unknown, not zero.
    """
    out = _blank(values, window, window - 1)
    bars, symbols = values.shape
    offset = np.empty(symbols)
    for t in range(window - 1, bars):
        score = out[t]
        _moments(values, t - window + 1, t + 1, offset, score)
        for s in range(symbols):
            score[s] = -offset[s] / np.sqrt(score[s] / (window - ddof))
    return out


@jit(signature=f"Tuple(({OUTPUT}, {OUTPUT}, {OUTPUT}))({COLUMN}, intp, float64, float64)")
def rolling_bands(values: Array, window: int, up: float, down: float) -> tuple[Array, Array, Array]:
    """(upper, middle, lower): mean of the last `window` bars, and `up` and `down` deviations off it."""
    upper = _blank(values, window, window - 1)
    middle = _blank(values, window, window - 1)
    lower = _blank(values, window, window - 1)
    bars, symbols = values.shape
    offset = np.empty(symbols)
    squares = np.empty(symbols)
    for t in range(window - 1, bars):
        high, mean, low, newest = upper[t], middle[t], lower[t], values[t]
        _moments(values, t - window + 1, t + 1, offset, squares)
        for s in range(symbols):
            deviation = np.sqrt(squares[s] / window)
            # From the newest bar and the offset, not from a second sum: equal bars give exactly their own
            # level.
            mean[s] = newest[s] + offset[s]
            high[s] = mean[s] + up * deviation
            low[s] = mean[s] - down * deviation
    return upper, middle, lower


@jit(signature=f"{OUTPUT}({COLUMN}, intp, intp, float64)")
def mean_rate_of_change(values: Array, window: int, period: int, factor: float) -> Array:
    """`factor` × relative change over `period` bars of the simple mean of the last `window` bars.

    ``(mean[t] / mean[t - period] - 1) * factor``; the first ``window + period - 1`` rows are NaN.
    """
    if period < 1:
        raise ValueError("period must be at least 1")
    out = _blank(values, window, 0)
    bars, symbols = values.shape
    first = window + period - 1
    for t in range(window - 1, bars):
        # A row that is neither an output nor read by one needs no mean; with a streaming call that is most
        # of them.
        if t >= first or t < bars - period:
            mean = out[t]
            _sum(values, t - window + 1, t + 1, mean)
            for s in range(symbols):
                mean[s] /= window
    # From the newest row back: what is read, `period` rows older, is still a mean.
    for t in range(bars - 1, first - 1, -1):
        row, before = out[t], out[t - period]
        for s in range(symbols):
            row[s] = (row[s] / before[s] - 1.0) * factor
    for t in range(min(first, bars)):
        row = out[t]
        for s in range(symbols):
            row[s] = np.nan
    return out


@jit(signature=ONE_COLUMN)
def ratio_to_mean(values: Array, window: int) -> Array:
    """The newest of the last `window` bars over their simple mean; NaN where both are 0."""
    out = _blank(values, window, window - 1)
    bars, symbols = values.shape
    for t in range(window - 1, bars):
        ratio, newest = out[t], values[t]
        _sum(values, t - window + 1, t + 1, ratio)
        for s in range(symbols):
            ratio[s] = newest[s] / (ratio[s] / window)
    return out
