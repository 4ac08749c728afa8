"""Bars as bad as they come: nothing is raised, nothing is warned of, and nothing stays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from alpha_forge_sdk.conformance.check import Broken, Check, check
from alpha_forge_sdk.conformance.complaints import complaint
from alpha_forge_sdk.conformance.feature_subject import Columns, columns_of, only_windowed, subject

if TYPE_CHECKING:
    from alpha_forge_sdk.conformance.case import FeatureConformance

BAD = (float("nan"), float("inf"), float("-inf"), 0.0, 1e-12, 1e12)
LEVELS = (0.0, 1e-12, 1.0, 1e12, float("nan"))


def bad_columns(
    columns: Columns, names: tuple[str, ...], bar: int, values: tuple[float, ...] = BAD
) -> Iterator[tuple[str, Columns]]:
    """The columns with one bad cell, a bad bar, a gap, a late start; and all of them at one level."""

    def put(value: float, rows: slice, inputs: range) -> Columns:
        changed = tuple(c.copy() for c in columns)
        for i in inputs:
            changed[i][rows, 0] = value
        return changed

    one = slice(bar, bar + 1)
    for value in values:
        for i, name in enumerate(names):
            yield f"{value} in '{name}' at bar {bar}", put(value, one, range(i, i + 1))
        if len(names) > 1:
            yield f"{value} in all inputs at bar {bar}", put(value, one, range(len(names)))
    yield f"a gap at bars {bar} to {bar + 4}", put(np.nan, slice(bar, bar + 5), range(len(names)))
    yield f"a symbol that begins at bar {bar}", put(np.nan, slice(0, bar), range(len(names)))


@check(
    "AF-F18",
    "bad values raise nothing and warn of nothing",
    "features",
    remedy="let NaN and infinities pass by the rules of arithmetic, under np.errstate(all='ignore') where NumPy would"
    " warn; compiled kernels don't warn",
    needs=("AF-F02", "AF-F03"),
)
def bad_values(case: FeatureConformance, tmp_path: Path) -> None:
    """Prices of 0, of 1e-12 or without any change happen, on halted and on new symbols. An exception ends the
    run for all symbols; a warning for each bar hides the ones that matter."""
    one = subject(case, tmp_path)
    memory = one.memory()
    columns = columns_of(case, one.names, memory + 12, 3)
    one.run(columns)  # what is told once, at the first call (a compiler's advice), is not about values
    promised = "any float64 is taken: nothing is raised, nothing is warned of"
    for what, changed in bad_columns(columns, one.names, memory // 2 + 4):
        said = complaint(lambda changed=changed: one.run(changed))  # type: ignore[misc]
        if said is not None:
            raise Broken(promised, f"with {what} {said}")
    for level in LEVELS:
        constant = tuple(np.full_like(c, level) for c in columns)
        said = complaint(lambda constant=constant: one.run(constant))  # type: ignore[misc]
        if said is not None:
            raise Broken(promised, f"with every value {level} {said}")


@check(
    "AF-F19",
    "a NaN never outlives the look-back",
    "features",
    remedy="keep no running sums: NaN - NaN is NaN for ever; compute each row from its own window",
    applies=only_windowed,
    needs=("AF-F08", "AF-F13"),
)
def forgets_nan(case: FeatureConformance, tmp_path: Path) -> None:
    """One bad bar may spoil the values that read it, and no later ones. A running sum that has met a NaN is
    NaN for as long as the process lives."""
    one = subject(case, tmp_path)
    back = one.memory()
    columns = columns_of(case, one.names, 2 * back + 12, 3)
    clean = one.run(columns)
    for bar in (0, back + 2):
        for what, changed in bad_columns(columns, one.names, bar, BAD[:3]):
            clear = bar + back + (4 if "gap" in what else 0)
            with np.errstate(all="ignore"):
                outputs = one.run(changed)
            for name, output, before in zip(one.outputs, outputs, clean, strict=True):
                stays = np.argwhere(np.isnan(output[clear:]) & ~np.isnan(before[clear:]))
                if len(stays):
                    t, s = int(stays[0][0]) + clear, int(stays[0][1])
                    raise Broken(
                        f"lookback() is {back}: a bar is forgotten {back} bars later",
                        f"'{name}' at bar {t}, symbol {s}, is NaN because of {what}",
                    )


CHECKS: tuple[Check, ...] = (bad_values, forgets_nan)
