"""Bars as integers: the exact form in which the sandbox keeps, sums and prints a kline.

A bar table is an int64 array of shape `(12, n)`, one row a column of the kline, bars ascending by open time.
Prices are in units of 10^-price_decimals, volumes in 10^-quantity_decimals, quote volumes in units of the
product of both. With integers an hour is exactly the sum of its minutes, and the text of a price is the same
wherever it is printed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from alpha_forge_sdk.sandbox.intervals import floor_many

BarTable = NDArray[np.int64]

OPEN_TIME: Final = 0
OPEN: Final = 1
HIGH: Final = 2
LOW: Final = 3
CLOSE: Final = 4
VOLUME: Final = 5
QUOTE: Final = 6
TRADES: Final = 7
TAKER_BASE: Final = 8
TAKER_QUOTE: Final = 9
FIRST_ID: Final = 10
END_ID: Final = 11  # one past the last trade id
COLUMNS: Final = 12

_SUMMED: Final = (VOLUME, QUOTE, TRADES, TAKER_BASE, TAKER_QUOTE)


@dataclass(frozen=True, slots=True)
class Instrument:
    """One tradable symbol and the grid its numbers live on.

    `tick` is the price step in units of 10^-price_decimals; `onboard_ms` the instant its history starts, and
    `delisted_ms` the one at which it ends, if it does.
    """

    symbol: str
    base: str
    quote: str
    price_decimals: int
    tick: int
    quantity_decimals: int
    onboard_ms: int
    delisted_ms: int | None = None

    @property
    def quote_decimals(self) -> int:
        """Decimals of quote volumes: those of the product price x quantity."""
        return self.price_decimals + self.quantity_decimals

    @property
    def decimals(self) -> tuple[int, int, int]:
        """Decimals of prices, of volumes and of quote volumes."""
        return self.price_decimals, self.quantity_decimals, self.quote_decimals


def empty() -> BarTable:
    """A bar table without bars."""
    return np.empty((COLUMNS, 0), dtype=np.int64)


def aggregate(bars: BarTable, interval: str) -> BarTable:
    """Bars of `interval` from shorter bars that tile it. Exact; a larger bar exists where any of its parts
    does."""
    if bars.shape[1] == 0:
        return bars
    opens = floor_many(bars[OPEN_TIME], interval)
    starts = np.concatenate(([0], np.flatnonzero(np.diff(opens)) + 1))
    ends = np.concatenate((starts[1:], [bars.shape[1]])) - 1
    table = np.empty((COLUMNS, len(starts)), dtype=np.int64)
    table[OPEN_TIME] = opens[starts]
    table[OPEN] = bars[OPEN][starts]
    table[HIGH] = np.maximum.reduceat(bars[HIGH], starts)
    table[LOW] = np.minimum.reduceat(bars[LOW], starts)
    table[CLOSE] = bars[CLOSE][ends]
    for column in _SUMMED:
        table[column] = np.add.reduceat(bars[column], starts)
    table[FIRST_ID] = bars[FIRST_ID][starts]
    table[END_ID] = bars[END_ID][ends]
    return table


def merge(bars: BarTable, open_ms: int) -> BarTable:
    """All of `bars` (at least one) as one bar that opens at `open_ms`."""
    table = np.empty((COLUMNS, 1), dtype=np.int64)
    table[OPEN_TIME, 0] = open_ms
    table[OPEN, 0] = bars[OPEN, 0]
    table[HIGH, 0] = bars[HIGH].max()
    table[LOW, 0] = bars[LOW].min()
    table[CLOSE, 0] = bars[CLOSE, -1]
    table[VOLUME : TAKER_QUOTE + 1, 0] = bars[VOLUME : TAKER_QUOTE + 1].sum(axis=1)
    table[FIRST_ID, 0] = bars[FIRST_ID, 0]
    table[END_ID, 0] = bars[END_ID, -1]
    return table


def between(bars: BarTable, start_ms: int, end_ms: int) -> BarTable:
    """The bars that open in `[start_ms, end_ms)`; a view."""
    low, high = np.searchsorted(bars[OPEN_TIME], (start_ms, end_ms))
    return bars[:, low:high]


def split_symbol(symbol: str) -> tuple[str, str]:
    """Base and quote asset of a symbol: `("BTC", "USDT")`; quote `USDT` where the name shows none."""
    for quote in ("USDT", "USDC", "FDUSD", "BUSD", "BTC", "ETH"):
        if symbol.endswith(quote) and len(symbol) > len(quote):
            return symbol[: -len(quote)], quote
    return symbol, "USDT"
