"""What the Binance sources share: one engine, whatever the venue. A venue's source adds its facts and parameters.

Imports nothing heavy before a source is opened.
"""

from __future__ import annotations

import asyncio
import difflib
import logging
import re
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

from pydantic import Field

from alpha_forge_plugins.market.binance.endpoints import Endpoints
from alpha_forge_plugins.market.binance.venue import Venue
from alpha_forge_plugins.market.universe import Universe
from alpha_forge_sdk import (
    BarBlock,
    Clock,
    DataSource,
    Interval,
    MarketEvent,
    Params,
    ScaledClock,
    SourceError,
)

if TYPE_CHECKING:
    import httpx

    from alpha_forge_plugins.market.binance.cache import FileCache
    from alpha_forge_plugins.market.binance.feed import Feed
    from alpha_forge_plugins.market.binance.history import History
    from alpha_forge_plugins.market.binance.rest import ExchangeInfo
    from alpha_forge_plugins.market.binance.rest_client import RestClient
    from alpha_forge_sdk import SourceContext

log = logging.getLogger(__name__)

_CLOCK_ATTEMPTS = 6
_SKEW = 2.0  # seconds by which the machine's clock may be off before it is said


def known_interval(venue: Venue) -> Callable[[Any], Any]:
    """A validator that names the venue's intervals."""

    def check(value: Any) -> Any:
        if value == "1M":
            raise ValueError("1M is no interval here: months differ in length; use 1d and resample, or 1w")
        if value not in venue.intervals:
            raise ValueError(
                f"{value!r} is no interval of {venue.name}; these are: {', '.join(venue.intervals)}"
            )
        return value

    return check


class BinanceParams(Params):
    """Parameters of every venue; its own class narrows `interval` and `endpoints`."""

    universe: Universe
    interval: str
    endpoints: Endpoints
    request_timeout: float = Field(
        10.0, gt=0, le=300, description="seconds without an answer after which a request is tried again"
    )
    patience: float = Field(
        600.0, ge=60, description="longest wait, in exchange seconds, that a rate limit or ban may impose"
    )
    concurrency: int = Field(8, ge=1, le=64, description="requests side by side, REST and archive each")
    streams_per_connection: int = Field(
        512, ge=1, le=1024, description="streams that one WebSocket connection carries at most"
    )
    silence: float = Field(
        60.0,
        ge=1,
        le=3600,
        description="seconds without any message after which a connection is replaced",
    )
    connection_lifetime: float = Field(
        82_800.0,
        ge=5,
        description="seconds after which a connection is replaced; the exchange cuts it at 24 h",
    )


