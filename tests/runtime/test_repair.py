"""Missing bars are fetched; that a bar does not exist is believed only of a source that has passed its close."""

from __future__ import annotations

import asyncio
import functools
import logging
from pathlib import Path

import numpy as np
import pytest

from alpha_forge.contracts.interval import NS
from alpha_forge.runtime.feed import Feed
from alpha_forge.runtime.repair import AT_ONCE, Repairer
from alpha_forge.runtime.runner import RealTimeRunner
from alpha_forge_sdk import BAR_CLOSE, Bar, BarBlock, MarketEvent, SourceError
from tests.fake_source import ScriptedSource, VirtualClock
from tests.market_truth import HOUR, features, random_market
from tests.pipelines import arrivals_of, compiled, config, read_column

WARM, LIVE = 80, 12


class FastClock:
    """This machine's clock: ahead of the exchange's."""

    def __init__(self, exchange: VirtualClock, ahead: int) -> None:
        self._exchange = exchange
        self._ahead = ahead

    def now(self) -> int:
        return self._exchange.now() + self._ahead

    async def sleep(self, seconds: float) -> None:
        await self._exchange.sleep(seconds)


class PunctualSource(ScriptedSource):
    """Brings each bar only after history was asked for it, and could not have it yet."""

    ahead = HOUR + HOUR // 6

    async def find_clock(self):
        self.answered, self.turn = 0, asyncio.Event()
        return FastClock(self.clock, self.ahead)

    async def passed(self, instant, now):
        return min(instant, self.clock.now())

    async def history(self, symbols, start, end):
        async for block in super().history(symbols, start, min(end, self.clock.now())):
            yield block
        self.answered = max(self.answered, end)
        self.turn.set()

    async def stream(self):
        yield MarketEvent(BAR_CLOSE, self.arrivals[0][1], self.arrivals[0][0])
        for ts, symbol in self.arrivals:
            while self.answered < ts:
                self.turn.clear()
                await self.turn.wait()
            self.clock.advance(ts + 60 * 10**9)
            bar = Bar(ts, *map(float, self.market[symbol].loc[ts]))
            yield MarketEvent(BAR_CLOSE, symbol, ts, bar, closed=True)


