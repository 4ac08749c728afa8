"""Document + catalogue → EventFlowDAG. Every mistake goes to the diagnostics; nothing connects, nothing is loaded."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path as FilePath
from typing import Any

from alpha_forge.contracts.errors import did_you_mean
from alpha_forge.contracts.interval import Interval
from alpha_forge.contracts.plugin import RecursiveFeature, Transform
from alpha_forge.dsl import parse_file
from alpha_forge.dsl.diagnostics import Diagnostics
from alpha_forge.dsl.document import Document
from alpha_forge.plan.columns import (
    ColumnStep,
    FrameColumns,
    bind_features,
    bind_models,
    check_columns,
    describe_model,
    order_steps,
)
from alpha_forge.plan.flows import build_flows
from alpha_forge.plan.frames import FrameDraft, resolve_frames
from alpha_forge.plan.graph import EventFlowDAG, FrameSpec, Need, Node, WarmupSpec
from alpha_forge.plan.lookback import MARGIN, NeedFinder, settled_lookback
from alpha_forge.plan.sinks import bind_sinks
from alpha_forge.plan.steps import BoundStep, Declared, ask, bind_step
from alpha_forge.registry import Catalogue, discover

DAY_NS = 86_400 * 10**9


@dataclass(frozen=True, slots=True)
class Compiled:
    """A document with its graph."""

    document: Document
    dag: EventFlowDAG


def load(path: FilePath | str, overrides: Sequence[str] = (), *, training: bool = False) -> Compiled:
    """Read, check and compile a file. Raises ConfigError with every mistake; ``training`` needs no checkpoint."""
    document, diagnostics = parse_file(path, overrides)
    if document is None:
        diagnostics.raise_if_any()
        raise AssertionError("a document that can't be read has diagnostics")
    catalogue = discover(capabilities=document.capabilities)
    dag = compile_document(document, catalogue, diagnostics, training=training)
    diagnostics.raise_if_any()
    assert dag is not None
    return Compiled(document, dag)


def preflight(compiled: Compiled) -> None:
    """Ask every sink whether it is plain already now that it can't work. Raises ConfigError with all that say so."""
    diagnostics = Diagnostics(compiled.document.source)
    for config, sink in zip(compiled.document.signal.sinks, compiled.dag.sinks, strict=True):
        ask(diagnostics, (*config.path, "params"), f"'{sink.name}'", sink.plugin(sink.params).preflight)
    diagnostics.raise_if_any()


def compile_document(
    document: Document, catalogue: Catalogue, diagnostics: Diagnostics, *, training: bool = False
) -> EventFlowDAG | None:
    """Compile; None if anything was found wrong. With ``training`` models are described by the graph, not by a
    checkpoint, and no sink is needed."""
    for n, capability in enumerate(document.capabilities):
        place = ("using", "capabilities", n)
        ask(diagnostics, place, "the capability", partial(catalogue.require, capability))
    bound = [bind_step(step, document, catalogue, diagnostics) for step in document.steps]
    steps = [b for b in bound if b is not None]
    failed = [step for step, b in zip(document.steps, bound, strict=True) if b is None]
    declared = Declared(
        frames={str(step.outputs.get("frame")) for step in failed},
        columns=[c for step in failed for c in step.outputs.get("columns", ())],
        anything=document.partial,
    )
    if not document.partial and not any(step.kind == "data" for step in document.steps):
        declared.anything = True  # without data nothing exists; once is enough to say so
        diagnostics.error(
            "AF4011", "the pipeline has no data step", ("pipeline",), "add a step '- data: …'", key=True
        )
    frames = resolve_frames(steps, declared, diagnostics)
    # A frame that failed for a reason already told must not make every step that reads it fail again.
    declared.frames |= {
        str(b.step.outputs.get("frame")) for b in steps if b.step.kind in ("data", "transform")
    } - set(frames)
    columns = _columns(steps, frames, declared, training, diagnostics)
    sinks = () if training else bind_sinks(document, catalogue, columns, declared, diagnostics)
    if diagnostics:
        return None
    dag = _assemble(document, frames, columns, diagnostics)
    if dag is None or diagnostics:
        return None
    return replace(dag, sinks=sinks)


def _columns(
    steps: Sequence[BoundStep],
    frames: Mapping[str, FrameDraft],
    declared: Declared,
    training: bool,
    diagnostics: Diagnostics,
) -> dict[str, FrameColumns]:
    """Columns and ordered steps of every frame, in the order of the frames."""
    features = bind_features(steps, frames, declared, diagnostics)
    models = bind_models(steps, frames, declared, diagnostics)
    by_position = sorted((*features, *models), key=lambda s: s.bound.step.path)
    placed = {id(s.bound) for s in by_position}
    declared.columns += [c for b in steps if id(b) not in placed for c in b.columns]
    found: dict[str, FrameColumns] = {}
    for name, draft in frames.items():
        columns = FrameColumns()
        columns.steps = [s for s in by_position if s.frame == name]
        if draft.sources:
            _transform_columns(draft, columns, found, diagnostics)
        for step in columns.steps:
            if step in models:
                describe_model(step, columns, training, diagnostics)
        before = len(diagnostics.found)
        check_columns(name, columns, declared, diagnostics)
        if len(diagnostics.found) == before:
            columns.steps = order_steps(name, columns, diagnostics) or columns.steps
        found[name] = columns
    return found


