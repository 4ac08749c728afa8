"""AF-P, first part: what every plugin's class declares, and what its parameters promise by their schema."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from alpha_forge_sdk.conformance.case import Conformance
from alpha_forge_sdk.conformance.check import Broken, Check, NotApplicable, check
from alpha_forge_sdk.conformance.params_subject import Subject, an_example, given

EVERY_KIND = ("data", "transforms", "features", "models", "sinks")


@check(
    "AF-P01",
    "derives from its kind's base class, and is made from its params alone",
    *EVERY_KIND,
    remedy="derive from the base of the kind, Params from alpha_forge_sdk.Params; __init__ takes params and no more",
)
def of_its_kind(case: Conformance, tmp_path: Path) -> None:
    """The runtime, the compiler and the command line make every plugin in one way, from validated params
    alone. What needs more than that can be made by nobody but its author."""
    from alpha_forge.contracts.params import Params
    from alpha_forge.contracts.plugin import KINDS

    # Whatever a case was given; the type that it should have is what is judged here.
    plugin: Any = case.plugin_class()
    bases: Any = KINDS[case.kind]
    wanted = " or ".join(base.__name__ for base in bases)
    if not (isinstance(plugin, type) and issubclass(plugin, bases)):
        raise Broken(f"a plugin of {case.kind} is a class that derives from {wanted}", f"{plugin!r}")
    params: Any = getattr(plugin, "Params", None)
    if not (isinstance(params, type) and issubclass(params, Params)):
        seen = ", ".join(f"{b.__module__}.{b.__qualname__}" for b in getattr(params, "__bases__", ()))
        raise Broken("Params derives from alpha_forge_sdk.Params", f"Params derives from {seen or 'nothing'}")
    try:
        inspect.signature(plugin).bind(object())
    except TypeError as error:
        seen = f"{plugin.__name__}{inspect.signature(plugin)}: {error}"
        raise Broken("an instance is made by one argument, its validated params", seen) from error


def _names(value: Any, least: int = 1) -> str | None:
    """Why `value` is not a tuple of at least `least` different names, or None."""
    if not isinstance(value, tuple):
        return f"is {value!r}, not a tuple" + (" (a comma is missing)" if isinstance(value, str) else "")
    if len(value) < least:
        return "is empty"
    if not all(isinstance(name, str) and name for name in value):
        return f"is {value!r}: not all of it are names"
    return f"is {value!r}: a name stands twice" if len(set(value)) < len(value) else None


def _one_of(*allowed: str) -> Callable[[Any], str | None]:
    return lambda value: None if value in allowed else f"is {value!r}, not one of {', '.join(allowed)}"


def _number(least: float, *, whole: bool = False, above: bool = False) -> Callable[[Any], str | None]:
    def judge(value: Any) -> str | None:
        types = int if whole else (int, float)
        fits = isinstance(value, types) and not isinstance(value, bool)
        if fits and (value > least if above else value >= least):
            return None
        return f"is {value!r}, not a {'whole ' if whole else ''}number {'above' if above else 'of at least'} {least:g}"

    return judge


def _flag(value: Any) -> str | None:
    return None if isinstance(value, bool) else f"is {value!r}, neither True nor False"


_DECLARED: Mapping[str, Mapping[str, Callable[[Any], str | None]]] = {
    "features": {"scope": _one_of("symbol", "panel"), "outputs": _names},
    "transforms": {"frames": _names},
    "models": {"batch": _number(1, whole=True)},
    "data": {"history_lag": _number(0)},
    "sinks": {
        "delivery": _one_of("at_least_once", "effectively_once"),
        "idempotent_by": lambda value: _names(value, least=0),
        "on_conflict": _one_of("replace", "keep"),
        "ordered": _flag,
        "max_batch": _number(1, whole=True),
        "timeout": _number(0, above=True),
        "non_finite": _one_of("store", "reject"),
    },
}


@check(
    "AF-P02",
    "declares only what the contract knows",
    *EVERY_KIND,
    remedy="correct the class attribute: the runtime, and which checks run, follow from it",
    needs=("AF-P01",),
)
def declarations(case: Conformance, tmp_path: Path) -> None:
    """The runtime believes class attributes: a misspelt `scope` or `delivery` would silently mean the
    default. They also decide which promises the kit holds the plugin to."""
    plugin: Any = case.plugin_class()
    for name, judge in _DECLARED[case.kind].items():
        fault = judge(getattr(plugin, name))
        if fault is not None:
            raise Broken(f"'{name}' has a value that the contract knows", f"'{name}' {fault}")
    if case.kind == "features":
        fault = _names(tuple(plugin.input_names()))
        if fault is not None:
            raise Broken(
                "a feature names its inputs",
                f"what it reads {fault}",
                "name the columns in compute, or set `inputs`",
            )
    if case.kind == "data":
        missing = {"universe", "interval"} - set(plugin.Params.model_fields)
        if missing:
            raise Broken(
                "a data source's Params have universe and interval", f"missing: {', '.join(sorted(missing))}"
            )


@check(
    "AF-P03",
    "its docstring begins with a line that says what it does",
    *EVERY_KIND,
    remedy="begin the class's docstring with one line: `plugins list` shows it",
    needs=("AF-P01",),
)
def summary(case: Conformance, tmp_path: Path) -> None:
    """`plugins list` and the generated pages show the first line of the class's docstring, read without
    importing the module. Without it the plugin can be found by its name alone."""
    plugin = case.plugin_class()
    # Its own: what a base class says of itself does not tell this one from its siblings.
    text = (vars(plugin).get("__doc__") or "").strip()
    if not text:
        raise Broken(
            "the class has a docstring with a summary", f"{plugin.__name__} has no docstring of its own"
        )


@check(
    "AF-P04",
    "the schema of its params is a valid JSON schema",
    *EVERY_KIND,
    remedy="use types that pydantic can describe; check json_schema_extra by hand",
    needs=("AF-P01",),
)
def valid_schema(case: Conformance, tmp_path: Path) -> None:
    """Editors, `plugins show` and the checks of a configuration work from the schema. One that isn't valid
    JSON Schema breaks them for every plugin of the configuration, not for this one alone."""
    from jsonschema import Draft202012Validator, SchemaError

    promised = "the DSL check, `plugins show` and editors get a valid JSON schema (2020-12) of the parameters"
    try:
        schema = Subject(case).schema
        json.dumps(schema)
    except Exception as error:
        raise Broken(promised, f"no schema can be made: {type(error).__name__}: {error}") from error
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        where = "/".join(map(str, error.absolute_path)) or "the schema"
        raise Broken(promised, f"{where}: {error.message}") from error


@check(
    "AF-P05",
    "every parameter is described",
    *EVERY_KIND,
    remedy='describe it: Field(20, ge=2, description="bars in the window")',
    needs=("AF-P04",),
)
def described(case: Conformance, tmp_path: Path) -> None:
    """The description is all that the author of a configuration sees of a parameter: in the editor, in
    `plugins show`, and in the message when the value is wrong."""
    schema = Subject(case).schema
    models = {"Params": schema, **schema.get("$defs", {})}
    for model, body in models.items():
        for name, field in body.get("properties", {}).items():
            if not str(field.get("description", "")).strip():
                raise Broken("every parameter has a description", f"{model}.{name} has none")


@check(
    "AF-P06",
    "its examples and its defaults are valid",
    *EVERY_KIND,
    remedy="mend the example or the default, or the rule that refuses it",
    needs=("AF-P04",),
)
def examples_valid(case: Conformance, tmp_path: Path) -> None:
    """An example is the first thing that a user copies, and what the kit makes the plugin from. A default
    that the plugin's own rules refuse fails in the one configuration that relies on it."""
    subject = Subject(case)
    examples: Any = subject.plugin.examples
    if not isinstance(examples, Sequence) or not examples:
        raise Broken("`examples` holds at least one set of parameters", f"examples = {examples!r}")
    for n, example in enumerate(examples):
        if not isinstance(example, Mapping):
            raise Broken("each example is a mapping, as `params` in the DSL", f"examples[{n}] is {example!r}")
        _valid(subject, dict(example), f"examples[{n}]")
    try:
        of_case = given(case, tmp_path)
    except NotApplicable:
        raise
    except Exception as error:
        raise Broken("the case has parameters", f"params() raised {type(error).__name__}: {error}") from error
    _accepted(subject, of_case, "what the case's params() returns")
    _defaults_valid(subject)


