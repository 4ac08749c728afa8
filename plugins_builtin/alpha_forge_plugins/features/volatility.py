"""How widely a column swings: average true range, Bollinger bands, standard deviation of returns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from alpha_forge_plugins.features.fading import MISFIT, bars_to_fade
from alpha_forge_sdk import Feature, RecursiveFeature, kernels
from alpha_forge_sdk import Params as BaseParams

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]


class ATR(RecursiveFeature):
    """Average true range (Wilder 1978), in units of price, seeded by the first ranges' mean (TA-Lib ATR).

    The true range is the largest of high - low and the distances of both from the close before; the first
    bar has none. The first `window` ranges seed the average by their simple mean.
    """

    class Params(BaseParams):
        window: int = Field(14, ge=1, description="period of Wilder's average, in bars")

    examples = ({"window": 14}, {"window": 5})

    def settle(self, epsilon: float) -> int:
        """The ``window + 1`` bars of the seed, and those after which one far off has faded."""
        n = self.params.window
        return int(n + 1 + bars_to_fade((n - 1) / n, epsilon, MISFIT))

    def start(self, symbols: int) -> dict[str, Array]:
        return {"seen": np.zeros(symbols, np.int64), "last": np.zeros(symbols), "average": np.zeros(symbols)}

    def advance(self, state: dict[str, Array], high: Array, low: Array, close: Array) -> Array:
        return kernels.atr(
            high, low, close, self.params.window, state["seen"], state["last"], state["average"]
        )


class Bollinger(Feature):
    """Bollinger bands: simple mean, and population deviations above and below it (TA-Lib BBANDS)."""

    outputs = ("upper", "middle", "lower")

    class Params(BaseParams):
        window: int = Field(20, ge=2, description="bars in the mean and the deviation")
        nbdev_up: float = Field(
            2.0, ge=0, allow_inf_nan=False, description="deviations from the middle to the upper band"
        )
        nbdev_down: float = Field(
            2.0, ge=0, allow_inf_nan=False, description="deviations from the middle to the lower band"
        )

    examples = (
        {"window": 20, "nbdev_up": 2.0, "nbdev_down": 2.0},
        {"window": 5, "nbdev_down": 1.5},
    )

    def lookback(self) -> int:
        return int(self.params.window)

    def compute(self, close: Array) -> tuple[Array, Array, Array]:
        p = self.params
        return kernels.rolling_bands(close, p.window, p.nbdev_up, p.nbdev_down)


class Volatility(Feature):
    """Sample standard deviation of the last `window` one-bar returns (pandas pct_change().rolling().std()).

    A return is ``close[t] / close[t-1] - 1``; the divisor is ``window - 1``. Per bar, not annualised.
    """

    class Params(BaseParams):
        window: int = Field(20, ge=2, description="returns in the deviation; one bar more is read")

    examples = ({"window": 20}, {"window": 60})

    def lookback(self) -> int:
        return int(self.params.window) + 1

    def compute(self, close: Array) -> Array:
        return kernels.rolling_return_std(close, self.params.window, 1)
