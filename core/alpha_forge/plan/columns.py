"""Third stage: inputs and outputs of every step, checked column by column, and the order they run in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Any

from alpha_forge.contracts.errors import did_you_mean
from alpha_forge.contracts.plugin import Feature, ModelSpec, RecursiveFeature
from alpha_forge.contracts.types import BAR_COLUMNS
from alpha_forge.dsl.diagnostics import Diagnostics, Path
from alpha_forge.plan.frames import FrameDraft, unknown_frame
from alpha_forge.plan.steps import BoundStep, Declared, ask


@dataclass(slots=True)
class ColumnStep:
    """A feature or model bound to a frame, with the columns it reads and adds."""

    bound: BoundStep
    frame: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    input_paths: tuple[Path, ...]
    """Where each input is named in the document."""
    spec: ModelSpec | None = None
    """Of a model: what it reads."""
    from_checkpoint: bool = False
    """True if a checkpoint, not the document, says which columns those are."""


@dataclass(slots=True)
class FrameColumns:
    """The columns of one frame while it is compiled."""

    base: tuple[str, ...] = BAR_COLUMNS
    taken: tuple[tuple[str, ...], ...] = ()
    """Of a transform's frame: the columns it reads of each source."""
    steps: list[ColumnStep] = field(default_factory=list)

    def all(self) -> tuple[str, ...]:
        return (*self.base, *(c for s in self.steps for c in s.outputs))


def split_reference(text: Any) -> tuple[str, str] | None:
    """``ohlcv.model.prediction`` → (``ohlcv``, ``model.prediction``): split at the first dot."""
    if not isinstance(text, str) or "." not in text:
        return None
    frame, column = text.split(".", 1)
    return (frame, column) if frame and column else None


def bind_features(
    steps: Sequence[BoundStep], frames: Mapping[str, FrameDraft], declared: Declared, diagnostics: Diagnostics
) -> list[ColumnStep]:
    """Features with their inputs resolved to one frame's columns. Existence is checked later, by `check_columns`."""
    found = []
    for bound in steps:
        if bound.step.kind != "features":
            continue
        resolved = _feature_inputs(bound, frames, declared, diagnostics)
        if resolved is None or not _outputs_fit(bound, diagnostics):
            continue
        frame, columns, paths = resolved
        found.append(ColumnStep(bound, frame, columns, bound.columns, paths))
    return found


def _outputs_fit(bound: BoundStep, diagnostics: Diagnostics) -> bool:
    wanted = getattr(bound.plugin, "outputs", ("value",))
    if len(bound.columns) == len(wanted):
        return True
    diagnostics.error(
        "AF4004",
        f"'{bound.step.using}' makes {len(wanted)} column(s) ({', '.join(wanted)}), outputs.columns names "
        f"{len(bound.columns)}",
        (*bound.step.path, "outputs"),
        "name one column for each, in this order",
    )
    return False


def _feature_inputs(
    bound: BoundStep, frames: Mapping[str, FrameDraft], declared: Declared, diagnostics: Diagnostics
) -> tuple[str, tuple[str, ...], tuple[Path, ...]] | None:
    """(frame, columns, where they are named) of a feature, or None with a diagnostic."""
    assert issubclass(bound.plugin, Feature | RecursiveFeature)
    names = bound.plugin.input_names()
    inputs, path = bound.step.inputs, (*bound.step.path, "inputs")
    if set(inputs) == {"frame"} and "frame" not in names:
        return _bind_frame(bound, names, frames, declared, diagnostics)
    keys = ("column",) if len(names) == 1 and set(inputs) == {"column"} else names
    if set(inputs) != set(keys):
        single = f"inputs: {{column: {next(iter(frames), 'ohlcv')}.close}}"
        several = "inputs: {" + ", ".join(f"{n}: {next(iter(frames), 'ohlcv')}.{n}" for n in names) + "}"
        diagnostics.error(
            "AF4005",
            f"'{bound.step.using}' takes the input(s) {', '.join(names)}, given: {', '.join(inputs) or 'none'}",
            path if inputs else bound.step.path,
            single if len(names) == 1 else several,
        )
        return None
    references = []
    for key in keys:
        reference = split_reference(inputs[key])
        if reference is None:
            diagnostics.error(
                "AF4005",
                f"'{inputs[key]}' is not a column: write FRAME.COLUMN",
                (*path, key),
                "for example ohlcv.close",
            )
            return None
        references.append(reference)
    return _one_frame(bound, keys, references, frames, declared, diagnostics)


def _one_frame(
    bound: BoundStep,
    keys: Sequence[str],
    references: Sequence[tuple[str, str]],
    frames: Mapping[str, FrameDraft],
    declared: Declared,
    diagnostics: Diagnostics,
) -> tuple[str, tuple[str, ...], tuple[Path, ...]] | None:
    path = (*bound.step.path, "inputs")
    for key, (frame, _) in zip(keys, references, strict=True):
        if frame not in frames:
            if not declared.frame(str(frame)):
                unknown_frame(frame, tuple(frames), (*path, key), diagnostics)
            return None
        if frame != references[0][0]:
            diagnostics.error(
                "AF4006",
                f"'{bound.step.using}' reads columns of two frames, '{references[0][0]}' and '{frame}'",
                (*path, key),
                "bring them into one frame first, with transforms.align",
            )
            return None
    return references[0][0], tuple(c for _, c in references), tuple((*path, key) for key in keys)


