"""WholeGraph: a graph over history in whole arrays, chunk by chunk, with memory bounded by the chunk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from alpha_forge.contracts.interval import iso
from alpha_forge.contracts.types import BAR_COLUMNS
from alpha_forge.plan.graph import EventFlowDAG, FrameSpec, Node
from alpha_forge.runtime.frames import ring_rows
from alpha_forge.runtime.known import known_rows
from alpha_forge.runtime.replay.bars import AlignedRows, OwnBars
from alpha_forge.runtime.replay.steps import ArrayStep, ModelStep, PanelStep, RecursiveStep, make_step
from alpha_forge.runtime.steps import blame, guarded
from alpha_forge.runtime.warmup import History

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class FrameChunk:
    """New rows of one frame: ``ts`` (rows,) closes, ``present`` (rows, symbols), columns (rows, symbols)."""

    frame: str
    ts: Int
    present: Bool
    columns: Mapping[str, Float]


def obstacle(dag: EventFlowDAG) -> str | None:
    """Why a graph can't be evaluated in whole arrays, in words; None if it can."""
    closes = {spec.event: spec.name for spec in dag.frames.values()}
    for node in dag.nodes.values():
        for event in node.on:
            if closes.get(event) != node.frame:
                return f"{node.id} runs on the event {event}, not on the bars of its frame"
        if node.kind == "features" and node.settle and node.scope == "panel":
            return f"{node.id} is recursive and reads across symbols"
    return None


