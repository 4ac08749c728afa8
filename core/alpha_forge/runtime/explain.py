"""The values of every node that led to one prediction: the graph, seen at one bar of one symbol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from alpha_forge.contracts.errors import SourceError, UsageError, did_you_mean
from alpha_forge.contracts.interval import iso
from alpha_forge.contracts.plugin import DataSource
from alpha_forge.plan.graph import EventFlowDAG, Node
from alpha_forge.runtime.engine import Engine
from alpha_forge.runtime.progress import Progress, Silent
from alpha_forge.runtime.replay.reading import first_rows
from alpha_forge.runtime.sources import opened
from alpha_forge.runtime.warmup import History, batched, fetch_history, merged

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]

CHUNK = 256


@dataclass(frozen=True, slots=True)
class Track:
    """The last bars of one column of the symbol, oldest first: ``ts`` (n,) ns, ``values`` (n,)."""

    frame: str
    column: str
    ts: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Explained:
    """One node: what it read, and what it made at its newest bar up to the instant asked for."""

    node: str
    using: str
    params: Mapping[str, Any]
    lookback: int
    inputs: tuple[Track, ...]
    outputs: tuple[Track, ...]
    """One value each; none where the node made nothing of that bar."""


@dataclass(slots=True)
class Explanation:
    """Of one delivered column at one bar; ``nodes`` from the data to the value."""

    symbol: str
    ts: int
    frame: str
    column: str
    value: float | None
    nodes: list[Explained] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    """Why there is no value, if there is none."""


class Explainer:
    """Runs the graph over the warm-up and up to one bar, and keeps what every node made for one symbol."""

    def __init__(self, dag: EventFlowDAG, symbol: str, ts: int) -> None:
        """Raises UsageError AF8120 for a symbol that no frame has."""
        self._dag = dag
        self._symbol = symbol
        self._ts = ts
        self._tracks: dict[tuple[str, str], dict[int, float]] = {}
        known = sorted({s for frame in dag.frames.values() for s in frame.symbols})
        if symbol not in known:
            raise UsageError(
                "AF8120",
                f"no frame has the symbol '{symbol}'",
                did_you_mean(symbol, known, "see 'alpha_forge plan'"),
            )
        self._places = {
            name: frame.symbols.index(symbol) for name, frame in dag.frames.items() if symbol in frame.symbols
        }

    async def run(
        self,
        cache_dir: Path,
        progress: Progress | None = None,
        sources: Mapping[str, DataSource] | None = None,
    ) -> list[Explanation]:
        """One explanation for each delivered column of a frame with the symbol. Raises SourceError and ModelError."""
        first = first_rows(self._dag, self._ts - 1)
        histories: dict[str, History] = {}
        async with opened(self._dag, cache_dir, sources=sources) as (made, clock):
            for name, source in made.items():
                spec = self._dag.frames[name]
                last = spec.interval.row(self._ts)
                passed = await source.passed(spec.interval.ts(last), clock.now())
                if passed < spec.interval.ts(last):
                    raise UsageError(
                        "AF8121",
                        f"the bar at {iso(self._ts)} has not closed: the source's time is {iso(passed)}",
                        "choose an earlier --ts",
                    )
                histories[name] = await fetch_history(
                    source, spec, last, last - first[name] + 1, progress or Silent()
                )
        return self.explain(histories)

    def explain(self, histories: Mapping[str, History]) -> list[Explanation]:
        """The same from histories that are at hand; they must reach back as far as a start needs."""
        engine = Engine(self._dag)
        engine.load_models()
        engine.observe(self._note)
        engine.begin({n: np.full(h.values.shape[2], h.first) for n, h in histories.items()})
        for items in batched(merged(self._dag, histories, certain=True), CHUNK):
            engine.process(items)
        columns = [(f, c) for f, c in sorted(self._dag.sink_columns()) if f in self._places]
        return [self._of(frame, column) for frame, column in columns]

    def _note(self, frame: str, column: str, ts: int, symbols: Int, values: Float) -> None:
        place = self._places.get(frame)
        if place is None or ts > self._ts:
            return
        at = np.searchsorted(symbols, place)
        if at < len(symbols) and symbols[at] == place:
            self._tracks.setdefault((frame, column), {})[ts] = float(values[at])

    def _of(self, frame: str, column: str) -> Explanation:
        found = Explanation(self._symbol, self._ts, frame, column, None)
        value = self._tracks.get((frame, column), {}).get(self._ts)
        found.value = None if value is None or np.isnan(value) else value
        found.nodes = [self._explained(node) for node in self._upstream(frame, column)]
        if not any(found.nodes) or not self._tracks:
            raise SourceError(
                "AF8122", f"no bar of {self._symbol} up to {iso(self._ts)}", "choose a later --ts"
            )
        if found.value is None:
            found.missing = self._reasons(frame, column)
        return found

    def _upstream(self, frame: str, column: str) -> list[Node]:
        """The nodes that the column is made of, in dependency order."""
        wanted = {(frame, column)}
        frames = {frame}
        kept: list[Node] = []
        for node in reversed(tuple(self._dag.nodes.values())):
            if node.kind in ("features", "model"):
                if not any((node.frame, c) in wanted for c in node.outputs):
                    continue
                wanted |= {(node.frame, c) for c in node.inputs}
                frames.add(node.frame)
            elif node.frame not in frames:
                continue
            elif node.kind == "transform":
                for name, taken in zip(node.source_frames, node.source_columns, strict=True):
                    frames.add(name)
                    wanted |= {(name, c) for c in taken}
            kept.append(node)
        return kept[::-1]

    def _explained(self, node: Node) -> Explained:
        inputs: list[tuple[str, str]] = [(node.frame, c) for c in node.inputs]
        if node.kind == "transform":
            pairs = zip(node.source_frames, node.source_columns, strict=True)
            inputs = [(name, c) for name, columns in pairs for c in columns]
        outputs = [(node.frame, c) for c in node.outputs or self._dag.frames[node.frame].base_columns]
        return Explained(
            node.id,
            node.using,
            node.params.model_dump(mode="json"),
            node.lookback,
            tuple(self._track(frame, column, node.lookback) for frame, column in inputs),
            tuple(self._track(frame, column, 1) for frame, column in outputs),
        )

    def _track(self, frame: str, column: str, bars: int) -> Track:
        known = self._tracks.get((frame, column), {})
        ts = sorted(known)[-bars:]
        return Track(frame, column, tuple(ts), tuple(known[t] for t in ts))

    def _reasons(self, frame: str, column: str) -> list[str]:
        """The first nodes on the way that lack a value, and what they lack."""
        grid = self._dag.frames[frame].interval
        if self._ts not in self._tracks.get((frame, self._dag.frames[frame].base_columns[0]), {}):
            return [f"{self._symbol} has no bar in {frame} at {iso(self._ts)} (bars close every {grid})"]
        said = []
        for node in self._upstream(frame, column):
            for name in node.outputs if node.kind != "data" else ():
                values = self._track(node.frame, name, 1).values
                if values and np.isnan(values[-1]):
                    said.append(f"{node.frame}.{name} ({node.using}) is not ready")
        return said[:3] or [f"{frame}.{column} is not ready"]


def as_text(explanation: Explanation, shown: int = 3) -> str:
    """For reading: each node with the newest `shown` values of what it read."""
    e = explanation
    value = "no value" if e.value is None else f"{e.value!r} ({e.value.hex()})"
    lines = [
        f"{e.frame}.{e.column} of {e.symbol} at {iso(e.ts)}: {value}",
        *(f"  {why}" for why in e.missing),
    ]
    for node in e.nodes:
        given = ", ".join(f"{k}={v}" for k, v in node.params.items() if k not in ("universe", "endpoints"))
        lines += ["", f"{node.node}  {node.using}({given})"]
        for track in node.inputs:
            newest = ", ".join(f"{v:.10g}" for v in track.values[-shown:]) or "nothing"
            more = f"… {newest}" if len(track.values) > shown else newest
            known = sum(not np.isnan(v) for v in track.values)
            lines.append(
                f"  reads {track.frame}.{track.column}  {known} of {node.lookback} bars known  {more}"
            )
        for track in node.outputs:
            for ts, made in zip(track.ts, track.values, strict=True):
                lines.append(f"  makes {track.frame}.{track.column}  {made!r}  at {iso(ts)}")
            if not track.ts:
                lines.append(f"  makes {track.frame}.{track.column}  nothing")
    return "\n".join(lines)


def as_json(explanation: Explanation) -> dict[str, Any]:
    """For programs; values as their shortest text that reads back to the same bits, a NaN as null."""
    e = explanation
    return {
        "symbol": e.symbol,
        "ts": iso(e.ts),
        "frame": e.frame,
        "column": e.column,
        "value": e.value,
        "missing": e.missing,
        "nodes": [
            {
                "node": n.node,
                "using": n.using,
                "params": n.params,
                "lookback": n.lookback,
                "inputs": _tracks(n.inputs),
                "outputs": _tracks(n.outputs),
            }
            for n in e.nodes
        ],
    }


def _tracks(tracks: Sequence[Track]) -> list[dict[str, Any]]:
    return [
        {
            "frame": t.frame,
            "column": t.column,
            "ts": [iso(ts) for ts in t.ts],
            "values": [None if np.isnan(v) else v for v in t.values],
        }
        for t in tracks
    ]
