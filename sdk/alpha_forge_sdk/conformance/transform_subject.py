"""A transform as the kit sees it: told what the runtime tells it, handed rows as the runtime hands them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from alpha_forge.contracts.interval import Interval, iso
from alpha_forge_sdk.conformance.arrays import Float, Place, first_difference, sizes
from alpha_forge_sdk.conformance.check import NotApplicable

if TYPE_CHECKING:
    from alpha_forge_sdk.conformance.case import TransformConformance

Int = npt.NDArray[np.int64]

LONGEST = 20_000
"""Input rows beyond which an output row is too long to be judged within seconds."""

# The nights in which the clocks of New York and of Berlin change, and a plain one at the turn of a year.
ORIGINS = (1_772_942_400 * 10**9, 1_774_742_400 * 10**9, 1_798_675_200 * 10**9)


class Frame(NamedTuple):
    """Rows of a frame: (bars,) int64 closes, and {name: (bars, symbols)}, NaN where a symbol's bar is absent."""

    ts: Int
    columns: Mapping[str, Float]

    def rows(self, which: Any) -> Frame:
        return Frame(self.ts[which], {name: c[which] for name, c in self.columns.items()})

    def symbols(self, which: Any) -> Frame:
        return Frame(self.ts, {name: np.ascontiguousarray(c[:, which]) for name, c in self.columns.items()})

    def changed(self, rows: Any, by: Mapping[str, Float] | float, symbols: Any = slice(None)) -> Frame:
        """With the cells replaced by those of other columns, or by one value."""
        columns = {name: c.copy() for name, c in self.columns.items()}
        for name, column in columns.items():
            column[rows, symbols] = by if isinstance(by, float) else by[name][rows, symbols]
        return Frame(self.ts, columns)

    def existing(self) -> Frame:
        """Without the rows in which no symbol has a bar: the runtime keeps none such."""
        return self.rows(~np.isnan(self.columns["close"]).all(axis=1))


