"""`data.binance_spot`: bars of Binance's spot market, live and from history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from alpha_forge_plugins.market.binance.endpoints import SpotEndpoints, SpotEndpointsField
from alpha_forge_plugins.market.binance.source import BinanceParams, BinanceSource, known_interval
from alpha_forge_plugins.market.binance.venue import SPOT

IntervalName = Literal[
    "1s", "1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "3d", "1w"
]


class BinanceSpot(BinanceSource):
    """Binance spot pairs: klines from WebSocket, REST and the public archive."""

    class Params(BinanceParams):
        interval: Annotated[IntervalName, BeforeValidator(known_interval(SPOT))] = Field(
            description="length of a bar, for example 1s, 15m or 1h"
        )
        endpoints: SpotEndpointsField = Field(
            default_factory=lambda: SpotEndpoints.model_validate({}),
            description="URLs {ws, rest, archive, listing}, or one URL of a local exchange that serves all",
        )

    examples: ClassVar[Sequence[Mapping[str, Any]]] = (
        {"universe": ["BTCUSDT", "ETHUSDT"], "interval": "1h"},
        {"universe": ["BTCUSDT"], "interval": "1s", "endpoints": "http://127.0.0.1:8080"},
    )

    venue = SPOT
    params: Params
