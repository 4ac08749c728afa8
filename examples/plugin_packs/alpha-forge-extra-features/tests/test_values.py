"""Values by hand: the kit proves how a feature behaves, not that its formula is the right one."""

import numpy as np
import pytest

from alpha_forge_extra_features.channels import Donchian, drawdown
from alpha_forge_extra_features.fading import FadingVolatility
from alpha_forge_extra_features.panel import ExcessReturn, medians

CLOSE = np.array([[10.0, 5.0], [8.0, 5.0], [9.0, 10.0]])


def test_drawdown() -> None:
    values = drawdown(drawdown.Params.model_validate({"window": 2})).compute(CLOSE)
    np.testing.assert_allclose(values, [[np.nan, np.nan], [-0.2, 0.0], [0.0, 0.0]])


def test_donchian() -> None:
    upper, middle, lower = Donchian(Donchian.Params(window=2)).compute(CLOSE + 1, CLOSE - 1)
    np.testing.assert_allclose(upper[1:], [[11.0, 6.0], [10.0, 11.0]])
    np.testing.assert_allclose(lower[1:], [[7.0, 4.0], [7.0, 4.0]])
    np.testing.assert_allclose(middle[1:], [[9.0, 5.0], [8.5, 7.5]])


def test_excess_return() -> None:
    values = ExcessReturn(ExcessReturn.Params(window=1)).compute(CLOSE)
    np.testing.assert_allclose(values[1:], [[-0.1, 0.1], [-0.4375, 0.4375]])


def test_fading_volatility() -> None:
    plugin = FadingVolatility(FadingVolatility.Params(decay=0.75))
    values = plugin.advance(plugin.start(2), CLOSE)[:, 0]
    first, second = (8 / 10 - 1) ** 2, (9 / 8 - 1) ** 2
    np.testing.assert_allclose(values, [np.nan, np.sqrt(first), np.sqrt(0.75 * first + 0.25 * second)])


@pytest.mark.parametrize("seed", range(5))
def test_medians_are_those_of_what_is_known(seed: int) -> None:
    random = np.random.default_rng(seed)
    rows = np.where(random.random((50, 7)) < 0.4, np.nan, random.normal(size=(50, 7)))
    rows[0] = np.nan
    rows[1:, 0] = 1.0
    np.testing.assert_allclose(medians(rows), [np.nan, *(np.median(row[~np.isnan(row)]) for row in rows[1:])])