class TransformSubject:
    """A fresh instance, and what it declares about frames of the case's intervals.

    Raises ValueError (from ``output_interval`` or ``input_columns``) if they don't fit.
    """

    def __init__(self, case: TransformConformance, make: Any) -> None:
        self.case, self._make = case, make
        self.interval, self.other = Interval.parse(case.interval), Interval.parse(case.other_interval)
        asked = make()
        self.frames: tuple[str, ...] = tuple(type(asked).frames)
        self.two = len(self.frames) == 2
        self.output: Interval = asked.output_interval(self.interval)
        self.other_back: int = asked.other_lookback(self.other) if self.two else 0
        self.back: int = asked.lookback()
        available = tuple(tuple(case.columns(name, 2, 1, 0)) for name in self.frames)
        self.available = available
        self.taken = asked.input_columns(*available)
        self.outputs = asked.output_columns(*self.taken)
        self.plugin = self.fresh()

    def fresh(self) -> Any:
        """An instance that knows the intervals, as the runtime makes it."""
        plugin = self._make()
        plugin.output_interval(self.interval)
        if self.two:
            plugin.other_lookback(self.other)
        return plugin

    def remade(self, **changed: Any) -> Any:
        """An instance with some parameters changed. Raises ValueError if they are refused."""
        plugin = type(self.plugin)
        return plugin(plugin.Params.model_validate({**dict(self.plugin.params), **changed}))

    @property
    def ratio(self) -> int:
        """Input rows in an output row's interval."""
        return self.output.ns // self.interval.ns

    @property
    def merges(self) -> bool:
        """True if an output row is made of its bucket's rows and of no others: a resampler."""
        return not self.two and self.ratio > 1 and self.back == self.ratio

    def inputs(self, symbols: int = 3, seed: int = 0, origin: int = ORIGINS[0]) -> tuple[Frame, ...]:
        """Whole frames, from a close of the output's grid on, long enough for some output rows."""
        if max(self.back, self.ratio, self.other_back) > LONGEST:
            raise NotApplicable(f"an output row needs {self.back} input rows: give the case smaller params")
        start = self.output.floor(origin)
        rows = (
            2 * self.back + 4 * self.ratio if not self.two else max(24, 6 * self.other.ns // self.interval.ns)
        )
        first = self._frame(0, start, self.interval, rows, symbols, seed)
        if not self.two:
            return (first,)
        # The second frame goes back far enough for the first row of the leading one.
        oldest = self.other.row(start) - self.other_back
        count = self.other.row(int(first.ts[-1])) - oldest
        return first, self._frame(1, self.other.ts(oldest), self.other, count, symbols, seed + 50)

    def _frame(
        self, number: int, start: int, interval: Interval, rows: int, symbols: int, seed: int
    ) -> Frame:
        made = self.case.columns(self.frames[number], rows, symbols, seed)
        columns = {n: np.array(made[n], dtype=np.float64, order="C") for n in self.taken[number]}
        # How a symbol's presence is known; the transform doesn't see it unless it asks for it.
        columns.setdefault("close", np.array(made["close"], dtype=np.float64, order="C"))
        return Frame(start + interval.ns * np.arange(1, rows + 1, dtype=np.int64), columns)

    def raw(self, frames: Sequence[Frame], plugin: Any = None) -> Any:
        """What the plugin itself returns, given these very arrays."""
        given = [(f.ts, {n: f.columns[n] for n in self.taken[i]}) for i, f in enumerate(frames)]
        return (plugin or self.plugin).apply(*given[0], *given[1:])

    def run(self, frames: Sequence[Frame], plugin: Any = None) -> Frame:
        """The output, made of copies."""
        copies = [Frame(f.ts.copy(), {n: c.copy() for n, c in f.columns.items()}) for f in frames]
        ts, columns = self.raw(copies, plugin)
        return Frame(np.array(ts, dtype=np.int64), {n: np.array(columns[n]) for n in self.outputs})

    def at(self, made: Frame, closes: Sequence[int] | Int, symbols: int) -> list[Float]:
        """Output columns at `closes`, (closes, symbols); NaN where there is no row, or no bar of the symbol."""
        place = {int(ts): i for i, ts in enumerate(made.ts)}
        marker = "close" if "close" in self.outputs else self.outputs[0]
        found = [np.full((len(closes), symbols), np.nan) for _ in self.outputs]
        for k, ts in enumerate(closes):
            row = place.get(int(ts))
            if row is None:
                continue
            has = ~np.isnan(made.columns[marker][row])
            for i, name in enumerate(self.outputs):
                found[i][k] = np.where(has, made.columns[name][row], np.nan)
        return found

    def differ(
        self,
        closes: Sequence[int] | Int,
        expected: Sequence[Float],
        found: Sequence[Float],
        share: float = 0.0,
    ) -> str | None:
        """Where two answers of `at` differ first, in words: in any bit, or by more than a share of their size."""
        room = [share * size for size in sizes(expected)]
        place: Place | None = first_difference(self.outputs, expected, found, room)
        if place is None:
            return None
        return (
            f"'{place.column}' of the row {iso(int(closes[place.bar]))}, symbol {place.symbol}: "
            f"{place.expected!r} became {place.found!r}"
        )

    def closes(self, first: Frame) -> Int:
        """Closes of the output's grid among an input frame's."""
        found: Int = first.ts[(first.ts - self.output.offset) % self.output.ns == 0]
        return found

    def streamed(self, frames: Sequence[Frame], ts: int) -> tuple[Frame, ...] | None:
        """The rows that the runtime hands over to have the row at `ts` made; None if there are none."""
        if self.two:
            lead = frames[0].rows(frames[0].ts == ts).existing()
            newest = self.other.floor(ts)
            right = frames[1]
            near = (right.ts <= newest) & (right.ts > newest - self.other_back * self.other.ns)
            return (lead, right.rows(near).existing()) if len(lead.ts) else None
        whole = frames[0]
        near = (whole.ts <= ts) & (whole.ts > ts - self.back * self.interval.ns)
        window = whole.rows(near)
        found = window.existing()
        if not len(found.ts):
            return None
        # Nobody has a bar at the very end: a row of NaN says that the bucket is complete all the same.
        return (
            (found,)
            if found.ts[-1] == ts
            else (window.rows((window.ts == ts) | np.isin(window.ts, found.ts)),)
        )


def transform_subject(case: TransformConformance, tmp_path: Path) -> TransformSubject:
    """A subject with the case's parameters."""
    return TransformSubject(case, lambda: case.make(tmp_path))


def only_resamplers(one: TransformSubject) -> None:
    """Raise NotApplicable unless an output row is made of its bucket's rows alone."""
    if not one.merges:
        raise NotApplicable("an output row is not made of the rows of its own bucket: it is no resampler")


def holed(one: TransformSubject, frames: tuple[Frame, ...], seed: int = 0) -> tuple[Frame, ...]:
    """The frames with bars absent: here and there, a whole row, the end of a bucket; none in the oldest bucket.

    Rows without any bar are left to resamplers. Whether the rows before such a one count as neighbours, the contract
    leaves open: others keep one symbol throughout.
    """
    rng = np.random.default_rng(seed)
    found = []
    for frame in frames:
        whole = one.back if frame is frames[0] and not one.two else 0
        gone = rng.random(frame.columns["close"].shape) < 0.2
        gone[rng.random(len(frame.ts)) < 0.15] = True
        ends = (frame.ts - one.output.offset) % one.output.ns == 0
        gone[ends & (rng.random(len(frame.ts)) < 0.3)] = True
        gone[:whole] = False
        if not one.merges:
            gone[:, 0] = False
        found.append(Frame(frame.ts, {n: np.where(gone, np.nan, c) for n, c in frame.columns.items()}))
    return tuple(found)
