"""`data.binance_spot` against a local exchange's spot venue; truth is the exchange's market."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest
from pydantic import ValidationError

from alpha_forge_plugins.market.binance_spot import BinanceSpot
from alpha_forge_sdk import BAR_CLOSE, Clock, MarketEvent, SourceContext, SourceError, SystemClock

from .support import MINUTE, START_MS, Hosted, history, hosted, joined, soon, take, truth

THREE = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
SECOND = 10**9
DAY = 1440 * MINUTE


@asynccontextmanager
async def opened(
    url: str, folder: Path, symbols: Sequence[str] = THREE, interval: str = "1m", **params: object
) -> AsyncIterator[tuple[BinanceSpot, Clock]]:
    given = {"universe": symbols, "interval": interval, "endpoints": url} | params
    source = BinanceSpot(BinanceSpot.Params.model_validate(given))
    clock = await soon(source.find_clock()) or SystemClock()
    try:
        await soon(source.open(SourceContext(clock, folder, {})))
        yield source, clock
    finally:
        await soon(source.close())


def streamed(events: Sequence[MarketEvent], symbol: str) -> list[MarketEvent]:
    return [event for event in events if event.closed and event.symbol == symbol]


@pytest.mark.parametrize(("interval", "step", "speed"), [("1s", SECOND, 2.0), ("1m", MINUTE, 60.0)])
def test_stream_and_history_meet_without_a_gap(
    tmp_path: Path, interval: str, step: int, speed: float
) -> None:
    async def run(host: Hosted) -> None:
        async with (
            opened(host.url, tmp_path, interval=interval) as (source, _),
            aclosing(source.stream()) as stream,
        ):
            first = await take(stream, lambda events: events[-1].type == BAR_CLOSE)
            anchor = first[-1].ts - step
            past = await history(source, THREE, anchor - 1500 * step, anchor)
            events = first + await take(
                stream, lambda taken: all(len(streamed(taken, symbol)) >= 3 for symbol in THREE)
            )
        for symbol in THREE:
            ts, values = joined(past[symbol])
            true_ts, true_values = truth(host.exchange, symbol, interval, anchor - 1500 * step, anchor, step)
            assert ts.tolist() == true_ts.tolist()
            assert (values == true_values).all()
            bars = [event.bar for event in streamed(first + events, symbol) if event.bar is not None]
            true_ts, true_values = truth(host.exchange, symbol, interval, anchor, bars[-1].ts, step)
            assert [bar.ts for bar in bars] == true_ts.tolist()
            assert [list(bar[1:]) for bar in bars] == true_values.T.tolist()

    with hosted(venue="spot", symbols=THREE, speed=speed, hold=True) as host:
        asyncio.run(run(host))


def test_the_archive_s_microseconds_and_headerless_files_are_the_same_bars(tmp_path: Path) -> None:
    """The range crosses 2025-01-01, from which on spot's files count in microseconds."""
    new_year = 1_735_689_600 * SECOND

    async def run(host: Hosted) -> None:
        async with opened(host.url, tmp_path, ("BTCUSDT",), "15m") as (source, _):
            start, end = new_year - 31 * DAY, new_year + 31 * DAY
            (blocks,) = (await history(source, ("BTCUSDT",), start, end)).values()
            ts, values = joined(blocks)
            true_ts, true_values = truth(host.exchange, "BTCUSDT", "15m", start, end, 15 * MINUTE)
            assert ts.tolist() == true_ts.tolist()
            assert (values == true_values).all()
            assert {block.origin for block in blocks} == {"archive"}

    with hosted(venue="spot", symbols=("BTCUSDT",), start_ms=START_MS) as host:
        asyncio.run(run(host))


def test_a_symbol_that_spot_does_not_trade_is_named(tmp_path: Path) -> None:
    async def run(host: Hosted) -> None:
        async with opened(host.url, tmp_path, ("BTCUSDT", "ETHUSD")):
            pass

    with hosted(venue="spot", symbols=THREE) as host, pytest.raises(SourceError) as error:
        asyncio.run(run(host))
    assert error.value.code == "AF5003"
    assert "ETHUSD is unknown, did you mean 'ETHUSDT'?" in error.value.message
    assert "spot pairs" in (error.value.help or "")


def test_the_futures_source_at_the_spot_venue_is_told_so(tmp_path: Path) -> None:
    """Another venue's base URL: an error with a cure, and no silence."""
    from .support import opened as futures

    async def run(host: Hosted) -> None:
        async with futures(host.url, tmp_path, THREE):
            pass

    with hosted(venue="spot", symbols=THREE) as host, pytest.raises(SourceError) as error:
        asyncio.run(run(host))
    assert error.value.code in {"AF5005", "AF5006"}
    assert host.url in error.value.message


def test_one_url_stands_for_all_four_and_klines_are_at_its_root() -> None:
    params = BinanceSpot.Params.model_validate(
        {"universe": ["BTCUSDT"], "interval": "1s", "endpoints": "http://127.0.0.1:8080/"}
    )
    assert params.endpoints.ws == "ws://127.0.0.1:8080"
    assert params.endpoints.rest == "http://127.0.0.1:8080"
    public = BinanceSpot.Params.model_validate({"universe": ["BTCUSDT"], "interval": "1s"}).endpoints
    assert public.ws == "wss://stream.binance.com:9443"
    assert public.public


@pytest.mark.parametrize(
    ("interval", "says"), [("1M", "months differ"), ("2s", "1s, 1m"), ("1S", "Binance spot")]
)
def test_an_interval_that_spot_lacks_is_refused_with_those_it_has(interval: str, says: str) -> None:
    with pytest.raises(ValidationError) as error:
        BinanceSpot.Params.model_validate({"universe": ["BTCUSDT"], "interval": interval})
    assert says in str(error.value)


def test_the_futures_host_is_no_spot_market() -> None:
    given = {
        "universe": ["BTCUSDT"],
        "interval": "1m",
        "endpoints": {"ws": "wss://fstream.binance.com/market"},
    }
    with pytest.raises(ValidationError) as error:
        BinanceSpot.Params.model_validate(given)
    assert "wss://stream.binance.com:9443" in str(error.value)
