"""What is wrong with a parameter, in words: errors of JSON schema and pydantic → code, message, help."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from alpha_forge.contracts.errors import did_you_mean
from alpha_forge.dsl import scalars
from alpha_forge.dsl.diagnostics import Path, path_text

UNKNOWN, MISSING, TYPE, VALUE, OWN = "AF3011", "AF3012", "AF3013", "AF3014", "AF3018"

_TYPES = {
    "integer": "a whole number",
    "number": "a number",
    "string": "a text",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "nothing",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One mistake in the parameters. ``path`` is relative to them; of a missing one it ends with its name."""

    code: str
    message: str
    path: Path
    help: str = ""
    key: bool = False
    """The key is the mistake, not the value."""


def schema_faults(errors: Iterable[Any], hidden: Mapping[Path, str]) -> list[Fault]:
    """Faults from jsonschema's errors, one for each value: the first rule that it breaks.

    `hidden` maps the paths of values that must not be shown to what stands for them. Values of secret fields
    (``writeOnly``) are never shown either.
    """
    faults: list[Fault] = []
    for error in errors:
        for fault in _faults(error, tuple(error.absolute_path), hidden):
            if not any((fault.path, fault.key) == (other.path, other.key) for other in faults):
                faults.append(fault)
    return faults


def is_secret(schema: Any) -> bool:
    """True for the schema of a `SecretStr`, optional ones included."""
    if not isinstance(schema, Mapping):
        return False
    if schema.get("writeOnly") or schema.get("format") == "password":
        return True
    return any(is_secret(option) for key in ("anyOf", "oneOf", "allOf") for option in schema.get(key, ()))


def _faults(error: Any, path: Path, hidden: Mapping[Path, str]) -> list[Fault]:
    rule, wanted = error.validator, error.validator_value
    if rule == "additionalProperties":
        known = sorted(error.schema.get("properties", {}))
        unknown = [key for key in error.instance if key not in known]
        return [unknown_key(key, path, known) for key in unknown]
    if rule == "required":
        properties = error.schema.get("properties", {})
        missing = [key for key in wanted if key not in error.instance]
        return [missing_key(key, path, properties.get(key, {})) for key in missing]
    if rule in ("anyOf", "oneOf"):
        return _of_options(error, path, hidden)
    if rule == "type":
        names = [wanted] if isinstance(wanted, str) else list(wanted)
        return [_wrong_type(error, path, names, hidden)]
    must = _must(rule, wanted, error.schema)
    named = path_text(path) or "params"
    if must is None:
        # A rule without words of its own; jsonschema's text may hold the value.
        return [Fault(VALUE, f"'{named}' breaks the rule '{rule}' of its schema", path)]
    help = ""
    if (
        rule in ("enum", "const")
        and isinstance(error.instance, str)
        and not _shown_as(error, path, hidden)[1]
    ):
        options = [str(option) for option in (wanted if rule == "enum" else [wanted])]
        help = did_you_mean(error.instance, options)
    shown, _ = _shown_as(error, path, hidden)
    return [Fault(VALUE, f"'{named}' must {must}{shown}", path, help)]


def _shown_as(error: Any, path: Path, hidden: Mapping[Path, str]) -> tuple[str, bool]:
    """``, not …``: the value as a message may name it, and whether it is hidden."""
    if path in hidden:
        return f", not the value of {hidden[path]}", True
    if is_secret(error.schema):
        return "", True
    return f", not {scalars.described(error.instance)}", False


def _wrong_type(error: Any, path: Path, names: list[str], hidden: Mapping[Path, str]) -> Fault:
    wanted = " or ".join(_TYPES.get(name, name) for name in names)
    shown, secret = _shown_as(error, path, hidden)
    help = ""
    if not secret:
        help = _type_help(error.instance, names)
    return Fault(TYPE, f"'{path_text(path) or 'params'}' must be {wanted}{shown}", path, help)


def _type_help(value: Any, names: list[str]) -> str:
    if isinstance(value, str) and {"integer", "number", "boolean"} & set(names):
        try:
            plain = scalars.resolve(value)
        except ValueError:
            return ""
        return "write it without quotes" if not isinstance(plain, str) and plain is not None else ""
    if isinstance(value, bool | int | float) and "string" in names:
        return f'quote it: "{str(value).lower() if isinstance(value, bool) else value}"'
    if "array" in names and not isinstance(value, list | dict):
        return f"write [{value}]"
    return ""


