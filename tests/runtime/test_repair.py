"""Missing bars are fetched; that a bar does not exist is believed only of a source that has passed its close."""

from __future__ import annotations

import asyncio

import pytest

from alpha_forge.runtime.runner import RealTimeRunner
from alpha_forge_sdk import BAR_CLOSE, Bar, MarketEvent, SourceError
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
