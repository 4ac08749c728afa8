"""The synthetic market: deterministic, exact in its sums, and with something to learn in it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from sandbox_support import HOUR, START

from alpha_forge_sdk.sandbox import bars as tables
from alpha_forge_sdk.sandbox.bars import CLOSE, HIGH, LOW, OPEN, OPEN_TIME, QUOTE, TRADES, VOLUME
from alpha_forge_sdk.sandbox.intervals import FIXED, INTERVALS, floor_ms, next_ms
from alpha_forge_sdk.sandbox.skeleton import ANCHOR_MS
from alpha_forge_sdk.sandbox.synthetic import DEFAULT_SYMBOLS, SyntheticMarket

DAY = 24 * HOUR
SYMBOLS = ("BTCUSDT", "XRPUSDT", "SYM007USDT")


@pytest.fixture(scope="module")
def market() -> SyntheticMarket:
    return SyntheticMarket(3, SYMBOLS)


def test_answers_do_not_depend_on_the_order_of_the_questions(market: SyntheticMarket) -> None:
    other = SyntheticMarket(3, tuple(reversed(SYMBOLS)))
    spans = [(START - 5 * DAY, START), (ANCHOR_MS, ANCHOR_MS + DAY), (START + 90 * DAY, START + 91 * DAY)]
    asked = [(symbol, interval, span) for symbol in SYMBOLS for interval in ("1m", "1h") for span in spans]
    first = [market.bars(symbol, interval, *span) for symbol, interval, span in asked]
    second = [other.bars(symbol, interval, *span) for symbol, interval, span in reversed(asked)]
    for one, two in zip(first, reversed(second), strict=True):
        np.testing.assert_array_equal(one, two)


def test_another_process_makes_the_same_market(market: SyntheticMarket) -> None:
    code = (
        "from alpha_forge_sdk.sandbox.synthetic import SyntheticMarket; import hashlib;"
        f"m = SyntheticMarket(3, {SYMBOLS!r});"
        f"print(hashlib.sha256(m.bars('XRPUSDT', '1m', {START - DAY}, {START}).tobytes()).hexdigest())"
    )
    import hashlib

    expected = hashlib.sha256(market.bars("XRPUSDT", "1m", START - DAY, START).tobytes()).hexdigest()
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == expected


def test_another_seed_makes_another_market(market: SyntheticMarket) -> None:
    other = SyntheticMarket(4, SYMBOLS)
    one, two = (each.bars("BTCUSDT", "1h", START - DAY, START)[CLOSE] for each in (market, other))
    assert not np.array_equal(one, two)


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_minutes_add_up_to_hours_exactly(market: SyntheticMarket, symbol: str) -> None:
    since, until = START // HOUR * HOUR - 60 * DAY, START // HOUR * HOUR
    minutes = market.bars(symbol, "1m", since, until)
    assert minutes.shape[1] == 60 * 24 * 60
    np.testing.assert_array_equal(tables.aggregate(minutes, "1h"), market.bars(symbol, "1h", since, until))


@pytest.mark.parametrize("interval", INTERVALS)
def test_every_interval_is_the_sum_of_its_minutes(market: SyntheticMarket, interval: str) -> None:
    opened = floor_ms(START - 40 * DAY, interval)
    whole = market.bars("BTCUSDT", interval, opened, opened + 1)
    minutes = market.bars("BTCUSDT", "1m", opened, next_ms(opened, interval))
    np.testing.assert_array_equal(whole, tables.merge(minutes, opened))


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_bars_are_bars(market: SyntheticMarket, symbol: str) -> None:
    bars = market.bars(symbol, "1m", START - 60 * DAY, START)
    assert (bars[HIGH] >= np.maximum(bars[OPEN], bars[CLOSE])).all()
    assert (bars[LOW] <= np.minimum(bars[OPEN], bars[CLOSE])).all()
    assert (bars[LOW] > 0).all()
    assert (bars[VOLUME] > 0).all()
    assert (bars[TRADES] > 0).all()
    assert (bars[tables.TAKER_BASE] <= bars[VOLUME]).all()
    assert (bars[tables.TAKER_QUOTE] <= bars[QUOTE]).all()
    assert (bars[tables.END_ID] - bars[tables.FIRST_ID] >= bars[TRADES]).all()
    np.testing.assert_array_equal(bars[tables.FIRST_ID][1:], bars[tables.END_ID][:-1])
    np.testing.assert_array_equal(np.diff(bars[OPEN_TIME]), 60_000)
    tick = market.instrument(symbol).tick
    assert (bars[OPEN : CLOSE + 1] % tick == 0).all()


@pytest.mark.parametrize("interval", ["1m", "15m", "1h", "1d", "1w", "1M"])
def test_the_bar_in_progress_grows_into_the_final_bar(market: SyntheticMarket, interval: str) -> None:
    opened = floor_ms(START, interval)
    end = next_ms(opened, interval)
    final = market.bars("BTCUSDT", interval, opened, opened + 1)
    states = []
    for instant in np.linspace(opened, end - 1, 60):
        state = market.progress("BTCUSDT", interval, float(instant))
        assert state is not None
        states.append(state[:, 0])
    course = np.stack(states, axis=1)
    assert (course[OPEN_TIME] == opened).all()
    assert (course[OPEN] == final[OPEN]).all()
    assert (np.diff(course[HIGH]) >= 0).all()
    assert (np.diff(course[LOW]) <= 0).all()
    for column in (VOLUME, QUOTE, TRADES, tables.TAKER_BASE, tables.TAKER_QUOTE, tables.END_ID):
        assert (np.diff(course[column]) >= 0).all()
        assert course[column, -1] <= final[column, 0]
    assert (course[HIGH] <= final[HIGH]).all()
    assert (course[LOW] >= final[LOW]).all()


def test_the_range_is_half_open_and_starts_with_the_history(market: SyntheticMarket) -> None:
    bars = market.bars("BTCUSDT", "1h", START - 30 * 60_000, START + 30 * 60_000)
    assert bars[OPEN_TIME].tolist() == [START - 30 * 60_000]
    assert market.bars("BTCUSDT", "1h", START - 1, START).shape[1] == 0
    assert market.bars("BTCUSDT", "1h", 0, ANCHOR_MS).shape[1] == 0
    assert market.bars("BTCUSDT", "1h", 0, ANCHOR_MS + 1)[OPEN_TIME].tolist() == [ANCHOR_MS]
    assert market.progress("BTCUSDT", "1h", ANCHOR_MS - 1) is None


def test_symbols_move_together_and_storms_cluster(market: SyntheticMarket) -> None:
    since = START - 365 * DAY
    returns = [np.diff(np.log(market.bars(symbol, "1h", since, START)[CLOSE])) for symbol in SYMBOLS]
    assert np.corrcoef(returns)[0, 1] > 0.2
    size = np.abs(returns[0])
    assert np.corrcoef(size[24:], size[:-24])[0, 1] > 0.02
    volume = market.bars("BTCUSDT", "1h", since, START)[VOLUME][1:]
    assert np.corrcoef(size, np.log(volume))[0, 1] > 0.4


def _explained(closes: np.ndarray) -> float:
    """Out-of-sample R2 of a ridge regression of the next hour's return on momentum(20) and Wilder's
    RSI(14)."""
    change, length = np.diff(closes), 14
    up, down = np.maximum(change, 0), np.maximum(-change, 0)
    gain, loss = up[:length].mean(), down[:length].mean()
    rsi = np.full(len(closes), 50.0)
    for index in range(length, len(change)):
        gain = (gain * (length - 1) + up[index]) / length
        loss = (loss * (length - 1) + down[index]) / length
        rsi[index + 1] = 100 - 100 / (1 + gain / max(loss, 1e-12))
    known = slice(100, len(closes) - 1)
    momentum = np.zeros(len(closes))
    momentum[20:] = closes[20:] / closes[:-20] - 1
    features = np.stack([momentum[known], rsi[known]], axis=1)
    target = np.log(closes[1:] / closes[:-1])[100:]
    cut = int(len(target) * 0.7)
    mean, spread = features[:cut].mean(axis=0), features[:cut].std(axis=0)
    design = np.column_stack([(features - mean) / spread, np.ones(len(features))])
    weights = np.linalg.solve(design[:cut].T @ design[:cut] + 1e-3 * np.eye(3), design[:cut].T @ target[:cut])
    errors = target[cut:] - design[cut:] @ weights
    return float(1 - (errors**2).mean() / ((target[cut:] - target[:cut].mean()) ** 2).mean())


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_the_next_hour_can_be_learned(market: SyntheticMarket, symbol: str) -> None:
    closes = market.bars(symbol, "1h", ANCHOR_MS, START)[CLOSE].astype(float)
    assert 0.12 < _explained(closes) < 0.28


def test_the_default_symbols_are_five_hundred_and_the_majors() -> None:
    assert len(DEFAULT_SYMBOLS) > 500
    assert {"BTCUSDT", "SYM000USDT", "SYM499USDT"} <= set(DEFAULT_SYMBOLS)


@pytest.mark.parametrize("symbols", [("btcusdt",), ("A",), ("BTC-USDT",), ("BTCUSDT", "BTCUSDT"), ()])
def test_refuses_symbols_that_are_none(symbols: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="symbol"):
        SyntheticMarket(0, symbols)


def test_fixed_intervals_tile_the_day() -> None:
    assert all(DAY % length == 0 for name, length in FIXED.items() if length <= DAY)
    assert floor_ms(START, "1w") == 1_767_571_200_000  # Monday, 2026-01-05
    assert next_ms(floor_ms(START, "1M"), "1M") == 1_769_904_000_000  # 2026-02-01
