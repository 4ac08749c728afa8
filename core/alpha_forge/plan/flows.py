"""Fifth stage: which event triggers which steps, in which order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

from alpha_forge.contracts.errors import did_you_mean
from alpha_forge.dsl.diagnostics import Diagnostics
from alpha_forge.plan.graph import FlowDefinition, FrameSpec, Node


def build_flows(
    frames: Mapping[str, FrameSpec], nodes: Sequence[Node], diagnostics: Diagnostics
) -> tuple[FlowDefinition, ...]:
    """One flow for each frame's bar close, and one for each (event, frame) that steps name with ``on``.

    A frame without steps has a flow too, an empty one: what transforms make of it hangs on its bar close.
    """
    steps = [n for n in nodes if n.kind in ("features", "model")]
    _check_events(frames, steps, diagnostics)
    _check_transforms(frames, nodes, steps, diagnostics)
    triggers: dict[tuple[str, str], list[Node]] = {(f.event, f.name): [] for f in frames.values()}
    for node in steps:
        for event in node.on or (frames[node.frame].event,):
            triggers.setdefault((event, node.frame), []).append(node)
    bar_closes = {f.event for f in frames.values()}
    chained_panel = any(
        n.scope == "panel"
        for (event, _), members in triggers.items()
        if event not in bar_closes
        for n in members
    )
    return tuple(
        FlowDefinition(
            name=_name(event, frames[frame]),
            event=event,
            frame=frame,
            nodes=tuple(n.id for n in members),
            # A panel step that hangs on a published event must see the whole row too: so its publishers wait.
            panel=any(n.scope == "panel" or (chained_panel and n.emits) for n in members),
        )
        for (event, frame), members in triggers.items()
    )


def _name(event: str, frame: FrameSpec) -> str:
    if event == frame.event:
        return f"flow_bar_{frame.interval}_{frame.name}"
    return f"flow_{event.replace('.', '_')}_{frame.name}"


def _check_events(frames: Mapping[str, FrameSpec], steps: Sequence[Node], diagnostics: Diagnostics) -> None:
    emitted = {event for node in steps for event in node.emits}
    known = (*(f.event for f in frames.values()), *emitted)
    for node in steps:
        for i, event in enumerate(node.on):
            if event not in known:
                diagnostics.error(
                    "AF4015",
                    f"nothing publishes the event '{event}'",
                    (*node.path, "on", i),
                    did_you_mean(event, known),
                )
        for i, event in enumerate(node.emits):
            if event in {f.event for f in frames.values()}:
                diagnostics.error(
                    "AF4015",
                    f"'{event}' is the bar close of a frame; a step can't publish it",
                    (*node.path, "emits", i),
                    "choose another name, for example signal.generated",
                )
    _check_circles(steps, diagnostics)


def _check_transforms(
    frames: Mapping[str, FrameSpec], nodes: Sequence[Node], steps: Sequence[Node], diagnostics: Diagnostics
) -> None:
    """A transform reads a row when its bars are in: columns that come to it later, by the close of another frame or by
    a tick, would be there or not as arrivals had it."""
    late = _late_columns(frames, steps)
    for node in nodes:
        for frame, columns in zip(node.source_frames, node.source_columns, strict=True):
            for column in columns:
                event = late.get((frame, column))
                if event is not None:
                    diagnostics.error(
                        "AF4022",
                        f"'{node.using}' reads {frame}.{column}, which comes to its row by {event}, after the bars",
                        (*node.path, "inputs"),
                        "let the step that makes the column run on its own frame's bars, or leave the column out",
                    )


def _late_columns(frames: Mapping[str, FrameSpec], steps: Sequence[Node]) -> dict[tuple[str, str], str]:
    """(frame, column) → the event by which it comes, of columns that another frame's event brings."""
    foreign = {spec.event: spec.name for spec in frames.values()}
    late: dict[tuple[str, str], str] = {}
    by: dict[str, str] = {}
    for _ in steps:  # published events hand lateness on, at most once around
        for node in steps:
            for event in node.on:
                source = by.get(event) or (event if foreign.get(event, node.frame) != node.frame else None)
                if source is not None:
                    late.update(dict.fromkeys(((node.frame, c) for c in node.outputs), source))
                    by.update(dict.fromkeys(node.emits, source))
    return late


def _check_circles(steps: Sequence[Node], diagnostics: Diagnostics) -> None:
    """Events that trigger steps that publish events …: a circle would never come to rest."""
    graph: dict[str, set[str]] = {}
    for node in steps:
        for published in node.emits:
            graph.setdefault(published, set()).update(node.on)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = [str(event) for event in reversed(error.args[1])]
        node = next(n for n in steps if set(n.on) & set(circle) and set(n.emits) & set(circle))
        diagnostics.error(
            "AF4016",
            f"events trigger each other in a circle: {' → '.join(circle)}",
            (*node.path, "emits"),
            "take one 'emits' or 'on' out of the circle",
        )
