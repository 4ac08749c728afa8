"""Averages that fade: state moves on in place, row by row, one loop for one row and for a million.

Inputs are (bars, symbols) float64, oldest bar first; states are (symbols,) arrays, zero at the start;
outputs have the shape of the inputs. A bar that holds a NaN or an infinity is unknown: it gives NaN and
leaves its symbol's state as it was. Outputs are NaN until the state is seeded. ValueError for a window
below 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from alpha_forge_sdk.kernels.compiling import COLUMN, COUNT, OUTPUT, STATE, jit

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]
    Count = npt.NDArray[np.int64]


@jit(signature=f"{OUTPUT}({COLUMN}, intp, {COUNT}, {STATE})")
def ema(values: Array, window: int, seen: Count, average: Array) -> Array:
    """Exponential moving average, ``alpha = 2 / (window + 1)``, seeded by the first bars' mean.

    TA-Lib EMA. State: ``seen`` counts bars up to `window`; ``average`` is their sum until then.
    """
    if window < 1:
        raise ValueError("window must be at least 1")
    bars, symbols = values.shape
    out = np.empty((bars, symbols))
    alpha = 2.0 / (window + 1.0)
    for t in range(bars):
        for s in range(symbols):
            x = values[t, s]
            if not np.isfinite(x):
                out[t, s] = np.nan
                continue
            if seen[s] >= window:
                average[s] += alpha * (x - average[s])
            else:
                seen[s] += 1
                average[s] += x
                if seen[s] < window:
                    out[t, s] = np.nan
                    continue
                average[s] /= window
            out[t, s] = average[s]
    return out


@jit(signature=f"{OUTPUT}({COLUMN}, intp, {COUNT}, {STATE})")
def wilder(values: Array, window: int, seen: Count, average: Array) -> Array:
    """Wilder's average (1978), ``(average * (window - 1) + x) / window``, seeded by the first bars' mean.

    State: ``seen`` counts bars up to `window`; ``average`` is their sum until then.
    """
    if window < 1:
        raise ValueError("window must be at least 1")
    bars, symbols = values.shape
    out = np.empty((bars, symbols))
    for t in range(bars):
        for s in range(symbols):
            x = values[t, s]
            if not np.isfinite(x):
                out[t, s] = np.nan
                continue
            if seen[s] >= window:
                average[s] = (average[s] * (window - 1) + x) / window
            else:
                seen[s] += 1
                average[s] += x
                if seen[s] < window:
                    out[t, s] = np.nan
                    continue
                average[s] /= window
            out[t, s] = average[s]
    return out


@jit(signature=f"{OUTPUT}({COLUMN}, intp, {COUNT}, {STATE}, {STATE}, {STATE})")
def rsi(values: Array, window: int, seen: Count, last: Array, gain: Array, loss: Array) -> Array:
    """Wilder's relative strength index (1978), 0 … 100, seeded by the mean of the first `window` changes.

    TA-Lib RSI: ``100 * gain / (gain + loss)``, and 0 where neither is left. State: ``seen`` counts bars up
    to ``window + 1``; ``last`` is the value before; ``gain`` and ``loss`` are sums until seeded, then
    Wilder's averages.
    """
    if window < 1:
        raise ValueError("window must be at least 1")
    bars, symbols = values.shape
    out = np.empty((bars, symbols))
    for t in range(bars):
        for s in range(symbols):
            x = values[t, s]
            if not np.isfinite(x):
                out[t, s] = np.nan
                continue
            change = x - last[s]
            last[s] = x
            up = change if change > 0.0 else 0.0
            down = -change if change < 0.0 else 0.0
            if seen[s] > window:
                gain[s] = (gain[s] * (window - 1) + up) / window
                loss[s] = (loss[s] * (window - 1) + down) / window
            else:
                seen[s] += 1
                if seen[s] > 1:
                    gain[s] += up
                    loss[s] += down
                if seen[s] <= window:
                    out[t, s] = np.nan
                    continue
                gain[s] /= window
                loss[s] /= window
            moved = gain[s] + loss[s]
            out[t, s] = 100.0 * (gain[s] / moved) if moved > 0.0 else 0.0
    return out


@jit(signature=f"{OUTPUT}({COLUMN}, {COLUMN}, {COLUMN}, intp, {COUNT}, {STATE}, {STATE})")
def atr(
    high: Array, low: Array, close: Array, window: int, seen: Count, last: Array, average: Array
) -> Array:
    """Average true range (Wilder 1978), seeded by the mean of the first `window` true ranges.

    TA-Lib ATR: the first bar has no close before it, so its range doesn't count. State: ``seen`` counts
    bars up to ``window + 1``; ``last`` is the close before; ``average`` is a sum until seeded.
    """
    if window < 1:
        raise ValueError("window must be at least 1")
    if high.shape != close.shape or low.shape != close.shape:
        raise ValueError("high, low and close must have one shape")
    bars, symbols = close.shape
    out = np.empty((bars, symbols))
    for t in range(bars):
        for s in range(symbols):
            top, bottom, x = high[t, s], low[t, s], close[t, s]
            if not (np.isfinite(top) and np.isfinite(bottom) and np.isfinite(x)):
                out[t, s] = np.nan
                continue
            span = max(top - bottom, abs(top - last[s]), abs(bottom - last[s]))
            last[s] = x
            if seen[s] > window:
                average[s] = (average[s] * (window - 1) + span) / window
            else:
                seen[s] += 1
                if seen[s] > 1:
                    average[s] += span
                if seen[s] <= window:
                    out[t, s] = np.nan
                    continue
                average[s] /= window
            out[t, s] = average[s]
    return out


@jit(
    signature=f"Tuple(({OUTPUT}, {OUTPUT}, {OUTPUT}))"
    f"({COLUMN}, intp, intp, intp, {COUNT}, {STATE}, {STATE}, {STATE})"
)
def macd(
    values: Array, fast: int, slow: int, smooth: int, seen: Count, quick: Array, steady: Array, average: Array
) -> tuple[Array, Array, Array]:
    """(macd, signal, histogram): EMA(fast) - EMA(slow), its EMA(smooth), and their difference (TA-Lib MACD).

    Both averages begin at the bar that completes the slow one's seed: the fast one is seeded by the last
    `fast` of those `slow` bars. The signal is seeded by the mean of the first `smooth` differences; all
    outputs are NaN until then. State: ``seen`` counts bars up to ``slow + smooth - 1``; ``quick``,
    ``steady`` and ``average`` are the fast, the slow and the signal average, each a sum until seeded.
    """
    if fast < 1 or slow < fast or smooth < 1:
        raise ValueError("periods must be at least 1, and the slow one not below the fast one")
    bars, symbols = values.shape
    line = np.empty((bars, symbols))
    signal = np.empty((bars, symbols))
    histogram = np.empty((bars, symbols))
    seeded = slow + smooth - 1
    for t in range(bars):
        for s in range(symbols):
            x = values[t, s]
            line[t, s] = np.nan
            signal[t, s] = np.nan
            histogram[t, s] = np.nan
            if not np.isfinite(x):
                continue
            count = seen[s]
            if count < seeded:
                seen[s] = count + 1
            if count >= slow:
                quick[s] += 2.0 / (fast + 1.0) * (x - quick[s])
                steady[s] += 2.0 / (slow + 1.0) * (x - steady[s])
            else:
                steady[s] += x
                if count >= slow - fast:
                    quick[s] += x
                if count + 1 < slow:
                    continue
                quick[s] /= fast
                steady[s] /= slow
            gap = quick[s] - steady[s]
            if count >= seeded:
                average[s] += 2.0 / (smooth + 1.0) * (gap - average[s])
            else:
                average[s] += gap
                if count + 1 < seeded:
                    continue
                average[s] /= smooth
            line[t, s] = gap
            signal[t, s] = average[s]
            histogram[t, s] = gap - average[s]
    return line, signal, histogram
