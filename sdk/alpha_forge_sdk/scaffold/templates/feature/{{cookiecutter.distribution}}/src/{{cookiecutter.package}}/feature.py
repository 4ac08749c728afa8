"""The feature `features.{{ cookiecutter.name }}`."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from alpha_forge_sdk import Feature, kernels
from alpha_forge_sdk import Params as BaseParams
from pydantic import Field

Array = npt.NDArray[np.float64]


class {{ cookiecutter.__class }}(Feature):
    """{{ cookiecutter.description }}

    ``close / mean - 1``, with the simple mean of the last `window` closes, the current one included: 0.01 is one
    percent above. NaN for the first ``window - 1`` bars.
    """

    class Params(BaseParams):
        """What a configuration can set."""

        window: int = Field(20, ge=2, le=10_000, description="bars in the mean")

    examples = ({"window": 20}, {"window": 5})

    def lookback(self) -> int:
        """Bars that one value needs, the current one included."""
        return int(self.params.window)

    def compute(self, close: Array, **_: Any) -> Array:
        """(bars, symbols) closes → (bars, symbols) values. A row depends on the last `window` rows alone."""
        # The kernels give the same bits in whatever portions the bars come; NumPy's own mean does not.
        mean = np.asarray(kernels.rolling_mean(close, self.params.window))
        with np.errstate(all="ignore"):
            return close / mean - 1.0