class BinanceSource(DataSource):
    """Klines from WebSocket, REST and the public archive of one venue."""

    venue: ClassVar[Venue]
    params: BinanceParams

    def __init__(self, params: BinanceParams) -> None:
        super().__init__(params)
        self._interval = Interval.parse(params.interval)
        self._clients: dict[str, httpx.AsyncClient] = {}
        self._rest: RestClient | None = None
        self._history: History | None = None
        self._context: SourceContext | None = None
        self._feeds: set[Feed] = set()
        self._server_clock: ScaledClock | None = None
        self._held = False
        self._identity: str | None = None
        self._synchronizing = asyncio.Lock()

    async def find_clock(self) -> Clock | None:
        """The clock of a local exchange, which tells its time under ``/sandbox/clock``; None for Binance.

        Raises SourceError if an exchange that isn't Binance's public one can't be reached (AF5001) or trusted (AF5018).
        """
        if self.params.endpoints.public:
            return None
        told = await self._tell_clock()
        if told is None:
            return None
        epoch, speed, self._held = told
        self._identity = await self._tell_identity()
        self._server_clock = ScaledClock(epoch, speed)
        return self._server_clock

    async def _tell_clock(self) -> tuple[int, float, bool] | None:
        """(ns as of now, speed, held) as the exchange tells them; None if it keeps no clock of its own."""
        import httpx

        from alpha_forge_plugins.market.binance.rest_client import tls_failure, untrusted

        url = f"{self.params.endpoints.rest}/sandbox/clock"
        causes: list[str] = []
        while True:
            try:
                answer = await self._client("rest").get(url)
                break
            except httpx.TransportError as error:
                if (untold := tls_failure(error)) is not None:
                    raise untrusted(url, untold) from None
                causes.append(f"{type(error).__name__}: {error}")
            if len(causes) == _CLOCK_ATTEMPTS:
                # Going on by the machine's clock would be silently wrong for the whole run.
                raise SourceError(
                    "AF5001",
                    f"{url} can't be reached: {causes[-1]} ({_CLOCK_ATTEMPTS} attempts)",
                    "check the network, the proxy settings and `endpoints`; a local exchange must be running already",
                )
            await asyncio.sleep(0.1 * 2 ** len(causes))
        try:
            told = answer.json() if answer.status_code == 200 else {}
            # As if the way back took no time: a clock that is behind costs a moment, one that is ahead would end
            # a ban before the exchange does.
            return int(told["epoch_ms"]) * 1_000_000, float(told["speed"]), bool(told.get("held", False))
        except (ValueError, TypeError, KeyError):
            return None

    async def _tell_identity(self) -> str | None:
        """What names the data of a local exchange; None if it doesn't say."""
        import httpx

        try:
            answer = await self._client("rest").get(f"{self.params.endpoints.rest}/sandbox/identity")
            market = answer.json()["market"] if answer.status_code == 200 else None
        except (httpx.TransportError, ValueError, TypeError, KeyError):
            return None
        return market if isinstance(market, str) and re.fullmatch(r"[0-9a-z]{8,64}", market) else None

    def _client(self, service: str) -> httpx.AsyncClient:
        """One client a service: a pool looks at all its connections at every request, so small ones are fast."""
        if service not in self._clients:
            import httpx

            count = self.params.concurrency
            self._clients[service] = httpx.AsyncClient(
                timeout=httpx.Timeout(self.params.request_timeout, pool=None),
                limits=httpx.Limits(max_connections=count, max_keepalive_connections=count),
                follow_redirects=False,
            )
        return self._clients[service]

    async def open(self, context: SourceContext) -> None:
        """Reach the exchange, learn its budget and its time, and check that it trades every symbol.

        Raises SourceError: AF5001 unreachable, AF5003 a symbol that isn't traded, AF5004 a location that it
        doesn't serve, AF5005 an answer that isn't the exchange's, AF5018 a server that can't be trusted.
        """
        from alpha_forge_plugins.market.binance.archive_client import ArchiveClient
        from alpha_forge_plugins.market.binance.history import History
        from alpha_forge_plugins.market.binance.rest_client import RestClient, shared_budget

        where, params = self.params.endpoints, self.params
        self._context = context
        self._rest = RestClient(
            self._client("rest"),
            where.rest,
            self.venue,
            context.clock,
            shared_budget(context.shared, where.rest, self.venue),
            patience=params.patience,
            concurrency=params.concurrency,
            timeout=params.request_timeout,
        )
        archive = ArchiveClient(
            self._client("archive"),
            where.archive,
            where.listing,
            self.venue,
            self._file_cache(context.cache_dir),
            ask=not where.public and self._identity is None,
            concurrency=params.concurrency,
            timeout=params.request_timeout,
        )
        self._history = History(self._rest, archive, self._interval, params.concurrency)
        info = await self._rest.exchange_info()
        self._check_universe(info)
        speed = self._server_clock.speed if self._server_clock is not None else 1.0
        if abs(self._rest.skew) > _SKEW * speed and not self._held:
            log.warning(
                "the clock is %.1f s off the exchange's; synchronize it (NTP), timers depend on it",
                self._rest.skew,
            )

    def _file_cache(self, cache_dir: Path) -> FileCache:
        from alpha_forge_plugins.market.binance.cache import FileCache

        host = urlsplit(self.params.endpoints.archive).netloc.replace(":", "_")
        # A local exchange may serve other data at the same address tomorrow, and the same at another.
        return FileCache(cache_dir / "binance" / (self._identity or host))

    def _check_universe(self, info: ExchangeInfo) -> None:
        wrong = [symbol for symbol in self.params.universe if symbol not in info.tradable]
        if not wrong:
            return
        known = sorted(info.tradable)
        said = []
        for symbol in wrong[:10]:
            if symbol in info.others:
                said.append(f"{symbol} can not be traded now ({info.others[symbol]})")
                continue
            near = difflib.get_close_matches(symbol, known, n=1, cutoff=0.6)
            said.append(f"{symbol} is unknown" + (f", did you mean '{near[0]}'?" if near else ""))
        more = f", and {len(wrong) - 10} more" if len(wrong) > 10 else ""
        raise SourceError(
            "AF5003",
            f"{self.params.endpoints.rest} does not trade {len(wrong)} of the universe's symbols: "
            f"{'; '.join(said)}{more}",
            f"correct universe; it takes {self.venue.traded} that are TRADING, spelt as the exchange does",
        )

    async def stream(self) -> AsyncIterator[MarketEvent]:
        """Bars as they are pushed: all closed ones, and of those in progress the first and then one a second.

        ``source.connected`` and ``source.reconnected`` come when a connection has proved that it delivers. A
        server's clock that stood until now is read again before the first event of all.
        """
        from alpha_forge_plugins.market.binance.connects import ConnectBudget
        from alpha_forge_plugins.market.binance.feed import Feed, FeedSettings

        params, context = self.params, self._opened()
        budget = context.shared.setdefault(
            ("shared", "connects", params.endpoints.ws), ConnectBudget(self.venue.connects)
        )
        speed = self._server_clock.speed if self._server_clock is not None else 1.0
        settings = FeedSettings(
            url=params.endpoints.ws,
            venue=self.venue,
            interval=self._interval,
            open_timeout=params.request_timeout,
            silence=params.silence,
            lifetime=params.connection_lifetime,
            bar=self._interval.seconds / speed,
            patience=params.patience,
            per_connection=params.streams_per_connection,
        )
        feed = Feed(settings, params.universe, context.clock, budget, self._synchronize)
        self._feeds.add(feed)
        try:
            async for event in feed.start():
                yield event
        finally:
            self._feeds.discard(feed)
            await feed.stop()

    async def _synchronize(self) -> None:
        """Read a server's clock again, once, if it stood when it was found: a subscription starts it."""
        async with self._synchronizing:
            if not self._held or self._server_clock is None:
                return
            told = await self._tell_clock()
            if told is not None:
                self._server_clock.synchronize(told[0])
                self._held = False

    async def passed(self, instant: int, now: int) -> int:
        """By the exchange's own time, whatever the clock here says. Raises SourceError as `history` does."""
        self._opened()
        assert self._rest is not None
        return await self._rest.final_until(instant)

    def history(self, symbols: Sequence[str], start: int, end: int) -> AsyncIterator[BarBlock]:
        """Closed bars with ``start < ts <= end``; any number of calls may run beside each other and `stream`.

        What the exchange's clock has not passed yet is left out. Raises SourceError: AF5001 unreachable,
        AF5002 rate limited for longer than ``patience``, AF5006 refused.
        """
        self._opened()
        assert self._history is not None
        return self._history.blocks(symbols, start, end)

    def explain_history(self, start: int, end: int, now: int, cache_dir: Path) -> Sequence[str]:
        """Archive and REST, their files, requests and weight, and why so; by the calendar and what is on disk."""
        from alpha_forge_plugins.market.binance.budget import WeightBudget
        from alpha_forge_plugins.market.binance.planner import Published, Range, choose, explain

        venue, interval, symbols = self.venue, self._interval, self.params.universe
        kept = self._file_cache(cache_dir).of(symbols, interval.name, venue)
        budget = WeightBudget(venue.weight_per_minute)
        budget.reserve(now, venue.exchange_info_weight)
        wanted = Range(
            interval,
            venue,
            interval.floor(max(start, 0)),
            interval.floor(min(end, now)),
            Published.by_calendar(now),
            budget.left(now),
            budget.allowed,
            not self.params.endpoints.public,
        )
        return explain(choose(symbols, wanted, kept), wanted, kept)

    def _opened(self) -> SourceContext:
        if self._context is None:
            raise SourceError(
                "AF5008", "the source is not open", "call open(context) first, and not after close()"
            )
        return self._context

    async def close(self) -> None:
        """Close every connection, also those of a stream that was left in the middle. Idempotent."""
        feeds, self._feeds = self._feeds, set()
        for feed in feeds:
            await feed.stop()
        clients, self._clients = self._clients, {}
        self._context = self._rest = self._history = None
        for client in clients.values():
            await client.aclose()
