"""A feature as the kit sees it: one way to run a `Feature` and a `RecursiveFeature`, on copies of made-up columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from alpha_forge_sdk.conformance.arrays import Float
from alpha_forge_sdk.conformance.check import NotApplicable

if TYPE_CHECKING:
    from alpha_forge_sdk.conformance.case import FeatureConformance

LONGEST = 20_000
"""Bars beyond which a memory is too long to be judged within seconds."""

Columns = tuple[Float, ...]
State = dict[str, Any]


class Subject:
    """An instance, and what it declares.

    Every run gets copies of its columns and gives copies of the outputs: what a plugin does to its arrays is the
    matter of the checks that look for it, and of no other.
    """

    def __init__(self, plugin: Any) -> None:
        from alpha_forge.contracts.plugin import RecursiveFeature

        self.plugin = plugin
        self.recursive = isinstance(plugin, RecursiveFeature)
        self.names: tuple[str, ...] = tuple(type(plugin).input_names())
        self.outputs: tuple[str, ...] = tuple(plugin.outputs)

    def memory(self) -> int:
        """Bars that one output needs: the look-back, or those after which a thousandth of the start is left.

        Raises NotApplicable where they are too many to be judged.
        """
        bars = int(self.plugin.settle(1e-3) if self.recursive else self.plugin.lookback())
        if bars > LONGEST:
            raise NotApplicable(
                f"it needs {bars} bars: too many to be judged here; give the case smaller params"
            )
        return bars

    def start(self, symbols: int) -> State | None:
        """A fresh state; None for a feature without one."""
        return self.plugin.start(symbols) if self.recursive else None

    def raw(self, columns: Sequence[Any], state: State | None = None) -> Any:
        """What the plugin itself returns for exactly these arrays; a fresh state where none is given."""
        if not self.recursive:
            return self.plugin.compute(*columns)
        if state is None:
            state = self.plugin.start(columns[0].shape[1])
        return self.plugin.advance(state, *columns)

    def run(self, columns: Sequence[Float], state: State | None = None) -> Columns:
        """Outputs over all rows."""
        result = self.raw([np.array(c, dtype=np.float64, order="C") for c in columns], state)
        found = result if isinstance(result, tuple) else (result,)
        return tuple(np.array(output, dtype=np.float64, order="C") for output in found)

    def in_chunks(self, columns: Columns, cuts: Sequence[int]) -> Columns:
        """Outputs put together from calls over the rows between `cuts`, each with just the rows that it needs."""
        bars, back = len(columns[0]), 1 if self.recursive else self.plugin.lookback()
        state, parts = self.start(columns[0].shape[1]), []
        edges = [0, *sorted(cuts), bars]
        for start, stop in pairwise(edges):
            first = max(0, start - back + 1)
            part = self.run([c[first:stop] for c in columns], state)
            parts.append([output[start - first :] for output in part])
        return tuple(np.vstack(column) for column in zip(*parts, strict=True))


def subject(case: FeatureConformance, tmp_path: Path) -> Subject:
    """A fresh instance with the case's parameters."""
    return Subject(case.make(tmp_path))


def every_example(case: FeatureConformance, tmp_path: Path) -> Iterator[tuple[Subject, str]]:
    """Fresh instances with the case's parameters and with each example, and how to name them in a message."""
    from pydantic import ValidationError

    one = subject(case, tmp_path)
    yield one, ""
    plugin = case.plugin_class()
    for example in plugin.examples:
        try:
            params = plugin.Params.model_validate(dict(example))
        except ValidationError:
            continue  # that examples validate is a check of every kind
        if params != one.plugin.params:
            yield Subject(plugin(params)), f" (example {dict(example)!r})"


def other_numbers(case: FeatureConformance, tmp_path: Path) -> Iterator[tuple[Subject, str]]:
    """Fresh instances with one whole number of the parameters larger each time, as far as they are taken."""
    given = subject(case, tmp_path).plugin.params
    plugin = case.plugin_class()
    for name in plugin.Params.model_fields:
        value = getattr(given, name)
        if isinstance(value, bool) or not isinstance(value, int):
            continue
        for more in (3, 1):
            try:
                params = plugin.Params.model_validate({**dict(given), name: value + more})
                one = Subject(plugin(params))
                if one.memory() > 2000:
                    continue
            except (ValueError, NotApplicable):
                continue  # out of bounds, or not with the others
            yield one, f" (with {name} = {value + more})"
            break


def columns_of(
    case: FeatureConformance, names: Sequence[str], bars: int, symbols: int, seed: int = 0
) -> Columns:
    """Made-up inputs in the plugin's order, (bars, symbols) float64 each."""
    made = case.columns(bars, symbols, seed)
    missing = [name for name in names if name not in made]
    if missing:
        raise ValueError(f"columns() of the case gives no '{missing[0]}': give it every input of the plugin")
    return tuple(np.array(made[name], dtype=np.float64, order="C") for name in names)


def with_holes(columns: Columns, seed: int = 0) -> Columns:
    """The columns with bars unknown: single ones, whole rows, and stretches; in all inputs or in one."""
    rng = np.random.default_rng(seed)
    shape = columns[0].shape
    gone = rng.random(shape) < 0.06
    gone[rng.random(shape[0]) < 0.02] = True
    for start in rng.integers(0, shape[0], 1 + shape[0] // 40):
        gone[start : start + 3, rng.integers(0, shape[1])] = True
    return tuple(np.where(gone | (rng.random(shape) < 0.01), np.nan, c) for c in columns)


def is_panel(case: FeatureConformance) -> bool:
    return getattr(case.plugin_class(), "scope", "symbol") == "panel"


def is_recursive(case: FeatureConformance) -> bool:
    from alpha_forge.contracts.plugin import RecursiveFeature

    return issubclass(case.plugin_class(), RecursiveFeature)


def only_windowed(case: FeatureConformance) -> str | None:
    return "a recursive feature declares no look-back" if is_recursive(case) else None


def only_recursive(case: FeatureConformance) -> str | None:
    return None if is_recursive(case) else "it keeps no state"


def only_symbol_scope(case: FeatureConformance) -> str | None:
    return "it declares scope = 'panel': it may read across symbols" if is_panel(case) else None
