"""The whole runtime over scripted markets: every bar once, the right value, whatever the arrival."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.market_truth import cross_rank, features, random_market, worst
from tests.pipelines import COLUMNS, arrivals_of, config, delayed, read_column, run_scripted, shuffled

WARM = 560
LIVE = 24

RECURSIVE_TOLERANCE = 1e-8
"""Of columns whose start weighs less than epsilon (1e-9) but may be off by several times its value: RSI, whose seed
comes on top of its settling bars, and MACD, which crosses zero."""

RANK = """
- features: {using: features.momentum, inputs: {column: F.close}, outputs: {columns: [mom_20]}, params: {window: 20}}
- features: {using: features.cross_rank, inputs: {column: F.mom_20}, outputs: {columns: [rank]}}
"""


def market_of(symbols: int, seed: int = 1, *, hole: bool = False):
    market = random_market(symbols, WARM + LIVE, seed)
    anchor = int(next(iter(market.values())).index[WARM - 1])
    if hole:
        name = list(market)[min(2, symbols - 1)]
        bars = market[name]
        # One hole in the warm-up, one of two bars in the stream, one at its very end.
        market[name] = bars.drop(bars.index[[WARM - 30, WARM + 5, WARM + 6, WARM + LIVE - 1]])
    return market, anchor


def check_columns(market, anchor: int, out: Path, columns=COLUMNS) -> None:
    """Exactly one value for every bar after the anchor, equal to what TA-Lib and pandas say."""
    truth = {symbol: features(bars) for symbol, bars in market.items()}
    for column in columns:
        got = read_column(out / f"{column}.csv")
        wanted = {(s, ts): t.at[ts, column] for s, t in truth.items() for ts in t.index if ts > anchor}
        assert set(got.index) == set(wanted), column
        tolerance = RECURSIVE_TOLERANCE if column.startswith(("rsi", "macd")) else 1e-9
        for symbol in market:
            want = np.array([wanted[symbol, ts] for ts in got[symbol].index])
            assert worst(got[symbol].to_numpy(), want) <= tolerance, (column, symbol)


def arrange(arrivals, how: str, market):
    symbols = len(market)
    if how == "in order":
        return arrivals
    if how == "shuffled":
        return shuffled(arrivals, seed=3, block=max(2, symbols * 4))
    assert how == "one late"
    return delayed(arrivals, list(market)[-1], symbols * 3)


@pytest.mark.parametrize("how", ["in order", "shuffled", "one late"])
@pytest.mark.parametrize(("symbols", "hole"), [(1, False), (5, True)])
def test_every_bar_is_predicted_once_and_right(tmp_path, how, symbols, hole):
    market, anchor = market_of(symbols, hole=hole)
    arrivals = arrange(arrivals_of(market, anchor), how, market)
    summary, source, _ = run_scripted(config(list(market), tmp_path, COLUMNS), market, arrivals)
    check_columns(market, anchor, tmp_path)
    assert summary.bars == len(arrivals)
    assert summary.not_ready == 0
    assert source.closed == 1
    if hole:
        assert summary.absent == 3


@pytest.mark.parametrize("how", ["in order", "shuffled", "one late"])
def test_five_hundred_symbols_with_a_hole(tmp_path, how):
    market, anchor = market_of(500, hole=True)
    columns = ["rsi_14", "mom_20", "macd_signal", "atr_14"]
    arrivals = arrange(arrivals_of(market, anchor), how, market)
    run_scripted(config(list(market), tmp_path, columns), market, arrivals, per_turn=700)
    check_columns(market, anchor, tmp_path, columns)


@pytest.mark.parametrize("symbols", [5, 500])
def test_bits_do_not_depend_on_order_or_grouping(tmp_path, symbols):
    market, anchor = market_of(symbols, hole=True)
    columns = ["rsi_14", "macd_histogram", "rank"]
    steps = RANK.replace("[mom_20]", "[mom_x]").replace("F.mom_20", "F.mom_x")
    from tests.pipelines import FEATURES

    results = []
    for how, per_turn in (("in order", 1), ("shuffled", 7 * symbols), ("one late", 3)):
        out = tmp_path / how.replace(" ", "_")
        arrivals = arrange(arrivals_of(market, anchor), how, market)
        run_scripted(
            config(list(market), out, columns, steps=FEATURES + steps), market, arrivals, per_turn=per_turn
        )
        results.append({c: read_column(out / f"{c}.csv").sort_index() for c in columns})
    for other in results[1:]:
        for column in columns:
            assert other[column].index.equals(results[0][column].index)
            assert other[column].to_numpy().tobytes() == results[0][column].to_numpy().tobytes(), column


@pytest.mark.parametrize("how", ["in order", "shuffled", "one late"])
@pytest.mark.parametrize("symbols", [1, 5, 500])
def test_panel_steps_wait_for_the_whole_row(tmp_path, how, symbols):
    market, anchor = market_of(symbols, hole=symbols > 1)
    arrivals = arrange(arrivals_of(market, anchor), how, market)
    run_scripted(config(list(market), tmp_path, ["rank"], steps=RANK), market, arrivals, per_turn=symbols)
    want = cross_rank({s: features(bars)["mom_20"] for s, bars in market.items()})
    got = read_column(tmp_path / "rank.csv")
    expected = {(s, ts) for s, bars in market.items() for ts in bars.index if ts > anchor}
    assert set(got.index) == expected
    for (symbol, ts), value in got.items():
        assert value == pytest.approx(want.at[ts, symbol], abs=1e-12), (symbol, ts)
