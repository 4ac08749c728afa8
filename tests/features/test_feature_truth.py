"""Features against TA-Lib, pandas, and NumPy in extended precision."""

from __future__ import annotations

import numpy as np
import pytest
import talib
from feature_cases import PANEL, RECURSIVE, WINDOWED, Case, market, panel_rank, run

from alpha_forge_plugins.features.averages import SMA
from alpha_forge_plugins.features.levels import ZScore
from alpha_forge_plugins.features.momentum import RSI
from alpha_forge_plugins.features.panel import CrossRank

BARS = market(300, 3)


def assert_agrees(ours: np.ndarray, truth: np.ndarray) -> None:
    """NaN in the same rows; elsewhere within 1e-9 relative, floored at 1e-3 of the column's deviation."""
    assert (np.isnan(ours) == np.isnan(truth)).all()
    known = ~np.isnan(truth)
    scale = np.maximum(np.abs(truth[known]), 1e-3 * truth[known].std())
    assert np.all(np.abs(ours[known] - truth[known]) <= 1e-9 * scale)


@pytest.mark.parametrize("case", WINDOWED + RECURSIVE, ids=str)
def test_agrees_with_the_definition_it_names(case: Case) -> None:
    columns = case.columns(BARS)
    ours = run(case.make(), columns)
    assert len(ours) == len(case.plugin.outputs)
    for s in range(3):
        truth = case.truth(*(np.ascontiguousarray(c[:, s]) for c in columns))
        for mine, theirs in zip(ours, truth if isinstance(truth, tuple) else (truth,), strict=True):
            assert_agrees(mine[:, s], np.asarray(theirs))


@pytest.mark.parametrize("case", WINDOWED + PANEL, ids=str)
def test_nan_are_exactly_the_first_rows(case: Case) -> None:
    plugin = case.make()
    for out in run(plugin, case.columns(BARS)):
        assert np.isnan(out[: plugin.lookback() - 1]).all()
        assert np.isfinite(out[plugin.lookback() - 1 :]).all()


@pytest.mark.parametrize("case", RECURSIVE, ids=str)
def test_an_unknown_bar_is_skipped(case: Case) -> None:
    """TA-Lib over the bars that are there, put back in their rows."""
    rng = np.random.default_rng(1)
    there = rng.random(300) > 0.2
    columns = case.columns({name: np.where(there[:, None], x, np.nan) for name, x in BARS.items()})
    truth = case.truth(*(np.ascontiguousarray(c[there, 0]) for c in columns))
    for mine, theirs in zip(
        run(case.make(), columns), truth if isinstance(truth, tuple) else (truth,), strict=True
    ):
        assert np.isnan(mine[~there]).all()
        assert_agrees(mine[there, 0], theirs)


def test_cross_rank_is_the_rank_of_pandas() -> None:
    rng = np.random.default_rng(2)
    values = rng.integers(0, 6, (200, 9)).astype(float)
    values[rng.random(values.shape) < 0.3] = np.nan
    values[0] = np.nan
    values[1, 1:] = np.nan
    values[2] = 7.0
    values[3, :2] = np.inf, -np.inf
    ranks = CrossRank(CrossRank.Params()).compute(values)
    np.testing.assert_allclose(ranks, panel_rank(values), rtol=1e-15)
    assert (ranks[2] == 0.5).all()
    assert ranks[1, 0] == 0.5 or np.isnan(values[1, 0])


def test_rsi_of_a_constant_series_is_talibs() -> None:
    constant = np.full((40, 1), 12.5)
    ours = RSI(RSI.Params(window=14))
    np.testing.assert_array_equal(run(ours, [constant])[0][:, 0], talib.RSI(constant[:, 0], 14))


def test_constant_prices_keep_their_level_and_have_no_score() -> None:
    constant = np.full((40, 1), 0.1)
    assert np.allclose(run(SMA(SMA.Params(window=20)), [constant])[0][19:], 0.1, rtol=1e-15)
    assert np.isnan(run(ZScore(ZScore.Params(window=20)), [constant])[0]).all()


def test_deviation_at_a_high_level_loses_no_digits() -> None:
    rng = np.random.default_rng(3)
    noise = rng.integers(-100, 100, (100, 1)).astype(float)
    score = ZScore(ZScore.Params(window=20))
    np.testing.assert_array_equal(score.compute(noise + 1e12), score.compute(noise))
