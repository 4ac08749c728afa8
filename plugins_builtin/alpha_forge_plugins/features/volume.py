"""How busy a bar was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from alpha_forge_sdk import Feature, kernels
from alpha_forge_sdk import Params as BaseParams

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]


class VolumeRatio(Feature):
    """Volume of the bar over the mean volume of the last `window` bars (TA-Lib SMA), the bar itself included.

    Between 0 and `window`; 1 is an ordinary bar. NaN where nothing was traded in the whole window.
    """

    class Params(BaseParams):
        window: int = Field(20, ge=2, description="bars in the mean")

    examples = ({"window": 20}, {"window": 60})

    def lookback(self) -> int:
        return int(self.params.window)

    def compute(self, volume: Array) -> Array:
        return kernels.ratio_to_mean(volume, self.params.window)
