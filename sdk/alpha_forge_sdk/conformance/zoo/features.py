"""Features that each break one promise, and the correct ones that they are made of."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field

from alpha_forge.contracts.params import Params as BaseParams
from alpha_forge.contracts.plugin import Feature, RecursiveFeature
from alpha_forge_sdk.conformance.case import Conformance, FeatureConformance
from alpha_forge_sdk.conformance.zoo import Specimen
from alpha_forge_sdk.conformance.zoo.correct_features import (
    AboveAverage,
    Array,
    Average,
    Channel,
    Mean,
    RelativeAverage,
    State,
    spread,
    window_sum,
)


class LooksBackHalfABar(Mean):
    """Computes its look-back, and forgets to round it."""

    def lookback(self) -> Any:
        return self.params.window * 1.5


class NamesMoreThanItTakes(Mean):
    """Names an input that compute has no place for."""

    inputs = ("close", "volume")


class ReturnsFloat32(Mean):
    """Halves the precision."""

    def compute(self, close: Array) -> Any:
        return super().compute(close).astype(np.float32)


class ChokesOnShortHistory(Mean):
    """Takes it for granted that the look-back is there."""

    def compute(self, close: Array) -> Any:
        if len(close) < self.params.window:
            raise ValueError(f"need {self.params.window} bars, got {len(close)}")
        return super().compute(close)


class StateOnWrongAxis(Average):
    """Packs its state into one array whose axis 0 is the quantity."""

    def start(self, symbols: int) -> State:
        return {"packed": np.zeros((2, symbols))}

    def advance(self, state: State, close: Array) -> Any:
        inner: State = {"seen": state["packed"][0].astype(np.int64), "average": state["packed"][1]}
        out = super().advance(inner, close)
        state["packed"][0] = inner["seen"]
        return out


class SharesItsStart(Average):
    """Makes its fresh state once, and hands out the same arrays ever after."""

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        self.made: dict[int, State] = {}

    def start(self, symbols: int) -> State:
        return dict(self.made.setdefault(symbols, super().start(symbols)))


class AddsNoise(Mean):
    """Breaks ties by chance."""

    def compute(self, close: Array) -> Any:
        return super().compute(close) + np.random.default_rng().normal(0, 1e-9, close.shape)


class RemembersLastCall(Mean):
    """Starts from what the call before left."""

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        self.offset = 0.0

    def compute(self, close: Array) -> Any:
        values = super().compute(close) + self.offset
        self.offset = 1e-6 * float(close[-1, 0] > 100) if np.isfinite(close[-1, 0]) else 0.0
        return values


class ReusesItsBuffer(Mean):
    """Returns the same array from each call of one shape."""

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        self.buffers: dict[tuple[int, ...], Array] = {}

    def compute(self, close: Array) -> Any:
        buffer = self.buffers.setdefault(close.shape, np.empty(close.shape))
        buffer[:] = super().compute(close)
        return buffer


class WritesIntoInput(Mean):
    """Fills unknown values in place."""

    def compute(self, close: Array) -> Any:
        values = super().compute(close)
        close[np.isnan(close)] = 0.0
        return values


class PeeksOneBar(Mean):
    """Reads the next bar, where there is one."""

    def compute(self, close: Array) -> Any:
        values = super().compute(close)
        with np.errstate(all="ignore"):
            values[:-1] += 1e-3 * (close[1:] - close[:-1])
        return values


class FillsFromBehind(Mean):
    """Fills an unknown bar with the next one."""

    def compute(self, close: Array) -> Any:
        filled = close.copy()
        for t in range(len(close) - 2, -1, -1):
            filled[t] = np.where(np.isnan(filled[t]), filled[t + 1], filled[t])
        return super().compute(filled)


class CentresOverTheCall(Average):
    """Subtracts the mean of all rows it happens to be given."""

    def advance(self, state: State, close: Array) -> Any:
        total = np.zeros(close.shape[1])
        for row in close:
            total = np.where(np.isfinite(row), total + row, total)
        return super().advance(state, close) - total / len(close)


class ForgetsLookback(Mean):
    """Reads twice the bars that it declares."""

    def compute(self, close: Array) -> Any:
        window = 2 * self.params.window
        with np.errstate(all="ignore"):
            long = window_sum(close, window) / window
        return np.where(np.isnan(long), super().compute(close), long)


class ForgetsItsSmoothing(Mean):
    """Counts the window alone; a parameter that its example leaves at 1 lengthens what it reads."""

    class Params(BaseParams):
        """What to average."""

        window: int = Field(5, ge=1, le=200, description="bars in the mean")
        smooth: int = Field(1, ge=1, le=20, description="means that are averaged once more")

    examples = ({"window": 5}, {"window": 8})

    def compute(self, close: Array) -> Any:
        return window_sum(super().compute(close), self.params.smooth) / self.params.smooth


class FillsForward(Mean):
    """Fills unknown bars with the last known one, however old."""

    def compute(self, close: Array) -> Any:
        filled = close.copy()
        for t in range(1, len(close)):
            filled[t] = np.where(np.isnan(filled[t]), filled[t - 1], filled[t])
        return super().compute(filled)


class DeclaresTooMuch(Mean):
    """Declares five bars more than it reads, to be on the safe side."""

    def lookback(self) -> int:
        return int(self.params.window) + 5

    def compute(self, close: Array) -> Any:
        values = super().compute(close)
        values[: self.lookback() - 1] = np.nan
        return values


class FillsItsWarmUp(Mean):
    """Gives the mean of what is there while the window isn't full."""

    def compute(self, close: Array) -> Any:
        values = super().compute(close)
        total = np.zeros(close.shape[1])
        for t in range(min(self.params.window - 1, len(close))):
            with np.errstate(all="ignore"):
                total = total + close[t]
                values[t] = total / (t + 1)
        return values


