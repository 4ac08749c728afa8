"""What differs between Binance's markets: paths, limits, weights, folders. Data only; the engine is shared.

Imports nothing heavy: parameter models name a venue's intervals.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Venue:
    """The facts of one market.

    ``weights`` are (limit up to which, request weight), ascending; the last limit is the most rows of a page.
    ``contract_type`` is what a tradable symbol must have; None where symbols have none. ``budget`` names the
    counter of request weight: venues and hosts with the same one are counted together by the exchange.
    """

    name: str
    traded: str
    """What a universe of it consists of, for messages."""
    budget: str
    intervals: tuple[str, ...]
    contract_type: str | None

    klines_path: str
    time_path: str
    exchange_info_path: str
    exchange_info_weight: int
    weights: tuple[tuple[int, int], ...]
    weight_per_minute: int
    """Until ``exchangeInfo`` has said it."""

    archive_folder: str
    """``data/futures/um``: between it and the symbol come ``/daily/klines/`` or ``/monthly/klines/``."""

    stream_base: str
    """The public WebSocket base, for messages that name the cure."""
    messages_per_second: float
    """That one connection takes of a client, pings and pongs included."""
    connects: int
    """Connections that one address may open in five minutes."""

    @property
    def max_limit(self) -> int:
        """Rows of one page of klines at most; one more is refused or cut."""
        return self.weights[-1][0]

    def klines_weight(self, limit: int) -> int:
        """Request weight of klines with this limit (1 … `max_limit`)."""
        for rows, weight in self.weights:
            if limit <= rows:
                return weight
        raise ValueError(f"limit is at most {self.max_limit}, got {limit}")


_MINUTES_UP = ("1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "3d", "1w")

USDM = Venue(
    name="Binance USD-M",
    traded="USD-M perpetuals",
    budget="futures",
    intervals=_MINUTES_UP,
    contract_type="PERPETUAL",
    klines_path="/fapi/v1/klines",
    time_path="/fapi/v1/time",
    exchange_info_path="/fapi/v1/exchangeInfo",
    exchange_info_weight=1,
    # Documentation and measurement differ at the edges (100 rows: 2 or 1, 500 rows: 5 or 2): the heavier counts.
    weights=((99, 1), (499, 2), (1000, 5), (1500, 10)),
    weight_per_minute=2400,
    archive_folder="data/futures/um",
    stream_base="wss://fstream.binance.com/market",
    messages_per_second=10.0,
    # Documented for spot only; USD-M is held to the same until somebody says more.
    connects=300,
)

SPOT = Venue(
    name="Binance spot",
    traded="spot pairs",
    budget="spot",
    intervals=("1s", *_MINUTES_UP),
    contract_type=None,
    klines_path="/api/v3/klines",
    time_path="/api/v3/time",
    exchange_info_path="/api/v3/exchangeInfo",
    exchange_info_weight=20,
    weights=((1000, 2),),
    weight_per_minute=6000,
    archive_folder="data/spot",
    stream_base="wss://stream.binance.com:9443",
    messages_per_second=5.0,
    connects=300,
)
