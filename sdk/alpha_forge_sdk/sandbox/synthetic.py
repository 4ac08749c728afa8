"""A synthetic market: seeded, correlated, clustered, and with a trend that a model can learn.

Hours come from `skeleton`, minutes from `minutes`; everything else is aggregated from those. Two markets with
the same seed agree bit for bit, whatever was asked of them before.
"""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final, TypeVar

import numpy as np

from alpha_forge_sdk.sandbox import bars as tables
from alpha_forge_sdk.sandbox.bars import BarTable, Instrument
from alpha_forge_sdk.sandbox.intervals import FIXED, HOUR, MINUTE, SECOND, floor_ms, next_ms
from alpha_forge_sdk.sandbox.minutes import refine
from alpha_forge_sdk.sandbox.progress import partial
from alpha_forge_sdk.sandbox.seconds import split_minute
from alpha_forge_sdk.sandbox.skeleton import (
    ANCHOR_MS,
    BLOCK_HOURS,
    Factor,
    HourBlock,
    SymbolState,
    Traits,
    draw_factor,
    draw_hours,
    first_state,
    generator,
)

SYMBOL_PATTERN: Final = re.compile(r"[A-Z0-9]{2,20}")

#: Hours that are refined together; divides `BLOCK_HOURS`, so that a piece never spans two blocks.
_PIECE_HOURS: Final = 8
_PIECE_MS: Final = _PIECE_HOURS * HOUR
_BLOCK_MS: Final = BLOCK_HOURS * HOUR

#: symbol: price, its decimals, tick in those units, decimals of the quantity, turnover an hour in USDT
_MAJORS: Final[dict[str, tuple[float, int, int, int, float]]] = {
    "BTCUSDT": (68000.0, 2, 10, 3, 4.0e8),
    "ETHUSDT": (3400.0, 2, 1, 3, 2.5e8),
    "SOLUSDT": (150.0, 4, 10, 1, 9.0e7),
    "XRPUSDT": (1.2, 4, 1, 1, 5.0e7),
    "BNBUSDT": (600.0, 3, 10, 2, 3.0e7),
    "DOGEUSDT": (0.16, 6, 1, 0, 3.0e7),
    "ADAUSDT": (0.6, 5, 1, 0, 1.5e7),
    "AVAXUSDT": (35.0, 4, 1, 1, 1.0e7),
    "LINKUSDT": (16.0, 4, 1, 1, 1.0e7),
    "DOTUSDT": (7.0, 5, 10, 1, 7.0e6),
    "LTCUSDT": (85.0, 3, 10, 2, 7.0e6),
    "BCHUSDT": (420.0, 3, 10, 2, 7.0e6),
    "TRXUSDT": (0.14, 6, 1, 0, 5.0e6),
    "NEARUSDT": (5.5, 5, 1, 0, 6.0e6),
    "UNIUSDT": (8.0, 5, 1, 0, 6.0e6),
    "ATOMUSDT": (8.5, 5, 1, 1, 4.0e6),
    "APTUSDT": (9.5, 5, 1, 1, 6.0e6),
    "ARBUSDT": (1.0, 6, 1, 0, 6.0e6),
    "OPUSDT": (2.2, 6, 1, 0, 6.0e6),
    "FILUSDT": (5.8, 5, 1, 1, 4.0e6),
    "SUIUSDT": (1.6, 6, 1, 0, 9.0e6),
    "INJUSDT": (24.0, 5, 10, 1, 4.0e6),
    "AAVEUSDT": (110.0, 3, 10, 1, 4.0e6),
    "ETCUSDT": (26.0, 4, 1, 2, 4.0e6),
}

DEFAULT_SYMBOLS: Final[tuple[str, ...]] = (*_MAJORS, *(f"SYM{number:03d}USDT" for number in range(500)))

_Value = TypeVar("_Value")


