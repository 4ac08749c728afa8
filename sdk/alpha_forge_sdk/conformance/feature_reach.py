"""Which bars a row of a feature's output depends on: none of the future, all of its look-back, none before it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from alpha_forge_sdk.conformance.arrays import Place, first_difference, sizes
from alpha_forge_sdk.conformance.check import Broken, Check, NotApplicable, check
from alpha_forge_sdk.conformance.feature_subject import (
    Columns,
    Subject,
    columns_of,
    every_example,
    only_windowed,
    other_numbers,
    subject,
    with_holes,
)

if TYPE_CHECKING:
    from alpha_forge_sdk.conformance.case import FeatureConformance


def _bars_to_try(memory: int, bars: int) -> list[int]:
    """Bars with a value, and some before: all of a short run, else those evenly spread and the last ones."""
    spread = np.linspace(0, bars - 2, min(bars - 1, 16)).astype(int)
    return sorted({*spread.tolist(), *range(max(0, memory - 1), bars - 1)})


@check(
    "AF-F07",
    "no future bar changes an earlier output",
    "features",
    remedy="row t may read rows up to t only: look for a shift by a negative number, a reversed or centred window, a"
    " mean over the whole array, a fill from behind",
    needs=("AF-F04",),
)
def causal(case: FeatureConformance, tmp_path: Path) -> None:
    """A feature that reads a bar of the future looks brilliant in training and is worthless live. It is tried
    at every bar and in every column, since most leaks show at few of them."""
    one = subject(case, tmp_path)
    memory = one.memory()
    bars = memory + 16
    plain, other = (columns_of(case, one.names, bars, 3, seed) for seed in (0, 8))
    # With holes too: what is filled from behind is seen only where something is missing.
    for columns in (plain, with_holes(plain)):
        whole = one.run(columns)
        for t in _bars_to_try(memory, bars):
            for future in (other, tuple(np.full_like(c, np.nan) for c in columns)):
                place = _changed_before(one, columns, future, whole, range(t + 1, bars), one.names)
                if place is not None:
                    raise _peeked(one, columns, future, whole, t)


def _changed_before(
    one: Subject, columns: Columns, future: Columns, whole: Columns, rows: range, names: tuple[str, ...]
) -> Place | None:
    """The first output before `rows` that changes when those rows of the inputs `names` do."""
    changed = tuple(c.copy() for c in columns)
    for i, name in enumerate(one.names):
        if name in names:
            changed[i][rows.start : rows.stop] = future[i][rows.start : rows.stop]
    found = one.run(changed)
    return first_difference(one.outputs, [o[: rows.start] for o in whole], [o[: rows.start] for o in found])


def _peeked(one: Subject, columns: Columns, future: Columns, whole: Columns, t: int) -> Broken:
    """The smallest change that shows it: one bar of one input, if that is enough."""
    bars = len(columns[0])
    for rows in (*(range(k, k + 1) for k in range(t + 1, bars)), range(t + 1, bars)):
        for names in (*((name,) for name in one.names), one.names):
            place = _changed_before(one, columns, future, whole, rows, names)
            if place is not None:
                which = f"bar {rows.start}" if len(rows) == 1 else f"bars {rows.start} to {rows.stop - 1}"
                return Broken(
                    "an output depends on its own bar and older ones",
                    f"{place} when {which} of {', '.join(names)} changed",
                )
    raise AssertionError("a change that was seen is seen again: outputs are deterministic")


@check(
    "AF-F08",
    "bars older than the look-back don't matter",
    "features",
    remedy="let lookback() count every bar that a row reads, the current one included; what never forgets is a"
    " RecursiveFeature",
    applies=only_windowed,
    needs=("AF-F07",),
)
def honest_look_back(case: FeatureConformance, tmp_path: Path) -> None:
    """Live, a feature gets the newest `lookback` rows and nothing else. If older bars mattered, what it gives
    live would differ from what the model was trained on."""
    for one, where in (*every_example(case, tmp_path), *other_numbers(case, tmp_path)):
        back = one.memory()
        bars = 2 * min(back, 2000) + back + 12
        plain, other = (columns_of(case, one.names, bars, 3, seed) for seed in (0, 6))
        older = tuple(5.0 * c for c in other)
        promised = f"lookback() is {back}{where}: row t is a function of rows t-{back - 1} … t"
        for columns in (plain, with_holes(plain)):
            place, how = _older_matters(one, columns, older, back)
            if place is not None:
                raise Broken(promised, f"{place} {how}")


def _older_matters(one: Subject, columns: Columns, older: Columns, back: int) -> tuple[Place | None, str]:
    """Where an output changes when bars older than `back` are left out, or are those of `older`."""
    whole = one.run(columns)
    # Bits that depend on how many rows come together are another check's matter.
    room = [1e-9 * size for size in sizes(whole)]
    bars = len(columns[0])
    for t in sorted({back - 1, back, *range(max(back, bars - 7), bars)}):
        expected = [o[[t]] for o in whole]
        first = t - back + 1
        exact = [o[-1:] for o in one.run([c[first : t + 1] for c in columns])]
        changed = [
            o[[t]]
            for o in one.run([np.vstack([o[:first], c[first:]]) for o, c in zip(older, columns, strict=True)])
        ]
        for found, how in (
            (exact, f"when just the last {back} bars were given"),
            (changed, f"when bars older than {back} changed"),
        ):
            # Whether a NaN stays too long is another check's matter as well.
            seen = [np.where(np.isnan(e), e, f) for e, f in zip(expected, found, strict=True)]
            if not any(np.isnan(c).any() for c in columns):
                seen = found
            place = first_difference(one.outputs, expected, seen, room, first_bar=t)
            if place is not None:
                return place, how
    return None, ""


@check(
    "AF-F09",
    "the look-back isn't larger than needed",
    "features",
    remedy="lookback() is the number of bars that a row reads: every bar more delays the first value and is fetched"
    " at every start",
    applies=only_windowed,
    needs=("AF-F08",),
)
def tight_look_back(case: FeatureConformance, tmp_path: Path) -> None:
    """Each bar of look-back delays the first value and is fetched at every start, for every symbol; in a
    chain of steps the look-backs add up."""
    for one, where in every_example(case, tmp_path):
        back = one.memory()
        if _matters(case, one, back, 0):
            continue
        nearer = range(1, back) if back <= 64 else range(1, back, back // 64)
        for row in nearer:
            if _matters(case, one, back, row, trials=4):
                raise Broken(
                    f"lookback() is {back}{where}: bars that an output needs",
                    f"the oldest of the {back} never mattered, in whatever way it was changed; the oldest that did "
                    f"is number {back - row}, counted from the newest",
                )
        if not where:
            raise NotApplicable("no output varied: which bars matter can't be told")


def _matters(case: FeatureConformance, one: Subject, back: int, row: int, trials: int = 12) -> bool:
    """True if changing this row of a whole look-back changes an output of its newest row."""
    for trial in range(trials):
        columns = columns_of(case, one.names, back, 8, seed=trial)
        expected = [o[-1:] for o in one.run(columns)]
        for changed in _with_row_changed(columns, row, trial):
            if first_difference(one.outputs, expected, [o[-1:] for o in one.run(changed)]) is not None:
                return True
    return False


def _with_row_changed(columns: Columns, row: int, seed: int) -> Iterator[Columns]:
    """The columns with the row scaled up and down, of all inputs and of each alone; and unknown."""
    rng = np.random.default_rng(seed)
    ways = [tuple(range(len(columns))), *((i,) for i in range(len(columns)))]
    for inputs in ways if len(columns) > 1 else ways[:1]:
        # Symbol by symbol another factor: a rank doesn't mind a common one.
        for factor in (np.exp(rng.normal(0, 2, columns[0].shape[1])), np.nan):
            changed = tuple(c.copy() for c in columns)
            for i in inputs:
                changed[i][row] *= factor
            yield changed


@check(
    "AF-F10",
    "NaN in the first lookback-1 rows, values from then on",
    "features",
    remedy="give NaN while the window isn't full (fewer rows than the look-back are all NaN), and a value after",
    applies=only_windowed,
    needs=("AF-F08",),
)
def warm_up(case: FeatureConformance, tmp_path: Path) -> None:
    """A value from a window that isn't full is another quantity under the same name. A NaN where the window
    is full loses a prediction for nothing."""
    for one, where in every_example(case, tmp_path):
        back = one.memory()
        for bars in sorted({1, max(1, back // 2), max(1, back - 1), back + 8}):
            outputs = one.run(columns_of(case, one.names, bars, 8))
            for name, output in zip(one.outputs, outputs, strict=True):
                early = np.argwhere(~np.isnan(output[: back - 1]))
                if len(early):
                    t, s = (int(n) for n in early[0])
                    raise Broken(
                        f"lookback() is {back}{where}: the first {back - 1} rows are NaN",
                        f"'{name}' at bar {t} of {bars}, symbol {s}, is {float(output[t, s])!r}",
                    )
                # Not for each symbol: a ratio may be 0 / 0 at an ordinary bar.
                empty = np.flatnonzero(np.isnan(output[back - 1 :]).all(axis=1))
                if len(empty):
                    raise Broken(
                        f"lookback() is {back}{where}: there are values from bar {back - 1} on",
                        f"'{name}' at bar {int(empty[0]) + back - 1} is NaN for all {output.shape[1]} symbols, and all "
                        "bars are positive and vary",
                    )


CHECKS: tuple[Check, ...] = (causal, honest_look_back, tight_look_back, warm_up)
