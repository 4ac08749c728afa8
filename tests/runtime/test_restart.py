"""A value is the same to the last bit whenever the process started, however much history it had, whoever ran beside it."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.market_truth import random_market
from tests.pipelines import COLUMNS, FEATURES, arrivals_of, config, read_column, run_scripted

CHAINS = """
- features: {using: features.ema, inputs: {column: F.rsi_14}, outputs: {columns: [ema_of_rsi]}, params: {window: 5}}
- features: {using: features.rsi, inputs: {column: F.mom_20}, outputs: {columns: [rsi_of_momentum]}, params: {window: 6}}
- features: {using: features.macd, inputs: {column: F.sma_20}, outputs: {columns: [macd_of_sma, signal_of_sma, histogram_of_sma]}}
- features: {using: features.sma, inputs: {column: F.ema_of_rsi}, outputs: {columns: [sma_of_ema_of_rsi]}, params: {window: 7}}
"""
CHAINED = [
    "ema_of_rsi",
    "rsi_of_momentum",
    "macd_of_sma",
    "signal_of_sma",
    "histogram_of_sma",
    "sma_of_ema_of_rsi",
]
# Nobody reads it: it makes a run fetch more history.
LONGER = "- features: {using: features.sma, inputs: {column: F.close}, outputs: {columns: [unread]}, params: {window: 720}}\n"
RESAMPLE = (
    "- transform: {using: transforms.resample, inputs: {frame: ohlcv}, outputs: {frame: longer}, "
    "params: {interval: 1h}}\n"
)
WARM = 800
"""More than any path needs: what a run is not given, it can't use."""


def punctured(market: dict[str, pd.DataFrame], seed: int, holes: int) -> dict[str, pd.DataFrame]:
    """The same with `holes` bars of each symbol missing, and one row of all symbols; the newest bars stay."""
    rng = random.Random(seed)
    rows = len(next(iter(market.values())))
    everywhere = rng.randrange(rows - 400, rows - 10)
    return {
        name: bars.drop(bars.index[sorted({everywhere, *rng.sample(range(1, rows - 1), holes)})])
        for name, bars in market.items()
    }


def run_from(
    market: dict[str, pd.DataFrame],
    anchor: int,
    out: Path,
    columns: list[str],
    *,
    symbols: list[str] | None = None,
    epsilon: float = 1e-9,
    ready: bool = True,
    **options: str,
) -> dict[str, pd.Series]:
    """Every column's values of a run whose warm-up ends at `anchor`."""
    market = {name: market[name] for name in symbols or market}
    text = config(list(market), out, columns, **options)
    text = text.replace("warmup: {", f"warmup: {{epsilon: {epsilon}, ")
    arrivals = arrivals_of(market, anchor)
    summary, _, _ = run_scripted(text, market, arrivals, per_turn=3 * len(market))
    assert summary.bars == len(arrivals)
    assert summary.not_ready == 0 or not ready
    return {c: read_column(out / f"{c}.csv").sort_index() for c in columns}


def assert_same_bits(runs: list[dict[str, pd.Series]]) -> None:
    """Whatever two runs both say of a (symbol, ts) is the same to the last bit, and there is plenty of it."""
    first, *others = runs
    for other in others:
        for column, values in other.items():
            both = values.index.intersection(first[column].index)
            assert len(both) >= 20, column
            ours, theirs = first[column].loc[both].to_numpy(), values.loc[both].to_numpy()
            assert np.isfinite(ours).all(), column
            different = [both[i] for i in np.flatnonzero(ours.view(np.int64) != theirs.view(np.int64))]
            assert not different, (column, different[:5])


@pytest.mark.parametrize(("symbols", "starts", "live"), [(1, 4, 150), (5, 4, 150), (500, 2, 45)])
def test_the_start_leaves_no_trace(tmp_path, symbols, starts, live):
    market = punctured(random_market(symbols, WARM + live, 11), seed=symbols, holes=9)
    whole = max(market.values(), key=len).index
    rng = random.Random(symbols)
    offsets = [0, *rng.sample(range(1, live - 22), starts - 1)]
    wanted = [*COLUMNS, *CHAINED] if symbols < 500 else ["rsi_14", "macd_histogram", "atr_14", *CHAINED]
    first = int(whole[0]) + WARM * 3600 * 10**9
    # The last run fetches more history than the others.
    steps = [FEATURES + CHAINS] * (starts - 1) + [FEATURES + CHAINS + LONGER]
    runs = [
        run_from(
            market,
            first + offset * 3600 * 10**9,
            tmp_path / str(offset),
            wanted,
            steps=its,
        )
        for offset, its in zip(offsets, steps, strict=True)
    ]
    assert_same_bits(runs)


