"""Values at and just outside the bounds of a JSON schema, and whether ``Params`` agrees with its schema on them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from alpha_forge_sdk.conformance.check import Broken
from alpha_forge_sdk.conformance.params_subject import Field, Subject

_STRANGE = ("", "\x00", " ~ ")
"""Texts that few patterns take."""
_ENDS = (("minimum", "exclusiveMinimum", -1), ("maximum", "exclusiveMaximum", 1))
_RULES = (
    *("enum", "const", "minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "multipleOf"),
    *("minLength", "maxLength", "pattern", "minItems", "maxItems"),
)
_LONGEST = 100_000
_LARGEST_BUILT = 1_000_000
"""A plugin may hold room for as many bars as a parameter says: it is made only where that can't be much."""
_NEAR = 1e-6


class Candidate(NamedTuple):
    """A value to try. ``judged_inside``: if the schema allows it, it must be usable.

    Of texts and lists only what is outside is judged: that the schema allows a text does not make it a time zone.
    """

    value: Any
    judged_inside: bool


def candidates(schema: Mapping[str, Any], held: Any) -> Iterator[Candidate]:
    """Values around each bound of one form of a parameter; `held` is what the example has there."""
    for value in [*schema.get("enum", ()), *([schema["const"]] if "const" in schema else [])]:
        yield Candidate(value, True)
    if "enum" in schema or "const" in schema:
        yield Candidate("no such choice", False)
    match schema.get("type"):
        case "integer":
            yield from _whole(schema)
        case "number":
            yield from _real(schema)
        case "string":
            yield from _texts(schema)
        case "array":
            yield from _lists(schema, held)


def _whole(schema: Mapping[str, Any]) -> Iterator[Candidate]:
    step = schema.get("multipleOf", 1)
    if step != int(step):
        return
    for inclusive, exclusive, direction in _ENDS:
        if (bound := schema.get(inclusive)) is None:
            if exclusive not in schema:
                continue
            bound = schema[exclusive] - direction
        inside = math.ceil(bound / step) * step if direction < 0 else math.floor(bound / step) * step
        yield Candidate(int(inside), True)
        yield Candidate(int(inside) + direction * int(step), False)
    if step > 1:
        yield Candidate(int(step) * 3 + 1, False)


def _real(schema: Mapping[str, Any]) -> Iterator[Candidate]:
    if "multipleOf" in schema:
        return  # remainders of floats are a matter of taste
    for inclusive, exclusive, direction in _ENDS:
        if (bound := schema.get(inclusive)) is not None:
            yield Candidate(bound, True)
            yield Candidate(math.nextafter(bound, direction * math.inf), False)
            yield Candidate(bound + direction, False)
        if (beyond := schema.get(exclusive)) is not None:
            yield Candidate(beyond, False)
            # "Just inside" within reason: nobody promises to work with 5e-324.
            yield Candidate(beyond - direction * _NEAR * max(1.0, abs(beyond)), True)


def _texts(schema: Mapping[str, Any]) -> Iterator[Candidate]:
    if schema.get("minLength", 0) > 0:
        yield Candidate("a" * (schema["minLength"] - 1), False)
    if schema.get("maxLength", _LONGEST) < _LONGEST:
        yield Candidate("a" * (schema["maxLength"] + 1), False)
    if "pattern" in schema:
        yield from (Candidate(text, False) for text in _STRANGE)


def _lists(schema: Mapping[str, Any], held: Any) -> Iterator[Candidate]:
    items = list(held) if isinstance(held, list | tuple) else []
    if schema.get("minItems", 0) > 0:
        yield Candidate(items[: schema["minItems"] - 1], False)
    if items and schema.get("maxItems", _LONGEST) < _LONGEST:
        yield Candidate((items * (schema["maxItems"] + 1))[: schema["maxItems"] + 1], False)


