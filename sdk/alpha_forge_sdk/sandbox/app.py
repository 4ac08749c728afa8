"""The sandbox exchange as one object, and as a program."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from alpha_forge_sdk.sandbox.archive import Archive
from alpha_forge_sdk.sandbox.clock import ExchangeClock, TimeSource
from alpha_forge_sdk.sandbox.faults import Faults, Stage
from alpha_forge_sdk.sandbox.files import FileMarket
from alpha_forge_sdk.sandbox.hostile import FaultScript, HostileFaults
from alpha_forge_sdk.sandbox.hub import Hub
from alpha_forge_sdk.sandbox.identity import market_identity
from alpha_forge_sdk.sandbox.market import Market
from alpha_forge_sdk.sandbox.rest import RestApi
from alpha_forge_sdk.sandbox.server import ExchangeServer
from alpha_forge_sdk.sandbox.synthetic import DEFAULT_SYMBOLS, SyntheticMarket
from alpha_forge_sdk.sandbox.venue import VENUES

#: 2026-01-05T00:30:00Z: where the synthetic market's clock starts.
DEFAULT_START_MS: Final = 1_767_573_000_000


@dataclass(frozen=True, slots=True)
class SandboxConfig:
    """What to trade and how fast.

    `seed` draws the synthetic market, `symbols` names its symbols (None: the default set; with `data`: a
    selection of what the files hold). `data` is a folder of recorded klines to play instead. `start_ms` is
    the exchange time at start (None: 2026-01-05T00:30Z, or what the files suggest), `speed` the exchange
    seconds in a real one, and `hold` lets the clock stand until the first kline subscription. `venue` is "usdm" or
    "spot".
    """

    seed: int = 0
    symbols: tuple[str, ...] | None = None
    speed: float = 1.0
    start_ms: int | None = None
    data: Path | None = None
    hold: bool = False
    venue: str = "usdm"


class SandboxExchange:
    """A local exchange. One event loop; `start` before anything else, `stop` when done, both once.

    `faults` is a script to play, or a `Faults` of one's own; `.faults` counts what was done and what clients did
    wrong. `market` is what is traded, without the holes that a script makes. Raises ValueError (or SandboxDataError,
    which is one) at construction for a bad configuration.
    """

    def __init__(
        self,
        config: SandboxConfig | None = None,
        *,
        faults: Faults | FaultScript | None = None,
        source: TimeSource | None = None,
    ) -> None:
        self.config = config or SandboxConfig()
        self.faults = faults if isinstance(faults, Faults) else HostileFaults(faults or FaultScript())
        if self.config.venue not in VENUES:
            raise ValueError(f"venue {self.config.venue!r}: it is one of {', '.join(VENUES)}")
        self._venue = VENUES[self.config.venue]
        market, start_ms = _open_market(self.config)
        if self.config.start_ms is not None:
            start_ms = self.config.start_ms
        _check_start(market, start_ms)
        self._recorded = market
        self.faults.begin(Stage(start_ms, self.config.speed, self._venue))
        self.market = self.faults.market(market)
        # The clock stands until the exchange listens: at a high speed hours would pass while it starts.
        self.clock = ExchangeClock(start_ms, self.config.speed, held=True, source=source)
        self._injected = False
        self._identity: str | None = None
        self._server: ExchangeServer | None = None
        self._address = ("", 0)

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen on `host` and `port` (0: any free one). OSError if the address can't be had."""
        second = self.faults.market(_second_market(self._recorded, self.config))
        archive = Archive(second, self._venue, self.faults)
        hub = Hub(self.market, self.clock, self.faults, self._venue)
        rest = RestApi(self.market, self.clock.speed, self._venue, self.faults)
        self._server = ExchangeServer(
            self.clock, rest, archive, hub, self.faults, self._venue, lambda: self.identity
        )
        self._address = (host, await self._server.start(host, port))
        self._loop = asyncio.get_running_loop()
        if not self.config.hold:
            self.clock.release()

    async def stop(self) -> None:
        """Close all connections and the port."""
        if self._server is not None:
            await self._server.stop()
            self._server = None

    def disconnect(self) -> None:
        """Cut every WebSocket connection, soon; new ones are taken. From any thread."""
        if self._server is not None:
            self._loop.call_soon_threadsafe(self._server.cut)

    def inject(self, kind: str, **options: Any) -> Callable[[], None]:
        """Put a rule into play, from any thread: the keys of a rule of the fault script as keyword arguments (`from_`
        for `from`), as `inject("late_close", delay="10s", symbols=["BTCUSDT"], times=1)`.

        It takes effect with the next push or request; what is returned takes it out again. Raises FaultScriptError
        for a bad rule, and TypeError if the exchange was given a `Faults` of its own.
        """
        if not isinstance(self.faults, HostileFaults):
            raise TypeError(f"this exchange plays {type(self.faults).__name__}, which takes no rules")
        self._injected = True
        return self.faults.inject(kind, **options)

    @property
    def identity(self) -> str | None:
        """What names the archive's content; None where faults may change it."""
        plain = type(self.faults) is Faults or (
            isinstance(self.faults, HostileFaults) and not self.faults.script.rules and not self._injected
        )
        if not plain:
            return None
        if self._identity is None:
            config = self.config
            self._identity = market_identity(
                self._recorded, seed=config.seed, data=config.data, venue=config.venue
            )
        return self._identity

    @property
    def url(self) -> str:
        """`http://host:port`, once started; the WebSocket base is the same with `ws`."""
        host, port = self._address
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _open_market(config: SandboxConfig) -> tuple[Market, int]:
    """The configured market and the instant at which its clock starts by default."""
    if config.data is not None:
        recorded = FileMarket(config.data, config.symbols)
        return recorded, recorded.default_start_ms()
    return SyntheticMarket(config.seed, config.symbols or DEFAULT_SYMBOLS), DEFAULT_START_MS


def _check_start(market: Market, start_ms: int) -> None:
    listed = min(market.instrument(symbol).onboard_ms for symbol in market.symbols)
    if start_ms < listed:
        raise ValueError(
            f"start {_iso(start_ms)} is before the first bar, {_iso(listed)}; choose a later start"
        )


def _iso(at_ms: int) -> str:
    return f"{dt.datetime(1970, 1, 1) + dt.timedelta(milliseconds=at_ms)}Z".replace(" ", "T")


def _second_market(market: Market, config: SandboxConfig) -> Market:
    """The same market for the archive's thread: recordings can be shared, synthetic caches can't."""
    return market if config.data is not None else _open_market(config)[0]


async def serve(
    config: SandboxConfig,
    host: str,
    port: int,
    ready: Callable[[SandboxExchange], None],
    until: asyncio.Event,
    faults: FaultScript | None = None,
) -> None:
    """Run an exchange until `until` is set; `ready` is called once it listens."""
    exchange = SandboxExchange(config, faults=faults)
    await exchange.start(host, port)
    try:
        ready(exchange)
        await until.wait()
    finally:
        await exchange.stop()
