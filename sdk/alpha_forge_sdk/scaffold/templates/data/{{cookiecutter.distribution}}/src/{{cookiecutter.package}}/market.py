"""A made-up market: any bar from its symbol and time alone, so that the same question always has the same answer."""

from __future__ import annotations

import math
import zlib

from alpha_forge_sdk import Bar

_HOUR = 3600 * 1_000_000_000


def market_bar(symbol: str, ts: int) -> Bar:
    """The bar that closes at `ts` (ns since the epoch): waves of a day and of an hour around the symbol's own price."""
    level = 50.0 + zlib.crc32(symbol.encode()) % 100
    hours = ts / _HOUR
    close = level * (1.0 + 0.02 * math.sin(math.tau * hours / 24) + 0.005 * math.sin(math.tau * hours))
    open_ = close * (1.0 - 0.001 * math.cos(math.tau * hours))
    high, low = max(open_, close) * 1.0005, min(open_, close) * 0.9995
    return Bar(ts, open_, high, low, close, 100.0 + 50.0 * math.sin(math.tau * hours / 12))
