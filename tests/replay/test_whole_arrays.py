"""Whole arrays give the bits that the stream gives, bar by bar: whatever the chunks, the holes, the kinds of steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from alpha_forge.contracts.types import BarBatch
from alpha_forge.runtime.engine import Engine
from alpha_forge.runtime.replay.whole import WholeGraph, obstacle
from alpha_forge.runtime.warmup import History
from tests.pipelines import COLUMNS, FEATURES, compiled, config

FIRST = 400_000

CHAIN = """
- features: {using: features.ema, inputs: {column: F.close}, outputs: {columns: [ema_10]}, params: {window: 10}}
- features: {using: features.rsi, inputs: {column: F.ema_10}, outputs: {columns: [rsi_of_ema]}, params: {window: 5}}
- features: {using: features.sma, inputs: {column: F.rsi_of_ema}, outputs: {columns: [mean]}, params: {window: 7}}
- features: {using: features.cross_rank, inputs: {column: F.mean}, outputs: {columns: [rank]}}
- features: {using: features.ema, inputs: {column: F.rank}, outputs: {columns: [ema_rank]}, params: {window: 4}}
"""

FRAMES = """
- transform: {using: transforms.resample, inputs: {frame: ohlcv}, outputs: {frame: four}, params: {interval: 4h}}
- features: {using: features.rsi, inputs: {column: four.close}, outputs: {columns: [rsi4]}, params: {window: 5}}
- features: {using: features.sma, inputs: {column: four.volume}, outputs: {columns: [v4]}, params: {window: 3}}
- transform: {using: transforms.align, inputs: {left: ohlcv, right: four}, outputs: {frame: both}, params: {columns: [close, rsi4], suffix: _4h}}
- features: {using: features.momentum, inputs: {column: both.close_4h}, outputs: {columns: [m]}, params: {window: 5}}
- features: {using: features.ema, inputs: {column: both.rsi4}, outputs: {columns: [e]}, params: {window: 5}}
- features: {using: features.cross_rank, inputs: {column: both.rsi4}, outputs: {columns: [r]}}
"""

SHORT = """
- features: {using: features.rsi, inputs: {column: F.close}, outputs: {columns: [rsi_3]}, params: {window: 3}}
- features: {using: features.sma, inputs: {column: F.rsi_3}, outputs: {columns: [mean]}, params: {window: 5}}
- features: {using: features.cross_rank, inputs: {column: F.mean}, outputs: {columns: [rank]}}
"""

GRAPHS = {
    "features": (FEATURES, "ohlcv", COLUMNS),
    "chain": (CHAIN, "ohlcv", ["ema_10", "rsi_of_ema", "mean", "rank", "ema_rank"]),
    "frames": (FRAMES, "both", ["m", "e", "r"]),
    "short": (SHORT, "ohlcv", ["rsi_3", "mean", "rank"]),
}


def market(rows: int, symbols: int, holes: float) -> np.ndarray:
    """(5, rows, symbols) made-up bars; with holes also a late listing, an outage of all, and one symbol's long hole."""
    draw = np.random.default_rng(7)
    close = 100 * np.exp(np.cumsum(draw.normal(0, 0.01, (rows, symbols)), axis=0))
    before = np.vstack([close[:1], close[:-1]])
    high, low = np.maximum(before, close) * 1.001, np.minimum(before, close) * 0.999
    bars = np.array([before, high, low, close, draw.uniform(1, 9, (rows, symbols))])
    if holes:
        bars[:, draw.random((rows, symbols)) < holes] = np.nan
        bars[:, : rows // 3, 0] = np.nan
        bars[:, rows // 2 : rows // 2 + 40] = np.nan
        bars[:, rows // 5 : rows // 5 + 120, 1] = np.nan
    return bars


def graph(name: str, symbols: int, tmp_path: Path):
    steps, frame, columns = GRAPHS[name]
    names = [f"S{i:03d}USDT" for i in range(symbols)]
    return compiled(config(names, tmp_path, columns, steps=steps, frame=frame))[1]


def streamed(dag, bars: np.ndarray) -> dict[tuple, bytes]:
    """{(frame, column, ts, symbol): the value's bytes} of the engine that streams."""
    engine, grid = Engine(dag), dag.frames["ohlcv"].interval
    engine.begin({"ohlcv": np.full(bars.shape[2], FIRST)})
    found: dict[tuple, bytes] = {}
    for k in range(bars.shape[1]):
        here = ~np.isnan(bars[3, k])
        values = np.ascontiguousarray(bars[:, k, here])
        batch = BarBatch(grid.ts(FIRST + k), np.flatnonzero(here), values, np.flatnonzero(~here))
        for row in engine.process([("ohlcv", batch)]):
            for symbol, value in zip(row.symbols.tolist(), row.values, strict=True):
                key = (row.frame, row.column, row.ts, symbol)
                assert key not in found
                found[key] = _bits(value)
    return found


def whole(dag, bars: np.ndarray, chunks: list[int]) -> dict[tuple, bytes]:
    """The same of whole arrays, in chunks of so many rows, over and over."""
    evaluator, grid = WholeGraph(dag, wanted=sorted(dag.sink_columns())), dag.frames["ohlcv"].interval
    evaluator.begin({"ohlcv": np.full(bars.shape[2], FIRST)})
    found: dict[tuple, bytes] = {}
    at = turn = 0
    while at < bars.shape[1]:
        stop = min(bars.shape[1], at + chunks[turn % len(chunks)])
        history = History(FIRST + at, bars[:, at:stop].copy())
        for chunk in evaluator.run(grid.ts(FIRST + at - 1), grid.ts(FIRST + stop - 1), {"ohlcv": history}):
            for column, values in chunk.columns.items():
                for row, symbol in np.argwhere(chunk.present):
                    key = (chunk.frame, column, int(chunk.ts[row]), int(symbol))
                    assert key not in found
                    found[key] = _bits(values[row, symbol])
        at, turn = stop, turn + 1
    return found


def _bits(value: float) -> bytes:
    return np.float64(value).tobytes() if not np.isnan(value) else b"NaN"


_streamed: dict[tuple[str, float], dict[tuple, bytes]] = {}


def streamed_once(name: str, holes: float, dag, bars: np.ndarray) -> dict[tuple, bytes]:
    """The stream's values, for all ways to cut chunks."""
    if (name, holes) not in _streamed:
        _streamed[(name, holes)] = streamed(dag, bars)
    return _streamed[(name, holes)]


@pytest.mark.parametrize("chunks", [[100_000], [37], [1, 250, 3, 64, 500]], ids=["one", "37", "mixed"])
@pytest.mark.parametrize("holes", [0.0, 0.03, 0.3])
@pytest.mark.parametrize("name", ["features", "chain", "frames"])
def test_whole_arrays_equal_the_stream(name, holes, chunks, tmp_path):
    dag = graph(name, 4, tmp_path)
    bars = market(1000, 4, holes)
    assert obstacle(dag) is None
    expected = streamed_once(name, holes, dag, bars)
    assert whole(dag, bars, chunks) == expected
    assert sum(value != b"NaN" for value in expected.values()) > len(expected) // 40


@pytest.mark.parametrize("holes", [0.0, 0.01])
def test_five_hundred_symbols(holes, tmp_path):
    dag = graph("short", 500, tmp_path)
    bars = market(150, 500, holes)
    assert whole(dag, bars, [60]) == streamed(dag, bars)


def test_a_graph_on_published_events_is_told(tmp_path):
    steps = """
- features: {using: features.momentum, inputs: {column: F.close}, outputs: {columns: [mom]}, params: {window: 5}, emits: [mom.ready]}
- features: {using: features.sma, inputs: {column: F.mom}, outputs: {columns: [mean]}, params: {window: 3}, on: [mom.ready]}
"""
    dag = compiled(config(["AUSDT", "BUSDT"], tmp_path, ["mean"], steps=steps))[1]
    assert "mom.ready" in (obstacle(dag) or "")
