"""Second stage: the frames, from data steps and transforms, in dependency order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from alpha_forge.contracts.errors import did_you_mean
from alpha_forge.contracts.interval import Interval
from alpha_forge.contracts.plugin import Transform
from alpha_forge.dsl.diagnostics import Diagnostics
from alpha_forge.plan.steps import BoundStep, Declared, ask


@dataclass(slots=True)
class FrameDraft:
    """A frame while it is compiled: who makes it, from which frames."""

    name: str
    interval: Interval
    symbols: tuple[str, ...]
    event: str
    maker: BoundStep
    sources: tuple[str, ...] = ()


def resolve_frames(
    steps: Sequence[BoundStep], declared: Declared, diagnostics: Diagnostics
) -> dict[str, FrameDraft]:
    """Every frame by name, sources before what is made of them.

    Of what ``declared`` steps would have made nothing more is said.
    """
    frames: dict[str, FrameDraft] = {}
    for bound in steps:
        if bound.step.kind == "data":
            _add(frames, _data_frame(bound, diagnostics), diagnostics)
    pending = [bound for bound in steps if bound.step.kind == "transform"]
    while pending:
        ready = [b for b in pending if all(name in frames for name in _sources(b))]
        if not ready:
            break
        for bound in ready:
            _add(frames, _transform_frame(bound, frames, diagnostics), diagnostics)
            pending.remove(bound)
    if pending:
        _explain_pending(pending, frames, declared, diagnostics)
    _check_events(frames, diagnostics)
    return frames


def event_id(using: str, interval: Interval) -> str:
    """``data.binance_futures`` at 1h → ``data.binance_1h``."""
    name = using.split(":", 1)[-1].split(".", 1)[1]
    return f"data.{name.split('_', 1)[0]}_{interval}"


def _add(frames: dict[str, FrameDraft], draft: FrameDraft | None, diagnostics: Diagnostics) -> None:
    if draft is None:
        return
    if draft.name in frames:
        diagnostics.error(
            "AF4019",
            f"the frame '{draft.name}' is made twice",
            (*draft.maker.step.path, "outputs", "frame"),
            "give each data step and transform its own frame",
        )
        return
    frames[draft.name] = draft


def _output_name(bound: BoundStep, diagnostics: Diagnostics) -> str | None:
    name = bound.step.outputs.get("frame")
    if isinstance(name, str) and name and "." not in name:
        return name
    diagnostics.error(
        "AF4001",
        f"'{bound.step.using}' must name the frame that it makes, without a dot",
        (*bound.step.path, "outputs"),
        "outputs: {frame: ohlcv}",
    )
    return None


def _data_frame(bound: BoundStep, diagnostics: Diagnostics) -> FrameDraft | None:
    name = _output_name(bound, diagnostics)
    path = (*bound.step.path, "params")
    symbols = tuple(getattr(bound.params, "universe", ()))
    if not symbols:
        diagnostics.error(
            "AF4010",
            f"'{bound.step.using}' has an empty universe",
            (*path, "universe"),
            "name one symbol or more",
        )
        return None
    interval = ask(
        diagnostics,
        (*path, "interval"),
        "the interval doesn't fit",
        lambda: Interval.parse(bound.params.interval),
    )
    if name is None or interval is None:
        return None
    return FrameDraft(name, interval, symbols, event_id(bound.step.using, interval), bound)


def _sources(bound: BoundStep) -> tuple[str, ...]:
    assert issubclass(bound.plugin, Transform)
    return tuple(str(bound.step.inputs.get(key, "")) for key in bound.plugin.frames)


def _transform_frame(
    bound: BoundStep, frames: dict[str, FrameDraft], diagnostics: Diagnostics
) -> FrameDraft | None:
    assert issubclass(bound.plugin, Transform)
    name = _output_name(bound, diagnostics)
    _check_keys(bound, diagnostics)
    sources = _sources(bound)
    first = frames[sources[0]]
    try:
        interval = bound.instance.output_interval(first.interval)
    except ValueError as error:
        diagnostics.error(
            "AF4009",
            str(error),
            (*bound.step.path, "params"),
            "choose a whole multiple of the input's interval",
        )
        return None
    if name is None:
        return None
    return FrameDraft(name, interval, first.symbols, f"frame.{name}", bound, sources)


def _check_keys(bound: BoundStep, diagnostics: Diagnostics) -> None:
    assert issubclass(bound.plugin, Transform)
    for key in bound.step.inputs:
        if key not in bound.plugin.frames:
            diagnostics.error(
                "AF4005",
                f"'{bound.step.using}' has no input '{key}'",
                (*bound.step.path, "inputs", key),
                f"its inputs are {', '.join(bound.plugin.frames)}",
                key=True,
            )


def _explain_pending(
    pending: list[BoundStep], frames: dict[str, FrameDraft], declared: Declared, diagnostics: Diagnostics
) -> None:
    makes = {str(b.step.outputs.get("frame")) for b in pending}
    for bound in pending:
        assert issubclass(bound.plugin, Transform)
        missing_key = [key for key in bound.plugin.frames if key not in bound.step.inputs]
        if missing_key:
            diagnostics.error(
                "AF4005",
                f"'{bound.step.using}' needs the input '{missing_key[0]}'",
                (*bound.step.path, "inputs"),
                f"inputs: {{{missing_key[0]}: {next(iter(frames), 'ohlcv')}}}",
            )
            continue
        for key, name in zip(bound.plugin.frames, _sources(bound), strict=True):
            if name in frames or declared.frame(name):
                continue
            if name in makes:
                diagnostics.error(
                    "AF4007",
                    f"the frame '{name}' is made, step by step, from itself",
                    (*bound.step.path, "inputs", key),
                    "break the circle: one of these transforms must read a frame of a data step",
                )
            else:
                unknown_frame(name, tuple(frames), (*bound.step.path, "inputs", key), diagnostics)


def unknown_frame(
    name: str, known: Sequence[str], path: tuple[str | int, ...], diagnostics: Diagnostics
) -> None:
    diagnostics.error(
        "AF4001",
        f"no step makes the frame '{name}'",
        path,
        did_you_mean(name, known, f"frames: {', '.join(known)}"),
    )


def _check_events(frames: dict[str, FrameDraft], diagnostics: Diagnostics) -> None:
    seen: dict[str, str] = {}
    for draft in frames.values():
        if draft.event in seen:
            diagnostics.error(
                "AF4014",
                f"the frames '{seen[draft.event]}' and '{draft.name}' would share the event '{draft.event}'",
                draft.maker.step.path,
                "one data step for each plugin and interval: put the symbols of both into one universe",
            )
        seen.setdefault(draft.event, draft.name)
