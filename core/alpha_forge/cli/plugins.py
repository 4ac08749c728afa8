"""`alpha_forge plugins`: what is installed, and what each plugin takes and promises."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from alpha_forge.cli.common import KindType, format_option, json_out, on_terminal, plain_table
from alpha_forge.cli.new import new
from alpha_forge.cli.validate import validate
from alpha_forge.registry import Catalogue, PackRecord, PluginRecord, discover

if TYPE_CHECKING:
    from alpha_forge.contracts.plugin import Plugin

_LISTED = ("name", "kind", "pack", "distribution", "version", "status", "cause", "summary")
_SINK_PROMISES = ("delivery", "idempotent_by", "on_conflict", "ordered", "max_batch", "timeout", "non_finite")
_EPSILON = 1e-9
_BAR = "1m"
_STEP_OF_KIND = {"data": "data", "transforms": "transform", "features": "features", "models": "model"}


@click.group("plugins")
def plugins() -> None:
    """List the installed plugins, show one, prove that they keep what they declare, or begin a new one."""


plugins.add_command(validate)
plugins.add_command(new)


@plugins.command("list")
@click.option("--kind", type=KindType(), help="Only data, transforms, features, models or sinks.")
@format_option()
def list_(kind: str | None, form: str) -> None:
    """Every plugin of every installed pack, with its status. Imports none of them."""
    catalogue = discover()
    found = [plugin for plugin in catalogue.plugins if kind in (None, plugin.kind)]
    if form == "json":
        json_out(
            {
                "plugins": [{key: getattr(plugin, key) for key in _LISTED} for plugin in found],
                "packs": [asdict(pack) for pack in catalogue.packs],
            }
        )
        return
    head = ("NAME", "PACK", "DISTRIBUTION", "STATUS", "SUMMARY")
    rows = [(p.name, p.pack, _version(p), p.status, p.summary) for p in found]
    if on_terminal():
        _rich_table(head, rows)
    else:
        plain_table(head, rows)
    for what, records in (("plugin", found), ("pack", catalogue.packs)):
        _echo_faults(what, records)


def _echo_faults(what: str, records: Iterable[PluginRecord | PackRecord]) -> None:
    for record in records:
        if record.status != "ok":
            click.echo(f"{what} {record.name} is {record.status}: {record.cause}")


def _version(record: PluginRecord) -> str:
    return f"{record.distribution} {record.version}".strip()


def _rich_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for title in head:
        table.add_column(title, no_wrap=title == "NAME")
    for row in rows:
        style = "" if row[3] == "ok" else "red"
        table.add_row(*(Text(cell, style=style) for cell in row))
    Console().print(table)


@plugins.command("show")
@click.argument("name")
@format_option()
def show(name: str, form: str) -> None:
    """Parameters, defaults, schema and guarantees of the plugin NAME, and an example step."""
    catalogue = discover()
    record = catalogue.find(name)
    described = describe(record, catalogue.load(record), catalogue)
    if form == "json":
        json_out(described)
    else:
        click.echo(_as_text(described))


def describe(record: PluginRecord, plugin: type[Plugin], catalogue: Catalogue) -> dict[str, Any]:
    """Everything there is to say of a plugin, as JSON values."""
    import inspect

    from alpha_forge.contracts.params import params_schema

    schema = params_schema(plugin.Params)
    example = _plain(plugin.examples[0] if plugin.examples else {})
    return {
        **{key: getattr(record, key) for key in _LISTED},
        "target": record.target,
        "doc": inspect.cleandoc(plugin.__doc__ or ""),
        "parameters": _parameters(schema),
        "guarantees": _guarantees(record.kind, plugin, example),
        "conformance": [pack for pack, _ in catalogue.conformance.get(record.name, ())],
        "example": _example(record, plugin, example),
        "schema": schema,
    }


def _parameters(schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    from alpha_forge.dsl.param_errors import bounds, is_secret

    definitions = schema.get("$defs", {})
    rows = []
    for key, field in schema.get("properties", {}).items():
        rows.append(
            {
                "name": key,
                "type": _type(field, definitions),
                "required": key in schema.get("required", ()),
                "default": None if is_secret(field) else field.get("default"),
                "bounds": " or ".join(filter(None, (bounds(option) for option in _options(field)))),
                "secret": is_secret(field),
                "description": field.get("description", ""),
            }
        )
    return rows


def _options(field: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    options: list[Mapping[str, Any]] = field.get("anyOf") or field.get("oneOf") or [field]
    return options


def _type(field: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """``integer``, ``list of string``, ``'a' | 'b'``, ``mapping of integer``, or a nested model's name."""
    if "$ref" in field:
        name = str(field["$ref"]).rpartition("/")[2]
        target = definitions.get(name, {})
        return _type(target, definitions) if "enum" in target else name
    if "enum" in field or "const" in field:
        return " | ".join(repr(option) for option in field.get("enum", [field.get("const")]))
    if len(_options(field)) > 1:
        return " | ".join(dict.fromkeys(_type(option, definitions) for option in _options(field)))
    kind = field.get("type", "any")
    if kind == "array":
        items = field.get("items")
        return f"list of {_type(items, definitions)}" if isinstance(items, dict) else "list"
    if kind == "object":
        values = field.get("additionalProperties")
        return f"mapping of {_type(values, definitions)}" if isinstance(values, dict) else "mapping"
    return str(kind)


