"""The shape of the DSL: plain values → `Document`, every mistake noted at its place."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from alpha_forge.contracts.errors import did_you_mean
from alpha_forge.contracts.interval import Interval
from alpha_forge.dsl.diagnostics import Diagnostics, Path
from alpha_forge.dsl.document import (
    STEP_KINDS,
    Document,
    Scheduling,
    SignalGeneration,
    SinkConfig,
    Step,
    Training,
    Warmup,
)
from alpha_forge.dsl.expand import Template
from alpha_forge.dsl.fields import Fields
from alpha_forge.dsl.scalars import described

TOP_KEYS = ("name", "using", "signal_generation", "pipeline", "expand", "training")
_SINK_KEYS = ("using", "params", "name", "column", "delivery")
_STEP_KEYS = ("using", "inputs", "outputs", "params", "on", "emits")
_OUTPUT_KEY = {"data": "frame", "transform": "frame", "features": "columns", "model": "columns"}
_USING = re.compile(r"(?:[^\W\d][\w-]*:)?(data|transforms|features|models|sinks)\.[A-Za-z_]\w*", re.ASCII)
_NAME = re.compile(r"[^\W\d]\w*")


def document(data: Mapping[str, Any], diagnostics: Diagnostics) -> Document:
    """The typed document. What is wrong goes to `diagnostics` (AF2001 to AF2011).

    Steps and sinks with a mistake are left out and make the document ``partial``. Top-level keys that begin
    with ``x-`` are free: a place for anchors.
    """
    known = {key: value for key, value in data.items() if not key.startswith("x-")}
    top = Fields(known, (), diagnostics, TOP_KEYS)
    name = top.text("name", required=True)
    using = top.mapping("using", required=True, form="using: {capabilities: [shared, middlefreq]}")
    capabilities = None
    if using is not None:
        fields = Fields(using, ("using",), diagnostics, ("capabilities",))
        capabilities = fields.texts("capabilities", required=True, form="capabilities: [shared, middlefreq]")
    signal = _signal(top)
    steps, whole = _pipeline(top, _lists(top))
    sinks = top.data.get("signal_generation", {})
    wanted = sinks.get("on_prediction") if isinstance(sinks, dict) else None
    partial = not whole or not isinstance(wanted, list) or len(wanted) != len(signal.sinks)
    return Document(
        name=name or "",
        capabilities=capabilities or (),
        signal=signal,
        steps=steps,
        training=_training(top),
        source=diagnostics.source,
        partial=partial,
    )


def _signal(top: Fields) -> SignalGeneration:
    nothing = Warmup(None)
    raw = top.mapping("signal_generation", required=True, form="signal_generation: {mode: stream, …}")
    if raw is None:
        return SignalGeneration("stream", nothing, Scheduling(), (), {})
    keys = ("mode", "warmup", "scheduling", "on_prediction", "delivery", "catch_up")
    fields = Fields(raw, ("signal_generation",), top.diagnostics, keys)
    return SignalGeneration(
        mode=fields.choice("mode", ("stream",), required=True, default="stream"),
        warmup=_warmup(fields),
        scheduling=_scheduling(fields),
        sinks=_sinks(fields),
        delivery=_delivery(fields),
        catch_up=fields.choice("catch_up", ("all", "none"), default="all"),
    )


def _below(fields: Fields, key: str, known: tuple[str, ...], **options: Any) -> Fields | None:
    raw = fields.mapping(key, **options)
    return None if raw is None else Fields(raw, (*fields.path, key), fields.diagnostics, known)


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    """What was said; the rest is left to the defaults."""
    return {key: value for key, value in values.items() if value not in (None, "")}


def _warmup(fields: Fields) -> Warmup:
    keys = ("lookback_days", "epsilon", "first_event_seconds")
    warmup = _below(fields, "warmup", keys, required=True, form="warmup: {lookback_days: auto}")
    if warmup is None:
        return Warmup(None)
    days = warmup.raw("lookback_days", required=True, form="lookback_days: auto")
    if isinstance(days, str) and days != "auto":
        help = did_you_mean(days, ("auto",), "write auto, or a number without quotes")
        warmup.wrong("lookback_days", "a number of days or auto", days, help)
        days = None
    given = {
        "epsilon": warmup.number("epsilon", above=0, below=1),
        "first_event_seconds": warmup.number("first_event_seconds", above=0),
    }
    auto = days in (None, "auto")
    return Warmup(None if auto else warmup.number("lookback_days", above=0), **_given(given))


def _scheduling(fields: Fields) -> Scheduling:
    scheduling = _below(fields, "scheduling", ("interval", "buffer_minutes"))
    if scheduling is None:
        return Scheduling()
    interval = scheduling.text("interval")
    if interval is not None:
        try:
            Interval.parse(interval)
        except ValueError as error:
            scheduling.fail("AF2004", str(error), "interval")
            interval = None
    return Scheduling(
        **_given({"interval": interval, "buffer_minutes": scheduling.number("buffer_minutes", least=0)})
    )


def _delivery(fields: Fields) -> dict[str, Any]:
    keys = ("durability", "max_backlog", "on_backlog", "drain_seconds")
    delivery = _below(fields, "delivery", keys)
    if delivery is None:
        return {}
    given = {
        "durability": delivery.choice("durability", ("durable", "memory")),
        "max_backlog": delivery.whole("max_backlog", least=1),
        "on_backlog": delivery.choice("on_backlog", ("stop", "drop_oldest")),
        "drain_seconds": delivery.number("drain_seconds", least=0),
    }
    return _given(given)


def _sinks(fields: Fields) -> tuple[SinkConfig, ...]:
    form = "on_prediction: [{using: sinks.csv_append, params: {path: …}}]"
    items = fields.items("on_prediction", required=True, form=form) or []
    used: Counter[str] = Counter()
    sinks: dict[str, SinkConfig] = {}
    for n, item in enumerate(items):
        path = (*fields.path, "on_prediction", n)
        if not isinstance(item, dict):
            fields.wrong(("on_prediction", n), "a mapping", item, "write - using: sinks.…")
            continue
        sink = _sink(Fields(item, path, fields.diagnostics, _SINK_KEYS), used)
        if sink is None:
            continue
        if sink.name in sinks:
            help = "a sink's name is its identity: its place in the log is kept under it"
            message = f"two sinks are named '{sink.name}'"
            fields.diagnostics.error("AF2011", message, (*path, "name"), help)
            continue
        sinks[sink.name] = sink
    return tuple(sinks.values())


def _sink(fields: Fields, used: Counter[str]) -> SinkConfig | None:
    using = _using(fields, "sinks", "on_prediction")
    name, column = fields.text("name"), fields.text("column")
    template = Template(fields.mapping("params") or {}, (*fields.path, "params"), None, fields.diagnostics)
    filled = template.check()
    delivery = _below(fields, "delivery", ("timeout", "max_batch", "retries"))
    options: dict[str, Any] = {}
    if delivery is not None:
        options = {
            "timeout": delivery.number("timeout", above=0),
            "max_batch": delivery.whole("max_batch", least=1),
            "retries": delivery.whole("retries", least=0),
        }
        fields.ok = fields.ok and delivery.ok
    if using is None or not fields.ok or not filled:
        return None
    used[using] += 1
    return SinkConfig(
        name=name or f"{using}#{used[using]}",
        using=using,
        params=template.copies()[0][0],
        column=column,
        delivery=_given(options),
        path=fields.path,
    )


def _using(fields: Fields, prefix: str, what: str) -> str | None:
    using = fields.text("using", required=True, form=f"using: {prefix}.…")
    if using is None:
        return None
    match = _USING.fullmatch(using)
    if match is None:
        plain = re.fullmatch(r"\w+", using, re.ASCII)
        help = f"plugins here are named {prefix}.NAME, or pack:{prefix}.NAME"
        if plain:
            help = f"write {prefix}.{using}"
        fields.fail("AF2006", f"'{using}' is no plugin's name", "using", help)
        return None
    if match[1] != prefix:
        step = next((f"{key}:" for key, kind in STEP_KINDS.items() if kind == match[1]), "on_prediction")
        message = f"'{what}' takes {prefix}.*, not '{using}'"
        fields.fail("AF2006", message, "using", f"it belongs under {step}")
        return None
    return using


def _lists(top: Fields) -> dict[str, list[Any]]:
    """``expand``: lists of single values. One with a mistake stays: its uses are not called unknown."""
    raw = top.mapping("expand", form="expand: {windows: [5, 10, 20]}") or {}
    fields = Fields(raw, ("expand",), top.diagnostics, tuple(raw))
    lists: dict[str, list[Any]] = {}
    for name in raw:
        if not _NAME.fullmatch(name):
            fields.diagnostics.error(
                "AF2004", f"'{name}' is no name: letters, digits and _", ("expand", name), key=True
            )
        lists[name] = fields.items(name, required=True, form=f"{name}: [5, 10, 20]") or [None]
        for n, value in enumerate(lists[name]):
            if isinstance(value, dict | list):
                fields.wrong((name, n), "a single value", value)
            elif isinstance(value, str) and fields.plain(value, (name, n)) and not value:
                fields.wrong((name, n), "a value", value)
    return lists


def _pipeline(top: Fields, lists: Mapping[str, list[Any]]) -> tuple[tuple[Step, ...], bool]:
    """The steps after expansion, and whether none was left out."""
    form = "pipeline: [{data: …}, {features: …}, {model: …}]"
    items = top.items("pipeline", required=True, form=form)
    steps: list[Step] = []
    whole = items is not None
    for n, item in enumerate(items or []):
        made = _step(item, ("pipeline", n), top, lists)
        whole = whole and bool(made)
        steps.extend(made)
    return tuple(steps), whole


def _step(item: Any, path: Path, top: Fields, lists: Mapping[str, list[Any]]) -> list[Step]:
    kinds = ", ".join(STEP_KINDS)
    if not isinstance(item, dict):
        top.wrong(path, "a step", item, f"write one of {kinds}, with its settings under it")
        return []
    if len(item) != 1:
        message = f"a step has one key, one of {kinds}; this has {', '.join(item) or 'none'}"
        help = "indent what belongs to the step by two more, or begin a new step with '- '"
        top.diagnostics.error("AF2005", message, path, help)
        return []
    kind = next(iter(item))
    if kind not in STEP_KINDS:
        help = did_you_mean(kind, list(STEP_KINDS), f"write one of {kinds}")
        top.diagnostics.error("AF2005", f"'{kind}' is no kind of step", (*path, kind), help, key=True)
        return []
    body = item[kind]
    if not isinstance(body, dict):
        help = f"write {kind}: with using, inputs, outputs and params under it"
        top.wrong((*path, kind), "a mapping", body, help)
        return []
    return _body(kind, Fields(body, (*path, kind), top.diagnostics, _step_keys(kind)), lists)


def _step_keys(kind: str) -> tuple[str, ...]:
    return tuple(key for key in _STEP_KEYS if not (kind == "data" and key == "inputs"))


def _body(kind: str, fields: Fields, lists: Mapping[str, list[Any]]) -> list[Step]:
    using = _using(fields, STEP_KINDS[kind], kind)
    inputs = _inputs(kind, fields)
    outputs = _outputs(kind, fields)
    on, emits = fields.texts("on", form="on: [EVENT]"), fields.texts("emits", form="emits: [EVENT]")
    params = fields.mapping("params", form="params: {…}") or {}
    template = Template(params, (*fields.path, "params"), lists, fields.diagnostics)
    if not template.check() or not fields.ok or using is None:
        return []
    return [
        Step(kind, using, inputs, outputs, filled, on or (), emits or (), fields.path, given)
        for filled, given in template.copies()
    ]


def _inputs(kind: str, fields: Fields) -> dict[str, Any]:
    if kind == "data":
        return {}
    form = "inputs: {frame: ohlcv}" if kind in ("transform", "model") else "inputs: {column: ohlcv.close}"
    raw = fields.mapping("inputs", required=True, form=form) or {}
    for key, value in raw.items():
        if kind == "model" and key == "columns":
            if not isinstance(value, list) or not value or not all(isinstance(v, str) and v for v in value):
                fields.wrong(("inputs", key), "a list of columns of the frame", value)
        elif not isinstance(value, str) or not value:
            fields.wrong(("inputs", key), "the name of a frame or column", value)
        else:
            fields.plain(value, ("inputs", key))
    return raw


def _outputs(kind: str, fields: Fields) -> dict[str, Any]:
    key = _OUTPUT_KEY[kind]
    form = "outputs: {frame: NAME}" if key == "frame" else "outputs: {columns: [NAME]}"
    raw = fields.mapping("outputs", required=True, form=form)
    if raw is None:
        return {}
    outputs = Fields(raw, (*fields.path, "outputs"), fields.diagnostics, (key,))
    result: dict[str, Any] = {}
    if key == "frame":
        frame = outputs.text("frame", required=True, form="frame: NAME")
        if frame is not None and _NAME.fullmatch(frame) is None:
            help = "letters, digits and _: the dot divides a frame from its column"
            outputs.fail("AF2004", f"'{frame}' is no name for a frame", "frame", help)
        result = {"frame": frame}
    else:
        result = {"columns": outputs.texts("columns", required=True, form="columns: [NAME]") or ()}
    fields.ok = fields.ok and outputs.ok
    return result


def _training(top: Fields) -> Training:
    keys = tuple(Training.__dataclass_fields__)
    fields = _below(top, "training", keys)
    if fields is None:
        return Training()
    given = {
        "target": fields.text("target"),
        "horizon": fields.whole("horizon", least=1),
        "history_days": fields.number("history_days", above=0),
        "validation_fraction": fields.number("validation_fraction", above=0, below=1),
        "epochs": fields.whole("epochs", least=1),
        "patience": fields.whole("patience", least=1),
        "seed": fields.whole("seed", least=0),
        "options": fields.mapping("options"),
    }
    return Training(**_given(given))


def not_a_mapping(data: Any, diagnostics: Diagnostics) -> None:
    """Note a configuration that is empty, or no mapping at its top (AF2003)."""
    help = f"it has the keys {', '.join(TOP_KEYS[:4])}"
    what = "the file is empty" if data is None else f"a configuration is a mapping, not {described(data)}"
    diagnostics.error("AF2003", what, (), help)
