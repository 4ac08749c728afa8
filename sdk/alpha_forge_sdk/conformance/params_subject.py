"""What the AF-P checks look at: a plugin's ``Params``, their JSON schema, and sets of values around the examples."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from alpha_forge_sdk.conformance.case import Conformance
from alpha_forge_sdk.conformance.check import NotApplicable

Place = tuple[str | int, ...]
"""Where a value stands in the parameters: keys and indices from the top."""


class Field(NamedTuple):
    """A parameter, nested ones included: where it stands and its JSON schema, ``$ref`` resolved beside its own keys."""

    place: Place
    schema: Mapping[str, Any]

    @property
    def name(self) -> str:
        return ".".join(map(str, self.place))

    @property
    def options(self) -> list[Mapping[str, Any]]:
        """The forms that it may have: the branches of ``anyOf``, or the schema itself."""
        return list(self.schema.get("anyOf") or self.schema.get("oneOf") or [self.schema])


class Subject:
    """A plugin's parameters. ``schema`` raises whatever pydantic raises for a model that has none."""

    def __init__(self, case: Conformance) -> None:
        from alpha_forge.contracts.params import params_schema

        self.plugin: Any = case.plugin_class()
        self.model: Any = self.plugin.Params
        self.schema = params_schema(self.model)

    def examples(self) -> list[dict[str, Any]]:
        return [copy.deepcopy(dict(example)) for example in self.plugin.examples]

    def validator(self) -> Any:
        """Of jsonschema, for whole sets of parameters."""
        from jsonschema import Draft202012Validator

        return Draft202012Validator(self.schema)

    def resolved(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        """The schema with its ``$ref`` followed; what stands beside the reference wins."""
        reference = schema.get("$ref")
        if not isinstance(reference, str):
            options = {
                key: [self.resolved(option) for option in schema[key]]
                for key in ("anyOf", "oneOf")
                if key in schema
            }
            return {**schema, **options}
        target = self.schema.get("$defs", {}).get(reference.rpartition("/")[2], {})
        return {**self.resolved(target), **{k: v for k, v in schema.items() if k != "$ref"}}

    def fields(self, values: Mapping[str, Any]) -> Iterator[Field]:
        """Every parameter, those inside of mappings and lists that `values` (or the defaults) hold included."""
        yield from self._fields(self.schema, values, ())

    def _fields(self, schema: Mapping[str, Any], value: Any, place: Place) -> Iterator[Field]:
        for name, inner in schema.get("properties", {}).items():
            found = Field((*place, name), self.resolved(inner))
            yield found
            held = value.get(name, found.schema.get("default")) if isinstance(value, Mapping) else None
            if isinstance(held, Mapping | list):
                for option in found.options:
                    yield from self._inside(option, held, found.place)

    def _inside(self, option: Mapping[str, Any], held: Any, place: Place) -> Iterator[Field]:
        resolved = self.resolved(option)
        if isinstance(held, Mapping):
            yield from self._fields(resolved, held, place)
        elif held and isinstance(resolved.get("items"), Mapping):
            first = Field((*place, 0), self.resolved(resolved["items"]))
            yield first
            yield from self._fields(first.schema, held[0], first.place)

    def put(self, values: Mapping[str, Any], place: Place, value: Any) -> dict[str, Any]:
        """A copy of `values` with `value` at `place`; what it stands in comes from the defaults where it is absent."""
        changed = copy.deepcopy(dict(values))
        target: Any = changed
        schema: Mapping[str, Any] = self.schema
        for key in place[:-1]:
            if isinstance(key, str):
                schema = self.resolved(schema.get("properties", {}).get(key, {}))
                if key not in target:
                    target[key] = copy.deepcopy(schema.get("default"))
            target = target[key]
        target[place[-1]] = value
        return changed


def given(case: Conformance, tmp_path: Path) -> dict[str, Any]:
    """The parameters that the case checks with."""
    return dict(case.params(tmp_path))


def an_example(case: Conformance) -> tuple[Subject, dict[str, Any]]:
    """The subject and its first example. Raises NotApplicable if the plugin takes no parameter."""
    subject = Subject(case)
    if not subject.model.model_fields:
        raise NotApplicable("the plugin takes no parameters")
    return subject, subject.examples()[0]
