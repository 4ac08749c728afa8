"""Transforms that each break one promise, and correct ones. Plain NumPy."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from alpha_forge.contracts.interval import Interval
from alpha_forge.contracts.params import Params as BaseParams
from alpha_forge.contracts.plugin import Transform
from alpha_forge.contracts.types import BAR_COLUMNS
from alpha_forge_sdk.conformance.case import Conformance, TransformConformance
from alpha_forge_sdk.conformance.zoo import Specimen

Array = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
Columns = Mapping[str, Array]


def as_columns(rows: Sequence[Array], symbols: int) -> dict[str, Array]:
    """Bars (5, symbols), one a row, as columns."""
    bars = np.array(rows).reshape(len(rows), len(BAR_COLUMNS), symbols)
    return {name: np.ascontiguousarray(bars[:, i]) for i, name in enumerate(BAR_COLUMNS)}


class Longer(Transform):
    """Bars of a longer interval: a correct resampler."""

    class Params(BaseParams):
        """What to make."""

        hours: int = Field(1, ge=1, le=168, description="hours in a bar of the output")

    examples = ({"hours": 1}, {"hours": 4})

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        self.target = Interval.parse(f"{params.hours}h")
        self.step = self.target.ns

    def output_interval(self, interval: Interval) -> Interval:
        if not interval.divides(self.target):
            raise ValueError(f"bars of {interval} don't add up to {self.target}")
        self.step = interval.ns
        return self.target

    def lookback(self) -> int:
        return self.target.ns // self.step

    def ends(self, ts: Int) -> Int:
        """Close of each row's bucket (a, b]."""
        found: Int = (ts - 1) // self.target.ns * self.target.ns + self.target.ns
        return found

    def given(self, ts: Int, ends: Int) -> list[int]:
        """Closes of the buckets that are given: complete, and the oldest one only if it is covered."""
        closes = [b for b in dict.fromkeys(ends.tolist()) if b <= ts[-1]] if len(ts) else []
        return closes[1:] if len(closes) > 1 and ts[0] > closes[0] - self.target.ns + self.step else closes

    def merge(self, bars: list[Array]) -> Array:
        """(5, symbols) bars of a bucket, oldest first → one."""
        made = np.full_like(bars[0], np.nan)
        for bar in bars:
            known, new = ~np.isnan(bar[3]), np.isnan(made[3])
            first, more = known & new, known & ~new
            made[:, first] = bar[:, first]
            made[1, more] = np.where(bar[1, more] > made[1, more], bar[1, more], made[1, more])
            made[2, more] = np.where(bar[2, more] < made[2, more], bar[2, more], made[2, more])
            made[3, more] = bar[3, more]
            made[4, more] += bar[4, more]
        return made

    def apply(self, ts: Int, columns: Columns, *others: Any) -> Any:
        bars = np.stack([columns[name] for name in BAR_COLUMNS], axis=1)
        ends = self.ends(ts)
        closes, rows = [], []
        for close in self.given(ts, ends):
            with np.errstate(all="ignore"):
                made = self.merge([bar.copy() for bar in bars[ends == close]])
            if self.keeps(made):
                closes.append(close)
                rows.append(made)
        return np.array(closes, dtype=np.int64), as_columns(rows, bars.shape[2])

    def keeps(self, made: Array) -> bool:
        """False for the bar of a bucket in which nobody has one."""
        return not np.isnan(made[3]).all()


class Beside(Transform):
    """The other frame's newest close beside one's own bars, at most one bar of the other frame old: a correct join."""

    frames = ("left", "right")

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        self.tolerance = 0

    def lookback(self) -> int:
        return 1

    def other_lookback(self, interval: Interval) -> int:
        self.tolerance = interval.ns
        return 2

    def output_columns(self, *taken: Sequence[str]) -> tuple[str, ...]:
        return (*taken[0], "beside")

    def counts(self, right_ts: Int, ts: int) -> Any:
        """True for the rows of the other frame that count at `ts`."""
        return (right_ts <= ts) & (ts - right_ts <= self.tolerance)

    def apply(self, ts: Int, columns: Columns, *others: Any) -> Any:
        ((right_ts, right),) = others
        beside = np.full_like(columns["close"], np.nan)
        for i, now in enumerate(ts.tolist()):
            for value in right["close"][self.counts(right_ts, now)]:
                beside[i] = np.where(np.isfinite(value), value, beside[i])
        return ts, {**columns, "beside": beside}


