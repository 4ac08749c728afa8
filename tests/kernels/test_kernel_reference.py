"""Every kernel: wherever the array begins, whatever comes with it, the same bits; and the values of TA-Lib, and of the
same recurrences in extended precision."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import talib
from hypothesis import given, settings
from hypothesis import strategies as st

from alpha_forge_sdk import kernels

K = kernels
Array = np.ndarray
W = 6

# name → (over one column, rows that a value reads)
WINDOWED: dict[str, tuple[Callable[[Array], object], int]] = {
    "lag": (lambda x: K.lag(x, W), W + 1),
    "difference": (lambda x: K.difference(x, W), W + 1),
    "rate_of_change": (lambda x: K.rate_of_change(x, W), W + 1),
    "true_range": (lambda x: K.true_range(x + 1, x - 2, x), 2),
    "level_distances": (lambda x: K.level_distances(x + 1, x - 2, x, W), W),
    "mean_rate_of_change": (lambda x: K.mean_rate_of_change(x, W, 2, 3.0), W + 2),
    "ratio_to_mean": (lambda x: K.ratio_to_mean(x, W), W),
    "rolling_bands": (lambda x: K.rolling_bands(x, W, 2.0, 1.0), W),
    "rolling_return_std": (lambda x: K.rolling_return_std(x, W, 1), W + 1),
    "rolling_std": (lambda x: K.rolling_std(x, W, 1), W),
    "rolling_zscore": (lambda x: K.rolling_zscore(x, W, 1), W),
    **{
        f"rolling_{name}": (lambda x, name=f"rolling_{name}": getattr(K, name)(x, W), W)
        for name in ("argmax", "argmin", "max", "mean", "min", "rank", "sum")
    },
}
ACROSS: dict[str, Callable[[Array], Array]] = {"cross_rank": K.cross_rank, "cross_zscore": K.cross_zscore}
# name → (over one column and a state, number of float arrays in the state)
RECURSIVE: dict[str, tuple[Callable[..., object], int]] = {
    "ema": (lambda x, *state: K.ema(x, W, *state), 1),
    "wilder": (lambda x, *state: K.wilder(x, W, *state), 1),
    "rsi": (lambda x, *state: K.rsi(x, W, *state), 3),
    "atr": (lambda x, *state: K.atr(x + 1, x - 2, x, W, *state), 2),
    "macd": (lambda x, *state: K.macd(x, 3, W, 4, *state), 3),
}


def outputs(found: object) -> tuple[Array, ...]:
    return found if isinstance(found, tuple) else (found,)  # type: ignore[return-value]


def same_bits(a: Array, b: Array) -> bool:
    unknown = np.isnan(a)
    return bool((unknown == np.isnan(b)).all()) and a[~unknown].tobytes() == b[~unknown].tobytes()


def column(seed: int, bars: int, symbols: int, share: float = 0.0) -> Array:
    rng = np.random.default_rng(seed)
    x = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, (bars, symbols)), axis=0))
    x[rng.random(x.shape) < share] = np.nan
    return x


def fresh(symbols: int, arrays: int) -> list[Array]:
    return [np.zeros(symbols, np.int64), *(np.zeros(symbols) for _ in range(arrays))]


def test_every_kernel_is_here():
    assert sorted([*WINDOWED, *ACROSS, *RECURSIVE, "jit"]) == sorted(K.__all__)


CUTS = {
    "seed": st.integers(0, 2**32 - 1),
    "start": st.integers(0, 60),
    "length": st.integers(1, 60),
    "symbols": st.integers(1, 40),
    "share": st.sampled_from([0.0, 0.05]),
}


@pytest.mark.parametrize("name", WINDOWED)
@settings(max_examples=25, deadline=None)
@given(**CUTS)
def test_a_row_of_a_window_is_the_same_in_any_array(name, seed, start, length, symbols, share):
    kernel, reads = WINDOWED[name]
    x = column(seed, 120, 40, share)
    whole = outputs(kernel(x))
    picked = np.random.default_rng(seed).permutation(40)[:symbols]
    part = outputs(kernel(np.ascontiguousarray(x[start : start + reads - 1 + length, picked])))
    for a, b in zip(part, whole, strict=True):
        assert np.isnan(a[: reads - 1]).all()
        assert same_bits(a[reads - 1 :], b[start + reads - 1 : start + reads - 1 + length, picked])


@pytest.mark.parametrize("name", ACROSS)
@settings(max_examples=25, deadline=None)
@given(**CUTS)
def test_a_row_across_symbols_is_the_same_in_any_array(name, seed, start, length, symbols, share):
    x = column(seed, 120, symbols, share)
    assert same_bits(ACROSS[name](x[start : start + length]), ACROSS[name](x)[start : start + length])


@pytest.mark.parametrize("name", RECURSIVE)
@settings(max_examples=25, deadline=None)
@given(**CUTS)
def test_a_state_moves_on_alike_however_the_rows_come(name, seed, start, length, symbols, share):
    kernel, arrays = RECURSIVE[name]
    x = column(seed, 120, symbols, share)
    whole_state, state = fresh(symbols, arrays), fresh(symbols, arrays)
    whole = outputs(kernel(x, *whole_state))
    cuts = sorted({0, start, start + length, 120})
    parts = [outputs(kernel(x[a:b], *state)) for a, b in pairwise(cuts)]
    for pieces, expected in zip(zip(*parts, strict=True), whole, strict=True):
        assert same_bits(np.vstack(pieces), expected)
    for a, b in zip(state, whole_state, strict=True):
        assert a.tobytes() == b.tobytes()
    alone = fresh(1, arrays)
    for a, b in zip(outputs(kernel(x[:, -1:], *alone)), whole, strict=True):
        assert same_bits(a, b[:, -1:])


@pytest.mark.parametrize("window", [2, 5, 14, 60])
def test_talib_agrees(window):
    x = column(4, 700, 1)
    high, low, close = x[:, 0] * 1.01, x[:, 0] * 0.98, x[:, 0]
    wide = [c[:, None] for c in (high, low, close)]
    up, middle, down = talib.BBANDS(close, window, 2.0, 1.0)
    line, signal, histogram = talib.MACD(close, window, window + 7, 5)
    bands = K.rolling_bands(x, window, 2.0, 1.0)
    lines = K.macd(x, window, window + 7, 5, *fresh(1, 3))
    for ours, theirs in (
        (K.difference(x, window), talib.MOM(close, window)),
        (K.rate_of_change(x, window), talib.ROCP(close, window)),
        (K.true_range(*wide), talib.TRANGE(high, low, close)),
        (K.rolling_sum(x, window), talib.SUM(close, window)),
        (K.rolling_mean(x, window), talib.SMA(close, window)),
        (K.rolling_std(x, window, 0), talib.STDDEV(close, window)),
        (K.ema(x, window, *fresh(1, 1)), talib.EMA(close, window)),
        (K.rsi(x, window, *fresh(1, 3)), talib.RSI(close, window)),
        (K.atr(*wide, window, *fresh(1, 2)), talib.ATR(high, low, close, window)),
        *zip(bands, (up, middle, down), strict=True),
        *zip(lines, (line, signal, histogram), strict=True),
    ):
        # TA-Lib's own running sums keep the rounding of prices of 100; a deviation of 2 bars is their root.
        np.testing.assert_allclose(ours[:, 0], theirs, rtol=1e-6 if window == 2 else 1e-9, atol=1e-8)


def recurrence(x: Array, window: int, keep: Callable[[np.longdouble, np.longdouble], np.longdouble]) -> Array:
    """A seeded average of a (bars,) series in extended precision."""
    out = np.full(len(x), np.nan, dtype=np.longdouble)
    value = x[:window].mean()
    out[window - 1] = value
    for t in range(window, len(x)):
        value = out[t] = keep(value, x[t])
    return out


@pytest.mark.parametrize("window", [1, 2, 14, 60])
def test_extended_precision_agrees(window):
    """To the last digits: what the running averages gain by rounding is a few units in the last place."""
    x = column(5, 900, 1)
    series = x[:, 0].astype(np.longdouble)
    n = np.longdouble(window)

    def smoothed(average: np.longdouble, new: np.longdouble) -> np.longdouble:
        return (average * (n - 1) + new) / n

    ema = recurrence(series, window, lambda average, new: average + 2 / (n + 1) * (new - average))
    change = np.diff(series)
    gain = recurrence(np.maximum(change, 0), window, smoothed)
    loss = recurrence(np.maximum(-change, 0), window, smoothed)
    high, low = (x[:, 0] * 1.01).astype(np.longdouble), (x[:, 0] * 0.98).astype(np.longdouble)
    spans = np.maximum(
        high[1:] - low[1:], np.maximum(abs(high[1:] - series[:-1]), abs(low[1:] - series[:-1]))
    )
    wide = [x * 1.01, x * 0.98, x]
    for ours, exact in (
        (K.ema(x, window, *fresh(1, 1))[:, 0], ema),
        (K.wilder(x, window, *fresh(1, 1))[:, 0], recurrence(series, window, smoothed)),
        (K.rsi(x, window, *fresh(1, 3))[1:, 0], 100 * gain / (gain + loss)),
        (K.atr(*wide, window, *fresh(1, 2))[1:, 0], recurrence(spans, window, smoothed)),
    ):
        np.testing.assert_allclose(ours, exact.astype(float), rtol=1e-12, atol=1e-11)