def _transform_columns(
    draft: FrameDraft, columns: FrameColumns, found: Mapping[str, FrameColumns], diagnostics: Diagnostics
) -> None:
    transform, path = draft.maker.instance, draft.maker.step.path
    available = [found[name].all() for name in draft.sources]
    taken = ask(diagnostics, path, "its columns", lambda: transform.input_columns(*available))
    if taken is None:
        return
    for name, has, takes in zip(draft.sources, available, taken, strict=True):
        for column in takes:
            if column not in has:
                diagnostics.error(
                    "AF4002", f"no step makes the column '{name}.{column}'", path, did_you_mean(column, has)
                )
    base = ask(diagnostics, path, "its columns", lambda: transform.output_columns(*taken))
    columns.taken = tuple(tuple(t) for t in taken)
    columns.base = tuple(base or columns.base)


def _assemble(
    document: Document,
    frames: Mapping[str, FrameDraft],
    columns: Mapping[str, FrameColumns],
    diagnostics: Diagnostics,
) -> EventFlowDAG | None:
    epsilon = document.signal.warmup.epsilon
    intervals = {name: draft.interval for name, draft in frames.items()}
    nodes: dict[str, Node] = {}
    other: dict[str, int] = {}
    for name, draft in frames.items():
        node = _frame_node(draft, columns[name], intervals, other, diagnostics)
        if node is not None:
            nodes[node.id] = node
        for step in columns[name].steps:
            made = _column_node(step, epsilon, diagnostics)
            if made is not None:
                nodes[made.id] = made
    if diagnostics:
        return None
    finder = NeedFinder(nodes, intervals, other)
    nodes = {i: replace(n, upstream=finder.upstream(n)) for i, n in nodes.items()}
    warmup, rows = _warmup(document, nodes, intervals, finder, diagnostics)
    specs = {
        name: FrameSpec(
            name,
            draft.interval,
            draft.symbols,
            draft.event,
            columns[name].base,
            (*columns[name].base, *(c for s in columns[name].steps for c in s.outputs)),
            max(rows.get(name, 1), 1),
        )
        for name, draft in frames.items()
    }
    return EventFlowDAG(
        name=document.name,
        frames=specs,
        nodes=nodes,
        flows=build_flows(specs, list(nodes.values()), diagnostics),
        warmup=warmup,
        sinks=(),
        epsilon=epsilon,
        emit_interval=_emit_interval(document, intervals, nodes, diagnostics),
        buffer_seconds=document.signal.scheduling.buffer_minutes * 60,
        models={
            f"{s.bound.step.using}[{s.frame}.{s.outputs[0]}]": s.spec
            for c in columns.values()
            for s in c.steps
            if s.spec is not None
        },
    )


def _bars(diagnostics: Diagnostics, bound: BoundStep, call: Any) -> int:
    """What a plugin says it needs, at least one bar; a wrong answer is its step's error."""
    bars = ask(diagnostics, bound.step.path, f"the look-back of '{bound.step.using}'", call)
    if bars is None:
        return 1
    if isinstance(bars, bool) or not isinstance(bars, int) or bars < 1:
        diagnostics.error(
            "AF4021",
            f"the look-back of '{bound.step.using}' is {bars!r}, not a number of bars",
            bound.step.path,
            "a plugin's lookback() and settle() return a whole number, at least 1",
        )
        return 1
    return bars


def _frame_node(
    draft: FrameDraft,
    columns: FrameColumns,
    intervals: Mapping[str, Interval],
    other: dict[str, int],
    diagnostics: Diagnostics,
) -> Node | None:
    bound = draft.maker
    lookback = 1
    node_id = f"{bound.step.using}[{draft.name}]"
    if draft.sources:
        lookback = _bars(diagnostics, bound, bound.instance.lookback)
        assert isinstance(bound.instance, Transform)
        for name in draft.sources[1:]:
            right = intervals[name]
            other[node_id] = _bars(
                diagnostics, bound, lambda right=right: bound.instance.other_lookback(right)
            )
    return Node(
        id=node_id,
        kind=bound.step.kind,
        using=bound.step.using,
        plugin=bound.plugin,
        params=bound.params,
        frame=draft.name,
        outputs=columns.base,
        source_frames=draft.sources,
        source_columns=columns.taken,
        lookback=lookback,
        path=bound.step.path,
    )


