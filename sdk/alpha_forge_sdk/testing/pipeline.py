"""A whole configuration over made-up bars: all of the runtime is real, only market and clock are not."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from alpha_forge.contracts.params import Params
from alpha_forge.contracts.plugin import Sink
from alpha_forge.contracts.types import Bar, Prediction
from alpha_forge.dsl import Document, parse
from alpha_forge.dsl.diagnostics import Diagnostics
from alpha_forge.plan.compiler import compile_document
from alpha_forge.plan.graph import EventFlowDAG, FrameSpec
from alpha_forge.registry import discover
from alpha_forge.runtime.frames import FrameLog
from alpha_forge.runtime.runner import RealTimeRunner, RunSummary
from alpha_forge_sdk.testing.bars import made_bars
from alpha_forge_sdk.testing.clock import VirtualClock
from alpha_forge_sdk.testing.source import Arrival, Market, ScriptedSource, arrivals_in_order

EPOCH = 1_767_571_200_000_000_000
"""2026-01-05T00:00:00Z in ns: before the first close of made bars."""
DEADLINE = 120.0


@dataclass(frozen=True, slots=True)
class FrameTable:
    """What a frame held at the end: its newest rows. Columns are (rows, symbols) float64, NaN if not known."""

    symbols: tuple[str, ...]
    ts: npt.NDArray[np.int64]
    columns: Mapping[str, npt.NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class PipelineRun:
    """What a run gave. ``predictions`` are in the order of delivery: of each column and symbol in that of its bars."""

    predictions: tuple[Prediction, ...]
    summary: RunSummary
    frames: Mapping[str, FrameTable]
    sources: Mapping[str, ScriptedSource] = field(default_factory=dict)

    def values(self, column: str | None = None) -> dict[tuple[str, int], float]:
        """(symbol, close in ns) → value, of one column (without a name: of the only one)."""
        names = {p.metadata["column"] for p in self.predictions}
        if column is None and len(names) > 1:
            raise ValueError(f"several columns were delivered, name one of {', '.join(sorted(names))}")
        chosen = [p for p in self.predictions if column in (None, p.metadata["column"])]
        return {(p.symbol, _nanoseconds(p)): p.value for p in chosen}


def _nanoseconds(prediction: Prediction) -> int:
    # In whole microseconds: seconds as a float would lose some.
    whole = int(prediction.ts.timestamp())
    return whole * 1_000_000_000 + prediction.ts.microsecond * 1_000


def run_pipeline(
    config: str | Path | Mapping[str, Any],
    *,
    bars: int | Market | Iterable[tuple[str, Bar]] = 200,
    history: int | None = None,
    seed: int = 0,
    per_turn: int = 1,
    deliver: bool = False,
    overrides: Sequence[str] = (),
) -> PipelineRun:
    """Run `config` (YAML text, a path, or a mapping) over `bars` to the last of them, on a virtual clock.

    `bars` is a number (made bars for each symbol of the universe, drawn from `seed`), a market (symbol → columns with
    ``ts``; or a DataFrame by close), or an iterable of (symbol, Bar) in the order in which the stream brings them. The
    first `history` closes are there before the stream begins (default: as many as the warm-up asks for, of an
    iterable none). ``per_turn`` bars arrive at a time. Every data step gets a scripted source in the place of its own.

    The configuration's sinks are not opened, and nothing is written, unless `deliver` is set: what they would get is
    in the result. Raises ConfigError for a configuration that doesn't compile, and whatever ends a run.
    """
    document, dag = _compiled(config, overrides)
    collected: list[Prediction] = []
    observed = replace(dag, sinks=_collectors(dag, collected, deliver))
    clock = VirtualClock(EPOCH)
    sources: dict[str, ScriptedSource] = {}
    for node in dag.data_nodes():
        spec = dag.frames[node.frame]
        market, arrivals = _script(bars, spec, dag, history, seed)
        sources[node.frame] = ScriptedSource(market, arrivals, clock, spec.interval.ns, per_turn=per_turn)
    clock.advance(min(ts for s in sources.values() for ts, _ in s.arrivals) - 1)
    runner = RealTimeRunner(document, observed, sources=sources)
    summary = asyncio.run(asyncio.wait_for(runner.run(), DEADLINE))
    frames = {name: _table(log) for name, log in runner.engine.frames.items()}
    return PipelineRun(tuple(collected), summary, frames, sources)


def _compiled(
    config: str | Path | Mapping[str, Any], overrides: Sequence[str]
) -> tuple[Document, EventFlowDAG]:
    name = "<test>"
    if isinstance(config, Path):
        name, text = str(config), config.read_text(encoding="utf-8")
    elif isinstance(config, str):
        text = config
    else:
        import yaml

        text = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
    document, diagnostics = parse(text, name, overrides)
    dag = _dag(document, diagnostics) if document is not None else None
    diagnostics.raise_if_any()
    assert document is not None
    assert dag is not None
    return document, dag


def _dag(document: Document, diagnostics: Diagnostics) -> EventFlowDAG | None:
    return compile_document(document, discover(capabilities=document.capabilities), diagnostics)


class _Collector(Sink):
    """Keeps what the sink in whose place it stands would have got."""

    idempotent_by = ()

    class Params(Params):
        """Where to put it; never validated."""

        into: Any

    def emit_batch(self, predictions: Sequence[Prediction]) -> None:
        self.params.into.extend(predictions)


def _collectors(dag: EventFlowDAG, into: list[Prediction], deliver: bool) -> tuple[Any, ...]:
    """One collector for each column that is delivered; and the sinks themselves, if they are to have it too."""
    # Not validated: a copy of the list would be filled.
    params = _Collector.Params.model_construct(into=into)
    by_column = {(spec.frame, spec.column): spec for spec in reversed(dag.sinks)}
    collectors = [
        replace(spec, name=f"collector#{n}", plugin=_Collector, params=params, delivery={})
        for n, spec in enumerate(reversed(by_column.values()))
    ]
    return (*collectors, *(dag.sinks if deliver else ()))


def _script(
    bars: int | Market | Iterable[tuple[str, Bar]],
    spec: FrameSpec,
    dag: EventFlowDAG,
    history: int | None,
    seed: int,
) -> tuple[Market, list[Arrival]]:
    """The market of one frame, and what its stream brings."""
    if not isinstance(bars, int | Mapping):
        streamed = list(bars)
        market = _market_of(streamed)
        closes = sorted({bar.ts for _, bar in streamed})
        before = set(closes[: history or 0])
        arrivals = [(bar.ts, symbol) for symbol, bar in streamed if bar.ts not in before]
    else:
        market = _made(bars, spec, seed) if isinstance(bars, int) else bars
        ordered = arrivals_in_order(market, 0)
        closes = sorted({ts for ts, _ in ordered})
        need = dag.warmup[spec.name].need if spec.name in dag.warmup else 0
        kept = min(need if history is None else history, len(closes) - 1)
        arrivals = [a for a in ordered if a[0] > closes[kept - 1]] if kept > 0 else ordered
    missing = sorted(set(spec.symbols) - set(market))
    if missing or not arrivals:
        what = f"of {', '.join(missing)}" if missing else "after the history"
        raise ValueError(f"frame '{spec.name}': there are no bars {what}")
    return market, arrivals


def _made(count: int, spec: FrameSpec, seed: int) -> Market:
    columns = made_bars(count, len(spec.symbols), seed)
    first = spec.interval.row(EPOCH) + 1
    ts = np.array([spec.interval.ts(row) for row in range(first, first + count)], dtype=np.int64)
    return {
        symbol: {"ts": ts, **{name: values[:, n] for name, values in columns.items()}}
        for n, symbol in enumerate(spec.symbols)
    }


def _market_of(streamed: Sequence[tuple[str, Bar]]) -> Market:
    """The market in which these bars happened; of one that comes twice, the first."""
    of_symbol: dict[str, dict[int, Bar]] = {}
    for symbol, bar in streamed:
        of_symbol.setdefault(symbol, {}).setdefault(bar.ts, bar)
    return {
        symbol: {
            name: np.array([getattr(found[ts], name) for ts in sorted(found)])
            for name in ("ts", "open", "high", "low", "close", "volume")
        }
        for symbol, found in of_symbol.items()
    }


def _table(log: FrameLog) -> FrameTable:
    rows = log.aligned_rows(log.newest, log.capacity)
    ts = np.array([log.interval.ts(int(row)) for row in rows], dtype=np.int64)
    columns = {name: log.aligned_window(name, rows, log.everyone).copy() for name in log.index}
    return FrameTable(log.symbols, ts, columns)
