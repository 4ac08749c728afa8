"""Features that keep every promise. Plain NumPy, so that they are quick to check."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from alpha_forge.contracts.functions import feature
from alpha_forge.contracts.params import Params as BaseParams
from alpha_forge.contracts.plugin import Feature, RecursiveFeature

Array = npt.NDArray[np.float64]
State = dict[str, npt.NDArray[Any]]


def window_sum(values: Array, window: int) -> Array:
    """Sum of each row's window, oldest bar first, elementwise: the same bits in any portion."""
    out = np.full_like(values, np.nan)
    rows = len(values) - window + 1
    if rows < 1:
        return out
    total = values[:rows].copy()
    for k in range(1, window):
        total += values[k : k + rows]
    out[window - 1 :] = total
    return out


class Mean(Feature):
    """Simple mean of the last `window` bars: a correct feature."""

    class Params(BaseParams):
        """What it is computed over."""

        window: int = Field(5, ge=2, le=500, description="bars in the mean")

    examples = ({"window": 5}, {"window": 12})

    def lookback(self) -> int:
        return int(self.params.window)

    def compute(self, close: Array) -> Any:
        with np.errstate(all="ignore"):
            return window_sum(close, self.params.window) / self.params.window


class Channel(Feature):
    """Highest high and lowest low of the last `window` bars: correct, with two outputs."""

    outputs = ("upper", "lower")
    Params = Mean.Params
    examples = Mean.examples

    def lookback(self) -> int:
        return int(self.params.window)

    def compute(self, high: Array, low: Array) -> Any:
        window, rows = self.params.window, max(0, len(high) - self.params.window + 1)
        upper, lower = np.full_like(high, np.nan), np.full_like(low, np.nan)
        for k in range(window if rows else 0):
            first = k == 0
            top, bottom = high[k : k + rows], low[k : k + rows]
            upper[window - 1 :] = top if first else np.maximum(upper[window - 1 :], top)
            lower[window - 1 :] = bottom if first else np.minimum(lower[window - 1 :], bottom)
        return upper, lower


class AboveAverage(Feature):
    """Return over `window` bars, less the mean of all symbols present: correct, panel scope."""

    scope = "panel"
    Params = Mean.Params
    examples = Mean.examples

    def lookback(self) -> int:
        return int(self.params.window) + 1

    def compute(self, close: Array) -> Any:
        back = self.params.window
        change = np.full_like(close, np.nan)
        with np.errstate(all="ignore"):
            if len(close) > back:
                change[back:] = close[back:] / close[:-back] - 1.0
            total, count = np.zeros(len(close)), np.zeros(len(close))
            for s in range(close.shape[1]):
                known = ~np.isnan(change[:, s])
                total = np.where(known, total + change[:, s], total)
                count += known
            return change - (total / count)[:, None]


@feature("spread", lookback=lambda window: window, examples=({"window": 4},))
def spread(
    high: Array,
    low: Array,
    window: Annotated[int, Field(ge=1, le=500, description="bars in the mean")] = 4,
) -> Any:
    """Mean range of the last `window` bars: correct, by function."""
    with np.errstate(all="ignore"):
        return window_sum(high - low, window) / window


class Average(RecursiveFeature):
    """Exponential moving average, seeded by its first bar: a correct recursive feature."""

    Params = Mean.Params
    examples = Mean.examples

    def settle(self, epsilon: float) -> int:
        decay = 1.0 - self.alpha()
        return 1 + int(np.ceil(np.log(epsilon) / np.log(decay)))

    def alpha(self) -> float:
        return 2.0 / (float(self.params.window) + 1.0)

    def start(self, symbols: int) -> State:
        return {"seen": np.zeros(symbols, np.int64), "average": np.zeros(symbols)}

    def advance(self, state: State, close: Array) -> Any:
        out = np.full_like(close, np.nan)
        for t in range(len(close)):
            self.step(state, close[t], out[t])
        return out

    def step(self, state: State, values: Array, out: Array) -> None:
        """One row: values and outputs are (symbols,)."""
        known = np.isfinite(values)
        with np.errstate(all="ignore"):
            moved = state["average"] + self.alpha() * (values - state["average"])
        moved = np.where(state["seen"] == 0, values, moved)
        state["average"][known] = moved[known]
        state["seen"][known] = 1
        out[known] = moved[known]


class RelativeAverage(Average):
    """The same average of each symbol's distance from the mean of all present: correct, recursive, panel scope."""

    scope = "panel"

    def step(self, state: State, values: Array, out: Array) -> None:
        total, count = 0.0, 0
        for value in values:
            if np.isfinite(value):
                total, count = total + float(value), count + 1
        super().step(state, values - total / count if count else values * np.nan, out)
