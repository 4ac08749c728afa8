"""What a feature says of itself, and the form of what it returns."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from alpha_forge_sdk.conformance.check import Broken, Check, check
from alpha_forge_sdk.conformance.feature_subject import (
    Subject,
    columns_of,
    every_example,
    only_recursive,
    subject,
)

if TYPE_CHECKING:
    from alpha_forge_sdk.conformance.case import FeatureConformance

EPSILONS = (1e-2, 1e-3, 1e-6, 1e-9, 1e-12)


@check(
    "AF-F01",
    "it takes the inputs that it names, and declares its memory in bars",
    "features",
    remedy="let compute (or advance, after the state) take one column for each of `inputs`, by position; lookback() and"
    " settle() are whole numbers of bars",
    needs=("AF-P02",),
)
def declares(case: FeatureConformance, tmp_path: Path) -> None:
    """The runtime hands over columns by the names that the feature declares, and computes the warm-up of the
    whole graph from the memory that it declares. Neither can be guessed."""
    for one, where in every_example(case, tmp_path):
        _takes_its_inputs(one)
        if one.recursive:
            for epsilon in EPSILONS:
                _bars(f"settle({epsilon:g}){where}", one.plugin.settle(epsilon))
        else:
            found = _bars(f"lookback(){where}", one.plugin.lookback())
            again = type(one.plugin)(one.plugin.params).lookback()
            if again != found:
                raise Broken(
                    "lookback() follows from the parameters",
                    f"lookback(){where} gave {found} and then {again}",
                )


def _bars(what: str, found: Any) -> int:
    if isinstance(found, bool) or not hasattr(found, "__index__") or int(found) < 1:
        raise Broken(f"{what} is a whole number of bars, at least 1", f"{type(found).__name__} {found!r}")
    return int(found)


def _takes_its_inputs(one: Subject) -> None:
    method = one.plugin.advance if one.recursive else one.plugin.compute
    given: Sequence[Any] = ({},) * one.recursive + one.names
    try:
        inspect.signature(method).bind(*given)
    except TypeError as error:
        raise Broken(
            f"{method.__name__} takes its {len(one.names)} inputs {one.names!r} by position", str(error)
        ) from error


@check(
    "AF-F02",
    "every output is a float64 array of its inputs' shape",
    "features",
    remedy="return one (bars, symbols) float64 array, or a tuple of them in the order of `outputs`, for any number"
    " of bars: the frame's history may still be shorter than the look-back",
    needs=("AF-F01",),
)
def shapes(case: FeatureConformance, tmp_path: Path) -> None:
    """Each output row stands beside the bar of its input row. Another shape or a narrower type would shift or
    round values, and a frame that is still shorter than the look-back is the ordinary case at a start."""
    for one, where in every_example(case, tmp_path):
        memory = one.memory()
        for bars in sorted({1, 2, max(1, memory - 1), memory, memory + 3}):
            for symbols in (1, 4):
                columns = columns_of(case, one.names, bars, symbols)
                try:
                    result = one.raw(columns)
                except Exception as error:
                    raise Broken(
                        "any number of bars and symbols is taken",
                        f"({bars}, {symbols}) arrays{where} raised {type(error).__name__}: {error}",
                    ) from error
                _form(one, result, (bars, symbols), where)


def _form(one: Subject, result: Any, shape: tuple[int, int], where: str) -> None:
    given = f"for {shape} arrays{where} it returned "
    several = len(one.outputs) > 1
    if isinstance(result, tuple) is not several or (several and len(result) != len(one.outputs)):
        promised = (
            f"a tuple of {len(one.outputs)} arrays {one.outputs!r}" if several else "one array, no tuple"
        )
        seen = f"a tuple of {len(result)}" if isinstance(result, tuple) else f"a {type(result).__name__}"
        raise Broken(f"its outputs are {promised}", given + seen)
    for name, output in zip(one.outputs, result if several else (result,), strict=True):
        if not isinstance(output, np.ndarray):
            raise Broken("an output is a NumPy array", f"{given}a {type(output).__name__} as '{name}'")
        if output.shape != shape or output.dtype != np.float64:
            raise Broken(
                "an output is float64 and has the shape of the inputs",
                f"{given}'{name}' of shape {output.shape} and dtype {output.dtype}",
            )


@check(
    "AF-F03",
    "a state is a dict of arrays whose axis 0 is the symbol, fresh at every start",
    "features",
    remedy='return a new dict of new arrays, {"average": np.zeros(symbols)}, and move them on in place',
    applies=only_recursive,
    needs=("AF-F02",),
)
def states(case: FeatureConformance, tmp_path: Path) -> None:
    """The runtime gathers and scatters states by symbol, and keeps several that began at different bars. That
    works only if axis 0 of every array is the symbol, and no two states share memory."""
    one = subject(case, tmp_path)
    names: set[str] | None = None
    for symbols in (1, 3, 6):
        state = one.plugin.start(symbols)
        before = _state_form(state, symbols)
        if names is not None and names != set(before):
            raise Broken(
                "start() has the same arrays for any number of symbols",
                f"{sorted(names)}, then {sorted(before)}",
            )
        names = set(before)
        _starts_afresh(one, case, symbols)
        for bars in (1, one.memory() + 3, 1):
            one.raw(columns_of(case, one.names, bars, symbols), state)
            after = _state_form(state, symbols)
            if after != before:
                raise Broken(
                    "a state keeps its names, shapes and dtypes as it moves on: the runtime gathers and scatters it",
                    f"{before} became {after} after {bars} bars",
                )


def _state_form(state: Any, symbols: int) -> dict[str, tuple[tuple[int, ...], str]]:
    if not isinstance(state, dict) or not all(isinstance(a, np.ndarray) for a in state.values()):
        raise Broken("a state is a dict of NumPy arrays", f"start({symbols}) gave {state!r:.200}")
    for name, array in state.items():
        if array.ndim == 0 or array.shape[0] != symbols or array.dtype == object:
            raise Broken(
                "axis 0 of every array of a state is the symbol",
                f"start({symbols})['{name}'] has shape {array.shape} and dtype {array.dtype}",
            )
    return {str(name): (array.shape, str(array.dtype)) for name, array in state.items()}


def _starts_afresh(one: Subject, case: FeatureConformance, symbols: int) -> None:
    first, second = one.plugin.start(symbols), one.plugin.start(symbols)
    as_new = {name: array.tobytes() for name, array in second.items()}
    one.raw(columns_of(case, one.names, one.memory(), symbols), first)
    for when, state in (("one that was there already", second), ("the next one", one.plugin.start(symbols))):
        changed = [name for name, array in state.items() if array.tobytes() != as_new[name]]
        if changed:
            raise Broken(
                "every start() gives a fresh state of its own",
                f"advancing one state changed '{changed[0]}' of {when}",
            )


@check(
    "AF-F17",
    "settle(epsilon) grows, if it changes at all, as epsilon shrinks",
    "features",
    remedy="a smaller remainder of the start takes more bars: ceil(log(epsilon) / log(decay)), for example",
    applies=only_recursive,
    needs=("AF-F01",),
)
def settles_in_order(case: FeatureConformance, tmp_path: Path) -> None:
    """Users lower epsilon for closer agreement. If `settle` then asked for fewer bars, they would get less of
    it."""
    for one, where in every_example(case, tmp_path):
        found = [int(one.plugin.settle(epsilon)) for epsilon in EPSILONS]
        for i in range(1, len(EPSILONS)):
            if found[i] < found[i - 1]:
                raise Broken(
                    "less of the start is left after more bars",
                    f"settle({EPSILONS[i - 1]:g}) is {found[i - 1]}, settle({EPSILONS[i]:g}) is {found[i]}{where}",
                )


CHECKS: tuple[Check, ...] = (declares, shapes, states, settles_in_order)
