"""How a recursive feature's state moves on, and how it forgets where it began."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from alpha_forge_sdk.conformance.arrays import Float, first_difference
from alpha_forge_sdk.conformance.check import Broken, Check, NotApplicable, check
from alpha_forge_sdk.conformance.feature_subject import (
    LONGEST,
    Columns,
    State,
    Subject,
    columns_of,
    is_panel,
    only_recursive,
    subject,
)

if TYPE_CHECKING:
    from alpha_forge_sdk.conformance.case import FeatureConformance

FACTOR = 30.0
"""Times epsilon that a fresh start may be off, relative to the column's size. Epsilon bounds what the start weighs in
the averages; a quotient of them (Wilder's RSI of two bars) is off by up to 15 times that. Half the bars that are needed
leave the root of epsilon, which at 1e-9 is 30,000 times too much."""


def _part(state: State, symbols: Any) -> State:
    return {name: array[symbols].copy() for name, array in state.items()}


@check(
    "AF-F14",
    "one instance moves many states on, and any subset of the symbols",
    "features",
    remedy="keep everything that is remembered in the state, nothing on the instance, and let row i of every array be"
    " symbol i's",
    applies=only_recursive,
    needs=("AF-F03", "AF-F12", "AF-F13"),
)
def gathered(case: FeatureConformance, tmp_path: Path) -> None:
    """One instance serves all symbols and all of the states that the runtime keeps. What is remembered
    outside of the state belongs to whoever came last."""
    one = subject(case, tmp_path)
    bars, symbols = one.memory() + 16, 7
    columns = columns_of(case, one.names, bars, symbols)
    _interleaved(one, columns)
    if not is_panel(case):
        _scattered(one, columns)


def _interleaved(one: Subject, columns: Columns) -> None:
    """Two states of one instance, the second begun later, as the runtime keeps generations of them."""
    bars = len(columns[0])
    late = bars // 3
    expected = one.run(columns), one.run([c[late:] for c in columns])
    first, second = one.start(columns[0].shape[1]), one.start(columns[0].shape[1])
    step = max(1, bars // 100)
    edges = [0, late, *range(late + step, bars, step), bars]
    for start, stop in pairwise(edges):
        part = [c[start:stop] for c in columns]
        found = [(one.run(part, first), [o[start:stop] for o in expected[0]], "one begun at bar 0", start)]
        if start >= late:
            rows = [o[start - late : stop - late] for o in expected[1]]
            found.append((one.run(part, second), rows, f"one begun at bar {late}", start))
        for outputs, wanted, which, row in found:
            place = first_difference(one.outputs, wanted, outputs, first_bar=row)
            if place is not None:
                raise Broken(
                    "a state holds all that is remembered: states of one instance don't disturb each other",
                    f"{place} when two states, {which}, took turns",
                )


def _scattered(one: Subject, columns: Columns) -> None:
    """Each row in two portions of the symbols, gathered from the state and scattered back."""
    whole = one.run(columns)
    bars, symbols = columns[0].shape
    state = one.start(symbols) or {}
    order = np.random.default_rng(2)
    step = max(1, bars // 100)
    for start in range(0, bars, step):
        shuffled = order.permutation(symbols)
        for picked in (shuffled[: symbols // 2], shuffled[symbols // 2 :]):
            part = _part(state, picked)
            found = one.run([c[start : start + step, picked] for c in columns], part)
            place = first_difference(
                one.outputs, [o[start : start + step, picked] for o in whole], found, first_bar=start
            )
            if place is not None:
                place = place._replace(symbol=int(picked[place.symbol]))
                raise Broken(
                    "a state may hold any subset of the symbols, in any order",
                    f"{place} when the symbols {picked.tolist()} were advanced alone",
                )
            for name, array in part.items():
                state[name][picked] = array


@check(
    "AF-F15",
    "a NaN gives NaN and leaves its symbol's state as it was",
    "features",
    remedy="skip the bar where any input is NaN: np.where(known, new, old) for every array of the state",
    applies=only_recursive,
    needs=("AF-F13",),
)
def unknown_rows(case: FeatureConformance, tmp_path: Path) -> None:
    """An absent bar must not move the memory, nor wipe it out: once a state is NaN, everything after it is
    NaN."""
    one = subject(case, tmp_path)
    columns = columns_of(case, one.names, one.memory() + 8, 3)
    bars = len(columns[0])
    for seen in sorted({0, 1, 2, 5, bars // 2, bars - 1}):
        state = one.start(3) or {}
        if seen:
            one.run([c[:seen] for c in columns], state)
        for names in (*((name,) for name in one.names), one.names):
            _unknown_row(one, [c[seen : seen + 1] for c in columns], _part(state, slice(None)), names, seen)


def _unknown_row(one: Subject, row: list[Float], state: State, names: tuple[str, ...], seen: int) -> None:
    before = _part(state, slice(None))
    given = [c.copy() for c in row]
    for i, name in enumerate(one.names):
        if name in names:
            given[i][0, 1] = np.nan
    outputs = one.run(given, state)
    what = f"NaN in {', '.join(names)} after {seen} bars"
    for name, output in zip(one.outputs, outputs, strict=True):
        if not np.isnan(output[0, 1]):
            raise Broken("a NaN in a row gives NaN", f"{what} gave '{name}' = {float(output[0, 1])!r}")
    for name, array in state.items():
        if array[1].tobytes() != before[name][1].tobytes():
            raise Broken(
                "a NaN in a row leaves that symbol's state as it was",
                f"{what} moved '{name}' from {before[name][1]!r} to {array[1]!r}",
            )


@check(
    "AF-F16",
    "a fresh start is as good as the whole history after settle(epsilon) bars",
    "features",
    remedy="count the bars of the seed, and those after which what it weighs is below epsilon; an average of an average"
    " remembers longer than either",
    applies=only_recursive,
    needs=("AF-F07", "AF-F13"),
)
def settles(case: FeatureConformance, tmp_path: Path) -> None:
    """A run starts on finitely many bars and must give what an endless one would, within epsilon. A `settle`
    that is too small makes each restart a little different, unnoticed."""
    one = subject(case, tmp_path)
    tried = 0
    for epsilon in (1e-3, 1e-6, 1e-9):
        settle = int(one.plugin.settle(epsilon))
        if settle <= LONGEST:
            tried += 1
            for seed in (0, 1):
                _fresh_start(case, one, epsilon, settle, seed)
    if not tried:
        raise NotApplicable(f"it settles in {settle} bars: too many to be judged here; give smaller params")


def _fresh_start(case: FeatureConformance, one: Subject, epsilon: float, settle: int, seed: int) -> None:
    # So long a history that its own start has faded by the time it is compared with.
    before = settle + 200
    columns = columns_of(case, one.names, before + settle + 8, 8, seed)
    full = [output[before:] for output in one.run(columns)]
    fresh = one.run([c[before:] for c in columns])
    promised = f"settle({epsilon:g}) is {settle}: then a start weighs less than {epsilon:g}, relative"
    for name, whole, began in zip(one.outputs, full, fresh, strict=True):
        late, known = began[settle - 1 :], whole[settle - 1 :]
        size = np.sqrt(np.nanmean(np.where(np.isfinite(whole), whole, np.nan) ** 2, axis=0))
        missing = np.argwhere(np.isnan(late) & ~np.isnan(known))
        if len(missing):
            raise Broken(
                promised, f"'{name}' of the fresh start is still NaN at its bar {settle + int(missing[0][0])}"
            )
        off = np.abs(late - known) / np.maximum(np.abs(known), size)
        worst = np.unravel_index(np.nanargmax(np.where(np.isnan(off), -1.0, off)), off.shape)
        if off[worst] > FACTOR * epsilon:
            raise Broken(
                promised,
                f"'{name}' was {float(late[worst])!r} at bar {settle + int(worst[0])} of a fresh start, "
                f"{float(known[worst])!r} in the whole history: off by {off[worst]:.2g} of its size, more than "
                f"{FACTOR:g} times {epsilon:g}",
            )


CHECKS: tuple[Check, ...] = (gathered, unknown_rows, settles)
