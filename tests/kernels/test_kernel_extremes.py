"""Extremes of windows: read one by one in a stream and in blocks over history, and the bits of both are the same."""

from __future__ import annotations

import math

import numpy as np
import pytest
import talib
from hypothesis import given, settings
from hypothesis import strategies as st

from alpha_forge_sdk import kernels

K = kernels
# Few different values: ties, both zeros, infinities and NaN meet in one window.
VALUES = np.array([0.0, -0.0, 1.0, -1.0, 2.0, np.inf, -np.inf, np.nan])
WEIGHTS = {
    "no NaN": [3, 3, 2, 2, 1, 1, 1, 0],
    "some NaN": [3, 3, 2, 2, 1, 1, 1, 1],
    "zeros": [1, 1, 0, 0, 0, 0, 0, 0],
}


def column(seed: int, bars: int, symbols: int, weights: str) -> np.ndarray:
    chances = np.array(WEIGHTS[weights], dtype=float)
    return np.random.default_rng(seed).choice(VALUES, (bars, symbols), p=chances / chances.sum())


def best_place(window: list[float], sign: float) -> int | None:
    """Place of the largest of sign × window, the oldest of equal ones; None where something is unknown."""
    if any(math.isnan(x) for x in window):
        return None
    return max(range(len(window)), key=lambda k: (sign * window[k], -k))


def one_by_one(x: np.ndarray, window: int, sign: float) -> tuple[np.ndarray, np.ndarray]:
    """(values, places) in plain Python."""
    values, places = np.full(x.shape, np.nan), np.full(x.shape, np.nan)
    for s in range(x.shape[1]):
        series = x[:, s].tolist()
        for t in range(window - 1, len(series)):
            part = series[t - window + 1 : t + 1]
            place = best_place(part, sign)
            if place is not None:
                values[t, s], places[t, s] = part[place], place
    return values, places


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    unknown = np.isnan(a)
    return bool((unknown == np.isnan(b)).all()) and a[~unknown].tobytes() == b[~unknown].tobytes()


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    bars=st.integers(0, 90),
    symbols=st.integers(1, 5),
    window=st.integers(1, 34),
    weights=st.sampled_from(sorted(WEIGHTS)),
)
def test_blocks_have_the_bits_of_windows_read_one_by_one(seed, bars, symbols, window, weights):
    x = column(seed, bars, symbols, weights)
    kept = x.copy()
    highest, first_high = one_by_one(x, window, 1.0)
    lowest, first_low = one_by_one(x, window, -1.0)
    assert same_bits(K.rolling_max(x, window), highest)
    assert same_bits(K.rolling_min(x, window), lowest)
    assert same_bits(K.rolling_argmax(x, window), first_high)
    assert same_bits(K.rolling_argmin(x, window), first_low)
    assert same_bits(x, kept)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), window=st.integers(1, 40), weights=st.sampled_from(sorted(WEIGHTS)))
def test_wherever_the_array_begins(seed, window, weights):
    """Blocks stand elsewhere then, and a stream reads no blocks at all."""
    x = column(seed, 130, 17, weights)
    for kernel in (K.rolling_max, K.rolling_min, K.rolling_argmax, K.rolling_argmin, K.rolling_rank):
        whole = kernel(x, window)
        for start in (1, 2, window // 2, 130 - window):
            assert same_bits(kernel(x[start:], window)[window - 1 :], whole[start + window - 1 :])
    flat = np.ones_like(x)
    whole = K.level_distances(x, x, flat, window)
    for start in (1, window // 2, 130 - window):
        begun = K.level_distances(x[start:], x[start:], flat[start:], window)
        for a, b in zip(begun, whole, strict=True):
            assert same_bits(a[window - 1 :], b[start + window - 1 :])


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), window=st.integers(1, 12), weights=st.sampled_from(sorted(WEIGHTS)))
def test_rank_counts_who_is_below_and_who_is_equal(seed, window, weights):
    x = column(seed, 40, 3, weights)
    ranks = K.rolling_rank(x, window)
    assert np.isnan(ranks[: window - 1]).all()
    for t in range(window - 1, 40):
        for s in range(3):
            part = x[t - window + 1 : t + 1, s]
            if np.isnan(part).any():
                assert np.isnan(ranks[t, s])
            elif window == 1:
                assert ranks[t, s] == 0.5
            else:
                below, equal = (part < part[-1]).sum(), (part == part[-1]).sum()
                assert ranks[t, s] == (below + (equal - 1) / 2) / (window - 1)


@pytest.mark.parametrize("window", [2, 5, 20, 60])
def test_talib_agrees(window):
    x = 100 * np.exp(np.cumsum(np.random.default_rng(3).normal(0, 0.01, 900)))
    for kernel, theirs in (
        (K.rolling_max, talib.MAX),
        (K.rolling_min, talib.MIN),
    ):
        np.testing.assert_array_equal(kernel(x[:, None], window)[:, 0], theirs(x, window))
    rows = np.arange(window - 1, 900)
    for kernel, theirs in ((K.rolling_argmax, talib.MAXINDEX), (K.rolling_argmin, talib.MININDEX)):
        places = kernel(x[:, None], window)[window - 1 :, 0]
        np.testing.assert_array_equal(rows - (window - 1) + places, theirs(x, window)[window - 1 :])


def test_bad_windows_are_told():
    for kernel in (K.rolling_max, K.rolling_min, K.rolling_argmax, K.rolling_argmin, K.rolling_rank):
        with pytest.raises(ValueError, match="window must be at least 1"):
            kernel(np.ones((5, 1)), 0)
