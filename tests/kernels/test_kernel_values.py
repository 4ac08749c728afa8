"""Kernels against NumPy in extended precision, and the bits, NaN and side effects of each."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alpha_forge_sdk import kernels

K = kernels
W = 5
Over = Callable[[np.ndarray], object]

# name → (kernel over one column with a window of W, the same for one window, rows it reads)
WINDOWS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], Over, int]] = {
    "sum": (lambda x: K.rolling_sum(x, W), lambda w: w.sum(), W),
    "mean": (lambda x: K.rolling_mean(x, W), lambda w: w.mean(), W),
    "max": (lambda x: K.rolling_max(x, W), lambda w: w.max(), W),
    "min": (lambda x: K.rolling_min(x, W), lambda w: w.min(), W),
    "argmax": (lambda x: K.rolling_argmax(x, W), lambda w: w.argmax() + 0.0 * w.sum(), W),
    "argmin": (lambda x: K.rolling_argmin(x, W), lambda w: w.argmin() + 0.0 * w.sum(), W),
    "rank": (lambda x: K.rolling_rank(x, W), lambda w: (w < w[-1]).sum() / (W - 1) + 0.0 * w.sum(), W),
    "std": (lambda x: K.rolling_std(x, W, 0), lambda w: w.std(), W),
    "sample_std": (lambda x: K.rolling_std(x, W, 1), lambda w: w.std(ddof=1), W),
    "zscore": (lambda x: K.rolling_zscore(x, W, 0), lambda w: (w[-1] - w.mean()) / w.std(), W),
    "ratio": (lambda x: K.ratio_to_mean(x, W), lambda w: w[-1] / w.mean(), W),
    "return_std": (
        lambda x: K.rolling_return_std(x, W, 1),
        lambda w: (w[1:] / w[:-1] - 1).std(ddof=1),
        W + 1,
    ),
    "mean_roc": (
        lambda x: K.mean_rate_of_change(x, W, 3, 10.0),
        lambda w: (w[3:].mean() / w[:-3].mean() - 1) * 10,
        W + 3,
    ),
    "upper": (lambda x: K.rolling_bands(x, W, 2.0, 1.0)[0], lambda w: w.mean() + 2 * w.std(), W),
    "middle": (lambda x: K.rolling_bands(x, W, 2.0, 1.0)[1], lambda w: w.mean(), W),
    "lower": (lambda x: K.rolling_bands(x, W, 2.0, 1.0)[2], lambda w: w.mean() - w.std(), W),
    "lag": (lambda x: K.lag(x, W), lambda w: w[0], W + 1),
    "lag_0": (lambda x: K.lag(x, 0), lambda w: w[0], 1),
    "difference": (lambda x: K.difference(x, W), lambda w: w[-1] - w[0], W + 1),
    "rate_of_change": (lambda x: K.rate_of_change(x, W), lambda w: w[-1] / w[0] - 1, W + 1),
    "true_range": (
        lambda x: K.true_range(x + 1.0, x - 2.0, x),
        lambda w: np.max(np.abs([(w[1] + 1) - (w[1] - 2), (w[1] + 1) - w[0], (w[1] - 2) - w[0]])),
        2,
    ),
}
BY_NAME = pytest.mark.parametrize("name", WINDOWS)


def prices(bars: int, symbols: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return 100 * np.exp(np.cumsum(rng.normal(0, 0.01, (bars, symbols)), axis=0))


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    unknown = np.isnan(a)
    return bool((unknown == np.isnan(b)).all()) and a[~unknown].tobytes() == b[~unknown].tobytes()


@BY_NAME
@pytest.mark.parametrize("symbols", [1, 3, 17])
def test_value_of_each_window(name: str, symbols: int) -> None:
    kernel, over, reads = WINDOWS[name]
    x = prices(60, symbols)
    out = kernel(x)
    assert np.isnan(out[: reads - 1]).all()
    exact = np.array(
        [
            [over(x[t - reads + 1 : t + 1, s].astype(np.longdouble)) for s in range(symbols)]
            for t in range(reads - 1, 60)
        ]
    ).astype(float)
    # Differences of prices keep the rounding of the prices: 1e-9 of what such a column is like.
    np.testing.assert_allclose(out[reads - 1 :], exact, rtol=1e-9, atol=1e-12 * np.abs(exact).max())


@BY_NAME
def test_bits_depend_on_the_window_alone(name: str) -> None:
    kernel, _, reads = WINDOWS[name]
    x = prices(80, 500, seed=1)
    whole = kernel(x)
    rng = np.random.default_rng(2)
    for t in (reads - 1, 40, 79):
        assert same_bits(kernel(x[t - reads + 1 : t + 1])[-1], whole[t])
    for picked in ([7], [499], rng.choice(500, 20, replace=False), rng.choice(500, 33)):
        assert same_bits(kernel(np.ascontiguousarray(x[:, picked])), whole[:, picked])


@BY_NAME
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), share=st.sampled_from([0.02, 0.2, 0.9]))
def test_nan_is_unknown_and_never_outlives_the_window(name: str, seed: int, share: float) -> None:
    kernel, over, reads = WINDOWS[name]
    rng = np.random.default_rng(seed)
    x = prices(40, 4, seed)
    clean = kernel(x)
    x[rng.random(x.shape) < share] = np.nan
    out = kernel(x)
    for t in range(reads - 1, 40):
        for s in range(4):
            if np.isnan(float(over(x[t - reads + 1 : t + 1, s]))):
                assert np.isnan(out[t, s])
            else:
                assert out[t, s] == clean[t, s]


@BY_NAME
@pytest.mark.parametrize("bad", [0.0, -0.0, np.inf, -np.inf, 1e-12, 1e12, 1e308, 5e-324])
def test_no_value_warns(name: str, bad: float) -> None:
    kernel, _, reads = WINDOWS[name]
    x = prices(40, 3)
    before = kernel(x)
    x[10, 0] = bad
    x[:, 1] = bad
    kept = x.copy()
    with warnings.catch_warnings(), np.errstate(all="raise"):
        warnings.simplefilter("error")
        out = kernel(x)
    assert same_bits(x, kept)
    assert same_bits(out[10 + reads :, 0], before[10 + reads :, 0])
    assert same_bits(out[:, 2], before[:, 2])


def test_constant_windows_deviate_by_exactly_zero() -> None:
    for level in (0.1, 1e-12, 1 / 3, 1e12):
        assert (K.rolling_std(np.full((30, 2), level), 7, 1)[6:] == 0.0).all()
        upper, middle, lower = K.rolling_bands(np.full((30, 2), level), 7, 2.0, 2.0)
        assert (upper[6:] == level).all()
        assert (middle[6:] == level).all()
        assert (lower[6:] == level).all()
        assert np.isnan(K.rolling_zscore(np.full((30, 2), level), 7, 1)).all()


def test_levels_are_of_high_and_low() -> None:
    close = prices(50, 2)
    high, low = close * 1.01, close * 0.98
    above, below = K.level_distances(high, low, close, 9)
    np.testing.assert_array_equal(above[8:], ((K.rolling_max(high, 9) - close) / close)[8:])
    np.testing.assert_array_equal(below[8:], ((close - K.rolling_min(low, 9)) / close)[8:])
    with pytest.raises(ValueError, match="one shape"):
        K.level_distances(high[1:], low, close, 9)


def test_wilder_is_its_recurrence() -> None:
    x = prices(60, 2)
    out = K.wilder(x, 7, np.zeros(2, np.int64), np.zeros(2))
    value = x[:7].astype(np.longdouble).mean(axis=0)
    assert np.isnan(out[:6]).all()
    np.testing.assert_allclose(out[6], value.astype(float), rtol=1e-14)
    for t in range(7, 60):
        value = (value * 6 + x[t]) / 7
        np.testing.assert_allclose(out[t], value.astype(float), rtol=1e-14)


def test_cross_sections() -> None:
    x = np.array([[3.0, 1.0, np.nan, 2.0], [5.0, 5.0, 5.0, 5.0], [np.nan, 4.0, np.nan, np.nan], [np.nan] * 4])
    np.testing.assert_array_equal(
        K.cross_rank(x),
        [[1.0, 0.0, np.nan, 0.5], [0.5] * 4, [np.nan, 0.5, np.nan, np.nan], [np.nan] * 4],
    )
    scores = K.cross_zscore(x)
    np.testing.assert_allclose(scores[0], [1.5**0.5, -(1.5**0.5), np.nan, 0.0], rtol=1e-14)
    assert np.isnan(scores[1:]).all()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), symbols=st.integers(1, 60))
def test_cross_rank_counts_who_is_below(seed: int, symbols: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 12, symbols).astype(float)
    x[rng.random(symbols) < 0.2] = np.nan
    (ranks,) = K.cross_rank(x[None])
    known = x[~np.isnan(x)]
    for value, rank in zip(x, ranks, strict=True):
        if np.isnan(value):
            assert np.isnan(rank)
        elif len(known) == 1:
            assert rank == 0.5
        else:
            below, equal = (known < value).sum(), (known == value).sum()
            assert rank == (below + (equal - 1) / 2) / (len(known) - 1)
