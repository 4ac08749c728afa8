"""One stream through every fault of a WebSocket, one after the other, at a hostile exchange."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from alpha_forge_plugins.market.binance_futures import BinanceFutures
from alpha_forge_plugins.market.binance_spot import BinanceSpot
from alpha_forge_sdk import MarketEvent, SourceContext, SystemClock

from .support import DEADLINE, MINUTE, Hosted, hosted, soon, truth

THREE = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
FAULTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("disconnect", {"share": 0.5}),
    ("disconnect", {"reset": True, "inside": True}),
    ("close", {"code": 1012}),
    ("stall", {}),
    ("silent_stream", {"symbols": ["ETHUSDT"], "life": "connection"}),
    ("silent_stream", {"symbols": ["ETHUSDT"], "life": "subscription"}),
    ("garbage", {"form": "types"}),
    ("garbage", {"form": "truncated"}),
    ("garbage", {"form": "utf8"}),
    ("oversized", {"bytes": 1_500_000}),
    ("server_shutdown", {"lead": "30s"}),
    ("duplicate_close", {"copies": 2}),
    ("late_close", {"delay": "20s"}),
    ("missing_close", {}),
    ("out_of_order", {"window": "2s"}),
)


SOME = tuple(fault for fault in FAULTS if fault[0] in ("stall", "garbage", "server_shutdown"))
"""Enough for a second venue: the decisions are the same code."""


class Reading:
    """Reads a stream and keeps what it said."""

    def __init__(self, stream: AsyncIterator[MarketEvent]) -> None:
        self._stream = stream
        self.events: list[MarketEvent] = []

    def closed(self, symbol: str) -> list[MarketEvent]:
        return [event for event in self.events if event.closed and event.symbol == symbol]

    async def until_all_close(self, after: int) -> None:
        """Read until every symbol has closed a bar after the instant `after` (ns)."""
        open_ = set(THREE)
        while open_:
            event = await anext(self._stream)
            self.events.append(event)
            if event.closed and event.ts > after and event.symbol is not None:
                open_.discard(event.symbol)


@pytest.mark.parametrize(("source_class", "faults"), [(BinanceFutures, FAULTS), (BinanceSpot, SOME)])
def test_the_stream_comes_back_from_every_fault(
    source_class: type[BinanceFutures | BinanceSpot],
    faults: tuple[tuple[str, dict[str, Any]], ...],
    tmp_path: Path,
) -> None:
    async def run(host: Hosted) -> None:
        given = {"universe": THREE, "interval": "1m", "endpoints": host.url, "silence": 1.0}
        source = source_class(source_class.Params.model_validate(given))  # type: ignore[arg-type]
        clock = await soon(source.find_clock()) or SystemClock()
        await soon(source.open(SourceContext(clock, tmp_path, {})))
        try:
            async with aclosing(source.stream()) as stream:  # type: ignore[type-var]
                reading = Reading(stream)
                await reading.until_all_close(0)
                for kind, options in faults:
                    await played(host, reading, clock, kind, options)
        finally:
            await soon(source.close())
        for symbol in THREE:
            bars = [event.bar for event in reading.closed(symbol) if event.bar is not None]
            instants = [bar.ts for bar in bars]
            assert len(set(instants)) == len(instants), "every close once"
            true_ts, true_values = truth(
                host.exchange, symbol, "1m", min(instants) - 1, max(instants), MINUTE
            )
            known = dict(zip(true_ts.tolist(), true_values.T.tolist(), strict=True))
            assert [list(bar[1:]) for bar in bars] == [known[bar.ts] for bar in bars], "none invented"
            assert len(bars) >= len(faults)

    async def played(host: Hosted, reading: Reading, clock: Any, kind: str, options: dict[str, Any]) -> None:
        def count() -> int:
            return int(host.exchange.faults.counts[kind])  # type: ignore[attr-defined]

        before = count()
        undo = host.exchange.inject(kind, times=1, **options)
        try:
            async with asyncio.timeout(DEADLINE):
                while count() == before:
                    await reading.until_all_close(clock.now())
                undo()
                # Two rounds: what was on its way when the fault struck does not count.
                await reading.until_all_close(clock.now())
                await reading.until_all_close(clock.now())
        except TimeoutError:
            raise AssertionError(f"the stream did not come back from {kind} {options}") from None

    venue = "spot" if source_class is BinanceSpot else "usdm"
    with hosted(venue=venue, symbols=THREE, speed=240.0) as host:
        asyncio.run(run(host))
        assert not host.exchange.faults.violations  # type: ignore[attr-defined]