def test_neighbours_leave_no_trace(tmp_path):
    market = punctured(random_market(5, WARM + 60, 12), seed=3, holes=9)
    anchor = int(next(iter(market.values())).index[0]) + WARM * 3600 * 10**9
    names = list(market)
    together = run_from(market, anchor, tmp_path / "5", [*COLUMNS, *CHAINED], steps=FEATURES + CHAINS)
    for part in (names[2:3], names[1:4]):
        alone = run_from(
            market,
            anchor,
            tmp_path / str(len(part)),
            [*COLUMNS, *CHAINED],
            steps=FEATURES + CHAINS,
            symbols=part,
        )
        assert_same_bits([together, alone])


@pytest.mark.parametrize("symbols", [1, 5])
def test_the_start_leaves_no_trace_in_resampled_frames(tmp_path, symbols):
    quarter = 900 * 10**9
    market = punctured(random_market(symbols, 4 * 300 + 160, 13, step=quarter), seed=symbols, holes=15)
    first = int(max(market.values(), key=len).index[0]) + 4 * 300 * quarter
    # In the middle of buckets and at their ends.
    offsets = (0, 3, 21, 38, 60)
    runs = [
        run_from(
            market,
            first + offset * quarter,
            tmp_path / str(offset),
            [*COLUMNS, "ema_of_rsi"],
            steps=RESAMPLE + FEATURES + CHAINS.strip().splitlines()[0] + "\n",
            frame="longer",
            interval="15m",
            epsilon=1e-3,
        )
        for offset in offsets
    ]
    assert_same_bits(runs)


def test_where_a_fifth_of_the_bars_is_missing_a_value_is_the_same_or_not_ready(tmp_path):
    market = punctured(random_market(3, WARM + 250, 14), seed=8, holes=(WARM + 250) // 5)
    first = int(max(market.values(), key=len).index[0]) + WARM * 3600 * 10**9
    columns = ["mom_20", "rsi_14", "ema_10", "atr_14", "macd", "bb_upper", "zscore_20", "ema_of_rsi"]
    runs = [
        run_from(
            market,
            first + offset * 3600 * 10**9,
            tmp_path / f"{offset}-{len(its)}",
            columns,
            steps=FEATURES + CHAINS + its,
            ready=False,
        )
        for offset, its in ((0, LONGER), (0, ""), (70, ""), (131, LONGER))
    ]
    assert_same_bits(runs)


JOINED = """
- transform: {using: transforms.resample, inputs: {frame: ohlcv}, outputs: {frame: hourly}, params: {interval: 1h}}
- features: {using: features.rsi, inputs: {column: ohlcv.close}, outputs: {columns: [rsi_here]}, params: {window: 4}}
- features: {using: features.ma_rocp, inputs: {column: hourly.close}, outputs: {columns: [rocp_there]}, params: {window: 20}}
- features: {using: features.rsi, inputs: {column: hourly.close}, outputs: {columns: [rsi_there]}, params: {window: 4}}
- transform: {using: transforms.align, inputs: {left: ohlcv, right: hourly}, outputs: {frame: joined}, params: {columns: [rocp_there, rsi_there]}}
- features: {using: features.ema, inputs: {column: F.rsi_here}, outputs: {columns: [ema_of_rsi_here]}, params: {window: 5}}
- features: {using: features.ema, inputs: {column: F.rocp_there}, outputs: {columns: [ema_of_rocp_there]}, params: {window: 5}}
- features: {using: features.ema, inputs: {column: F.rsi_there}, outputs: {columns: [ema_of_rsi_there]}, params: {window: 5}}
"""


def test_the_start_leaves_no_trace_in_joined_frames(tmp_path):
    """What an as-of join carries over needs bars itself, of its own frame: whoever settles on it waits for them."""
    quarter = 900 * 10**9
    market = punctured(random_market(5, 4 * 300 + 260, 15, step=quarter), seed=5, holes=9)
    first = int(max(market.values(), key=len).index[0]) + 4 * 300 * quarter
    wanted = ["ema_of_rsi_here", "ema_of_rocp_there", "ema_of_rsi_there"]
    runs = [
        run_from(
            market,
            first + offset * quarter,
            tmp_path / str(offset),
            wanted,
            steps=JOINED,
            frame="joined",
            interval="15m",
            epsilon=1e-3,
            ready=False,
        )
        for offset in (0, 3, 21, 38, 57, 130)
    ]
    assert_same_bits(runs)
