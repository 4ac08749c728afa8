"""``@feature``: a plain function as a feature plugin."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import Field, create_model

from alpha_forge.contracts.params import Params
from alpha_forge.contracts.plugin import Feature


def feature(
    name: str,
    *,
    lookback: int | Callable[..., int],
    scope: str = "symbol",
    outputs: Sequence[str] = ("value",),
    examples: Sequence[Mapping[str, Any]] = ({},),
) -> Callable[[Callable[..., Any]], type[Feature]]:
    """Make a `Feature` class of a function over columns.

    Positional parameters without a default are the input columns; those with a default are the parameters
    (``window: int = 20``; use ``Annotated[int, Field(ge=2, description=…)]`` for bounds and a description).
    ``lookback`` is a number, or a function of parameters by name: ``lookback=lambda window: window``.
    """

    def make(function: Callable[..., Any]) -> type[Feature]:
        signature = inspect.signature(function, eval_str=True)
        columns = tuple(n for n, p in signature.parameters.items() if p.default is inspect.Parameter.empty)
        fields: dict[str, Any] = {}
        for key, parameter in signature.parameters.items():
            if parameter.default is inspect.Parameter.empty:
                continue
            if parameter.annotation is inspect.Parameter.empty:
                raise TypeError(f"@feature({name!r}): parameter '{key}' needs a type, for example {key}: int")
            described = getattr(parameter.annotation, "__metadata__", ())
            default = (
                parameter.default
                if any(getattr(m, "description", None) for m in described)
                else Field(parameter.default, description=f"`{key}` of {name}")
            )
            fields[key] = (parameter.annotation, default)
        if not columns:
            raise TypeError(
                f"@feature({name!r}): the function takes no column (a parameter without a default)"
            )
        model = create_model("Params", __base__=Params, __module__=function.__module__, **fields)
        # Found (and pickled) as what it is: the nested class of the feature.
        model.__qualname__ = f"{function.__qualname__}.Params"
        wanted = tuple(inspect.signature(lookback).parameters) if callable(lookback) else ()

        def look(self: Feature) -> int:
            if callable(lookback):
                return lookback(**{key: getattr(self.params, key) for key in wanted})
            return lookback

        def compute(self: Feature, *arrays: Any) -> Any:
            return function(*arrays, **{key: getattr(self.params, key) for key in fields})

        body = {
            "Params": model,
            "inputs": columns,
            "outputs": tuple(outputs),
            "scope": scope,
            "examples": tuple(examples),
            "lookback": look,
            "compute": compute,
            "__doc__": function.__doc__,
            "__module__": function.__module__,
            # The class takes the function's place in its module, so it must be found (and pickled) under its name.
            "__qualname__": function.__qualname__,
        }
        return type(function.__name__, (Feature,), body)

    return make
