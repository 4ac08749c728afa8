"""A fresh start, read after `settle(epsilon)` bars, is the value of the whole history within epsilon."""

from __future__ import annotations

import math

import numpy as np
import pytest
from feature_cases import market, run
from hypothesis import example, given, settings
from hypothesis import strategies as st

from alpha_forge_plugins.features.averages import EMA
from alpha_forge_plugins.features.momentum import MACD, RSI
from alpha_forge_plugins.features.volatility import ATR

EPSILONS = st.sampled_from([1e-3, 1e-6, 1e-9])


def history(bars: int, seed: int, storm: float) -> dict[str, np.ndarray]:
    """Bars whose volatility changes from stretch to stretch, by up to a factor of `storm` either way."""
    rng = np.random.default_rng(seed)
    calm = market(bars, 8, seed)
    stretch = np.repeat(np.exp(rng.uniform(-1, 1, bars // 50 + 1) * math.log(storm)), 50)[:bars, None]
    level = np.log(calm["close"])
    close = np.exp(level[0] + np.cumsum(stretch * np.diff(level, axis=0, prepend=level[:1]), axis=0))
    high = close * (calm["high"] / calm["close"]) ** stretch
    low = close * (calm["low"] / calm["close"]) ** stretch
    return {"high": high, "low": low, "close": close}


def both(plugin, seed: int, epsilon: float, storm: float = 3.0):
    """[(last row of the fresh start, of the whole history, rms of the column)] for each output."""
    settle = plugin.settle(epsilon)
    bars = history(2 * settle + 300, seed, storm)
    columns = [bars[name] for name in type(plugin).input_names()]
    fresh = run(plugin, [c[-settle:] for c in columns])
    full = run(plugin, columns)
    return [(a[-1], b[-1], np.sqrt(np.nanmean(b**2, axis=0))) for a, b in zip(fresh, full, strict=True)]


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), window=st.integers(1, 60), epsilon=EPSILONS)
def test_ema(seed: int, window: int, epsilon: float) -> None:
    ((fresh, full, _),) = both(EMA(EMA.Params(window=window)), seed, epsilon)
    assert np.all(np.abs(fresh - full) <= (epsilon + 1e-14) * np.abs(full))


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), window=st.integers(1, 60), epsilon=EPSILONS)
def test_atr(seed: int, window: int, epsilon: float) -> None:
    ((fresh, full, rms),) = both(ATR(ATR.Params(window=window)), seed, epsilon)
    assert np.all(np.abs(fresh - full) <= (epsilon + 1e-14) * np.maximum(np.abs(full), rms))


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    periods=st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40)),
    epsilon=EPSILONS,
)
@example(seed=15, periods=(15, 1, 7), epsilon=1e-9)  # nearly equal periods: a small line of large averages
def test_macd_covers_its_composition(seed: int, periods: tuple[int, int, int], epsilon: float) -> None:
    fast, more, signal = periods
    plugin = MACD(MACD.Params(fast=fast, slow=fast + more, signal=signal))
    outputs = both(plugin, seed, epsilon)
    # The line's own size: all three are differences of it, and their rounding is that of the prices.
    rms = outputs[0][2]
    for fresh, full, _ in outputs:
        assert np.all(np.abs(fresh - full) <= epsilon * rms + 1e-10 * rms)


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), window=st.integers(2, 60), epsilon=EPSILONS)
def test_rsi_forgets_what_came_before(seed: int, window: int, epsilon: float) -> None:
    """Its averages are linear: what the start missed weighs under epsilon, but for the seed's own bars."""
    plugin = RSI(RSI.Params(window=window))
    settle = plugin.settle(epsilon)
    close = history(settle + 400, seed, storm=3.0)["close"]
    whole, fresh = plugin.start(8), plugin.start(8)
    plugin.advance(whole, close[: -settle + window + 1])
    plugin.advance(fresh, close[-settle : -settle + window + 1])
    misfit = {name: np.abs(fresh[name] - whole[name]) for name in ("gain", "loss")}
    rest = close[-settle + window + 1 :]
    if len(rest) == 0:
        return
    full, value = plugin.advance(whole, rest)[-1], plugin.advance(fresh, rest)[-1]
    weight = ((window - 1) / window) ** len(rest)
    # The seed's own bars weigh up to (n/(n-1)) ** (n+1) times what they should: e … 8.
    assert weight <= epsilon * ((window - 1) / window) ** -(window + 1) * (1 + 1e-9)
    for name, missed in misfit.items():
        assert np.all(np.abs(fresh[name] - whole[name]) <= weight * missed + 1e-14 * whole[name])
    bound = 100 * weight * (misfit["gain"] + misfit["loss"]) / (whole["gain"] + whole["loss"])
    assert np.all(np.abs(value - full) <= 1.01 * bound + 1e-11)


def test_rsi_14_settles_in_280_bars() -> None:
    assert RSI(RSI.Params(window=14)).settle(1e-9) == 280


def test_rsi_is_typically_within_epsilon() -> None:
    """Relative, over ordinary markets: the median is below epsilon, the worst of a thousand below ten."""
    plugin = RSI(RSI.Params(window=14))
    bars = market(900, 1000, seed=9)["close"]
    (full,), (fresh,) = run(plugin, [bars]), run(plugin, [bars[-280:]])
    error = np.abs(fresh[-1] / full[-1] - 1)
    assert np.median(error) < 1e-9
    assert error.max() < 1e-8


@pytest.mark.parametrize("plugin", [RSI, EMA, ATR, MACD])
def test_settle_counts_the_seed_and_grows_as_epsilon_shrinks(plugin) -> None:
    made = plugin(plugin.Params())
    assert made.settle(0.5) < made.settle(1e-3) < made.settle(1e-9)
    columns = [market(made.settle(0.5), 1)[name] for name in plugin.input_names()]
    assert all(np.isfinite(out[-1]).all() for out in run(made, columns))
    for epsilon in (0.0, 1.0, -1e-9, math.nan):
        with pytest.raises(ValueError, match="epsilon must be between 0 and 1"):
            made.settle(epsilon)
