"""A feature that reads across symbols."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from alpha_forge_sdk import Feature, kernels
from alpha_forge_sdk import Params as BaseParams
from pydantic import Field

Array = npt.NDArray[np.float64]


class ExcessReturn(Feature):
    """Return over `window` bars, less the median of all symbols that have one at that bar."""

    scope: ClassVar[str] = "panel"

    class Params(BaseParams):
        """What a configuration can set."""

        window: int = Field(24, ge=1, le=10_000, description="bars between the two closes compared")

    examples = ({"window": 24}, {"window": 3})

    def lookback(self) -> int:
        """Bars that one value needs, the current one included."""
        return int(self.params.window) + 1

    def compute(self, close: Array, **_: Any) -> Array:
        """(bars, symbols) closes, rows aligned by ts, NaN where a symbol has no bar → the same shape."""
        returns = np.asarray(kernels.rate_of_change(close, self.params.window))
        returns = np.where(np.isfinite(returns), returns, np.nan)
        with np.errstate(all="ignore"):
            return returns - medians(returns)[:, None]


def medians(rows: Array) -> Array:
    """(rows,) medians of what is known in each row, NaN where nothing is; bits depend on that row alone."""
    known = (~np.isnan(rows)).sum(axis=1)
    ascending = np.sort(rows, axis=1)  # NaN last
    lower = np.maximum(known - 1, 0) // 2
    upper = np.minimum(known // 2, rows.shape[1] - 1)
    each = np.arange(len(rows))
    with np.errstate(all="ignore"):
        middle = 0.5 * ascending[each, lower] + 0.5 * ascending[each, upper]
    return np.where(known > 0, middle, np.nan)