def _bind_frame(
    bound: BoundStep,
    names: Sequence[str],
    frames: Mapping[str, FrameDraft],
    declared: Declared,
    diagnostics: Diagnostics,
) -> tuple[str, tuple[str, ...], tuple[Path, ...]] | None:
    """``{frame: ohlcv}``: each input takes the bar column of its own name."""
    path = (*bound.step.path, "inputs", "frame")
    frame = bound.step.inputs["frame"]
    if frame not in frames:
        if not declared.frame(str(frame)):
            unknown_frame(str(frame), tuple(frames), path, diagnostics)
        return None
    strange = [n for n in names if n not in BAR_COLUMNS]
    if strange:
        diagnostics.error(
            "AF4005",
            f"'{bound.step.using}' has the input '{strange[0]}', which is no bar column: name its column",
            path,
            "inputs: {"
            + ", ".join(f"{n}: {frame}.{n if n in BAR_COLUMNS else 'close'}" for n in names)
            + "}",
        )
        return None
    return str(frame), tuple(names), tuple(path for _ in names)


def bind_models(
    steps: Sequence[BoundStep], frames: Mapping[str, FrameDraft], declared: Declared, diagnostics: Diagnostics
) -> list[ColumnStep]:
    """Model steps with their frame; the columns they read are known after `describe_model`."""
    found = []
    for bound in steps:
        if bound.step.kind != "model":
            continue
        frame = bound.step.inputs.get("frame")
        path = (*bound.step.path, "inputs")
        if not isinstance(frame, str):
            diagnostics.error(
                "AF4005", f"'{bound.step.using}' needs the input 'frame'", path, "inputs: {frame: ohlcv}"
            )
        elif frame not in frames:
            if not declared.frame(str(frame)):
                unknown_frame(frame, tuple(frames), (*path, "frame"), diagnostics)
        elif len(bound.columns) != 1:
            diagnostics.error(
                "AF4004",
                f"'{bound.step.using}' makes one column, outputs.columns names {len(bound.columns)}",
                (*bound.step.path, "outputs"),
                "outputs: {columns: [model.prediction]}",
            )
        else:
            found.append(ColumnStep(bound, frame, (), bound.columns, ()))
    return found


def describe_model(step: ColumnStep, columns: FrameColumns, training: bool, diagnostics: Diagnostics) -> None:
    """Fill in which columns the model reads: from its checkpoint, or, to train it, from the frame.

    Training takes ``inputs.columns`` or, without it, every column that features add to the frame.
    """
    bound = step.bound
    named = bound.step.inputs.get("columns")
    if training:
        features = [c for s in columns.steps if s.bound.step.kind == "features" for c in s.outputs]
        learned = tuple(named) if named else tuple(features)
        if not learned:
            diagnostics.error(
                "AF4018",
                "the model has no column to learn from",
                bound.step.path,
                "add feature steps to its frame",
            )
            return
        window = int(getattr(bound.params, "window_size", 1))
        step.spec = ModelSpec(learned, window)
    else:
        spec = ask(
            diagnostics, bound.step.path, f"'{bound.step.using}' can't be described", bound.instance.describe
        )
        if spec is None:
            return
        step.spec, step.from_checkpoint = spec, True
        if named and tuple(named) != spec.columns:
            diagnostics.error(
                "AF4018",
                f"the checkpoint was trained on the columns {', '.join(spec.columns)}, inputs.columns names "
                f"{', '.join(named)}",
                (*bound.step.path, "inputs", "columns"),
                "name the same columns, or train again: alpha_forge train",
            )
    step.inputs = step.spec.columns
    step.input_paths = tuple((*bound.step.path, "inputs") for _ in step.inputs)


def check_columns(frame: str, columns: FrameColumns, declared: Declared, diagnostics: Diagnostics) -> None:
    """Each column written once, each column read is made by somebody; a missing one names the nearest."""
    written: set[str] = set(columns.base)
    for step in columns.steps:
        for column in step.outputs:
            if column in written:
                diagnostics.error(
                    "AF4003",
                    f"the column '{column}' of the frame '{frame}' is written twice",
                    (*step.bound.step.path, "outputs"),
                    "give it another name; a template needs '{param}' in the name",
                )
            written.add(column)
    known = tuple(written)
    for step in columns.steps:
        missing = [
            (c, p)
            for c, p in zip(step.inputs, step.input_paths, strict=True)
            if c not in written and not declared.column(c)
        ]
        for column, path in missing:
            if step.from_checkpoint:
                diagnostics.error(
                    "AF4018",
                    f"the checkpoint of '{step.bound.step.using}' was trained on the column '{column}', which no step "
                    f"adds to the frame '{frame}'",
                    path,
                    " or ".join(
                        filter(None, (did_you_mean(column, known), "train again: alpha_forge train"))
                    ),
                )
            else:
                diagnostics.error(
                    "AF4002",
                    f"no step makes the column '{frame}.{column}'",
                    path,
                    did_you_mean(column, known),
                )


def order_steps(frame: str, columns: FrameColumns, diagnostics: Diagnostics) -> list[ColumnStep]:
    """Steps of a frame so that each comes after those whose columns it reads; ties keep the document's order."""
    maker = {c: i for i, step in enumerate(columns.steps) for c in step.outputs}
    sorter: TopologicalSorter[int] = TopologicalSorter()
    for i, step in enumerate(columns.steps):
        sorter.add(i, *sorted({maker[c] for c in step.inputs if c in maker}))
    try:
        sorter.prepare()
    except CycleError as error:
        circle = [columns.steps[i] for i in error.args[1]]
        diagnostics.error(
            "AF4007",
            f"columns of the frame '{frame}' depend on themselves: "
            + " → ".join(", ".join(s.outputs) for s in reversed(circle)),
            circle[0].bound.step.path,
            "break the circle: one of these steps must read something else",
        )
        return []
    order: list[int] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        order += ready
        sorter.done(*ready)
    return [columns.steps[i] for i in order]