def run(text, source_type, market, anchor):
    document, dag = compiled(text)
    arrivals = arrivals_of(market, anchor)
    clock = VirtualClock(arrivals[0][0] - HOUR // 2)
    source = source_type(market, arrivals, clock, HOUR)
    runner = RealTimeRunner(document, dag, sources={"ohlcv": source})
    return asyncio.run(asyncio.wait_for(runner.run(), 60))


def test_a_machine_whose_clock_is_ahead_loses_no_bar(tmp_path):
    market = random_market(1, WARM + LIVE, 5)
    bars = next(iter(market.values()))
    anchor = int(bars.index[WARM - 1])
    steps = (
        "- features: {using: features.momentum, inputs: {column: F.close}, outputs: {columns: [mom_20]}}\n"
    )
    summary = run(config(list(market), tmp_path, ["mom_20"], steps=steps), PunctualSource, market, anchor)
    assert summary.bars == LIVE
    assert summary.absent <= 1  # the bar that this machine's clock expects after the stream's end
    got = read_column(tmp_path / "mom_20.csv")
    want = features(bars)["mom_20"].loc[anchor + 1 :]
    assert list(got.index.get_level_values("ts")) == list(want.index)
    assert got.to_numpy() == pytest.approx(want.to_numpy(), rel=1e-9)


class Unforeseen(ScriptedSource):
    """Has history for the warm-up; a repair breaks it."""

    async def history(self, symbols, start, end):
        if self.history_calls:
            raise KeyError("no such column")
        async for block in super().history(symbols, start, end):
            yield block


def test_a_repair_that_breaks_ends_the_run_and_says_why(tmp_path):
    market = random_market(1, WARM + LIVE, 5)
    name, bars = next(iter(market.items()))
    anchor = int(bars.index[WARM - 1])
    market[name] = bars.drop(bars.index[WARM + 3])
    steps = (
        "- features: {using: features.momentum, inputs: {column: F.close}, outputs: {columns: [mom_20]}}\n"
    )
    with pytest.raises(SourceError) as error:
        run(config(list(market), tmp_path, ["mom_20"], steps=steps), Unforeseen, market, anchor)
    assert error.value.code == "AF5032"
    assert "KeyError" in error.value.message


FIRST = 500_000
"""Row of the first bar that is owed in the tests below."""


def bar_of(row: int) -> Bar:
    return Bar(row * HOUR, 10.0, 11.0, 9.0, 10.5, float(row))


class Archive:
    """History as a table, closes up to `knows`; counts and measures what it is asked."""

    history_lag = 30.0

    def __init__(self, clock: VirtualClock, symbols: list[str]) -> None:
        self.clock = clock
        self.symbols = symbols
        self.absent: set[tuple[str, int]] = set()
        self.lagging: dict[tuple[str, int], int] = {}
        self.refused: set[str] = set()
        self.banned_until = 0
        self.calls: list[tuple[int, int, int]] = []
        self.open_calls = self.most_open = 0

    async def passed(self, instant: int, now: int) -> int:
        return min(instant, self.clock.now())

    async def history(self, symbols, start, end):
        self.calls.append((len(symbols), start, end))
        self.open_calls += 1
        self.most_open = max(self.most_open, self.open_calls)
        try:
            await asyncio.sleep(0)
            if self.refused & set(symbols):
                raise SourceError("AF5006", "refused", "")
            if self.clock.now() < self.banned_until:
                raise SourceError("AF5002", "banned", "", after=(self.banned_until - self.clock.now()) / NS)
            for symbol in symbols:
                rows = [
                    row
                    for row in range(start // HOUR + 1, end // HOUR + 1)
                    if (symbol, row) not in self.absent
                    and self.lagging.get((symbol, row), 0) <= self.clock.now()
                ]
                if rows:
                    columns = [np.array(c) for c in zip(*(bar_of(r) for r in rows), strict=True)]
                    yield BarBlock(symbol, *columns)
        finally:
            self.open_calls -= 1


class Bench:
    """A feed and a repairer, and nothing else of a run."""

    def __init__(self, symbols: int, rows: int = FIRST) -> None:
        self.names = [f"S{k:03d}USDT" for k in range(symbols)]
        _, dag = compiled(config(self.names, Path("unused"), ["close"], steps=""))
        self.clock = VirtualClock(rows * HOUR)
        self.source = Archive(self.clock, self.names)
        self.wake = asyncio.Event()
        self.feed = Feed(dag.data_nodes()[0], dag.frames["ohlcv"], self.source, self.wake)
        self.feed.sequencer.begin([rows] * symbols)
        self.repairer = Repairer(self.clock, 120 * NS, self.wake)
        self.out: dict[str, list[tuple[int, bool]]] = {name: [] for name in self.names}

    def stream(self, symbol: int, row: int, bar: Bar | None = None) -> None:
        self.feed.inbox.append((symbol, bar or bar_of(row), "stream"))
        self.feed.sort_in()

    def take(self) -> None:
        for _, batch in self.feed.take():
            for s in batch.symbols.tolist():
                self.out[self.names[s]].append((batch.ts // HOUR, True))
            for s in batch.absent.tolist():
                self.out[self.names[s]].append((batch.ts // HOUR, False))

    async def turn(self, seconds: float = 0.0) -> None:
        """Let the repairer work, time standing, then let `seconds` pass."""
        self.repairer.start([self.feed])
        for _ in range(400):
            await asyncio.sleep(0)
        self.take()
        self.clock.advance_by(seconds)


def on_loop(test):
    @functools.wraps(test)
    def run(*args, **kwargs):
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), 60))

    return run


@on_loop
async def test_the_bar_behind_a_hole_is_held_and_the_other_symbols_go_on():
    bench = Bench(3)
    bench.source.refused = {"S000USDT"}
    bench.clock.advance((FIRST + 1) * HOUR)
    for symbol in range(3):
        bench.stream(symbol, FIRST + 1)
        if symbol:
            bench.stream(symbol, FIRST)
    await bench.turn(10)
    assert bench.out["S000USDT"] == []
    assert bench.out["S001USDT"] == bench.out["S002USDT"] == [(FIRST, True), (FIRST + 1, True)]
    bench.source.refused.clear()
    await bench.turn(10)
    await bench.turn()
    assert bench.out["S000USDT"] == [(FIRST, True), (FIRST + 1, True)]
    await bench.repairer.stop()


@on_loop
async def test_a_bar_that_does_not_come_is_fetched_once_the_buffer_has_passed():
    bench = Bench(2)
    bench.clock.advance(FIRST * HOUR + 119 * NS)
    bench.stream(0, FIRST)
    await bench.turn(1)
    assert bench.source.calls == []
    await bench.turn()
    assert bench.source.calls == [(1, (FIRST - 1) * HOUR, FIRST * HOUR)]
    assert bench.out["S001USDT"] == [(FIRST, True)]


@on_loop
async def test_history_that_lags_is_asked_again_and_its_silence_believed_only_after_the_lag():
    bench = Bench(2)
    close = (FIRST + 1) * HOUR
    bench.source.lagging[("S000USDT", FIRST + 1)] = close + 25 * NS
    bench.source.absent.add(("S001USDT", FIRST + 1))
    bench.clock.advance(close)
    for symbol in range(2):
        bench.stream(symbol, FIRST)
        bench.stream(symbol, FIRST + 2)
    for _ in range(24):
        await bench.turn(1)
    assert 5 <= len(bench.source.calls) <= 24  # asked again, and not in a storm
    assert bench.out["S000USDT"] == bench.out["S001USDT"] == [(FIRST, True)]
    for _ in range(8):
        await bench.turn(1)
    assert bench.out["S000USDT"] == [(FIRST, True), (FIRST + 1, True), (FIRST + 2, True)]
    assert bench.out["S001USDT"] == [(FIRST, True), (FIRST + 1, False), (FIRST + 2, True)]
    assert bench.feed.sequencer.counts.absent == 1


@on_loop
async def test_what_comes_does_not_wait_for_what_lags():
    bench = Bench(500)
    close = (FIRST + 1) * HOUR
    bench.source.absent.add(("S007USDT", FIRST + 1))
    bench.clock.advance(close)
    for symbol in range(500):
        bench.stream(symbol, FIRST)
        bench.stream(symbol, FIRST + 2)
    await bench.turn(1)
    complete = [(FIRST, True), (FIRST + 1, True), (FIRST + 2, True)]
    assert [name for name, rows in bench.out.items() if rows != complete] == ["S007USDT"]
    assert bench.source.calls == [(500, FIRST * HOUR, close)]
    await bench.turn(1)
    await bench.turn(1)
    assert {count for count, _, _ in bench.source.calls[1:]} == {1}
    await bench.repairer.stop()


@on_loop
async def test_a_storm_is_bounded_retried_with_back_off_and_logged_sparsely(caplog):
    caplog.set_level("INFO", logger="alpha_forge")
    bench = Bench(500)
    bench.source.refused = set(bench.names)
    bench.clock.advance((FIRST + 600) * HOUR)
    for symbol in range(500):  # every symbol has another range: no request is shared
        bench.stream(symbol, FIRST + 100 + symbol)
    await bench.turn()
    assert bench.source.most_open <= AT_ONCE
    first = len(bench.source.calls)
    assert first == 500
    for _ in range(50):
        await bench.turn(0.1)
    assert len(bench.source.calls) - first < 500 * 8  # back-off: not once a turn
    assert len(caplog.records) <= 3
    bench.source.refused.clear()
    for _ in range(120):
        await bench.turn(1)
    assert all(rows[0] == (FIRST, True) and len(rows) >= 101 for rows in bench.out.values())
    await bench.repairer.stop()


@on_loop
async def test_a_source_that_says_when_is_left_alone_until_then(caplog):
    bench = Bench(500)
    bench.clock.advance((FIRST + 600) * HOUR)
    bench.source.banned_until = bench.clock.now() + 3600 * NS
    for symbol in range(500):
        bench.stream(symbol, FIRST + 100 + symbol // 2)
    await bench.turn()
    first = len(bench.source.calls)
    assert first == 250, "one a range, and not in halves"
    for _ in range(35):
        await bench.turn(100)
    assert len(bench.source.calls) == first, "nobody asks during a ban that is known"
    assert len(caplog.records) == 1, "one line a minute of real time, whatever passes on the run's clock"
    for _ in range(400):
        await bench.turn(1)
    assert all(rows[0] == (FIRST, True) and len(rows) >= 101 for rows in bench.out.values())
    assert sorted(bench.source.calls[first : 2 * first]) == sorted(bench.source.calls[:first])
    await bench.repairer.stop()


@on_loop
async def test_a_symbol_that_history_refuses_does_not_keep_the_others_of_its_group():
    bench = Bench(64)
    bench.source.refused = {"S013USDT"}
    bench.clock.advance(FIRST * HOUR + 120 * NS)
    for _ in range(150):
        await bench.turn(2)
    waiting = [name for name, rows in bench.out.items() if rows != [(FIRST, True)]]
    assert waiting == ["S013USDT"]
    bench.source.refused.clear()
    for _ in range(60):
        await bench.turn(2)
    assert bench.out["S013USDT"] == [(FIRST, True)]
    await bench.repairer.stop()


@on_loop
async def test_a_late_stream_bar_that_differs_is_a_revision_and_what_was_processed_stands(caplog):
    bench = Bench(2)
    bench.clock.advance(FIRST * HOUR + 120 * NS)
    await bench.turn()
    assert bench.out["S000USDT"] == [(FIRST, True)]
    other = bar_of(FIRST)._replace(close=10.25)
    bench.feed.newest_ts = FIRST * HOUR
    for bar in (bar_of(FIRST), other):
        bench.feed.inbox.append((0, bar, "stream"))
    (revision,) = bench.feed.sort_in()
    assert (revision.symbol, revision.row) == (0, FIRST)
    assert revision.processed == bar_of(FIRST)[1:]
    assert revision.other == other[1:]
    assert [bench.feed.origins.name(o) for o in (revision.processed_origin, revision.other_origin)] == [
        "repair",
        "stream",
    ]
    counts = bench.feed.sequencer.counts
    assert (counts.repeated, counts.revised) == (1, 1)
    assert "S000USDT" in caplog.text
    assert "10.25" in caplog.text
    for _ in range(1000):
        bench.feed.inbox.append((0, other, "stream"))
        bench.feed.sort_in()
    assert counts.revised == 1001
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1
    bench.take()
    assert bench.out["S000USDT"] == [(FIRST, True)]


@on_loop
async def test_a_bar_beyond_the_last_one_that_is_processed_can_not_be_revised():
    bench = Bench(1)
    gate = bench.feed.sequencer
    gate.limit = FIRST + 1
    other = bar_of(FIRST + 2)._replace(close=10.25)
    for bar in (bar_of(FIRST), bar_of(FIRST + 2), other, bar_of(FIRST + 1), other):
        bench.stream(0, bar.ts // HOUR, bar)
    bench.take()
    assert bench.out["S000USDT"] == [(FIRST, True), (FIRST + 1, True)]
    assert gate.finished
    assert (gate.counts.revised, gate.counts.repeated) == (0, 0)