class Step(Transform):
    """Each bar's close less the close one row before: correct, and neither resampler nor join."""

    def lookback(self) -> int:
        return 2

    def input_columns(self, *available: Sequence[str]) -> tuple[tuple[str, ...], ...]:
        return (("close",),)

    def output_columns(self, *taken: Sequence[str]) -> tuple[str, ...]:
        return ("close", "step")

    def apply(self, ts: Int, columns: Columns, *others: Any) -> Any:
        close = columns["close"]
        step = np.full_like(close, np.nan)
        with np.errstate(all="ignore"):
            # Rows that no symbol has are left out of the frame: what is older than one interval is no neighbour.
            near = np.diff(ts) == np.diff(ts).min(initial=np.iinfo(np.int64).max)
            step[1:] = np.where(near[:, None], close[1:] - close[:-1], np.nan)
        return ts, {"close": close.copy(), "step": step}


class ClosesBetweenBars(Longer):
    """Promises bars that close where none of the input does."""

    def output_interval(self, interval: Interval) -> Interval:
        super().output_interval(interval)
        return Interval(f"{self.target}", self.target.ns, interval.ns // 2)


class TakesWhatDoesNotFit(Longer):
    """Takes bars that don't add up to those of the output."""

    def output_interval(self, interval: Interval) -> Interval:
        self.step = min(interval.ns, self.target.ns)
        return self.target


class LeavesOutColumn(Longer):
    """Declares the volume, and forgets to make it."""

    def apply(self, ts: Int, columns: Columns, *others: Any) -> Any:
        closes, made = super().apply(ts, columns, *others)
        del made["volume"]
        return closes, made


class LabelsByLastBar(Longer):
    """Closes a bucket at the last bar that exists in it."""

    def apply(self, ts: Int, columns: Columns, *others: Any) -> Any:
        closes, made = super().apply(ts, columns, *others)
        ends = self.ends(ts)
        return np.array([ts[ends == b].max() for b in closes], dtype=np.int64), made


class NamesTheInputsInterval(Longer):
    """Says that its bars are as long as those that go in."""

    def output_interval(self, interval: Interval) -> Interval:
        super().output_interval(interval)
        return interval


class WeeksFromTheEpoch(Longer):
    """Ends its weeks on Thursdays, as the epoch began; right for hours and days."""

    class Params(BaseParams):
        """What to make."""

        every: str = Field("1h", pattern="^[1-9][0-9]*[mhdw]$", description="interval of the output")

    examples = ({"every": "1h"}, {"every": "4h"})

    def __init__(self, params: Any) -> None:
        Transform.__init__(self, params)
        self.target = Interval.parse(params.every)
        self.step = self.target.ns


class PutsLastRowsInFront(Step):
    """Goes on from the last row of the call before."""

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        self.last: tuple[int, Array] | None = None

    def apply(self, ts: Int, columns: Columns, *others: Any) -> Any:
        found, made = super().apply(ts, columns, *others)
        close = columns["close"]
        if len(ts):
            if self.last is not None and self.last[0] < ts[0] and self.last[1].shape == close[0].shape:
                made["step"][0] = close[0] - self.last[1]
            self.last = (int(ts[-1]), close[-1].copy())
        return found, made


class RemembersLastBucket(Longer):
    """Opens a bar at the close that the last call ended with."""

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        self.last: Array | None = None

    def apply(self, ts: Int, columns: Columns, *others: Any) -> Any:
        closes, made = super().apply(ts, columns, *others)
        if len(closes):
            if self.last is not None and self.last.shape == made["open"][0].shape:
                made["open"][0] = self.last
            self.last = made["close"][-1].copy()
        return closes, made


class WritesIntoInput(Longer):
    """Marks absent bars in the caller's memory."""

    def apply(self, ts: Int, columns: Columns, *others: Any) -> Any:
        result = super().apply(ts, columns, *others)
        columns["volume"][np.isnan(columns["close"])] = 0.0
        return result


class EmitsUnfinishedBucket(Longer):
    """Gives the newest bucket as far as it has come."""

    def given(self, ts: Int, ends: Int) -> list[int]:
        closes = list(dict.fromkeys(ends.tolist()))
        return (
            [*super().given(ts, ends), *closes[-1:]]
            if closes and closes[-1] > ts[-1]
            else super().given(ts, ends)
        )


class PeeksNextBucket(Longer):
    """Closes a bar at the open of the next."""

    def apply(self, ts: Int, columns: Columns, *others: Any) -> Any:
        closes, made = super().apply(ts, columns, *others)
        following = made["open"][1:]
        made["close"][:-1] = np.where(np.isnan(following), made["close"][:-1], following)
        return closes, made


class JoinsTheNearest(Beside):
    """Takes the nearest row of the other frame, be it later."""

    def counts(self, right_ts: Int, ts: int) -> Any:
        return np.abs(right_ts - ts) <= self.tolerance // 2


class ClosedOnTheLeft(Longer):
    """Puts a bar that closes at a bucket's end into the next one: [a, b)."""

    def ends(self, ts: Int) -> Int:
        found: Int = ts // self.target.ns * self.target.ns + self.target.ns
        return found


class LookbackTooShort(Beside):
    """Says that the other frame's newest row will do, and reads the one before where that is absent."""

    def other_lookback(self, interval: Interval) -> int:
        return super().other_lookback(interval) - 1


class DeclaresOneRow(Step):
    """Reads the row before, and declares its own only."""

    def lookback(self) -> int:
        return 1


class DeclaresTooMuch(Beside):
    """Has ten rows of the other frame handed over, and reads two."""

    def other_lookback(self, interval: Interval) -> int:
        return super().other_lookback(interval) + 8


class MixesSymbols(Longer):
    """Counts the volume of all symbols together."""

    def merge(self, bars: list[Array]) -> Array:
        made = super().merge(bars)
        made[4] = np.where(np.isnan(made[3]), np.nan, np.nansum(made[4]))
        return made


class RowsOfFirstSymbol(Longer):
    """Gives the rows in which the first symbol has a bar."""

    def keeps(self, made: Array) -> bool:
        return not np.isnan(made[3, 0])


class NanSpoilsBucket(Longer):
    """Lets one absent bar make the whole bucket unknown."""

    def merge(self, bars: list[Array]) -> Array:
        made = super().merge(bars)
        for bar in bars:
            made[:, np.isnan(bar[3])] = np.nan
        return made


class RowForEmptyBucket(Longer):
    """Gives a row of NaN for a bucket in which nobody has a bar."""

    def given(self, ts: Int, ends: Int) -> list[int]:
        closes = super().given(ts, ends)
        return list(range(closes[0], closes[-1] + 1, self.target.ns)) if closes else []

    def merge(self, bars: list[Array]) -> Array:
        return super().merge(bars) if bars else np.full((5, self.symbols), np.nan)

    def apply(self, ts: Int, columns: Columns, *others: Any) -> Any:
        self.symbols = columns["close"].shape[1]
        return super().apply(ts, columns, *others)

    def keeps(self, made: Array) -> bool:
        return True


class ZeroBarForNoBar(Longer):
    """Fills the bar of a symbol that has none with zeros."""

    def merge(self, bars: list[Array]) -> Array:
        made = super().merge(bars)
        return (
            made if np.isnan(made[3]).all() else np.nan_to_num(made, nan=0.0, posinf=np.inf, neginf=-np.inf)
        )


class UsesLocalTime(Longer):
    """Rounds with the summer time of wherever it runs."""

    def apply(self, ts: Int, columns: Columns, *others: Any) -> Any:
        closes, made = super().apply(ts, columns, *others)
        summer = np.array([time.localtime(int(b) // 10**9).tm_isdst > 0 for b in closes], dtype=bool)
        made["volume"][summer] *= 1.0 + 1e-9
        return closes, made


class TakesLogOfAnyVolume(Longer):
    """Takes logarithms of volumes that may be zero."""

    def merge(self, bars: list[Array]) -> Array:
        made = super().merge(bars)
        with np.errstate(all="warn"):
            np.log(made[4])
        return made


class KeepsEveryRow(Longer):
    """Collects the newest row of each call."""

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        self.history: list[Array] = []

    def apply(self, ts: Int, columns: Columns, *others: Any) -> Any:
        self.history.append(columns["close"][-1:].copy())
        return super().apply(ts, columns, *others)


class DropsUnmatched(Beside):
    """Leaves out the rows for which the other frame has nothing."""

    def apply(self, ts: Int, columns: Columns, *others: Any) -> Any:
        ts, made = super().apply(ts, columns, *others)
        matched = ~np.isnan(made["beside"]).all(axis=1)
        return ts[matched], {name: column[matched] for name, column in made.items()}


def _case(plugin: type[Transform]) -> type[Conformance]:
    return type(f"{plugin.__name__}Case", (TransformConformance,), {"plugin": plugin, "__module__": __name__})


BROKEN: tuple[Specimen, ...] = (
    Specimen(_case(ClosesBetweenBars), "AF-T01", "that close in between"),
    Specimen(_case(TakesWhatDoesNotFit), "AF-T01", "bars of 7m became bars of 1h"),
    Specimen(_case(LeavesOutColumn), "AF-T02", "('open', 'high', 'low', 'close')"),
    Specimen(_case(LabelsByLastBar), "AF-T03", "close on the grid of 1h"),
    Specimen(_case(NamesTheInputsInterval), "AF-T03", "so often comes a row"),
    Specimen(_case(WeeksFromTheEpoch), "AF-T03", "(every: 1w)"),
    Specimen(_case(PutsLastRowsInFront), "AF-T04", "after the rows before them"),
    Specimen(_case(RemembersLastBucket), "AF-T04", "when asked again"),
    Specimen(_case(WritesIntoInput), "AF-T05", "of 'frame', 'volume'"),
    Specimen(_case(EmitsUnfinishedBucket), "AF-T06", "gave one that closes at"),
    Specimen(_case(PeeksNextBucket), "AF-T07", "when rows of 'frame' after"),
    Specimen(_case(JoinsTheNearest), "AF-T07", "when rows of 'right' after"),
    Specimen(_case(ClosedOnTheLeft), "AF-T08", "'open' of the row"),
    Specimen(_case(LookbackTooShort), "AF-T09", "other_lookback(1h) is 1"),
    Specimen(_case(DeclaresOneRow), "AF-T09", "lookback() is 1"),
    Specimen(_case(DeclaresTooMuch), "AF-T10", "number 2, counted from the newest"),
    Specimen(_case(MixesSymbols), "AF-T11", "when the others' bars changed"),
    Specimen(_case(RowsOfFirstSymbol), "AF-T11", "when the others' bars were absent"),
    Specimen(_case(NanSpoilsBucket), "AF-T12", "lacks 1 of the 4 rows"),
    Specimen(_case(RowForEmptyBucket), "AF-T13", "an empty bucket is no row"),
    Specimen(_case(ZeroBarForNoBar), "AF-T14", "a symbol that starts late has 0.0"),
    Specimen(_case(UsesLocalTime), "AF-T15", "with TZ=EST5EDT"),
    Specimen(_case(TakesLogOfAnyVolume), "AF-T16", "encountered in log"),
    Specimen(_case(KeepsEveryRow), "AF-T17", "with each call it keeps more"),
    Specimen(_case(DropsUnmatched), "AF-T18", "the output has the rows of 'left'"),
)
CORRECT: tuple[type[Conformance], ...] = tuple(_case(plugin) for plugin in (Longer, Beside, Step))
