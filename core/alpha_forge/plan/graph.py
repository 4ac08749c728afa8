"""The compiled graph: frames, nodes, flows, warm-up. Values only; the runtime executes them, `render` prints them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from alpha_forge.contracts.interval import Interval
from alpha_forge.contracts.plugin import ModelSpec, Plugin, Sink, Transform
from alpha_forge.dsl.diagnostics import Path


@dataclass(frozen=True, slots=True)
class FrameSpec:
    """A frame: the bars of all symbols of one interval, and the columns that steps add."""

    name: str
    interval: Interval
    symbols: tuple[str, ...]
    event: str
    """Id of its bar close: ``data.binance_1h``, or ``frame.NAME`` for what a transform makes."""
    base_columns: tuple[str, ...]
    """Columns that come with a row: the bar's, or what the transform puts out."""
    columns: tuple[str, ...]
    """All columns, base first, then those of the steps in dependency order."""
    warmup_bars: int = 1
    """Longest stretch of this frame that any path needs before its first value."""


@dataclass(frozen=True, slots=True)
class Node:
    """One step of the graph, bound to frames and columns. ``id`` is unique and says what it makes."""

    id: str
    kind: str
    """``data``, ``transform``, ``features`` or ``model``."""
    using: str
    plugin: type[Plugin]
    params: Any
    frame: str
    """The frame that it reads and adds columns to; of a data step or transform: the frame that it makes."""
    inputs: tuple[str, ...] = ()
    """Column names, in the order of the plugin's inputs (a model: in its checkpoint's order)."""
    outputs: tuple[str, ...] = ()
    source_frames: tuple[str, ...] = ()
    """Of a transform: the frames it reads."""
    source_columns: tuple[tuple[str, ...], ...] = ()
    """Of a transform: the columns it reads of each."""
    lookback: int = 1
    """Bars that one output needs by itself: look-back, settling bars, or window."""
    settle: int = 0
    """Of a recursive feature: bars after which the start weighs less than epsilon."""
    scope: str = "symbol"
    upstream: int = 1
    """Bars of its frame that one row of its inputs needs."""
    on: tuple[str, ...] = ()
    emits: tuple[str, ...] = ()
    path: Path = ()


@dataclass(frozen=True, slots=True)
class FlowDefinition:
    """The steps that one event triggers on one frame, in dependency order."""

    name: str
    event: str
    frame: str
    nodes: tuple[str, ...]
    panel: bool
    """True if it holds a panel node: then it runs once per ts, when every symbol is in or certified absent."""


@dataclass(frozen=True, slots=True)
class Need:
    """How many bars of a data step's frame the most demanding path needs, and why."""

    frame: str
    bars: int
    chain: tuple[str, ...]
    """Readable links of the path, from the end to the data."""


@dataclass(frozen=True, slots=True)
class WarmupSpec:
    """Warm-up of one data step."""

    frame: str
    need: int
    """Bars that the longest path needs."""
    fetch: int
    """Bars that are fetched: need × 1.1, at most ``lookback_days``."""
    needs: tuple[Need, ...]
    """One for each path's end, the longest first."""


@dataclass(frozen=True, slots=True)
class SinkSpec:
    """A destination and the column it receives."""

    name: str
    using: str
    plugin: type[Sink]
    params: Any
    frame: str
    column: str
    delivery: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class EventFlowDAG:
    """A whole configuration, compiled."""

    name: str
    frames: Mapping[str, FrameSpec]
    nodes: Mapping[str, Node]
    """By id, in dependency order."""
    flows: tuple[FlowDefinition, ...]
    warmup: Mapping[str, WarmupSpec]
    """By the frame of each data step."""
    sinks: tuple[SinkSpec, ...]
    epsilon: float
    emit_interval: Interval | None
    buffer_seconds: float
    models: Mapping[str, ModelSpec] = field(default_factory=dict)
    """By node id: what each model's checkpoint says it reads."""

    def data_nodes(self) -> tuple[Node, ...]:
        return tuple(n for n in self.nodes.values() if n.kind == "data")

    def is_data(self, frame: str) -> bool:
        """True if a data step makes `frame`, so that each of its bars is complete."""
        return any(n.frame == frame for n in self.data_nodes())

    def is_ticking(self, frame: str) -> bool:
        """True if a data step makes `frame` whose bars are mere instants."""
        return any(n.frame == frame and getattr(n.plugin, "ticks", False) for n in self.data_nodes())

    def is_plain(self, frame: str, column: str) -> bool:
        """True for columns of bars, and of buckets or joins of nothing but bars: no step's look-back is behind them."""
        if column not in self.frames[frame].base_columns:
            return False
        maker = next(n for n in self.nodes.values() if n.frame == frame and n.kind in ("data", "transform"))
        return all(
            self.is_plain(name, c)
            for name, taken in zip(maker.source_frames, maker.source_columns, strict=True)
            for c in taken
        )

    def transforms_from(self, frame: str) -> tuple[Node, ...]:
        """Transforms that read `frame`, in dependency order."""
        return tuple(n for n in self.nodes.values() if n.kind == "transform" and frame in n.source_frames)

    def make(self, node: Node) -> Any:
        """A fresh instance of the node's plugin. A transform is told its input's interval, as the compiler told it."""
        instance = node.plugin(node.params)
        if isinstance(instance, Transform):
            instance.output_interval(self.frames[node.source_frames[0]].interval)
        return instance

    def sink_columns(self) -> frozenset[tuple[str, str]]:
        """(frame, column) of everything that is delivered."""
        return frozenset((s.frame, s.column) for s in self.sinks)