def _guarantees(kind: str, plugin: Any, example: Mapping[str, Any]) -> dict[str, Any]:
    """What the class declares; look-backs are those of the example, a transform's over `_BAR` bars."""
    from alpha_forge.contracts.interval import Interval
    from alpha_forge.contracts.plugin import RecursiveFeature

    def of_example(ask: Callable[[Any], Any]) -> Any:
        try:
            return ask(plugin(plugin.Params.model_validate(example)))
        except Exception as error:  # noqa: BLE001 - the plugin's code; the rest of it can still be shown
            return f"unknown ({type(error).__name__})"

    match kind:
        case "sinks":
            return {key: _plain(getattr(plugin, key)) for key in _SINK_PROMISES}
        case "models":
            return {"batch": plugin.batch, "trains": hasattr(plugin, "fit")}
        case "transforms":
            # A transform's look-back is known once it has been told the interval that it reads.
            bar = Interval.parse(_BAR)
            made = of_example(lambda p: (str(p.output_interval(bar)), p.lookback()))
            interval, lookback = made if isinstance(made, tuple) else (made, made)
            return {
                "frames": list(plugin.frames),
                "input_interval": _BAR,
                "output_interval": interval,
                "lookback": lookback,
            }
        case "features":
            shared = {
                "scope": plugin.scope,
                "inputs": list(plugin.input_names()),
                "outputs": list(plugin.outputs),
            }
            if issubclass(plugin, RecursiveFeature):
                settle = of_example(lambda p: p.settle(_EPSILON))
                return {**shared, "memory": "fading", "epsilon": _EPSILON, "settle": settle}
            return {**shared, "memory": "finite", "lookback": of_example(lambda p: p.lookback())}
    return {"endpoints": "endpoints" in plugin.Params.model_fields}


def _example(record: PluginRecord, plugin: Any, params: Mapping[str, Any]) -> str:
    """The example's parameters in a step, as YAML."""
    import yaml

    given = dict(params)
    short = record.name.partition(".")[2]
    body: dict[str, Any] = {"using": record.name}
    match record.kind:
        case "data":
            body["outputs"] = {"frame": "ohlcv"}
        case "transforms":
            names = list(plugin.frames)
            frames = ["ohlcv", *(f"other_{n}" for n in range(1, len(names)))]
            body |= {"inputs": dict(zip(names, frames, strict=True)), "outputs": {"frame": short}}
        case "features":
            names = plugin.input_names()
            inputs = {"column": "ohlcv.close"} if len(names) == 1 else {n: f"ohlcv.{n}" for n in names}
            several = len(plugin.outputs) > 1
            columns = [f"{short}_{output}" for output in plugin.outputs] if several else [short]
            body |= {"inputs": inputs, "outputs": {"columns": columns}}
        case "models":
            reference = {"model_ref": given.pop("model_ref")} if "model_ref" in given else {}
            column = given.get("output_col", "model.prediction")
            body |= {"inputs": {"frame": "ohlcv", **reference}, "outputs": {"columns": [column]}}
    if given:
        body["params"] = given
    step: Any = {"on_prediction": [body]} if record.kind == "sinks" else [{_STEP_OF_KIND[record.kind]: body}]
    return yaml.safe_dump(step, sort_keys=False, allow_unicode=True, default_flow_style=None)


def _plain(value: Any) -> Any:
    """`value` in JSON's types."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _as_text(described: Mapping[str, Any]) -> str:
    of = f"pack {described['pack']}"
    if described["distribution"]:
        of += f", {described['distribution']} {described['version']}"
    lines = [f"{described['name']}  ({of})", "", described["doc"], ""]
    lines.append("parameters:" if described["parameters"] else "parameters: none")
    for row in described["parameters"]:
        notes = [row["type"]]
        notes += [row["bounds"]] if row["bounds"] else []
        notes += ["secret"] if row["secret"] else []
        notes.append("required" if row["required"] else f"default {row['default']!r}")
        lines += [f"  {row['name']}  ({', '.join(notes)})", f"      {row['description']}"]
    lines += ["", "guarantees:"]
    for key, value in described["guarantees"].items():
        shown = ", ".join(map(str, value)) if isinstance(value, list) else value
        lines.append(f"  {key}: {shown if shown != '' else '-'}")
    lines += ["", "example:", *(f"  {line}" for line in described["example"].splitlines())]
    return "\n".join(line.rstrip() for line in lines)
