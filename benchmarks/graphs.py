"""Configurations of the benchmarks, compiled, and their engines, warmed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from alpha_forge.contracts.types import BarBatch
from alpha_forge.dsl import parse
from alpha_forge.dsl.document import Document
from alpha_forge.plan.compiler import compile_document
from alpha_forge.plan.graph import EventFlowDAG
from alpha_forge.registry import discover
from alpha_forge.runtime.engine import Engine
from benchmarks.market import Bars, close_of, names

FRAME = "ohlcv"


def _step(using: str, columns: str, inputs: str = "column: ohlcv.close", **params: object) -> str:
    given = ", ".join(f"{k}: {v}" for k, v in params.items())
    return (
        f"- features: {{using: features.{using}, inputs: {{{inputs}}}, "
        f"outputs: {{columns: [{columns}]}}, params: {{{given}}}}}"
    )


F12 = "\n".join(
    [
        *(_step("momentum", f"mom_{w}", window=w) for w in (20, 60)),
        *(_step("rsi", f"rsi{w}", window=w) for w in (6, 12, 24)),
        *(_step("ma_rocp", f"ma{w}", window=w, rocp_period=1, rocp_factor=10) for w in (5, 10, 20, 60)),
        *(_step("support_resistance", f"r{w}, s{w}", "frame: ohlcv", window=w) for w in (20, 60)),
        _step("volatility", "vol20", window=20),
    ]
)
"""Twelve steps, fourteen columns."""

COLUMNS = (
    "mom_20", "mom_60", "rsi6", "rsi12", "rsi24", "ma5", "ma10", "ma20", "ma60", "r20", "s20", "r60", "s60", "vol20",
)  # fmt: skip
"""What the steps of F12 make, in their order."""


def config(symbols: Sequence[str], steps: str, column: str, out: Path) -> str:
    """A configuration of one hourly frame that delivers `column` to a CSV file."""
    return f"""name: bench
using: {{capabilities: [shared, middlefreq]}}
signal_generation:
  mode: stream
  warmup: {{lookback_days: auto}}
  on_prediction: [{{using: sinks.csv_append, column: {column}, params: {{path: {out}}}}}]
pipeline:
- data:
    using: data.binance_futures
    outputs: {{frame: ohlcv}}
    params: {{universe: [{", ".join(symbols)}], interval: 1h}}
{steps}
"""


def compiled(text: str) -> tuple[Document, EventFlowDAG]:
    """Raises ConfigError."""
    document, diagnostics = parse(text, "benchmark.yaml")
    diagnostics.raise_if_any()
    assert document is not None
    dag = compile_document(document, discover(capabilities=document.capabilities), diagnostics)
    diagnostics.raise_if_any()
    assert dag is not None
    return document, dag


def batches(bars: Bars, first: int = 0, stop: int | None = None) -> list[tuple[str, BarBatch]]:
    """Bars `first` … ``stop - 1`` of all symbols, one batch a close."""
    everyone = np.arange(bars.symbols, dtype=np.int64)
    nobody = np.empty(0, dtype=np.int64)
    return [
        (FRAME, BarBatch(close_of(k), everyone, bars.values[k], nobody))
        for k in range(first, bars.count if stop is None else stop)
    ]


def warm_engine(dag: EventFlowDAG, bars: Bars, warm: int) -> Engine:
    """An engine that has seen the first `warm` bars, and predicts from the next one on."""
    engine = Engine(dag)
    interval = dag.frames[FRAME].interval
    engine.begin({FRAME: np.full(bars.symbols, interval.row(close_of(0)))})
    engine.emit_after({FRAME: close_of(warm - 1)})
    engine.warm(batches(bars, 0, warm))
    return engine


def f12_config(symbols: int) -> str:
    """F12 over made-up symbols; delivers one of its columns."""
    return config(names(symbols), F12, "ohlcv.rsi24", Path("never_opened.csv"))
