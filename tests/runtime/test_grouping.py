"""Whoever comes first, alone or together: the same bits in every frame, and in every sink."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.market_truth import random_market
from tests.pipelines import arrivals_of, compiled, config, delayed, read_column, run_scripted, shuffled
from tests.runtime.interleaving import calls, in_order, interleaved, made_up_bars, results

SEEDS = st.integers(0, 2**32 - 1)

WINDOWS = """
- features: {using: features.support_resistance, inputs: {frame: F}, outputs: {columns: [up, down]}, params: {window: 7}}
- features: {using: features.ma_rocp, inputs: {column: F.close}, outputs: {columns: [rocp]}, params: {window: 5}}
- features: {using: features.volatility, inputs: {column: F.close}, outputs: {columns: [vol]}, params: {window: 6}}
- features: {using: features.rsi, inputs: {column: F.close}, outputs: {columns: [rsi]}, params: {window: 2}}
- features: {using: features.atr, inputs: {frame: F}, outputs: {columns: [atr]}, params: {window: 2}}
- features: {using: features.ema, inputs: {column: F.rsi}, outputs: {columns: [ema_of_rsi]}, params: {window: 2}}
"""
RANKS = """
- features: {using: features.cross_rank, inputs: {column: F.rsi}, outputs: {columns: [rank]}}
- features: {using: features.sma, inputs: {column: F.rank}, outputs: {columns: [mean_rank]}, params: {window: 3}}
"""
FRAMES = """
- transform: {using: transforms.resample, inputs: {frame: ohlcv}, outputs: {frame: four}, params: {interval: 4h}}
- features: {using: features.rsi, inputs: {column: four.close}, outputs: {columns: [rsi4]}, params: {window: 2}}
- transform: {using: transforms.align, inputs: {left: ohlcv, right: four}, outputs: {frame: both}, params: {columns: [close, rsi4], suffix: _4h}}
- features: {using: features.momentum, inputs: {column: both.close_4h}, outputs: {columns: [mom]}, params: {window: 5}}
- features: {using: features.cross_rank, inputs: {column: both.rsi4}, outputs: {columns: [rank4]}}
"""
EVENTS = """
- features: {using: features.sma, inputs: {column: F.close}, outputs: {columns: [mean]}, params: {window: 3}, emits: [mean.ready]}
- features: {using: features.ema, inputs: {column: F.mean}, outputs: {columns: [after]}, params: {window: 2}, on: [mean.ready]}
"""
GRAPHS = {
    "windows": (WINDOWS, "ohlcv", ["rsi", "ema_of_rsi"]),
    "panel": (WINDOWS + RANKS, "ohlcv", ["rsi", "mean_rank"]),
    "frames": (FRAMES, "both", ["mom", "rank4"]),
    "events": (EVENTS, "ohlcv", ["after"]),
}


def graph(name: str, symbols: int):
    steps, frame, columns = GRAPHS[name]
    names = [f"S{k:03d}USDT" for k in range(symbols)]
    text = config(names, Path("unopened"), columns, steps=steps, frame=frame)
    return compiled(text.replace("warmup: {", "warmup: {epsilon: 1e-3, "))[1]


# A bar of the row before the first that came: it was in the frame, and in no window.
FOUND = example(seed=6037, symbols=4, holes=0.4, apart=2, together=0.5, most=1)


@FOUND
@pytest.mark.parametrize("name", GRAPHS)
@settings(max_examples=8, deadline=None)
@given(
    seed=SEEDS,
    symbols=st.integers(3, 8),
    holes=st.sampled_from([0.0, 0.1, 0.4]),
    apart=st.integers(1, 70),
    together=st.sampled_from([0.0, 0.5, 0.95]),
    most=st.sampled_from([1, 4, 40]),
)
def test_any_order_and_grouping_gives_the_same_bits(name, seed, symbols, holes, apart, together, most):
    rng = np.random.default_rng(seed)
    dag, bars = graph(name, symbols), made_up_bars(rng, 110, symbols, holes)
    batches = interleaved(rng, bars, apart=apart, together=together)
    expected = results(dag, bars, [[batch] for batch in in_order(bars)])
    assert results(dag, bars, calls(rng, batches, most)) == expected
    assert sum(value != b"NaN" for value in expected[1].values()) > 20


def test_five_hundred_symbols():
    rng = np.random.default_rng(1)
    dag, bars = graph("panel", 500), made_up_bars(rng, 60, 500, 0.01)
    batches = interleaved(rng, bars, apart=9, together=0.8)
    expected = results(dag, bars, [[batch] for batch in in_order(bars)])
    assert len(batches) > 3 * 60
    assert results(dag, bars, calls(rng, batches, 8)) == expected
    assert sum(value != b"NaN" for value in expected[1].values()) > 10_000


WARM, LIVE = 90, 16
_in_order: dict[tuple[int, int], dict[str, bytes]] = {}


def sinks_of(market, arrivals, per_turn: int) -> dict[str, bytes]:
    """What each sink has got, by (symbol, ts)."""
    steps, frame, columns = GRAPHS["panel"]
    with tempfile.TemporaryDirectory() as folder:
        text = config(list(market), Path(folder), columns, steps=steps, frame=frame)
        text = text.replace("warmup: {", "warmup: {epsilon: 1e-3, ")
        summary, _, _ = run_scripted(text, market, arrivals, per_turn=per_turn)
        assert summary.bars == len(arrivals)
        got = {c: read_column(Path(folder) / f"{c}.csv").sort_index() for c in columns}
    assert all(len(values) == len(arrivals) for values in got.values())
    return {c: repr(v.index.tolist()).encode() + v.to_numpy().tobytes() for c, v in got.items()}


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2),
    order=SEEDS,
    symbols=st.integers(3, 8),
    block=st.integers(1, 30),
    late=st.integers(0, 20),
    per_turn=st.integers(1, 40),
)
def test_sinks_get_the_same_bits(seed, order, symbols, block, late, per_turn):
    market = random_market(symbols, WARM + LIVE, seed)
    anchor = int(next(iter(market.values())).index[WARM - 1])
    names = list(market)
    for k, row in ((0, WARM - 20), (1, WARM + 3), (1, WARM + 4), (2, WARM + 9)):
        market[names[k]] = market[names[k]].drop(market[names[k]].index[row])
    arrivals = arrivals_of(market, anchor)
    if (seed, symbols) not in _in_order:
        _in_order[seed, symbols] = sinks_of(market, arrivals, 1)
    mixed = delayed(shuffled(arrivals, order, block), names[order % symbols], late)
    assert sinks_of(market, mixed, per_turn) == _in_order[seed, symbols]