def _valid(subject: Subject, values: Mapping[str, Any], what: str) -> None:
    """Valid by the schema (the DSL asks it first), and by the model."""
    for error in subject.validator().iter_errors(values):
        where = ".".join(map(str, error.absolute_path)) or "it"
        raise Broken(f"{what} is valid by the schema", f"{what}: {where}: {error.message}")
    _accepted(subject, values, what)


def _accepted(subject: Subject, values: Mapping[str, Any], what: str) -> None:
    from pydantic import ValidationError

    try:
        subject.model.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise Broken(f"{what} is accepted by Params", f"{what}: {where}: {first['msg']}") from error


def _defaults_valid(subject: Subject) -> None:
    from jsonschema import Draft202012Validator
    from pydantic import ValidationError

    definitions = {"$defs": subject.schema.get("$defs", {})}
    for name, field in subject.schema.get("properties", {}).items():
        if "default" not in field:
            continue
        for error in Draft202012Validator({**definitions, **field}).iter_errors(field["default"]):
            raise Broken("every default is valid by the schema", f"the default of '{name}': {error.message}")
        # A model whose validation of defaults is switched off still must not hold a default that it refuses.
        try:
            subject.model.model_validate({**subject.examples()[0], name: field["default"]})
        except ValidationError as error:
            for fault in error.errors(include_input=False, include_url=False):
                if fault["loc"][:1] == (name,):
                    raise Broken(
                        "every default is accepted by Params", f"the default of '{name}': {fault['msg']}"
                    ) from error


