"""Highest, lowest and rank among the last bars of each symbol.

All take (bars, symbols) float64, oldest bar first, and give arrays of the same shape. Row t is a function
of the rows of its window alone, with the same bits whatever else the arrays hold. A NaN in the window gives
NaN; the first rows, whose window isn't full, are NaN. Of equal values the oldest counts, so that the sign
of a zero is settled. ValueError for a window below 1.
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

FEW = 4
"""Up to so many outputs, as in a stream, reading each window again costs less than working in blocks."""


@jit
def _blank(values: Array, window: int) -> Array:
    """An output for `values`: the rows without a full window are NaN, the others not yet written."""
    if window < 1:
        raise ValueError("window must be at least 1")
    out = np.empty(values.shape)
    for t in range(min(window - 1, len(out))):
        row = out[t]
        for s in range(row.shape[0]):
            row[s] = np.nan
    return out


@jit
def _beats(x: float, best: float, lowest: bool) -> bool:
    # Once NaN, always NaN: no comparison with it is true. A flag and not a function that is handed in: numba
    # can't cache that.
    return ((x < best) if lowest else (x > best)) | (x != x)


@jit
def _best(values: Array, first: int, stop: int, best: Array, lowest: bool) -> None:
    """``best`` (symbols,) = the one of the rows first … stop-1 that no newer one beats, met from the oldest on."""
    symbols = best.shape[0]
    oldest = values[first]
    for s in range(symbols):
        best[s] = oldest[s]
    k = first + 1
    # Four rows a turn halve the time at 20 symbols; they still meet one by one.
    while k + 4 <= stop:
        a, b, c, d = values[k], values[k + 1], values[k + 2], values[k + 3]
        for s in range(symbols):
            x = a[s] if _beats(a[s], best[s], lowest) else best[s]
            x = b[s] if _beats(b[s], x, lowest) else x
            x = c[s] if _beats(c[s], x, lowest) else x
            best[s] = d[s] if _beats(d[s], x, lowest) else x
        k += 4
    while k < stop:
        row = values[k]
        for s in range(symbols):
            best[s] = row[s] if _beats(row[s], best[s], lowest) else best[s]
        k += 1


@jit
def _each_best(values: Array, window: int, out: Array, lowest: bool) -> None:
    """``out[t]`` = `_best` of the `window` rows up to t, for all t with a full window.

    Three comparisons a value, whatever the window (van Herk 1992, Gil and Werman 1993): in blocks of
    `window` rows, a window is the end of one block and the beginning of the next. The best of both is the
    best of all, to the bit, since an older value stays unless a newer one beats it.
    """
    bars, symbols = values.shape
    if bars - window < FEW:
        for t in range(window - 1, bars):
            _best(values, t - window + 1, t + 1, out[t], lowest)
        return
    ends = np.empty((window, symbols))
    begun = np.empty(symbols)
    for last in range(window - 1, bars, window):
        newest = values[last]
        for s in range(symbols):
            ends[window - 1, s] = newest[s]
        for k in range(window - 2, -1, -1):
            older, newer, end = values[last - window + 1 + k], ends[k + 1], ends[k]
            for s in range(symbols):
                end[s] = newer[s] if _beats(newer[s], older[s], lowest) else older[s]
        whole = out[last]
        for s in range(symbols):
            whole[s] = ends[0, s]
        if last + 1 < bars:
            first = values[last + 1]
            for s in range(symbols):
                begun[s] = first[s]
        for t in range(last + 1, min(last + window, bars)):
            row, end, best = values[t], ends[t - last], out[t]
            for s in range(symbols):
                begun[s] = row[s] if _beats(row[s], begun[s], lowest) else begun[s]
                best[s] = begun[s] if _beats(begun[s], end[s], lowest) else end[s]


@jit
def _each_place(values: Array, window: int, out: Array, lowest: bool) -> None:
    """``out[t]`` = place in the window up to t of its `_best`, 0 for its oldest bar."""
    bars, symbols = values.shape
    best = np.empty(symbols)
    for t in range(window - 1, bars):
        place, oldest = out[t], values[t - window + 1]
        for s in range(symbols):
            best[s] = oldest[s]
            place[s] = 0.0
        for k in range(1, window):
            row = values[t - window + 1 + k]
            for s in range(symbols):
                beaten = _beats(row[s], best[s], lowest)
                best[s] = row[s] if beaten else best[s]
                place[s] = k if beaten else place[s]
        for s in range(symbols):
            place[s] = np.nan if best[s] != best[s] else place[s]


@jit(signature=ONE_COLUMN)
def rolling_max(values: Array, window: int) -> Array:
    """Largest of the last `window` bars (TA-Lib MAX)."""
    out = _blank(values, window)
    _each_best(values, window, out, False)
    return out


@jit(signature=ONE_COLUMN)
def rolling_min(values: Array, window: int) -> Array:
    """Smallest of the last `window` bars (TA-Lib MIN)."""
    out = _blank(values, window)
    _each_best(values, window, out, True)
    return out


@jit(signature=ONE_COLUMN)
def rolling_argmax(values: Array, window: int) -> Array:
    """Place of the largest of the last `window` bars: 0 the oldest … ``window - 1`` the newest (NumPy argmax).

    Of equal ones the oldest. ``window - 1 - rolling_argmax(x, window)`` are the bars since then.
    """
    out = _blank(values, window)
    _each_place(values, window, out, False)
    return out


@jit(signature=ONE_COLUMN)
def rolling_argmin(values: Array, window: int) -> Array:
    """Place of the smallest of the last `window` bars: 0 the oldest … ``window - 1`` the newest (NumPy argmin).

    Of equal ones the oldest.
    """
    out = _blank(values, window)
    _each_place(values, window, out, True)
    return out


@jit(signature=ONE_COLUMN)
def rolling_rank(values: Array, window: int) -> Array:
    """Rank of the newest among the last `window` bars, scaled to 0 (lowest) … 1 (highest), ties averaged.

    As `cross_rank` has it across symbols: pandas ``rolling(window).rank()`` less 1, over ``window - 1``; 0.5
    where all are equal, and for a window of 1.
    """
    out = _blank(values, window)
    bars, symbols = values.shape
    for t in range(window - 1, bars):
        # Twice the bars below it, and once those equal to it, itself included.
        count, newest = out[t], values[t]
        for s in range(symbols):
            count[s] = 0.0
        for k in range(t - window + 1, t + 1):
            row = values[k]
            for s in range(symbols):
                counts = 2.0 if row[s] < newest[s] else (1.0 if row[s] == newest[s] else 0.0)
                count[s] += np.nan if (row[s] != row[s]) | (newest[s] != newest[s]) else counts
        for s in range(symbols):
            count[s] = 0.5 * (count[s] - 1.0) / (window - 1) if window > 1 else 0.5 + 0.0 * count[s]
    return out


@jit(signature=f"Tuple(({OUTPUT}, {OUTPUT}))({COLUMN}, {COLUMN}, {COLUMN}, intp)")
def level_distances(high: Array, low: Array, close: Array, window: int) -> tuple[Array, Array]:
    """How far the last `window` bars' highest high and lowest low are from the close, relative to the close.

    ``(max(high) - close) / close`` and ``(close - min(low)) / close``.
    """
    if high.shape != close.shape or low.shape != close.shape:
        raise ValueError("high, low and close must have one shape")
    above, below = _blank(high, window), _blank(low, window)
    _each_best(high, window, above, False)
    _each_best(low, window, below, True)
    bars, symbols = close.shape
    for t in range(window - 1, bars):
        top, bottom, last = above[t], below[t], close[t]
        for s in range(symbols):
            top[s] = (top[s] - last[s]) / last[s]
            bottom[s] = (last[s] - bottom[s]) / last[s]
    return above, below
