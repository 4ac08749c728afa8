"""A symbol whose repair fails for long: the others go on, and it loses nothing once the source answers again."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from alpha_forge.runtime.frames import MIN_ROWS
from alpha_forge.runtime.runner import RealTimeRunner
from alpha_forge_sdk import SourceError
from tests.fake_source import ScriptedSource, VirtualClock
from tests.market_truth import HOUR, features, random_market, worst
from tests.pipelines import arrivals_of, compiled, config, read_column

WARM, LIVE = 80, 3 * MIN_ROWS

STEPS = """
- features: {using: features.momentum, inputs: {column: F.close}, outputs: {columns: [mom_20]}, params: {window: 20}}
- transform: {using: transforms.resample, inputs: {frame: ohlcv}, outputs: {frame: slow}, params: {interval: 4h}}
- transform: {using: transforms.align, inputs: {left: ohlcv, right: slow}, outputs: {frame: joined}, params: {columns: [close]}}
"""


class Stubborn(ScriptedSource):
    """Its history knows nothing of one symbol until the stream has come to its end."""

    async def history(self, symbols, start, end):
        live = min(ts for ts, _ in self.arrivals)
        if "S001USDT" in symbols and end >= live and self.clock.now() < max(ts for ts, _ in self.arrivals):
            raise SourceError("AF5002", "not now", "wait")
        async for block in super().history(symbols, start, end):
            yield block


@pytest.mark.parametrize("symbols", [3, 500])
def test_a_symbol_stuck_for_longer_than_the_ring_loses_nothing(tmp_path, symbols):
    market = random_market(symbols, WARM + LIVE, 5)
    anchor = int(market["S000USDT"].index[WARM - 1])
    missed = int(market["S001USDT"].index[WARM + 2])
    arrivals = [a for a in arrivals_of(market, anchor) if a != (missed, "S001USDT")]
    columns = ["mom_20", "close"]
    text = config(list(market), tmp_path, columns, steps=STEPS).replace(
        "ohlcv.close, params", "joined.close, params"
    )
    document, dag = compiled(text)
    clock = VirtualClock(anchor + HOUR // 2)
    source = Stubborn(market, arrivals, clock, HOUR, per_turn=symbols)
    runner = RealTimeRunner(document, dag, sources={"ohlcv": source})
    summary = asyncio.run(asyncio.wait_for(runner.run(), 120))
    assert summary.repaired >= 1
    got = read_column(tmp_path / "mom_20.csv")
    close = read_column(tmp_path / "close.csv")
    for symbol, bars in market.items():
        live = bars[bars.index > anchor]
        want = features(bars)["mom_20"].loc[live.index].to_numpy()
        assert list(got[symbol].index) == list(live.index)
        assert worst(got[symbol].to_numpy(), want) <= 1e-9
        assert np.array_equal(close[symbol].to_numpy(), live["close"].to_numpy())
