"""The limit: all of F12 in one compiled loop, with nothing around it. Imports nothing of the product."""

from __future__ import annotations

import numpy as np
from numba import njit

from benchmarks.market import Float

RESEED = 512
"""Bars after which running sums are taken anew: what rounding leaves in them must not grow."""


class Fused:
    """(symbols, bars) in, contiguous; running state for each symbol, bars in order of time."""

    def __init__(self, high: Float, low: Float, close: Float) -> None:
        self._columns = high, low, close
        self._state = np.zeros((len(close), 12))
        self._places = np.zeros((len(close), 4), np.int64)

    def advance(self, first: int, stop: int) -> Float:
        """(14, symbols, stop - first): bars `first` … ``stop - 1``, which follow those of the last call."""
        out = np.empty((14, len(self._state), stop - first))
        _advance(*self._columns, first, stop, self._state, self._places, out)
        return out


@njit(cache=True, error_model="numpy")
def _advance(high, low, close, first, stop, state, places, out):  # type: ignore[no-untyped-def]
    for s in range(len(close)):
        _rates(close, s, first, stop, 20, out[0])
        _rates(close, s, first, stop, 60, out[1])
        _strength(close, s, first, stop, 6, state, 0, out[2])
        _strength(close, s, first, stop, 12, state, 2, out[3])
        _strength(close, s, first, stop, 24, state, 4, out[4])
        _average(close, s, first, stop, 5, state, 6, out[5])
        _average(close, s, first, stop, 10, state, 7, out[6])
        _average(close, s, first, stop, 20, state, 8, out[7])
        _average(close, s, first, stop, 60, state, 9, out[8])
        _levels(high, low, close, s, first, stop, 20, places, 0, out[9], out[10])
        _levels(high, low, close, s, first, stop, 60, places, 2, out[11], out[12])
        _deviation(close, s, first, stop, state, 10, out[13])


@njit(cache=True, inline="always", error_model="numpy")
def _rates(c, s, first, stop, w, out):  # type: ignore[no-untyped-def]
    for t in range(first, stop):
        out[s, t - first] = c[s, t] / c[s, t - w] - 1.0 if t >= w else np.nan


@njit(cache=True, inline="always", error_model="numpy")
def _strength(c, s, first, stop, w, state, at, out):  # type: ignore[no-untyped-def]
    """Wilder's RSI, seeded by the mean of the first changes."""
    gain, loss = state[s, at], state[s, at + 1]
    for t in range(first, stop):
        change = c[s, t] - c[s, t - 1] if t else 0.0
        up, down = max(change, 0.0), max(-change, 0.0)
        if t <= w:
            gain += up / w
            loss += down / w
        else:
            gain = (gain * (w - 1) + up) / w
            loss = (loss * (w - 1) + down) / w
        out[s, t - first] = 100.0 * gain / (gain + loss) if t >= w else np.nan
    state[s, at], state[s, at + 1] = gain, loss


@njit(cache=True, inline="always", error_model="numpy")
def _average(c, s, first, stop, w, state, at, out):  # type: ignore[no-untyped-def]
    """Rate of change of a mean: what came in less what fell out, over the sum before."""
    total = state[s, at]
    for t in range(first, stop):
        step = c[s, t] - c[s, t - w] if t >= w else c[s, t]
        out[s, t - first] = step / total * 10.0 if t >= w else np.nan
        total += step
        if t % RESEED == 0 and t >= w:
            total = 0.0
            for i in range(t - w + 1, t + 1):
                total += c[s, i]
    state[s, at] = total


@njit(cache=True, inline="always", error_model="numpy")
def _levels(h, l, c, s, first, stop, w, places, at, above, below):  # type: ignore[no-untyped-def]  # noqa: E741
    """Distances to the highest high and lowest low; a window is searched when its extreme falls out of it."""
    top, bottom = places[s, at], places[s, at + 1]
    for t in range(first, stop):
        start = max(0, t - w + 1)
        if top < start:
            top = start
            for i in range(start + 1, t + 1):
                if h[s, i] >= h[s, top]:
                    top = i
        elif h[s, t] >= h[s, top]:
            top = t
        if bottom < start:
            bottom = start
            for i in range(start + 1, t + 1):
                if l[s, i] <= l[s, bottom]:
                    bottom = i
        elif l[s, t] <= l[s, bottom]:
            bottom = t
        above[s, t - first] = (h[s, top] - c[s, t]) / c[s, t] if t >= w - 1 else np.nan
        below[s, t - first] = (c[s, t] - l[s, bottom]) / c[s, t] if t >= w - 1 else np.nan
    places[s, at], places[s, at + 1] = top, bottom


@njit(cache=True, inline="always", error_model="numpy")
def _deviation(c, s, first, stop, state, at, out):  # type: ignore[no-untyped-def]
    """Sample standard deviation of the last 20 returns."""
    total, squares = state[s, at], state[s, at + 1]
    for t in range(first, stop):
        if t % RESEED == 0:
            total = squares = 0.0
            for i in range(max(1, t - 19), t + 1):
                r = c[s, i] / c[s, i - 1] - 1.0
                total += r
                squares += r * r
        else:
            r = c[s, t] / c[s, t - 1] - 1.0
            old = c[s, t - 20] / c[s, t - 21] - 1.0 if t > 20 else 0.0
            total += r - old
            squares += r * r - old * old
        out[s, t - first] = np.sqrt(max(0.0, squares - total * total / 20.0) / 19.0) if t >= 20 else np.nan
    state[s, at], state[s, at + 1] = total, squares
