"""A step's or sink's params → an instance of its plugin's ``Params``; and the columns that they name."""

from __future__ import annotations

import enum
import os
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from pydantic import SecretBytes, SecretStr, ValidationError
from pydantic.errors import PydanticUserError

from alpha_forge.contracts.errors import did_you_mean, nearest
from alpha_forge.contracts.params import Params, params_schema
from alpha_forge.contracts.plugin import Plugin
from alpha_forge.dsl import scalars
from alpha_forge.dsl.diagnostics import SHORTEST_SECRET, Diagnostics, Path
from alpha_forge.dsl.document import EnvRef, SinkConfig, Step
from alpha_forge.dsl.param_errors import OWN, Fault, is_secret, pydantic_faults, schema_faults
from alpha_forge.registry.quiet import describe

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


def build_params(
    config: Step | SinkConfig,
    plugin: type[Plugin],
    diagnostics: Diagnostics,
    extra: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Params | None:
    """The validated parameters, or None with every mistake in `diagnostics` at its own place.

    Checked against the JSON schema of ``plugin.Params`` first, then by the model itself. `extra` joins
    the params (``inputs.model_ref``); one that is given in both places must be the same. References to
    `environ` (default: the process's) are resolved here, read as YAML scalars where the schema wants no
    text; their values, and those of secret fields, are in no message.

    AF3011 unknown, AF3012 missing, AF3013 wrong type, AF3014 value not allowed, AF3015 undefined environment
    variable, AF3017 given twice, AF3018 refused by the plugin's own validation.
    """
    builder = _Build(
        config, plugin, diagnostics, dict(extra or {}), os.environ if environ is None else environ
    )
    return builder.run()


class _Build:
    def __init__(
        self,
        config: Step | SinkConfig,
        plugin: type[Plugin],
        diagnostics: Diagnostics,
        extra: dict[str, Any],
        environ: Mapping[str, str],
    ) -> None:
        self.config, self.plugin, self.diagnostics = config, plugin, diagnostics
        self.extra, self.environ = extra, environ
        self.hidden: dict[Path, str] = {}
        """Paths of values from the environment → the reference as written."""
        self.plain: dict[Path, str] = {}
        """Of those, the values that are a variable's alone, which may stand for a number."""
        self.undefined: list[Path] = []
        self.secrets: set[str] = set()
        """Values that no message may hold."""
        self.failed = False

    def run(self) -> Params | None:
        values: dict[str, Any] = {
            key: self.resolved(value, (key,)) for key, value in self.config.params.items()
        }
        for key, value in self.extra.items():
            if key in values and values[key] != value:
                message = f"'{key}' is given twice, and differently: here and by the step's inputs or outputs"
                self.diagnostics.error(
                    "AF3017", message, (*self.config.path, "params", key), "leave one of them out"
                )
                self.failed = True
            values.setdefault(key, self.resolved(value, (key,)))
        faults = self.against_schema(values)
        params = None
        if not self.undefined:
            params, more = self.against_model(values)
            told = {fault.path for fault in faults}
            faults += [fault for fault in more if not any(_related(fault.path, path) for path in told)]
        for fault in faults:
            if not any(fault.path[: len(path)] == path for path in self.undefined):
                self.note(fault)
        return None if self.failed else params

    def resolved(self, value: Any, path: Path) -> Any:
        """The value with its references replaced by what the environment holds."""
        if isinstance(value, EnvRef):
            return self.from_environment(value, path)
        if isinstance(value, Mapping):
            return {key: self.resolved(item, (*path, key)) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.resolved(item, (*path, n)) for n, item in enumerate(value)]
        return value

    def from_environment(self, reference: EnvRef, path: Path) -> str:
        self.hidden[path] = str(reference)
        missing = [name for name in reference.names() if name not in self.environ]
        if missing:
            self.undefined.append(path)
            self.failed = True
            message = f"the environment variable '{missing[0]}' is not set"
            where = self.place(path)
            self.diagnostics.error("AF3015", message, where, f"export {missing[0]}=… before the command")
            return ""
        self.secrets.update(self.environ[name] for name in reference.names())
        text = reference.resolve(self.environ)
        if not reference.before and not reference.after:
            self.plain[path] = text
        return text

    def against_schema(self, values: dict[str, Any]) -> list[Fault]:
        schema, validator = _schema(self.plugin.Params)
        if validator is None:
            return []
        properties: dict[str, Any] = schema.get("properties", {})
        for key, value in values.items():
            # A slip of the pen in the name of a secret leaves its value one.
            meant = key if key in properties else nearest(key, list(properties))
            if meant is not None and is_secret(properties[meant]):
                found = set(_texts(value))
                self.secrets |= found
                self.diagnostics.source.secrets |= found
        errors = list(validator.iter_errors(values))
        wrong = {tuple(error.absolute_path) for error in errors} & set(self.plain)
        if wrong:
            # A variable holds text; where the schema wants a number, the text is read as YAML would read it.
            for path in wrong:
                _put(values, path, _scalar(self.plain[path]))
            errors = list(validator.iter_errors(values))
        return schema_faults(errors, self.hidden)

    def against_model(self, values: dict[str, Any]) -> tuple[Params | None, list[Fault]]:
        model = self.plugin.Params
        try:
            return model.model_validate(values), []
        except ValidationError as error:
            return None, pydantic_faults(error, values, sorted(model.model_fields))
        except Exception as error:  # noqa: BLE001 - validators are the plugin's code, and may raise anything
            return None, [
                Fault(
                    OWN, f"the parameters of '{self.config.using}' can't be validated: {describe(error)}", ()
                )
            ]

    def note(self, fault: Fault) -> None:
        self.failed = True
        message = fault.message
        for secret in self.secrets:
            if len(secret) >= SHORTEST_SECRET:
                message = message.replace(secret, "***")
        message = f"{message} (of {self.config.using})"
        where = self.place(fault.path)
        if fault.code != "AF3012":
            self.diagnostics.error(fault.code, message, where, fault.help, key=fault.key)
            return
        # What is missing has no place of its own: the key of what it is missing from has.
        source, inner = self.diagnostics.source.origin(where[:-1])
        if len(fault.path) == 1 and (*inner,) not in source.marks:
            source, inner = self.diagnostics.source.origin((*self.config.path, "using"))
        place = source.place(inner, key=True)
        self.diagnostics.error_at(fault.code, message, place, where, fault.help, source)

    def place(self, path: Path) -> Path:
        """Where a parameter stands in the document: an extra one where it came from."""
        if path and path[0] in self.extra and path[0] not in self.config.params:
            inputs = self.config.inputs if isinstance(self.config, Step) else {}
            return (
                (*self.config.path, "inputs", *path) if path[0] in inputs else (*self.config.path, "outputs")
            )
        return (*self.config.path, "params", *path)


@lru_cache(maxsize=512)
def _schema(model: type[Params]) -> tuple[dict[str, Any], Any]:
    """The model's JSON schema and a validator of it; no validator where the model has no schema."""
    # Late: listing and reading need no schema, and the import takes longer than reading a file.
    from jsonschema import Draft202012Validator

    try:
        schema = params_schema(model)
    except PydanticUserError:
        return {}, None
    return schema, Draft202012Validator(schema)


def _texts(value: Any) -> Iterator[str]:
    """Every single value in `value`, as text."""
    if isinstance(value, Mapping | list):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(item)
    elif value is not None:
        yield str(value)


def _related(one: Path, other: Path) -> bool:
    """True if one of the paths leads to the other, or they are the same."""
    shared = min(len(one), len(other))
    return one[:shared] == other[:shared] and (shared > 0 or one == other)


def _scalar(text: str) -> scalars.Scalar:
    try:
        return scalars.resolve(text)
    except ValueError:
        return text


def _put(values: Any, path: Path, value: Any) -> None:
    for part in path[:-1]:
        values = values[part]
    values[path[-1]] = value


def format_columns(step: Step, params: Params, diagnostics: Diagnostics) -> tuple[str, ...] | None:
    """The step's output columns, each ``{param}`` replaced by that parameter's validated value.

    None, with AF3016 in `diagnostics`, for a name that is no parameter, a value that isn't single (lists,
    mappings, nothing), a secret, or a stray brace. A step without columns gives an empty tuple.
    """
    names = sorted(type(params).model_fields)
    columns: list[str] = []
    ok = True
    for n, template in enumerate(step.outputs.get("columns", ())):
        path = (*step.path, "outputs", "columns", n)
        column = template
        for match in _PLACEHOLDER.finditer(template):
            name = match[1].strip()
            text = _written(getattr(params, name)) if name in names else None
            if text is None:
                ok = False
                message = f"'{{{name}}}' is no parameter of {step.using}"
                if name in names:
                    message = f"'{{{name}}}' is not a single value that a column could be named after"
                diagnostics.error("AF3016", message, path, "" if name in names else did_you_mean(name, names))
                continue
            column = column.replace(match[0], text)
        if ok and ("{" in column or "}" in column):
            ok = False
            diagnostics.error(
                "AF3016", f"'{template}' has a brace without its partner", path, "write {param}"
            )
        columns.append(column)
    return tuple(columns) if ok else None


def _written(value: Any) -> str | None:
    """A parameter's value within a column's name; None for what can't stand in one."""
    if isinstance(value, enum.Enum):
        value = value.value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if value is None or isinstance(value, Mapping | list | tuple | set | frozenset | SecretStr | SecretBytes):
        return None
    return str(value)
