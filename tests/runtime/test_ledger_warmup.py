"""Between history and stream: what both tell, and what neither has told yet."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pandas as pd
import pytest

from alpha_forge.runtime.ledger import certificate as certificates
from alpha_forge.runtime.ledger.check import check
from alpha_forge.runtime.runner import RealTimeRunner
from alpha_forge_sdk import BAR_CLOSE, Bar, MarketEvent
from tests.fake_source import ScriptedSource, VirtualClock
from tests.market_truth import random_market
from tests.pipelines import arrivals_of, compiled, config, read_column
from tests.runtime.ledger_support import HOUR, as_said, iso

STEPS = "- features: {using: features.momentum, inputs: {column: F.close}, outputs: {columns: [mom_20]}}\n"
NAME = "S001USDT"


class Overlapping(ScriptedSource):
    """The stream is on before history answers: it has brought `early` by then. History lacks `lagging` at first."""

    early: list[Bar]
    lagging: set[int] = frozenset()

    async def find_clock(self):
        self.streaming = asyncio.Event()
        return await super().find_clock()

    async def stream(self):
        first = self.arrivals[0][0]
        yield MarketEvent(BAR_CLOSE, "S000USDT", first)
        for bar in self.early:
            yield MarketEvent(BAR_CLOSE, NAME, bar.ts, bar, closed=True)
        self.streaming.set()
        async for event in super().stream():
            yield event

    async def history(self, symbols, start, end):
        await self.streaming.wait()
        warming = not self.history_calls
        async for block in super().history(symbols, start, end):
            if warming and block.symbol == NAME and self.lagging:
                keep = [ts not in self.lagging for ts in block.ts.tolist()]
                columns = (block.ts, block.open, block.high, block.low, block.close, block.volume)
                yield type(block)(block.symbol, *(column[keep] for column in columns))
            else:
                yield block


def run(market: dict[str, pd.DataFrame], out: Path, early: list[Bar], lagging: set[int]) -> dict:
    """The certificate's section of the symbol that the stream tells of early; all else must be as ever."""
    anchor = int(market["S000USDT"].index[79])
    arrivals = arrivals_of(market, anchor)
    document, dag = compiled(config(list(market), out, ["mom_20"], steps=STEPS))
    source = Overlapping(market, arrivals, VirtualClock(anchor + HOUR // 2), HOUR)
    source.early, source.lagging = early, lagging
    runner = RealTimeRunner(document, dag, sources={"ohlcv": source}, state_dir=out / "state")
    asyncio.run(asyncio.wait_for(runner.run(), 60))
    content = certificates.read(out / "state" / "test_pipeline.certificate.json")
    assert check(content, out / "state" / "test_pipeline.bars").problems == []
    assert content["frames"]["ohlcv"]["symbols"]["S000USDT"]["revisions"]["count"] == 0
    section: dict = content["frames"]["ohlcv"]["symbols"][NAME]
    return section


def bar_at(bars: pd.DataFrame, place: int, **changed: float) -> Bar:
    ts = int(bars.index[place])
    return Bar(ts, *map(float, bars.loc[ts]))._replace(**changed)


def test_the_stream_counts_where_history_tells_otherwise_and_both_are_recorded(tmp_path):
    market = random_market(2, 90, 5)
    bars = market[NAME]
    same, other = bar_at(bars, 78), bar_at(bars, 79)
    other = other._replace(close=(other.close + other.open) / 2)
    section = run(market, tmp_path, [same, other], set())
    (entry,) = section["revisions"]["listed"]
    assert entry["ts"] == iso(other.ts)
    assert (entry["processed"]["origin"], entry["processed"]["close"]) == ("stream", other.close)
    assert (entry["other"]["origin"], entry["other"]["close"]) == ("rest", bar_at(bars, 79).close)
    assert [piece[2] for piece in as_said(section)] == ["rest", "stream"]
    assert as_said(section)[0][1] == same.ts // HOUR - 1  # where both say the same, the stream's is taken too
    # What was computed with is what the ledger says was processed.
    told = bars["close"].copy()
    told.iloc[79] = other.close
    want = (told / told.shift(20) - 1).iloc[80:]
    got = read_column(tmp_path / "mom_20.csv")[NAME]
    assert got.to_numpy() == pytest.approx(want.to_numpy(), rel=1e-12)


def test_history_s_silence_behind_an_early_bar_of_the_stream_proves_nothing(tmp_path):
    """History lags by two bars, the stream has brought the newer one: the older one exists, and is fetched."""
    market = random_market(2, 90, 5)
    bars = market[NAME]
    lagging = {int(bars.index[78]), int(bars.index[79])}
    section = run(market, tmp_path, [bar_at(bars, 79)], lagging)
    pieces = as_said(section)
    assert [piece[2] for piece in pieces] == ["rest", "repair", "stream"]
    assert pieces[1][:2] == (int(bars.index[78]) // HOUR,) * 2
    assert section["holes"] == []
    assert len(read_column(tmp_path / "mom_20.csv")[NAME]) == 10


def test_the_very_first_bar_of_a_symbol_may_be_one_that_history_lags_behind(tmp_path):
    """Its first bar closed right before the run: that history has nothing of it yet proves nothing."""
    market = random_market(2, 90, 5)
    market[NAME] = market[NAME].iloc[79:]
    bars = market[NAME]
    section = run(market, tmp_path, [], {int(bars.index[0])})
    pieces = as_said(section)
    assert [piece[2] for piece in pieces][:2] == ["hole", "repair"]
    assert pieces[1][:2] == (int(bars.index[0]) // HOUR,) * 2
    assert section["bars"] == len(bars)


def test_a_symbol_that_has_never_had_a_bar_is_a_hole_that_is_proved_to_the_last(tmp_path):
    market = random_market(2, 90, 5)
    market[NAME] = market[NAME].iloc[85:]
    section = run(market, tmp_path, [], set())
    assert [(hole["bars"], hole["reason"]) for hole in section["holes"]][-1] == (6, "the exchange has none")
    assert sum(hole["bars"] for hole in section["holes"]) + section["bars"] == section["expected"]
    assert section["bars"] == 5
