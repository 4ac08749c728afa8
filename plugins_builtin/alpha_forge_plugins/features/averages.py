"""Moving averages of a column, and how fast they change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from alpha_forge_plugins.features.fading import bars_to_fade
from alpha_forge_sdk import Feature, RecursiveFeature, kernels
from alpha_forge_sdk import Params as BaseParams

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]


class SMA(Feature):
    """Simple mean of the last `window` bars (TA-Lib SMA)."""

    class Params(BaseParams):
        window: int = Field(20, ge=1, description="bars averaged")

    examples = ({"window": 20}, {"window": 60})

    def lookback(self) -> int:
        return int(self.params.window)

    def compute(self, close: Array) -> Array:
        return kernels.rolling_mean(close, self.params.window)


class EMA(RecursiveFeature):
    """Exponential moving average, alpha = 2 / (window + 1), seeded by the first bars' mean (TA-Lib EMA)."""

    class Params(BaseParams):
        window: int = Field(20, ge=1, description="period in bars; alpha is 2 / (window + 1)")

    examples = ({"window": 20}, {"window": 200})

    def settle(self, epsilon: float) -> int:
        """The `window` bars of the seed, and those after which it weighs less than `epsilon`."""
        n = self.params.window
        return int(n + bars_to_fade((n - 1) / (n + 1), epsilon))

    def start(self, symbols: int) -> dict[str, Array]:
        return {"seen": np.zeros(symbols, np.int64), "average": np.zeros(symbols)}

    def advance(self, state: dict[str, Array], close: Array) -> Array:
        return kernels.ema(close, self.params.window, state["seen"], state["average"])


class MARocp(Feature):
    """Rate of change of a simple moving average, times a factor (TA-Lib ROCP of SMA).

    ``(mean[t] / mean[t - rocp_period] - 1) * rocp_factor``, mean being that of the last `window` bars.
    """

    class Params(BaseParams):
        window: int = Field(20, ge=1, description="bars in the moving average")
        rocp_period: int = Field(1, ge=1, description="bars between the two averages compared")
        rocp_factor: float = Field(
            1.0,
            allow_inf_nan=False,
            description="multiplies the relative change, to suit a model's scale",
        )

    examples = (
        {"window": 20, "rocp_period": 1, "rocp_factor": 10.0},
        {"window": 5},
        {"window": 10, "rocp_period": 7},
    )

    def lookback(self) -> int:
        return int(self.params.window + self.params.rocp_period)

    def compute(self, close: Array) -> Array:
        p = self.params
        return kernels.mean_rate_of_change(close, p.window, p.rocp_period, p.rocp_factor)
