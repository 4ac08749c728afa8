"""Every built-in recursive feature: one value for a bar, whenever a process started, whoever computes it, and how."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import talib
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from alpha_forge.registry import discover
from alpha_forge.runtime.replay.whole import WholeGraph
from alpha_forge.runtime.warmup import History
from alpha_forge_sdk import RecursiveFeature
from tests.market_truth import worst
from tests.pipelines import compiled, config
from tests.runtime.interleaving import FIRST, calls, in_order, interleaved, made_up_bars, results

EPSILON = 1e-9
OFF = 3e-8
"""How far from TA-Lib's whole history: what came before a start weighs less than EPSILON, and the value may be off by
several times that where the seed met a storm."""

STEPS = """
- features: {{using: features.rsi, inputs: {{column: F.close}}, outputs: {{columns: [rsi]}}, params: {{window: {rsi}}}}}
- features: {{using: features.ema, inputs: {{column: F.close}}, outputs: {{columns: [ema]}}, params: {{window: {ema}}}}}
- features: {{using: features.atr, inputs: {{frame: F}}, outputs: {{columns: [atr]}}, params: {{window: {atr}}}}}
- features: {{using: features.macd, inputs: {{column: F.close}}, outputs: {{columns: [macd, signal, histogram]}}, params: {{fast: {fast}, slow: {slow}, signal: {signal}}}}}
"""
COLUMNS = ["rsi", "ema", "atr", "macd", "signal", "histogram"]
STEP_OF = {"macd": 3, "signal": 3, "histogram": 3, "rsi": 0, "ema": 1, "atr": 2}

PARAMS = st.fixed_dictionaries(
    {
        "rsi": st.integers(2, 9),
        "ema": st.integers(2, 16),
        "atr": st.integers(1, 8),
        "fast": st.integers(2, 6),
        "slow": st.integers(7, 12),
        "signal": st.integers(1, 6),
    }
)


def graph(symbols: int, params: dict[str, int]):
    names = [f"S{k:03d}USDT" for k in range(symbols)]
    return compiled(config(names, Path("unopened"), COLUMNS, steps=STEPS.format(**params)))[1]


def replayed(dag, bars: np.ndarray, start: int, chunks: list[int]) -> dict:
    """What whole arrays give that begin at `start`, as `interleaving.results` has it."""
    grid = dag.frames["ohlcv"].interval
    whole = WholeGraph(dag, wanted=[("ohlcv", c) for c in COLUMNS])
    whole.begin({"ohlcv": np.full(bars.shape[2], FIRST + start)})
    bits = {}
    turn = 0
    while start < bars.shape[1]:
        stop = min(bars.shape[1], start + chunks[turn % len(chunks)])
        history = History(FIRST + start, bars[:, start:stop].copy())
        span = (grid.ts(FIRST + start - 1), grid.ts(FIRST + stop - 1))
        for chunk in whole.run(*span, {"ohlcv": history}):
            for column, values in chunk.columns.items():
                for row, symbol in np.argwhere(chunk.present):
                    value = values[row, symbol]
                    key = (chunk.frame, column, int(chunk.ts[row]), int(symbol))
                    bits[key] = b"NaN" if np.isnan(value) else value.tobytes()
        start, turn = stop, turn + 1
    return bits


def table(bits: dict, dag, column: str, bars: np.ndarray) -> np.ndarray:
    """(rows, symbols) of a column; NaN where there is no value."""
    out = np.full(bars.shape[1:], np.nan)
    grid = dag.frames["ohlcv"].interval
    for (_, name, ts, symbol), value in bits.items():
        if name == column and value != b"NaN":
            out[grid.row(ts) - FIRST, symbol] = np.frombuffer(value)[0]
    return out


def agree(late: np.ndarray, full: np.ndarray, sure: int) -> None:
    """A late start says the same to the last bit or nothing yet, and says all that the other says after `sure`."""
    known = ~np.isnan(late)
    assert late[known].tobytes() == full[known].tobytes()
    assert (known[sure:] == ~np.isnan(full[sure:])).all()
    assert known[sure:].any()


def by_talib(bars: np.ndarray, params: dict[str, int]) -> dict[str, np.ndarray]:
    """The truth over each symbol's own bars, as (rows, symbols)."""
    found = {c: np.full(bars.shape[1:], np.nan) for c in COLUMNS}
    for s in range(bars.shape[2]):
        own = np.flatnonzero(~np.isnan(bars[3, :, s]))
        _, high, low, close, _ = (np.ascontiguousarray(column[own, s]) for column in bars)
        macd = talib.MACD(close, params["fast"], params["slow"], params["signal"])
        values = [
            talib.RSI(close, params["rsi"]),
            talib.EMA(close, params["ema"]),
            talib.ATR(high, low, close, params["atr"]),
            *macd,
        ]
        for column, its in zip(COLUMNS, values, strict=True):
            found[column][own, s] = its
    return found


