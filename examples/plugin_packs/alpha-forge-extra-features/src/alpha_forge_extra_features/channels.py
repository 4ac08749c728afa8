"""Where the price stands between the extremes of its last bars: one feature as a function, one as a class."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from alpha_forge_sdk import Feature, feature, kernels
from alpha_forge_sdk import Params as BaseParams
from pydantic import Field

Array = npt.NDArray[np.float64]
Window = Annotated[int, Field(ge=2, le=10_000, description="bars in the window, the current one included")]


# A function is enough for memory of finitely many bars: what has no default is a column, what has one is a parameter.
@feature("drawdown", lookback=lambda window: window, examples=({"window": 24}, {"window": 5}))
def drawdown(close: Array, window: Window = 24) -> Array:
    """How far the close is below the highest close of the last `window` bars, relative: 0 or less."""
    with np.errstate(all="ignore"):
        return close / np.asarray(kernels.rolling_max(close, window)) - 1.0


class Donchian(Feature):
    """Donchian channel: highest high, lowest low of the last `window` bars (TA-Lib MAX and MIN), and their middle."""

    outputs = ("upper", "middle", "lower")

    class Params(BaseParams):
        """What a configuration can set."""

        window: Window = 20

    examples = ({"window": 20}, {"window": 55})

    def lookback(self) -> int:
        """Bars that one value needs, the current one included."""
        return int(self.params.window)

    def compute(self, high: Array, low: Array, **_: Any) -> tuple[Array, Array, Array]:
        """(bars, symbols) highs and lows → three arrays of that shape, in the order of ``outputs``."""
        upper = np.asarray(kernels.rolling_max(high, self.params.window))
        lower = np.asarray(kernels.rolling_min(low, self.params.window))
        with np.errstate(all="ignore"):
            # Halved before they are added: the sum of two large numbers is infinite before their mean is.
            return upper, 0.5 * upper + 0.5 * lower, lower
