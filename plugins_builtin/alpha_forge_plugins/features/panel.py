"""Features that read across the symbols of one bar."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from alpha_forge_sdk import Feature, kernels

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]


class CrossRank(Feature):
    """Rank of the symbol's value among all symbols present at the bar, scaled to 0 … 1, ties averaged.

    pandas ``rank(axis=1)``, less 1, over the symbols present less 1. 0 is the lowest, 1 the highest; a
    symbol that is alone has 0.5, as all have when they are equal. NaN where the symbol has no value.
    """

    scope: ClassVar[str] = "panel"

    def lookback(self) -> int:
        return 1

    def compute(self, close: Array) -> Array:
        return kernels.cross_rank(close)