def _column_node(step: ColumnStep, epsilon: float, diagnostics: Diagnostics) -> Node | None:
    bound = step.bound
    settle = 0
    if step.spec is not None:
        lookback = step.spec.window
    elif isinstance(bound.instance, RecursiveFeature):
        settle = _bars(diagnostics, bound, lambda: bound.instance.settle(epsilon))
        lookback = settled_lookback(settle)
    else:
        lookback = _bars(diagnostics, bound, bound.instance.lookback)
    return Node(
        id=f"{bound.step.using}[{step.frame}.{step.outputs[0]}]",
        kind=bound.step.kind,
        using=bound.step.using,
        plugin=bound.plugin,
        params=bound.params,
        frame=step.frame,
        inputs=step.inputs,
        outputs=step.outputs,
        lookback=lookback,
        settle=settle,
        scope=getattr(bound.plugin, "scope", "symbol"),
        on=bound.step.on,
        emits=bound.step.emits,
        path=bound.step.path,
    )


def _warmup(
    document: Document,
    nodes: Mapping[str, Node],
    intervals: Mapping[str, Interval],
    finder: NeedFinder,
    diagnostics: Diagnostics,
) -> tuple[dict[str, WarmupSpec], dict[str, int]]:
    """Warm-up of each data frame, and the rows that every frame needs; refuses a ``lookback_days`` too short."""
    rows: dict[str, int] = {}
    needs: dict[str, list[Need]] = {n.frame: [] for n in nodes.values() if n.kind == "data"}
    for node in nodes.values():
        if node.kind == "data":
            continue
        found, passed = finder.of_node(node)
        for path in found:
            needs[path.frame].append(path)
        for frame, count in passed.items():
            rows[frame] = max(rows.get(frame, 1), count)
    days = document.signal.warmup.lookback_days
    warmup: dict[str, WarmupSpec] = {}
    for frame, paths in needs.items():
        longest = sorted(paths, key=lambda n: -n.bars)
        need = longest[0].bars if longest else 1
        rows[frame] = max(rows.get(frame, 1), need)
        fetch = math.ceil(need * MARGIN)
        if days is not None:
            given = math.floor(days * DAY_NS / intervals[frame].ns)
            if given < need:
                _too_short(frame, need, given, intervals[frame], longest[0].chain, diagnostics)
            fetch = min(fetch, given)
        # History seldom begins where a bucket of the longest interval does: that much more is always fetched.
        bucket = max(intervals[n.frame].ns for n in nodes.values()) // intervals[frame].ns
        warmup[frame] = WarmupSpec(frame, need, max(fetch, need + bucket), tuple(longest))
    _warm_ticks(warmup, nodes, intervals)
    return warmup, rows


def _warm_ticks(
    warmup: dict[str, WarmupSpec], nodes: Mapping[str, Node], intervals: Mapping[str, Interval]
) -> None:
    """Ticks of the past reach as far back as any frame's bars do: what they trigger has a past, too."""
    ticking = {n.frame for n in nodes.values() if n.kind == "data" and getattr(n.plugin, "ticks", False)}
    span = max(
        (w.fetch * intervals[frame].ns for frame, w in warmup.items() if frame not in ticking), default=0
    )
    for frame in ticking & set(warmup):
        fetch = max(warmup[frame].fetch, span // intervals[frame].ns + 1)
        warmup[frame] = replace(warmup[frame], fetch=fetch)


def _too_short(
    frame: str, need: int, given: int, interval: Interval, chain: tuple[str, ...], diagnostics: Diagnostics
) -> None:
    days = need * interval.ns / DAY_NS
    diagnostics.error(
        "AF4008",
        f"lookback_days gives {given} bars of {interval} to '{frame}', the graph needs {need} ({days:.2f} days): "
        + " ← ".join(chain),
        ("signal_generation", "warmup", "lookback_days"),
        f"set lookback_days to {math.ceil(days)} or more, or to auto",
    )


def _emit_interval(
    document: Document, intervals: Mapping[str, Interval], nodes: Mapping[str, Node], diagnostics: Diagnostics
) -> Interval | None:
    text = document.signal.scheduling.interval
    if text is None:
        return None
    path = ("signal_generation", "scheduling", "interval")
    emit = ask(diagnostics, path, "scheduling.interval", lambda: Interval.parse(text))
    if emit is None:
        return None
    for node in nodes.values():
        if node.kind == "model" and not intervals[node.frame].divides(emit):
            diagnostics.error(
                "AF4020",
                f"scheduling.interval is {emit}, which is no multiple of the interval {intervals[node.frame]} of "
                f"'{node.frame}', where the predictions are made",
                path,
                f"leave it out, or choose a multiple of {intervals[node.frame]}",
            )
    return emit
