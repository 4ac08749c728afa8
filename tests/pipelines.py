"""Configurations for tests, as text, and running them over a scripted market."""

from __future__ import annotations

import asyncio
import csv
import random
from collections.abc import Sequence
from pathlib import Path
from textwrap import indent

import numpy as np
import pandas as pd

from alpha_forge.contracts.interval import Interval
from alpha_forge.dsl import parse
from alpha_forge.plan.compiler import compile_document
from alpha_forge.registry import discover
from alpha_forge.runtime.runner import RealTimeRunner, RunSummary
from tests.fake_source import ScriptedSource, VirtualClock

FEATURES = """
- features: {using: features.momentum, inputs: {column: F.close}, outputs: {columns: [mom_20]}, params: {window: 20}}
- features: {using: features.rsi, inputs: {column: F.close}, outputs: {columns: [rsi_14]}, params: {window: 14}}
- features: {using: features.ema, inputs: {column: F.close}, outputs: {columns: [ema_10]}, params: {window: 10}}
- features: {using: features.sma, inputs: {column: F.close}, outputs: {columns: [sma_20]}, params: {window: 20}}
- features: {using: features.atr, inputs: {frame: F}, outputs: {columns: [atr_14]}, params: {window: 14}}
- features: {using: features.ma_rocp, inputs: {column: F.close}, outputs: {columns: [ma5rocp]}, params: {window: 5, rocp_period: 1, rocp_factor: 10}}
- features: {using: features.macd, inputs: {column: F.close}, outputs: {columns: [macd, macd_signal, macd_histogram]}}
- features: {using: features.bollinger, inputs: {column: F.close}, outputs: {columns: [bb_upper, bb_middle, bb_lower]}, params: {window: 20}}
- features: {using: features.volume_ratio, inputs: {column: F.volume}, outputs: {columns: [volume_ratio20]}, params: {window: 20}}
- features: {using: features.zscore, inputs: {column: F.close}, outputs: {columns: [zscore_20]}, params: {window: 20}}
"""

COLUMNS = [
    "mom_20",
    "rsi_14",
    "ema_10",
    "sma_20",
    "atr_14",
    "ma5rocp",
    "macd",
    "macd_signal",
    "macd_histogram",
    "bb_upper",
    "bb_middle",
    "bb_lower",
    "volume_ratio20",
    "zscore_20",
]


def config(
    symbols: Sequence[str],
    out: Path,
    columns: Sequence[str],
    *,
    steps: str = FEATURES,
    frame: str = "ohlcv",
    interval: str = "1h",
    lookback_days: str | float = "auto",
    extra: str = "",
) -> str:
    """A configuration that writes each of `columns` of `frame` to a CSV file of its own under `out`."""
    sinks = "\n".join(
        f"    - {{using: sinks.csv_append, name: {c}, column: {frame}.{c}, params: {{path: {out / c}.csv}}}}"
        for c in columns
    )
    return f"""name: test_pipeline
using: {{capabilities: [shared, middlefreq]}}
signal_generation:
  mode: stream
  warmup: {{lookback_days: {lookback_days}}}
  scheduling: {{buffer_minutes: 2}}
  on_prediction:
{sinks}
{extra}
pipeline:
- data: {{using: data.binance_futures, outputs: {{frame: ohlcv}}, params: {{universe: [{", ".join(symbols)}], interval: {interval}}}}}
{indent(steps.replace("F.", frame + ".").replace("frame: F", "frame: " + frame), "")}
"""


def compiled(text: str):
    """(document, graph) of a configuration. Raises ConfigError."""
    document, diagnostics = parse(text, "test.yaml")
    diagnostics.raise_if_any()
    dag = compile_document(document, discover(capabilities=document.capabilities), diagnostics)
    diagnostics.raise_if_any()
    return document, dag


def run_scripted(
    text: str, market: dict[str, pd.DataFrame], arrivals: Sequence[tuple[int, str]], *, per_turn: int = 1
) -> tuple[RunSummary, ScriptedSource, RealTimeRunner]:
    """Run a configuration over a market whose stream brings exactly `arrivals`, to the end of the stream."""
    document, dag = compiled(text)
    interval = next(iter(dag.frames.values())).interval
    first = min(ts for ts, _ in arrivals)
    clock = VirtualClock(first - interval.ns // 2)
    source = ScriptedSource(market, arrivals, clock, interval.ns, per_turn=per_turn)
    runner = RealTimeRunner(document, dag, sources={"ohlcv": source})
    summary = asyncio.run(asyncio.wait_for(runner.run(), 120))
    return summary, source, runner


def arrivals_of(market: dict[str, pd.DataFrame], after: int) -> list[tuple[int, str]]:
    """Every bar after `after`, in order of its close, symbols as they stand."""
    closes = sorted({int(ts) for bars in market.values() for ts in bars.index if ts > after})
    return [(ts, symbol) for ts in closes for symbol, bars in market.items() if ts in bars.index]


def shuffled(arrivals: Sequence[tuple[int, str]], seed: int, block: int) -> list[tuple[int, str]]:
    """The same, shuffled within blocks of `block` arrivals: bars of one symbol overtake each other too."""
    rng = random.Random(seed)
    mixed: list[tuple[int, str]] = []
    for start in range(0, len(arrivals), block):
        part = list(arrivals[start : start + block])
        rng.shuffle(part)
        mixed += part
    return mixed


def delayed(arrivals: Sequence[tuple[int, str]], symbol: str, places: int) -> list[tuple[int, str]]:
    """The same, with every bar of one symbol `places` arrivals later."""
    keyed = [(i + (places + 0.5 if s == symbol else 0), (ts, s)) for i, (ts, s) in enumerate(arrivals)]
    return [arrival for _, arrival in sorted(keyed)]


def read_column(path: Path) -> pd.Series:
    """A CSV of predictions as a series by (symbol, ts in ns); raises on a repeated key."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    keys = [(r["symbol"], pd.Timestamp(r["ts"]).value) for r in rows]
    assert len(set(keys)) == len(keys), f"{path}: a prediction is doubled"
    values = np.array([float(r["prediction"]) for r in rows])
    return pd.Series(values, index=pd.MultiIndex.from_tuples(keys, names=["symbol", "ts"]))


def interval_ns(text: str) -> int:
    return Interval.parse(text).ns
