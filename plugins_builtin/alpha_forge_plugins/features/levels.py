"""Where a value stands in its recent range."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from alpha_forge_sdk import Feature, kernels
from alpha_forge_sdk import Params as BaseParams

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]


class SupportResistance(Feature):
    """Relative distance of the close to the highest high and the lowest low of the last `window` bars.

    ``resistance = (MAX(high, window) - close) / close`` and ``support = (close - MIN(low, window)) /
    close`` (TA-Lib MAX and MIN), the current bar included: what the price has to rise or to fall, as a
    share of itself, to meet the level. Neither is negative as long as low <= close <= high.
    """

    outputs = ("resistance", "support")

    class Params(BaseParams):
        window: int = Field(20, ge=1, description="bars whose highest high and lowest low are the levels")

    examples = ({"window": 20}, {"window": 60})

    def lookback(self) -> int:
        return int(self.params.window)

    def compute(self, high: Array, low: Array, close: Array) -> tuple[Array, Array]:
        return kernels.level_distances(high, low, close, self.params.window)


class ZScore(Feature):
    """Distance of a value from the mean of its last `window` bars, in their standard deviations.

    ``(x - rolling mean) / rolling std`` as pandas has it: the window includes the bar itself, and the
    deviation is the sample's (divisor ``window - 1``). NaN where all bars of the window are equal: the
    score is unknown there, not zero.
    """

    class Params(BaseParams):
        window: int = Field(20, ge=2, description="bars in the mean and the deviation")

    examples = ({"window": 20}, {"window": 60})

    def lookback(self) -> int:
        return int(self.params.window)

    def compute(self, close: Array) -> Array:
        return kernels.rolling_zscore(close, self.params.window, 1)