def _of_options(error: Any, path: Path, hidden: Mapping[Path, str]) -> list[Fault]:
    """Of several forms that a value may have, the mistakes in the one that was meant, if that can be told."""
    branches: dict[int, list[Any]] = {}
    for inner in error.context:
        branches.setdefault(inner.schema_path[0], []).append(inner)

    def root_type(errors: list[Any]) -> bool:
        return any(e.validator in ("type", "const", "enum") and not e.relative_path for e in errors)

    meant = [errors for errors in branches.values() if not root_type(errors)]
    if meant:
        fewest = min(meant, key=len)
        return [fault for inner in fewest for fault in _faults(inner, tuple(inner.absolute_path), hidden)]
    names: list[str] = []
    for errors in branches.values():
        for inner in errors:
            if inner.validator == "type" and not inner.relative_path:
                names += (
                    [inner.validator_value]
                    if isinstance(inner.validator_value, str)
                    else inner.validator_value
                )
    if names:
        return [_wrong_type(error, path, list(dict.fromkeys(names)), hidden)]
    shown, _ = _shown_as(error, path, hidden)
    return [Fault(VALUE, f"'{path_text(path)}' must have one of its forms{shown}", path)]


def _must(rule: str, wanted: Any, schema: Mapping[str, Any]) -> str | None:
    """The rule as the rest of "it must …"; of a bound, both sides."""
    if rule in ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"):
        return f"be {bounds(schema)}"
    match rule:
        case "multipleOf":
            return f"be a multiple of {wanted:g}"
        case "enum":
            return "be " + " or ".join(repr(option) for option in wanted)
        case "const":
            return f"be {wanted!r}"
        case "minLength":
            return "not be empty" if wanted == 1 else f"have at least {wanted} characters"
        case "maxLength":
            return f"have at most {wanted} characters"
        case "pattern":
            return f"have the form {wanted}"
        case "minItems":
            return "not be empty" if wanted == 1 else f"have at least {wanted} items"
        case "maxItems":
            return f"have at most {wanted} items"
        case "uniqueItems":
            return "name nothing twice"
        case "minProperties":
            return f"have at least {wanted} key(s)"
    return None


def bounds(schema: Mapping[str, Any]) -> str:
    """``at least 2 and at most 500``; empty for a schema without bounds."""
    words = (
        ("minimum", "at least"),
        ("exclusiveMinimum", "greater than"),
        ("maximum", "at most"),
        ("exclusiveMaximum", "less than"),
    )
    return " and ".join(f"{text} {schema[key]:g}" for key, text in words if key in schema)


def unknown_key(key: str, path: Path, known: list[str]) -> Fault:
    help = did_you_mean(key, known, "" if known else "this plugin takes none here")
    return Fault(UNKNOWN, f"unknown parameter '{path_text((*path, key))}'", (*path, key), help, key=True)


def missing_key(key: str, path: Path, schema: Mapping[str, Any]) -> Fault:
    about = schema.get("description", "")
    help = f"add {key}: … ({about})" if about else f"add {key}: …"
    return Fault(MISSING, f"parameter '{path_text((*path, key))}' is missing", (*path, key), help, key=True)


def pydantic_faults(error: Any, values: Mapping[str, Any], known: list[str]) -> list[Fault]:
    """Faults from pydantic's ValidationError: what a JSON schema can't say, such as a plugin's validators."""
    faults = []
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        path = _existing(item["loc"], values)
        kind, text = item["type"], item["msg"]
        name = path_text(path)
        if kind == "missing":
            faults.append(missing_key(str(item["loc"][-1]), path, {}))
        elif kind == "extra_forbidden":
            faults.append(unknown_key(str(path[-1]), path[:-1], known if len(path) == 1 else []))
        elif kind in ("value_error", "assertion_error"):
            own = text.partition(", ")[2] or text
            faults.append(Fault(OWN, f"'{name}': {own}" if name else own, path))
        else:
            code = TYPE if kind.endswith(("_type", "_parsing")) else VALUE
            words = text[:1].lower() + text[1:]
            words = words.replace("input should", "must", 1)
            faults.append(
                Fault(
                    code,
                    f"'{name or 'params'}' {words}" if words.startswith("must") else f"'{name}': {words}",
                    path,
                )
            )
    return faults


def _existing(loc: tuple[str | int, ...], values: Any) -> Path:
    """The part of pydantic's location that is in the values: it names branches of unions, too."""
    path: list[str | int] = []
    for part in loc:
        inside = isinstance(values, list) and isinstance(part, int) and part < len(values)
        if inside or (isinstance(values, Mapping) and part in values):
            values = values[part]
            path.append(part)
    return tuple(path)
