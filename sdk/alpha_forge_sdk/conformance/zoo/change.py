"""The feature that the broken ones of `params` spoil: correct, and with parameters of every sort."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from alpha_forge.contracts.params import Params as BaseParams
from alpha_forge.contracts.plugin import Feature
from alpha_forge_sdk.conformance.case import FeatureConformance


class Change(Feature):
    """Change of the close over ``window`` bars, times a factor."""

    class Params(BaseParams):
        window: int = Field(5, ge=1, le=500, description="bars between the two closes")
        factor: float = Field(1.0, gt=0, le=100, description="what the change is multiplied by")
        sign: Literal["later", "earlier"] = Field("later", description="which close the other is taken from")

    examples: ClassVar[Sequence[Mapping[str, Any]]] = (
        {"window": 3},
        {"window": 8, "factor": 2.5, "sign": "earlier"},
    )

    def lookback(self) -> int:
        return int(self.params.window) + 1

    def compute(self, close: Any, **_: Any) -> Any:
        values = np.full(close.shape, np.nan)
        window = self.params.window
        with np.errstate(all="ignore"):
            change = (close[window:] - close[:-window]) * self.params.factor
        values[window:] = change if self.params.sign == "later" else -change
        return values


def case_for(plugin: type[Feature]) -> type[FeatureConformance]:
    """The case class of a zoo feature, named after it."""
    return type(
        f"{plugin.__name__}Case", (FeatureConformance,), {"plugin": plugin, "__module__": plugin.__module__}
    )
