"""The zoo's correct data source: a client of `source_exchange`, as short as one can be that keeps every promise."""

from __future__ import annotations

import asyncio
import contextlib
import json
import zlib
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from alpha_forge.contracts.errors import SourceError
from alpha_forge.contracts.params import Params as BaseParams
from alpha_forge.contracts.plugin import DataSource, SourceContext
from alpha_forge.contracts.types import BAR_CLOSE, Bar, BarBlock, MarketEvent
from alpha_forge_sdk.conformance.case import Conformance, DataSourceConformance
from alpha_forge_sdk.conformance.faults import Injection
from alpha_forge_sdk.conformance.zoo.source_exchange import (
    FILE,
    HOUR,
    NS,
    SYMBOLS,
    Exchange,
    Refused,
    ServerError,
    exchange_at,
    running_exchange,
    tape,
)

ATTEMPTS = 6
PATIENCE = 600 * NS


class TapeSource(DataSource):
    """Plays a made-up tape: the past by history, the rest by the stream. Correct."""

    class Params(BaseParams):
        """What to play, and from where."""

        universe: tuple[str, ...] = Field(("AAA", "BBB"), min_length=1, description="symbols")
        interval: str = Field("1h", description="length of a bar", pattern="^1h$")
        address: str = Field("zoo://1", min_length=1, description="where the exchange is")

    silence: ClassVar[float | None] = 0.05
    """Real seconds without a message after which a connection is made anew."""

    def __init__(self, params: Params) -> None:
        super().__init__(params)
        self.exchange: Exchange | None = None
        self.newest: dict[str, int] = {}
        self.refused_until = 0

    async def find_clock(self) -> Any:
        return exchange_at(self.params.address).clock

    async def open(self, context: SourceContext) -> None:
        self.know(self.params.universe)
        self.exchange = exchange_at(self.params.address)

    def know(self, symbols: Sequence[str]) -> None:
        """Refuse symbols that no tape has."""
        for symbol in symbols:
            if symbol not in SYMBOLS:
                raise SourceError("AF5003", f"there is no symbol {symbol!r}", f"known: {', '.join(SYMBOLS)}")

    def opened(self) -> Exchange:
        if self.exchange is None:
            raise SourceError("AF5008", "the source is not open", "call open first")
        return self.exchange

    async def close(self) -> None:
        self.exchange = None

    # The stream.

    async def stream(self) -> AsyncIterator[MarketEvent]:
        while True:
            with contextlib.suppress(ConnectionError, TimeoutError):
                async for event in self.connected():
                    yield event
            await asyncio.sleep(0.001)

    async def connected(self) -> AsyncIterator[MarketEvent]:
        """Events of one connection. Raises ConnectionError or TimeoutError when it is lost, or silent."""
        connection = self.opened().connect()
        connection.subscribe(self.params.universe)
        quiet = dict.fromkeys(self.params.universe, 0)
        while True:
            async with asyncio.timeout(self.silence):
                message = await connection.receive()
            told = self.parsed(message)
            if told is None:
                continue
            self.listen(quiet, told)
            for event in self.events(told["symbol"], Bar(*told["bar"]), told["closed"]):
                yield event

    def parsed(self, message: bytes) -> dict[str, Any] | None:
        """What a message says; None for one that is none."""
        try:
            told = json.loads(message)
        except ValueError:
            return None
        return told if isinstance(told, dict) and {"symbol", "bar", "closed"} <= told.keys() else None

    def listen(self, quiet: dict[str, int], told: dict[str, Any]) -> None:
        """Count the closes that came since each symbol spoke last. Raises ConnectionError for one that is silent."""
        for symbol in quiet:
            quiet[symbol] += told["closed"]
        quiet[told["symbol"]] = 0
        if max(quiet.values()) > 4:
            raise ConnectionError("a symbol is silent")

    def events(self, symbol: str, bar: Bar, closed: bool) -> Iterator[MarketEvent]:
        """What is told of a message: nothing of a close that was told already."""
        if closed:
            if bar.ts <= self.newest.get(symbol, 0):
                return
            self.newest[symbol] = bar.ts
        yield MarketEvent(BAR_CLOSE, symbol, bar.ts, bar, closed)

    # History.

    async def passed(self, instant: int, now: int) -> int:
        return min(instant, self.opened().time())

    async def history(self, symbols: Sequence[str], start: int, end: int) -> AsyncIterator[BarBlock]:
        for symbol in symbols:
            chosen = self.chosen(symbol, await self.fetched(symbol, start, end), start, end)
            columns: list[Any] = [
                np.array(c, dtype=float) for c in zip(*(b[1:] for b in chosen), strict=True)
            ]
            if chosen:
                yield BarBlock(symbol, np.array([b.ts for b in chosen]), *columns)

    def chosen(self, symbol: str, bars: list[Bar], start: int, end: int) -> list[Bar]:
        """What history answers of what was fetched, which is more than was asked for."""
        return [b for b in bars if start < b.ts <= min(end, self.opened().time())]

    async def fetched(self, symbol: str, start: int, end: int) -> list[Bar]:
        """Bars from a little before `start` on: from files as far as they go, then from pages."""
        found: list[Bar] = []
        since = start - HOUR.ns
        for number, last in self.opened().listing():
            if since < last and last - FILE * HOUR.ns < end:
                bars = await self.filed(symbol, number)
                found += bars if bars is not None else await self.paged(symbol, last - FILE * HOUR.ns, last)
                since = last
        return found + await self.paged(symbol, since, end)

    async def filed(self, symbol: str, number: int) -> list[Bar] | None:
        """A file's bars; None if it can't be had."""
        try:
            file = await self.opened().file(symbol, number)
            if zlib.crc32(file.body) != file.checksum:
                return None
            return [Bar(*row) for row in json.loads(file.body)]
        except (FileNotFoundError, ValueError):
            return None

    async def paged(self, symbol: str, start: int, end: int) -> list[Bar]:
        """A page's bars. Raises SourceError for a ban, and when all attempts have failed."""
        for attempt in range(ATTEMPTS):
            await self.permitted()
            try:
                page = await self.opened().page(symbol, start, end)
            except ServerError:
                await asyncio.sleep(0.002 * 2**attempt)
            except Refused as refused:
                self.refused_until = refused.until
            else:
                if len(page.bars) == page.sent:
                    return page.bars
        raise SourceError("AF5001", f"no answer after {ATTEMPTS} attempts", "try again later")

    async def permitted(self) -> None:
        """Wait until the exchange takes requests again."""
        exchange = self.opened()
        while (wait := self.refused_until - exchange.time()) > 0:
            if wait > PATIENCE:
                raise SourceError("AF5002", f"refused for {wait / NS:.0f} s more", "wait that long")
            await exchange.clock.sleep(wait / NS)


class TapeCase(DataSourceConformance):
    """The case of a zoo source."""

    patience = 2.0

    @contextlib.contextmanager
    def running(self, tmp_path: Path) -> Iterator[Mapping[str, Any]]:
        with running_exchange() as (address, _):
            yield {"universe": SYMBOLS, "interval": "1h", "address": address}

    def truth(self, params: Mapping[str, Any]) -> Iterable[tuple[str, Bar]]:
        return [(s, b) for s, bars in tape(params["universe"]).items() for b in bars]

    def disconnect(self, params: Mapping[str, Any]) -> None:
        exchange_at(params["address"]).cuts += 1

    def inject(self, params: Mapping[str, Any], fault: str, *, times: int | None = 1) -> Injection:
        return exchange_at(params["address"]).inject(fault, times)

    def violations(self, params: Mapping[str, Any]) -> int:
        return exchange_at(params["address"]).violations


def case_of(source: type[DataSource]) -> type[Conformance]:
    """The case class of a zoo source, named after it."""
    return type(f"{source.__name__}Case", (TapeCase,), {"plugin": source, "__module__": source.__module__})
