"""A feature is a function of its columns: whoever asks, however often, in whatever portions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from alpha_forge_sdk.conformance.arrays import first_difference, sizes
from alpha_forge_sdk.conformance.check import Broken, Check, check
from alpha_forge_sdk.conformance.feature_subject import (
    Columns,
    Subject,
    columns_of,
    every_example,
    only_symbol_scope,
    subject,
    with_holes,
)
from alpha_forge_sdk.conformance.growth import footprint, grows
from alpha_forge_sdk.conformance.search import smallest, strategies

if TYPE_CHECKING:
    from alpha_forge_sdk.conformance.case import FeatureConformance


SYMBOLS = 17
"""More than fit a vector register, and one over."""


def same(one: Subject, promised: str, expected: Columns, found: Columns, how: str) -> None:
    """Raise Broken unless the outputs agree bit for bit."""
    place = first_difference(one.outputs, expected, found)
    if place is not None:
        raise Broken(promised, f"{place} {how}")


@check(
    "AF-F04",
    "the same columns give the same bits: again, after others, in another instance",
    "features",
    remedy="read nothing but the parameters and the columns: no clock, no random numbers, no memory between calls",
    needs=("AF-F02", "AF-F03"),
)
def deterministic(case: FeatureConformance, tmp_path: Path) -> None:
    """What ran live can be verified by a replay only if the same bars give the same bits. A clock, a random
    number or memory between calls makes each run its own."""
    one = subject(case, tmp_path)
    bars = one.memory() + 12
    columns = columns_of(case, one.names, bars, 4)
    promised = "outputs are a function of the parameters and the columns"
    first = one.run(columns)
    same(one, promised, first, one.run(columns), "when asked again")
    same(one, promised, first, subject(case, tmp_path).run(columns), "in another instance")
    one.run(columns_of(case, one.names, bars + 5, 4, seed=3))
    same(one, promised, first, one.run(columns), "after other columns were computed")
    one.run(columns_of(case, one.names, 3, 2, seed=4))
    same(one, promised, first, one.run(columns), "after columns of another shape were computed")


@check(
    "AF-F05",
    "what was returned stays as it was when the next is computed",
    "features",
    remedy="return a new array from each call",
    needs=("AF-F02", "AF-F03"),
)
def results_kept(case: FeatureConformance, tmp_path: Path) -> None:
    """The runtime stores what is returned, and other steps read it later. A buffer that is used again changes
    values that have been predicted with already."""
    one = subject(case, tmp_path)
    bars = one.memory() + 4
    result = one.raw(columns_of(case, one.names, bars, 3))
    outputs = result if isinstance(result, tuple) else (result,)
    before = tuple(output.copy() for output in outputs)
    one.raw(columns_of(case, one.names, bars, 3, seed=1))
    same(one, "an output belongs to who asked for it", before, outputs, "when the next call was made")


@check(
    "AF-F06",
    "inputs are never written to, and may be read-only",
    "features",
    remedy="copy before changing anything: the runtime hands out its own memory",
    needs=("AF-F02",),
)
def inputs_kept(case: FeatureConformance, tmp_path: Path) -> None:
    """Columns are shared by all steps of a frame. A feature that scales its input in place changes every step
    that comes after it, depending on their order."""
    one = subject(case, tmp_path)
    promised = "inputs are never written to"
    clean = columns_of(case, one.names, one.memory() + 4, 3)
    holed = tuple(c.copy() for c in clean)
    for column in holed:
        column[-3, 1] = float("nan")
    for columns in (clean, holed):
        given = tuple(c.copy() for c in columns)
        one.raw(given)
        place = first_difference(one.names, columns, given)
        if place is not None:
            raise Broken(promised, f"the input {place}")
    for columns in (clean, holed):
        for column in columns:
            column.flags.writeable = False
        try:
            one.raw(columns)
        except (ValueError, TypeError) as error:
            raise Broken(
                f"{promised}, so read-only arrays will do",
                f"with read-only arrays it raised {type(error).__name__}: {error}",
                "" if "read-only" in str(error) else "declare read-only arrays in the kernel's signature",
            ) from error


@check(
    "AF-F11",
    "symbols know nothing of each other",
    "features",
    remedy='compute each column of the array alone, or declare scope = "panel"',
    applies=only_symbol_scope,
    needs=("AF-F04",),
)
def symbols_alone(case: FeatureConformance, tmp_path: Path) -> None:
    """In symbol scope each symbol's own bars are handed over, whoever comes together. If another symbol's
    bars changed a value, it would depend on the universe, and on who was late."""
    one = subject(case, tmp_path)
    bars, symbols = one.memory() + 8, 5
    columns, others = (columns_of(case, one.names, bars, symbols, seed) for seed in (0, 5))
    whole = one.run(columns)
    promised = 'scope = "symbol": other symbols change nothing'
    unknown = tuple(np.full_like(c, np.nan) for c in columns)
    for s in range(symbols):
        for instead, how in ((others, "changed"), (unknown, "were unknown")):
            changed = tuple(c.copy() for c in instead)
            for i, column in enumerate(columns):
                changed[i][:, s] = column[:, s]
            alone = tuple(output[:, [s]] for output in whole)
            place = first_difference(one.outputs, alone, [o[:, [s]] for o in one.run(changed)])
            if place is not None:
                raise Broken(promised, f"{place._replace(symbol=s)} when the bars of the others {how}")
    # Bits that depend on the number of symbols are another check's matter.
    room = [1e-9 * size for size in sizes(whole)]
    for picked, how in (
        ([2], "alone"),
        ([4, 2, 0, 3, 1], "in another order"),
        ([1, 3], "without the others"),
    ):
        found = one.run([c[:, picked] for c in columns])
        place = first_difference(one.outputs, [o[:, picked] for o in whole], found, room)
        if place is not None:
            raise Broken(promised, f"{place._replace(symbol=picked[place.symbol])} when computed {how}")


@check(
    "AF-F12",
    "any subset of the symbols, in any order, gives the same bits",
    "features",
    remedy="NumPy's reductions change bits with the shape of the array: loop over the window with elementwise"
    " operations, or use alpha_forge_sdk.kernels",
    applies=only_symbol_scope,
    needs=("AF-F11",),
)
def subset_bits(case: FeatureConformance, tmp_path: Path) -> None:
    """The runtime computes the symbols whose bars are at hand. NumPy's sums change their last bits with the
    shape of the array, so a symbol computed alone would differ from the same one in company."""
    for one, where in every_example(case, tmp_path):
        _any_subset(one, columns_of(case, one.names, one.memory() + 6, SYMBOLS), where)


def _any_subset(one: Subject, columns: Columns, where: str) -> None:
    whole = one.run(columns)

    def breaks(picked: list[int]) -> Broken | None:
        found = one.run([c[:, picked] for c in columns])
        place = first_difference(one.outputs, [output[:, picked] for output in whole], found)
        if place is None:
            return None
        place = place._replace(symbol=picked[place.symbol])
        return Broken(
            "a symbol's bits don't depend on who is computed with it",
            f"{place} when the symbols {picked} of {SYMBOLS} were computed together{where}",
        )

    st = strategies()
    subsets = st.lists(st.integers(0, SYMBOLS - 1), min_size=1, max_size=SYMBOLS, unique=True)
    smallest(subsets, breaks, ([0], [16], [0, 1, 2, 3], list(range(16)), list(range(16, -1, -1))))


@check(
    "AF-F13",
    "row by row, in any chunks, all at once: the same bits",
    "features",
    remedy="no running sums: compute each row from its own window, oldest bar first; a recursive feature has one loop"
    " for one row and for many",
    needs=("AF-F07", "AF-F08"),
)
def chunking(case: FeatureConformance, tmp_path: Path) -> None:
    """A replay hands over thousands of rows, a stream one. Running sums and vectorised shortcuts round
    differently in the two, and the difference grows over months."""
    for one, where in every_example(case, tmp_path):
        columns = columns_of(case, one.names, one.memory() + 24, 3)
        _any_chunks(one, columns, where)
        if one.recursive:
            _any_chunks(one, with_holes(columns), f"{where}, some bars unknown")


def _any_chunks(one: Subject, columns: Columns, where: str) -> None:
    whole = one.run(columns)
    bars = len(columns[0])

    def breaks(cuts: Sequence[int]) -> Broken | None:
        place = first_difference(one.outputs, whole, one.in_chunks(columns, cuts))
        if place is None:
            return None
        what = "row by row" if len(cuts) > 8 else f"in chunks that begin at the bars {sorted({0, *cuts})}"
        return Broken("any chunking gives the same bits", f"{place} when computed {what}{where}")

    # The whole past row by row costs too much for a long one; its end, where the values are, does not.
    row_by_row = range(max(1, bars - 200), bars)
    st = strategies()
    smallest(st.sets(st.integers(1, bars - 1), max_size=8).map(sorted), breaks, (row_by_row,))


@check(
    "AF-F20",
    "nothing grows with the number of bars",
    "features",
    remedy="keep no bars on the instance: the runtime hands over the rows that are needed, and the state",
    needs=("AF-F02", "AF-F03"),
)
def keeps_nothing(case: FeatureConformance, tmp_path: Path) -> None:
    """A run lasts for months. What keeps a row for each bar, or takes a little longer with each, ends it by
    memory or by lateness."""
    one = subject(case, tmp_path)
    back = 1 if one.recursive else one.memory()
    columns = columns_of(case, one.names, back + 40, 3)
    state = one.start(3)

    def call(k: int) -> None:
        # Never the same numbers twice: what is kept by its content is kept for good.
        first = k % 40
        one.run([c[first : first + back] * (1.0 + 1e-6 * k) for c in columns], state)

    def size() -> int:
        return footprint(one.plugin) + sum(int(array.nbytes) for array in (state or {}).values())

    seen = grows(call, size)
    if seen is not None:
        raise Broken("a bar costs the same whatever came before it", f"with each call it keeps more: {seen}")


CHECKS: tuple[Check, ...] = (
    deterministic,
    results_kept,
    inputs_kept,
    symbols_alone,
    subset_bits,
    chunking,
    keeps_nothing,
)