class MixesSymbols(Mean):
    """Subtracts the mean of all symbols, and calls itself symbol scope."""

    def compute(self, close: Array) -> Any:
        values = super().compute(close)
        total = np.zeros(len(values))
        with np.errstate(all="ignore"):
            for s in range(values.shape[1]):
                total = total + values[:, s]
            return values - (total / values.shape[1])[:, None]


class NanOfOneSpoilsAll(Mean):
    """Gives up for all symbols where one is unknown."""

    def compute(self, close: Array) -> Any:
        values = super().compute(close)
        values[np.isnan(close).any(axis=1)] = np.nan
        return values


class BitsDependOnSymbols(Mean):
    """Adds its window from the other end when the number of symbols is odd, as a vectorised sum might."""

    def compute(self, close: Array) -> Any:
        if close.shape[1] % 2 == 0 or len(close) < self.params.window:
            return super().compute(close)
        window, out = self.params.window, np.full_like(close, np.nan)
        with np.errstate(all="ignore"):
            for t in range(window - 1, len(close)):
                total = close[t].copy()
                for k in range(t - 1, t - window, -1):
                    total += close[k]
                out[t] = total / window
        return out


class RunningSumDrifts(Mean):
    """A running sum: its rounding depends on all that came before. Unknown bars are left out of the sum."""

    def compute(self, close: Array) -> Any:
        window, out = self.params.window, np.full_like(close, np.nan)
        known = np.isfinite(close)
        total = np.vstack([np.zeros(close.shape[1]), np.cumsum(np.where(known, close, 0.0), axis=0)])
        count = np.vstack([np.zeros(close.shape[1]), np.cumsum(known, axis=0)])
        mean = (total[window:] - total[:-window]) / window
        if len(close) >= window:
            out[window - 1 :] = np.where(count[window:] - count[:-window] == window, mean, np.nan)
        return out


class ForgetsBetweenCalls(Average):
    """Begins anew with each call: right only as long as all comes at once."""

    def advance(self, state: State, close: Array) -> Any:
        state["seen"][:] = 0
        return super().advance(state, close)


class KeepsStateOnItself(Average):
    """Remembers on the instance what belongs into the state."""

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        self.own: State = {}

    def start(self, symbols: int) -> State:
        self.own = super().start(symbols)
        return {"symbols": np.zeros(symbols)}

    def advance(self, state: State, close: Array) -> Any:
        return super().advance(self.own, close)


class NanMovesState(Average):
    """Lets the average fade while nothing is known."""

    def step(self, state: State, values: Array, out: Array) -> None:
        super().step(state, values, out)
        state["average"][np.isnan(values)] *= 0.999


