"""The exchangeInfo objects: every key that a real symbol has, with the sandbox's own grids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from alpha_forge_sdk.sandbox.bars import Instrument
from alpha_forge_sdk.sandbox.market import Market
from alpha_forge_sdk.sandbox.payloads import decimal_text

FUTURES_WEIGHT: Final = 2400
SPOT_WEIGHT: Final = 6000

#: The delivery date by which the real exchange says "never": 2100-12-25.
_PERPETUAL_DELIVERY: Final = 4_133_404_800_000


def futures_info(market: Market, now_ms: int) -> dict[str, Any]:
    """`/fapi/v1/exchangeInfo`."""
    instruments = [market.instrument(symbol) for symbol in market.symbols]
    assets = sorted(
        {item.quote for item in instruments} | {"BTC", "USDT"}, key=lambda name: (name != "USDT", name)
    )
    return {
        "timezone": "UTC",
        "serverTime": now_ms,
        "futuresType": "U_MARGINED",
        "rateLimits": [
            _rate_limit("REQUEST_WEIGHT", "MINUTE", 1, FUTURES_WEIGHT),
            _rate_limit("ORDERS", "MINUTE", 1, 1200),
            _rate_limit("ORDERS", "SECOND", 10, 300),
        ],
        "exchangeFilters": [],
        "assets": [
            {
                "asset": asset,
                "marginAvailable": True,
                "autoAssetExchange": "-10000" if asset != "BTC" else "-0.10000000",
            }
            for asset in assets
        ],
        "symbols": [_futures_symbol(item, now_ms) for item in instruments],
    }


def spot_info(market: Market, now_ms: int, wanted: Sequence[str] | None) -> dict[str, Any]:
    """`/api/v3/exchangeInfo` for the wanted symbols; None for all."""
    return {
        "timezone": "UTC",
        "serverTime": now_ms,
        "rateLimits": [
            _rate_limit("REQUEST_WEIGHT", "MINUTE", 1, SPOT_WEIGHT),
            _rate_limit("RAW_REQUESTS", "MINUTE", 5, 300_000),
        ],
        "exchangeFilters": [],
        "symbols": [_spot_symbol(market.instrument(symbol), now_ms) for symbol in wanted or market.symbols],
    }


def _rate_limit(kind: str, interval: str, count: int, limit: int) -> dict[str, Any]:
    return {"rateLimitType": kind, "interval": interval, "intervalNum": count, "limit": limit}


def _futures_symbol(item: Instrument, now_ms: int) -> dict[str, Any]:
    return {
        "symbol": item.symbol,
        "pair": item.symbol,
        "contractType": "PERPETUAL",
        "deliveryDate": _PERPETUAL_DELIVERY,
        "onboardDate": item.onboard_ms,
        "status": _status(item, now_ms, "PENDING_TRADING", "SETTLING"),
        "maintMarginPercent": "2.5000",
        "requiredMarginPercent": "5.0000",
        "baseAsset": item.base,
        "quoteAsset": item.quote,
        "marginAsset": item.quote,
        "pricePrecision": item.price_decimals,
        "quantityPrecision": item.quantity_decimals,
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "underlyingType": "COIN",
        "underlyingSubType": ["PoW", "Crypto"] if item.base == "BTC" else ["Crypto"],
        "triggerProtect": "0.0500",
        "liquidationFee": "0.012500",
        "marketTakeBound": "0.05",
        "maxMoveOrderLimit": 10000,
        "filters": _futures_filters(item),
        "orderTypes": [
            "LIMIT",
            "MARKET",
            "STOP",
            "STOP_MARKET",
            "TAKE_PROFIT",
            "TAKE_PROFIT_MARKET",
            "TRAILING_STOP_MARKET",
        ],
        "timeInForce": ["GTC", "IOC", "FOK", "GTX", "GTD"],
        "permissionSets": ["GRID", "COPY", "DCA", "PSB"],
    }


def _status(item: Instrument, now_ms: int, before: str, after: str) -> str:
    """TRADING, or what the venue calls a symbol `before` its listing and `after` its delisting."""
    if now_ms < item.onboard_ms:
        return before
    return after if item.delisted_ms is not None and now_ms >= item.delisted_ms else "TRADING"


def _futures_filters(item: Instrument) -> list[dict[str, Any]]:
    tick = decimal_text(item.tick, item.price_decimals)
    step = decimal_text(1, item.quantity_decimals)
    return [
        {"maxPrice": "4529764", "tickSize": tick, "filterType": "PRICE_FILTER", "minPrice": tick},
        {"stepSize": step, "minQty": step, "maxQty": "1000", "filterType": "LOT_SIZE"},
        {"minQty": step, "maxQty": "120", "filterType": "MARKET_LOT_SIZE", "stepSize": step},
        {"filterType": "MAX_NUM_ORDERS", "limit": 200},
        {"notional": "50" if item.base == "BTC" else "5", "filterType": "MIN_NOTIONAL"},
        {
            "multiplierDown": "0.9500",
            "multiplierUp": "1.0500",
            "multiplierDecimal": "4",
            "filterType": "PERCENT_PRICE",
        },
        {"filterType": "POSITION_RISK_CONTROL", "positionControlSide": "NONE"},
    ]


def _spot_symbol(item: Instrument, now_ms: int) -> dict[str, Any]:
    tick = decimal_text(item.tick, item.price_decimals, 8)
    step = decimal_text(1, item.quantity_decimals, 8)
    return {
        "symbol": item.symbol,
        "status": _status(item, now_ms, "PRE_TRADING", "BREAK"),
        "baseAsset": item.base,
        "baseAssetPrecision": 8,
        "quoteAsset": item.quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "baseCommissionPrecision": 8,
        "quoteCommissionPrecision": 8,
        "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET"],
        "icebergAllowed": True,
        "ocoAllowed": True,
        "quoteOrderQtyMarketAllowed": True,
        "allowTrailingStop": True,
        "cancelReplaceAllowed": True,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": [
            {
                "filterType": "PRICE_FILTER",
                "minPrice": tick,
                "maxPrice": "1000000.00000000",
                "tickSize": tick,
            },
            {"filterType": "LOT_SIZE", "minQty": step, "maxQty": "9000.00000000", "stepSize": step},
        ],
        "permissions": [],
        "permissionSets": [["SPOT"]],
        "defaultSelfTradePreventionMode": "EXPIRE_MAKER",
        "allowedSelfTradePreventionModes": ["EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH"],
    }