class WholeGraph:
    """The graph's nodes, each with what it must remember between chunks. Chunks come in order of time."""

    def __init__(self, dag: EventFlowDAG, *, wanted: Sequence[tuple[str, str]]) -> None:
        """``wanted`` are the (frame, column) pairs that `run` gives; models that nobody asks for are left out."""
        self._dag = dag
        self._wanted: dict[str, list[str]] = {}
        for frame, column in wanted:
            self._wanted.setdefault(frame, []).append(column)
        self._nodes = _needed(dag, wanted)
        self._transforms = {n.id: dag.make(n) for n in dag.nodes.values() if n.kind == "transform"}
        self._steps: dict[str, ArrayStep] = {
            n.id: guarded(n, "when it was made", lambda n=n: make_step(dag, n))  # type: ignore[misc]
            for n in self._nodes
            if n.kind in ("features", "model")
        }
        self._frames = {name: _FrameArrays(spec, self) for name, spec in dag.frames.items()}
        self._known: dict[str, Int] = {}

    def load_models(self) -> None:
        """Read the checkpoints. Raises ModelError."""
        for step in self._steps.values():
            if isinstance(step, ModelStep):
                guarded(step.node, "while its checkpoint was loaded", step.load)

    def begin(self, first: Mapping[str, Int]) -> None:
        """Say, for each data frame, from which row (symbols,) on its bars are known. Call once, before any chunk."""
        self._known = known_rows(self._dag, self._transforms, first)
        for step in self._steps.values():
            if isinstance(step, RecursiveStep):
                step.known_from(self._known[step.node.frame])

    def run(
        self, start: int, end: int, histories: Mapping[str, History], *, last: bool = True
    ) -> Iterator[FrameChunk]:
        """The rows with ``start < ts <= end`` (ns) of every frame that something is wanted of, columns as wanted.

        ``last`` says that no later range follows; here nothing depends on it.
        """
        for node in self._nodes:
            frame = self._frames[node.frame]
            try:
                if node.kind == "data":
                    frame.take(histories[node.frame])
                elif node.kind == "transform":
                    self._make(node, frame, start, end)
                else:
                    self._compute(node, frame)
            except Exception as error:
                raise blame(node, f"in the bars from {iso(start)} to {iso(end)}", error) from error
        for name, columns in self._wanted.items():
            yield self._frames[name].chunk(columns)

    def _compute(self, node: Node, frame: _FrameArrays) -> None:
        step = self._steps[node.id]
        if not len(frame.numbers):
            outputs = tuple(np.empty((0, frame.size)) for _ in node.outputs)
        else:
            outputs = step.run(frame.own, frame.rows, frame.reach)
        for column, values in zip(node.outputs, outputs, strict=True):
            frame.put(column, values, aligned=isinstance(step, PanelStep))

    def _make(self, node: Node, target: _FrameArrays, start: int, end: int) -> None:
        """A transform's rows of the chunk."""
        sources = [self._frames[f] for f in node.source_frames]
        interval = target.spec.interval
        numbers = np.arange(interval.row(start) + 1, interval.row(end) + 1)
        values = {c: np.full((len(numbers), target.size), np.nan) for c in node.outputs}
        made = (
            self._joined(node, sources)
            if len(sources) == 2
            else self._remade(node, sources[0], target, start)
        )
        if made is not None and len(numbers):
            made_ts, columns = made
            places = (np.asarray(made_ts) - interval.offset) // interval.ns - numbers[0]
            good = (places >= 0) & (places < len(numbers))
            for c in node.outputs:
                values[c][places[good]] = columns[c][good]
        marker = values["close"] if "close" in values else values[node.outputs[0]]
        present = ~np.isnan(marker) & (numbers[:, None] >= self._known[target.spec.name][None, :])
        target.extend(numbers, present, values)

    def _remade(self, node: Node, source: _FrameArrays, target: _FrameArrays, start: int) -> Any:
        """From one frame: whole buckets, and so much before them that the transform knows that they are whole."""
        grid, out = source.spec.interval, target.spec.interval
        first = out.ts(out.row(start) + 1)  # the first close that this chunk may make
        begin = min(out.ts(out.row(start)), first - node.lookback * grid.ns)
        rows = source.rows
        numbers = np.arange(grid.row(begin), grid.row(source.until) + 1)
        here = np.isin(numbers, rows.numbers)
        # As in the stream: of the closes at which nobody has a bar only those that end a bucket are told.
        closes = grid.offset + numbers * grid.ns
        kept = here | ((closes - out.offset) % out.ns == 0)
        numbers, closes, here = numbers[kept], closes[kept], here[kept]
        if not len(numbers):
            return None
        at = np.searchsorted(rows.numbers, numbers[here])
        columns = {}
        for c in node.source_columns[0]:
            columns[c] = np.full((len(numbers), source.size), np.nan)
            columns[c][here] = rows.columns[c][at]
        return self._transforms[node.id].apply(closes, columns)

    def _joined(self, node: Node, sources: Sequence[_FrameArrays]) -> Any:
        """From two frames: the leading frame's rows of the chunk, with the other's up to them."""
        left, right = sources
        if not len(left.numbers):
            return None
        lead = {c: left.rows.new(c) for c in node.source_columns[0]}
        place = {name: i for i, name in enumerate(right.spec.symbols)}
        places = np.array([place.get(s, -1) for s in left.spec.symbols], dtype=np.int64)
        other = {
            c: np.where(places >= 0, right.rows.columns[c][:, np.maximum(places, 0)], np.nan)
            for c in node.source_columns[1]
        }
        ts, right_ts = _closes(left.spec, left.numbers), _closes(right.spec, right.rows.numbers)
        made_ts, made = self._transforms[node.id].apply(ts, lead, (right_ts, other))
        absent = ~left.present
        if absent.any():
            made = {c: np.where(absent, np.nan, made[c]) for c in node.outputs}
        return made_ts, made

    def needs(self, frame: str) -> tuple[int, int]:
        """Own bars and aligned rows that the steps on a frame, and the transforms from it, reach back."""
        own = aligned = 0
        for step in self._steps.values():
            if step.node.frame == frame:
                own = max(own, step.own_context())
                aligned = max(aligned, step.aligned_context())
        for node in self._dag.transforms_from(frame):
            target, grid = self._dag.frames[node.frame].interval, self._dag.frames[frame].interval
            back = node.lookback + -(-target.ns // grid.ns) + 1
            if len(node.source_frames) == 2 and node.source_frames[1] == frame:
                back = self._transforms[node.id].other_lookback(grid) + 1
            aligned = max(aligned, back)
        return own, aligned

    def readers(self, frame: str) -> tuple[frozenset[str], frozenset[str]]:
        """Columns of a frame that steps read by own bars, and those that somebody reads, or wants, aligned."""
        own: set[str] = set()
        aligned: set[str] = set(self._wanted.get(frame, ()))
        for step in self._steps.values():
            if step.node.frame == frame:
                (aligned if isinstance(step, PanelStep) else own).update(step.node.inputs)
        for node in self._nodes:
            for name, columns in zip(node.source_frames, node.source_columns, strict=True):
                if name == frame:
                    aligned.update(columns)
        return frozenset(own), frozenset(aligned)


class _FrameArrays:
    """A frame's rows and own bars."""

    def __init__(self, spec: FrameSpec, graph: WholeGraph) -> None:
        self.spec = spec
        self.size = len(spec.symbols)
        _, self.reach = ring_rows(spec.warmup_bars)
        own_context, aligned_context = graph.needs(spec.name)
        self._own_columns, self._aligned_columns = graph.readers(spec.name)
        self.own = OwnBars(sorted(self._own_columns), self.size, own_context)
        self.rows = AlignedRows(sorted(self._aligned_columns), self.size, aligned_context)
        self.numbers: Int = np.empty(0, dtype=np.int64)
        self.present: Bool = np.empty((0, self.size), dtype=np.bool_)
        self.until = 0
        """Close up to which the frame is complete, ns."""

    def take(self, history: History) -> None:
        """The bars of a data frame."""
        numbers = history.first + np.arange(history.rows)
        columns = dict(zip(BAR_COLUMNS, history.values, strict=True))
        self.extend(numbers, history.present, columns)

    def extend(self, numbers: Int, present: Bool, columns: Mapping[str, Float]) -> None:
        """Rows of the grid; those in which nobody has a bar are left out."""
        if len(numbers):
            self.until = self.spec.interval.ts(int(numbers[-1]))
        if not present.all():
            columns = {c: np.where(present, values, np.nan) for c, values in columns.items()}
            some = present.any(axis=1)
            if not some.all():
                numbers, present = numbers[some], present[some]
                columns = {c: values[some] for c, values in columns.items()}
        self.numbers, self.present = numbers, present
        if self._own_columns:
            self.own.extend(numbers, present, {c: v for c, v in columns.items() if c in self._own_columns})
        self.rows.extend(numbers, {c: v for c, v in columns.items() if c in self._aligned_columns})

    def put(self, column: str, values: Float, *, aligned: bool) -> None:
        """What a step made of the chunk: rows, or own bars."""
        if aligned:
            rows = values if self.present.all() else np.where(self.present, values, np.nan)
            if column in self._own_columns:
                self.own.put(column, self.own.squeezed(rows))
        else:
            rows = self.own.aligned(values) if column in self._aligned_columns else values
            if column in self._own_columns:
                self.own.put(column, values)
        if column in self._aligned_columns:
            self.rows.put(column, rows)

    def chunk(self, columns: Sequence[str]) -> FrameChunk:
        found = {c: self.rows.new(c) for c in columns}
        return FrameChunk(self.spec.name, _closes(self.spec, self.numbers), self.present, found)


def _closes(spec: FrameSpec, numbers: Int) -> Int:
    return spec.interval.offset + numbers * spec.interval.ns


def _needed(dag: EventFlowDAG, wanted: Sequence[tuple[str, str]]) -> tuple[Node, ...]:
    """The nodes that the wanted columns are made of, in dependency order; data steps always."""
    columns = set(wanted)
    frames = {frame for frame, _ in wanted}
    kept: list[Node] = []
    for node in reversed(tuple(dag.nodes.values())):
        if node.kind in ("features", "model"):
            if not any((node.frame, c) in columns for c in node.outputs):
                continue
            columns |= {(node.frame, c) for c in node.inputs}
            frames.add(node.frame)
        elif node.kind == "transform":
            if node.frame not in frames:
                continue
            frames.update(node.source_frames)
            for name, taken in zip(node.source_frames, node.source_columns, strict=True):
                columns |= {(name, c) for c in taken}
        kept.append(node)
    return tuple(reversed(kept))