class SettlesTooSoon(Average):
    """Counts half the bars that it takes to forget the start."""

    def settle(self, epsilon: float) -> int:
        return max(1, super().settle(epsilon) // 2)


class SettleShrinks(Average):
    """Asks for fewer bars the more is to be forgotten."""

    def settle(self, epsilon: float) -> int:
        return super().settle(1e-12) + int(-10 * np.log10(1e-12 / epsilon))


class WarnsOnZero(Mean):
    """Takes logarithms of whatever comes."""

    def compute(self, close: Array) -> Any:
        return super().compute(close) + 0.0 * np.isfinite(np.log(np.abs(close)))


class RaisesOnFlatPrices(Mean):
    """Refuses columns that don't vary."""

    def compute(self, close: Array) -> Any:
        if len(close) > 1 and np.isfinite(close).all() and (close == close[0]).all():
            raise ZeroDivisionError("no variance")
        return super().compute(close)


class NanOutlives(Mean):
    """Once unknown, for ever unknown."""

    def compute(self, close: Array) -> Any:
        values = super().compute(close)
        values[np.logical_or.accumulate(np.isnan(close), axis=0)] = np.nan
        return values


class KeepsEveryBar(Mean):
    """Collects the newest bar of each call."""

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        self.history: list[float] = []

    def compute(self, close: Array) -> Any:
        self.history.append(float(close[-1, 0]))
        return super().compute(close)


def _case(plugin: type[Feature] | type[RecursiveFeature]) -> type[Conformance]:
    return type(f"{plugin.__name__}Case", (FeatureConformance,), {"plugin": plugin, "__module__": __name__})


BROKEN: tuple[Specimen, ...] = (
    Specimen(_case(LooksBackHalfABar), "AF-F01", "lookback() is a whole number"),
    Specimen(_case(NamesMoreThanItTakes), "AF-F01", "too many positional arguments"),
    Specimen(_case(ReturnsFloat32), "AF-F02", "dtype float32"),
    Specimen(_case(ChokesOnShortHistory), "AF-F02", "need 5 bars, got 1"),
    Specimen(_case(StateOnWrongAxis), "AF-F03", "start(1)['packed'] has shape (2, 1)"),
    Specimen(_case(SharesItsStart), "AF-F03", "advancing one state changed 'seen'"),
    Specimen(_case(AddsNoise), "AF-F04", "when asked again"),
    Specimen(_case(RemembersLastCall), "AF-F04", "when asked again"),
    Specimen(_case(ReusesItsBuffer), "AF-F05", "when the next call was made"),
    Specimen(_case(WritesIntoInput), "AF-F06", "the input 'close'"),
    Specimen(_case(PeeksOneBar), "AF-F07", "when bar 5 of close changed"),
    Specimen(_case(FillsFromBehind), "AF-F07", "of close changed"),
    Specimen(_case(CentresOverTheCall), "AF-F07", "of close changed"),
    Specimen(_case(ForgetsLookback), "AF-F08", "when just the last 5 bars were given"),
    Specimen(_case(ForgetsItsSmoothing), "AF-F08", "(with smooth = 4)"),
    Specimen(_case(FillsForward), "AF-F08", "became nan when just the last 5 bars"),
    Specimen(_case(DeclaresTooMuch), "AF-F09", "number 5, counted from the newest"),
    Specimen(_case(FillsItsWarmUp), "AF-F10", "at bar 0 of 1"),
    Specimen(_case(MixesSymbols), "AF-F11", "when the bars of the others changed"),
    Specimen(_case(NanOfOneSpoilsAll), "AF-F11", "when the bars of the others were unknown"),
    Specimen(_case(BitsDependOnSymbols), "AF-F12", "when the symbols [0, 1] of 17 were computed together"),
    Specimen(_case(RunningSumDrifts), "AF-F13", "in chunks that begin at the bars [0, "),
    Specimen(_case(ForgetsBetweenCalls), "AF-F13", "in chunks that begin at the bars [0, 1]"),
    Specimen(_case(KeepsStateOnItself), "AF-F14", "when two states"),
    Specimen(_case(NanMovesState), "AF-F15", "moved 'average'"),
    Specimen(_case(SettlesTooSoon), "AF-F16", "of its size, more than"),
    Specimen(_case(SettleShrinks), "AF-F17", "settle(0.001) is"),
    Specimen(_case(WarnsOnZero), "AF-F18", "with 0.0 in 'close'"),
    Specimen(_case(RaisesOnFlatPrices), "AF-F18", "no variance"),
    Specimen(_case(NanOutlives), "AF-F19", "because of nan in 'close' at bar 0"),
    Specimen(_case(KeepsEveryBar), "AF-F20", "with each call it keeps more"),
)
CORRECT: tuple[type[Conformance], ...] = tuple(
    _case(plugin) for plugin in (Mean, Channel, AboveAverage, spread, Average, RelativeAverage)
)
