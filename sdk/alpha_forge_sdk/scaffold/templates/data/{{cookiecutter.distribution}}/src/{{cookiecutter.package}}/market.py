"""A made-up market: any bar from its symbol and time alone, so that the same question always has the same answer."""

from __future__ import annotations

import math

from alpha_forge_sdk import Bar

SYMBOLS = {"AAA": 120.0, "BBB": 8.5, "CCC": 2500.0}
"""What is traded, and around which price."""

_HOUR = 3600 * 1_000_000_000


def market_bar(symbol: str, ts: int) -> Bar:
    """The bar that closes at `ts` (ns since the epoch): waves of a day and of an hour around the symbol's price."""
    day, hour = math.tau * ts / (24 * _HOUR), math.tau * ts / _HOUR
    close = SYMBOLS[symbol] * (1.0 + 0.02 * math.sin(day) + 0.005 * math.sin(hour))
    open_ = close * (1.0 - 0.001 * math.cos(hour))
    high, low = max(open_, close) * 1.0005, min(open_, close) * 0.9995
    return Bar(ts, open_, high, low, close, 100.0 + 50.0 * math.sin(2 * day))