def test_every_recursive_built_in_is_here():
    catalogue = discover(capabilities=["shared", "middlefreq"])
    features = [p for p in catalogue.plugins if p.kind == "features"]
    recursive = {p.name for p in features if issubclass(catalogue.load(p), RecursiveFeature)}
    assert recursive == {f"features.{name}" for name in ("rsi", "ema", "atr", "macd")}


# Not shrunk: an example takes a second, and the smallest seed tells no more than another.
@settings(max_examples=8, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(
    seed=st.integers(0, 2**32 - 1),
    params=PARAMS,
    symbols=st.integers(1, 5),
    holes=st.sampled_from([0.0, 0.02]),
    starts=st.lists(st.integers(1, 420), min_size=2, max_size=2),
    chunks=st.lists(st.integers(1, 500), min_size=1, max_size=3),
)
def test_restarts_second_runners_and_replays_have_one_value(seed, params, symbols, holes, starts, chunks):
    rng = np.random.default_rng(seed)
    dag = graph(symbols, params)
    need = max(node.lookback for node in dag.nodes.values() if node.kind == "features")
    rows = max(starts) + need + 120
    bars = made_up_bars(rng, rows, symbols, holes)
    # Holes delay what settles: so many bars later all is known again.
    slack = int(np.isnan(bars[3]).sum(axis=0).max(initial=0)) + 1
    first = results(dag, bars, [in_order(bars)])[0]
    second = results(dag, bars, calls(rng, interleaved(rng, bars, apart=5, together=0.9), 9))[0]
    assert second == first
    truth = by_talib(bars, params)
    late = [results(dag, bars, [in_order(bars, start)], known=start)[0] for start in starts]
    late += [replayed(dag, bars, start, chunks) for start in (0, *starts)]
    for column in COLUMNS:
        full = table(first, dag, column, bars)
        for bits, start in zip(late, (*starts, 0, *starts), strict=True):
            agree(table(bits, dag, column, bars), full, start + need + slack)
        settled = ~np.isnan(full)
        assert settled[need + slack :][~np.isnan(bars[3, need + slack :])].all()
        for s in range(symbols):
            got, want = full[settled[:, s], s], truth[column][settled[:, s], s]
            assert off(column, got, want, truth, s) <= OFF, (column, s)


def off(column: str, got: np.ndarray, want: np.ndarray, truth: dict[str, np.ndarray], s: int) -> float:
    """Largest difference: relative, of what crosses zero relative to the usual size of the line, of RSI to its 100."""
    if column == "rsi":
        return float(np.max(np.abs(got - want)) / 100.0)
    if column not in ("macd", "signal", "histogram"):
        return worst(got, want)
    return float(np.max(np.abs(got - want)) / np.sqrt(np.nanmean(truth["macd"][:, s] ** 2)))


@pytest.mark.parametrize("column", COLUMNS)
def test_a_state_that_begins_with_the_process_would_be_told(column):
    """The comparison is not one that all would pass: without the grid a start leaves its trace."""
    params = {"rsi": 9, "ema": 16, "atr": 8, "fast": 6, "slow": 12, "signal": 6}
    dag = graph(1, params)
    node = [n for n in dag.nodes.values() if n.kind == "features"][STEP_OF[column]]
    bars = made_up_bars(np.random.default_rng(2), node.lookback + 60, 1)
    plugin = dag.make(node)
    columns = [bars[{"high": 1, "low": 2, "close": 3}[c]] for c in node.inputs]
    outputs = []
    for start in (0, 7):
        found = plugin.advance(plugin.start(1), *(np.ascontiguousarray(c[start:]) for c in columns))
        outputs.append((found if isinstance(found, tuple) else (found,))[node.outputs.index(column)])
    with pytest.raises(AssertionError):
        agree(outputs[1], outputs[0][7:], 50)