class _Recent(OrderedDict[tuple[str, int], _Value]):
    """The pieces used last, at most `limit` of them."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def fetch(self, key: tuple[str, int], make: Callable[[str, int], _Value]) -> _Value:
        value = self.get(key)
        if value is None:
            value = self[key] = make(*key)
            if len(self) > self._limit:
                self.popitem(last=False)
        else:
            self.move_to_end(key)
        return value


class SyntheticMarket:
    """A `Market` drawn from `seed`. History starts at `ANCHOR_MS` (2024-01-01T00:00Z) for every symbol.

    Raises ValueError for a symbol that is not 2 to 20 capital letters and digits, or that is named twice.
    """

    def __init__(self, seed: int = 0, symbols: Sequence[str] = DEFAULT_SYMBOLS) -> None:
        for symbol in symbols:
            if not SYMBOL_PATTERN.fullmatch(symbol):
                raise ValueError(
                    f"symbol {symbol!r}: expected 2 to 20 capital letters and digits, as BTCUSDT"
                )
        if len(set(symbols)) != len(symbols) or not symbols:
            raise ValueError("the symbols must be at least one, each named once")
        self._seed = seed
        self._traits = {symbol: _draw_traits(seed, symbol) for symbol in symbols}
        self._states: dict[str, list[SymbolState]] = {}
        self._factors: list[Factor] = []
        self._hours: _Recent[HourBlock] = _Recent(2 * len(symbols) + 8)
        self._minutes: _Recent[BarTable] = _Recent(2 * len(symbols) + 64)
        self._seconds: _Recent[BarTable] = _Recent(2 * len(symbols) + 64)

    @property
    def symbols(self) -> Sequence[str]:
        """All symbols, in the order in which they were given."""
        return tuple(self._traits)

    def instrument(self, symbol: str) -> Instrument:
        """The symbol's grid. KeyError for an unknown symbol."""
        return self._traits[symbol].instrument

    def bars(self, symbol: str, interval: str, start_ms: int, end_ms: int) -> BarTable:
        """Final values of the bars that open in `[start_ms, end_ms)`."""
        if interval == "1s":
            return self._second_bars(symbol, max(start_ms, ANCHOR_MS), end_ms)
        from_hours = interval == "1M" or FIXED[interval] >= HOUR
        base = "1h" if from_hours else "1m"
        read = self._hour_bars if from_hours else self._minute_bars
        # A 3d, 1w or 1M bar may open before the history does: it holds what there is of it.
        first = max(start_ms, floor_ms(ANCHOR_MS, interval))
        if first >= end_ms:
            return tables.empty()
        first_open = floor_ms(first - 1, interval)
        first_open = next_ms(first_open, interval)
        last_open = floor_ms(end_ms - 1, interval)
        if first_open > last_open:
            return tables.empty()
        table = read(symbol, first_open, next_ms(last_open, interval))
        return table if interval == base else tables.aggregate(table, interval)

    def progress(self, symbol: str, interval: str, at_ms: float) -> BarTable | None:
        """The bar in progress at `at_ms`; None before the history starts."""
        if at_ms < ANCHOR_MS:
            return None
        if interval == "1s":
            second = int(at_ms) // SECOND * SECOND
            running = self._second_bars(symbol, second, second + SECOND)
            return partial(running, at_ms - second, SECOND, self._traits[symbol].instrument.tick)
        minute = int(at_ms) // MINUTE * MINUTE
        hour = minute // HOUR * HOUR
        opened = floor_ms(minute, interval)
        running = self._minute_bars(symbol, minute, minute + MINUTE)
        running = partial(running, at_ms - minute, MINUTE, self._traits[symbol].instrument.tick)
        parts = [self._minute_bars(symbol, max(opened, hour), minute), running]
        if opened < hour:
            parts.insert(0, self._hour_bars(symbol, opened, hour))
        return tables.merge(np.concatenate(parts, axis=1), opened)

    def _hour_bars(self, symbol: str, start_ms: int, end_ms: int) -> BarTable:
        return _gather(
            max(start_ms, ANCHOR_MS), end_ms, _BLOCK_MS, lambda block: self._hour_block(symbol, block).bars
        )

    def _second_bars(self, symbol: str, start_ms: int, end_ms: int) -> BarTable:
        return _gather(
            start_ms, end_ms, MINUTE, lambda minute: self._seconds.fetch((symbol, minute), self._draw_seconds)
        )

    def _draw_seconds(self, symbol: str, number: int) -> BarTable:
        opened = ANCHOR_MS + number * MINUTE
        minute = self._minute_bars(symbol, opened, opened + MINUTE)
        return split_minute(minute, self._traits[symbol].instrument.tick)

    def _minute_bars(self, symbol: str, start_ms: int, end_ms: int) -> BarTable:
        return _gather(
            max(start_ms, ANCHOR_MS),
            end_ms,
            _PIECE_MS,
            lambda piece: self._minutes.fetch((symbol, piece), self._draw_piece),
        )

    def _draw_piece(self, symbol: str, piece: int) -> BarTable:
        hours = self._hour_block(symbol, piece * _PIECE_HOURS // BLOCK_HOURS)
        first = piece * _PIECE_HOURS % BLOCK_HOURS
        chosen = slice(first, first + _PIECE_HOURS)
        return refine(
            generator(self._seed, "minutes", symbol, piece),
            hours.bars[:, chosen],
            hours.diffusion[chosen],
            hours.taker_share[chosen],
            self._traits[symbol].instrument,
        )

    def _hour_block(self, symbol: str, block: int) -> HourBlock:
        return self._hours.fetch((symbol, block), self._draw_block)

    def _draw_block(self, symbol: str, block: int) -> HourBlock:
        """Block number `block`; the blocks before it are drawn once, and of them only the end states are
        kept."""
        traits = self._traits[symbol]
        states = self._states.setdefault(symbol, [first_state(self._seed, traits)])
        while True:
            current = min(len(states) - 1, block)
            drawn = draw_hours(self._seed, traits, current, states[current], self._factor(current))
            if current + 1 == len(states):
                states.append(drawn.end)
            if current == block:
                return drawn

    def _factor(self, block: int) -> Factor:
        while len(self._factors) <= block:
            before = self._factors[-1].end if self._factors else None
            self._factors.append(draw_factor(generator(self._seed, "market", len(self._factors)), before))
        return self._factors[block]


def _gather(start_ms: int, end_ms: int, piece_ms: int, piece: Callable[[int], BarTable]) -> BarTable:
    """The bars in `[start_ms, end_ms)` out of pieces of `piece_ms`, numbered from `ANCHOR_MS`."""
    if start_ms >= end_ms:
        return tables.empty()
    first, last = (start_ms - ANCHOR_MS) // piece_ms, (end_ms - 1 - ANCHOR_MS) // piece_ms
    parts = [tables.between(piece(number), start_ms, end_ms) for number in range(first, last + 1)]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


@lru_cache(maxsize=4096)
def _draw_traits(seed: int, symbol: str) -> Traits:
    """Traits from the table of majors, or drawn for a symbol that is not in it."""
    rng = generator(seed, "traits", symbol)
    level, spread, tie, flow = rng.random(4).tolist()
    if symbol in _MAJORS:
        price, price_decimals, tick, quantity_decimals, turnover = _MAJORS[symbol]
    else:
        price = 10 ** (-0.5 + 3.0 * level)
        price_decimals, tick = 6 - math.ceil(math.log10(price)), 1
        quantity_decimals = 0 if price < 5 else 1 if price < 50 else 2
        turnover = 10 ** (5.8 + 1.2 * flow)
    base, quote = tables.split_symbol(symbol)
    instrument = Instrument(symbol, base, quote, price_decimals, tick, quantity_decimals, ANCHOR_MS)
    scale = 0.0028 + 0.002 * spread if symbol not in ("BTCUSDT", "ETHUSDT") else 0.0025
    return Traits(instrument, price, scale, 0.45 + 0.4 * tie, turnover)