class Bounds:
    """Tries every bound of a plugin's schema around one example."""

    def __init__(self, subject: Subject, example: dict[str, Any]) -> None:
        self._subject = subject
        self._example = example
        self._validator = subject.validator()
        self._fields = list(subject.fields(example))

    def try_all(self) -> int:
        """Raise Broken for the first bound that isn't what it is said to be; the number of values tried otherwise."""
        from alpha_forge.dsl.param_errors import is_secret

        tried = 0
        for field in self._fields:
            if is_secret(field.schema):
                continue
            for option in field.options:
                for candidate in candidates(option, _held(self._example, field)):
                    tried += self._try(field, candidate)
        return tried

    def _try(self, field: Field, candidate: Candidate) -> bool:
        """False if the schema doesn't make this value one to judge."""
        values = self._subject.put(self._example, field.place, candidate.value)
        try:
            allowed = bool(self._validator.is_valid(values))
            # Of a list's items only what is outside is judged: they may depend on each other (no two the same).
            judged = candidate.judged_inside and not any(isinstance(key, int) for key in field.place)
        except (re.error, OverflowError):
            return False  # a pattern in a dialect that only pydantic knows
        told = _told(candidate.value)
        if not allowed:
            fault = self._refusal(values)
            if fault is None:
                promised = f"what the schema forbids is refused: {_rules(field)}"
                raise Broken(promised, f"{field.name} = {told} was accepted")
            if fault.startswith("!"):
                raise Broken(
                    "a refusal is a ValueError in a validator", f"{field.name} = {told}: {fault[1:]}"
                )
            return True
        if judged:
            faults = [self._unusable(context) for context in self._contexts(field, candidate.value)]
            if all(fault is not None for fault in faults):
                promised = f"what the schema allows can be used: {_rules(field)}"
                raise Broken(promised, f"{field.name} = {told} was refused: {(faults[0] or '').lstrip('!')}")
        return judged

    def _contexts(self, field: Field, value: Any) -> Iterator[dict[str, Any]]:
        """Sets of parameters with this value: a bound may depend on another parameter (fast < slow)."""
        for example in self._subject.examples():
            try:
                yield self._subject.put(example, field.place, value)
            except (KeyError, IndexError, TypeError):
                continue  # that example has nothing at the place
        for end in (0, -1):
            others = self._subject.put(self._example, field.place, value)
            for other in self._fields:
                inside = (
                    sorted(_inside(other)) if other.place != field.place and len(other.place) == 1 else []
                )
                if inside:
                    others = self._subject.put(others, other.place, inside[end])
            yield others

    def _refusal(self, values: dict[str, Any]) -> str | None:
        """Why Params refuses; None if it doesn't; with a ``!`` before it if that is no ValidationError."""
        from pydantic import ValidationError

        try:
            self._subject.model.model_validate(values)
        except ValidationError as error:
            return str(error.errors(include_input=False, include_url=False)[0]["msg"])
        except Exception as error:  # noqa: BLE001 - a validator is the plugin's code
            return f"!{type(error).__name__}: {error}"
        return None

    def _unusable(self, values: dict[str, Any]) -> str | None:
        """Why no plugin can be made of these; None if one can."""
        from alpha_forge.contracts.errors import MissingExtraError

        refused = self._refusal(values)
        if refused is not None or _much(values.values()):
            return refused
        try:
            self._subject.plugin(self._subject.model.model_validate(values))
        except (ImportError, MissingExtraError):
            return None  # a choice that needs what isn't installed here
        except Exception as error:  # noqa: BLE001 - the plugin's code
            return f"!{type(error).__name__}: {error}"
        return None


def _inside(field: Field) -> list[float]:
    """The smallest and the largest number that the schema allows, as far as it states them."""
    found = [c.value for option in field.options for c in candidates(option, None) if c.judged_inside]
    return [value for value in found if isinstance(value, int | float) and not isinstance(value, bool)]


def _held(values: Any, field: Field) -> Any:
    for key in field.place:
        try:
            values = values[key]
        except (KeyError, IndexError, TypeError):
            return field.schema.get("default")
    return values


def _much(values: Iterable[Any]) -> bool:
    return any(isinstance(value, int | float) and abs(value) > _LARGEST_BUILT for value in values)


def _told(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _rules(field: Field) -> str:
    """The bounds of a parameter as the schema has them."""
    stated = [f"{key} {option[key]!r}" for option in field.options for key in _RULES if key in option]
    return f"'{field.name}' has {', '.join(stated)}"
