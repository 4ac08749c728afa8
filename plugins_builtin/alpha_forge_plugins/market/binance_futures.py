"""`data.binance_futures`: bars of Binance USD-M perpetual futures, live and from history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from alpha_forge_plugins.market.binance.endpoints import FuturesEndpoints, FuturesEndpointsField
from alpha_forge_plugins.market.binance.source import BinanceParams, BinanceSource, known_interval
from alpha_forge_plugins.market.binance.venue import USDM

IntervalName = Literal["1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "3d", "1w"]


class BinanceFutures(BinanceSource):
    """Binance USD-M perpetual futures: klines from WebSocket, REST and the public archive."""

    class Params(BinanceParams):
        interval: Annotated[IntervalName, BeforeValidator(known_interval(USDM))] = Field(
            description="length of a bar, for example 15m, 1h or 1d"
        )
        endpoints: FuturesEndpointsField = Field(
            default_factory=lambda: FuturesEndpoints.model_validate({}),
            description="URLs {ws, rest, archive, listing}, or one URL of a local exchange that serves all",
        )

    examples: ClassVar[Sequence[Mapping[str, Any]]] = (
        {"universe": ["BTCUSDT", "ETHUSDT"], "interval": "1h"},
        {"universe": ["BTCUSDT"], "interval": "15m", "endpoints": "http://127.0.0.1:8080"},
    )

    venue = USDM
    params: Params