@check(
    "AF-P07",
    "unknown parameters are refused",
    *EVERY_KIND,
    remedy='leave extra="forbid" as alpha_forge_sdk.Params has it; derive nested models from it too',
    needs=("AF-P06",),
)
def unknown_refused(case: Conformance, tmp_path: Path) -> None:
    """A parameter that is misspelt in a configuration must be an error with a suggestion. Left out in
    silence, it runs for months with the default."""
    from pydantic import ValidationError

    promised = "a misspelt parameter is an error, never ignored"
    subject = Subject(case)
    try:
        subject.model.model_validate({**subject.examples()[0], "no_such_parameter": 1})
    except ValidationError:
        pass
    else:
        raise Broken(promised, "Params accepted the unknown key 'no_such_parameter'")
    for model in _nested_models(subject.model, set()):
        if model.model_config.get("extra") != "forbid":
            extra = model.model_config.get("extra", "ignore")
            raise Broken(promised, f"the nested model {model.__name__} has extra='{extra}'")


def _nested_models(model: Any, seen: set[Any]) -> Iterator[Any]:
    """The pydantic models that the fields of `model` are made of, at any depth."""
    from pydantic import BaseModel

    waiting = [field.annotation for field in model.model_fields.values()]
    while waiting:
        annotation = waiting.pop()
        waiting += get_args(annotation)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel) and annotation not in seen:
            seen.add(annotation)
            yield annotation
            yield from _nested_models(annotation, seen)


@check(
    "AF-P08",
    "params can't be changed",
    *EVERY_KIND,
    remedy="leave frozen=True as alpha_forge_sdk.Params has it",
    needs=("AF-P06",),
)
def frozen(case: Conformance, tmp_path: Path) -> None:
    """One params object is shared by the plan, the worker that retries, and every instance made from it. If
    one of them could change it, a restart would not make the same plugin again."""
    from pydantic import ValidationError

    subject, example = an_example(case)
    params = subject.model.model_validate(example)
    name = next(iter(subject.model.model_fields))
    try:
        setattr(params, name, getattr(params, name))
    except (ValidationError, AttributeError, TypeError):
        return
    raise Broken("validated params are frozen", f"'{name}' could be assigned to")


@check(
    "AF-P09",
    "the bounds of the schema are the bounds that hold",
    *EVERY_KIND,
    remedy="state bounds by Field(ge=…, le=…, pattern=…), and neither clamp nor refuse beyond them",
    needs=("AF-P06",),
)
def bounds_hold(case: Conformance, tmp_path: Path) -> str:
    """A configuration is checked against the schema before anything runs. Where the class accepts less than
    the schema it fails at the start instead; where it clamps, it runs with a value that nobody wrote."""
    from alpha_forge_sdk.conformance.params_bounds import Bounds

    tried = Bounds(*an_example(case)).try_all()
    if not tried:
        raise NotApplicable("the schema states no bound")
    return f"{tried} value(s) at and outside bounds tried"


CHECKS: tuple[Check, ...] = (
    of_its_kind,
    declarations,
    summary,
    valid_schema,
    described,
    examples_valid,
    unknown_refused,
    frozen,
    bounds_hold,
)
