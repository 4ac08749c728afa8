"""The hourly course of one synthetic symbol: trend, volatility, level and volume, block by block.

An hourly log return is

    r = s * v * (rho * m + sqrt(1 - rho^2) * e),    m, e = sqrt(L) * trend + sqrt(1 - L) * noise

where `m` is common to the market and `e` the symbol's own, every trend is an AR(1) of unit variance with
memory `TREND_MEMORY`, `L` is `TREND_SHARE`, `s` the symbol's scale and `v` a clustered volatility. The trend
is what a model can learn: past momentum shows it, and it carries into the next hours. The log price reverts
to its anchor with a half-life of `LEVEL_HALF_LIFE` hours, so that years of it stay within a sensible range.

Every block of `BLOCK_HOURS` hours draws from a Philox generator keyed by (seed, name, block) and starts from
the state in which the block before it ended: the numbers depend on the time alone, never on which request
came first.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from alpha_forge_sdk.sandbox.bars import (
    CLOSE,
    COLUMNS,
    END_ID,
    FIRST_ID,
    HIGH,
    LOW,
    OPEN,
    OPEN_TIME,
    QUOTE,
    TAKER_BASE,
    TAKER_QUOTE,
    TRADES,
    VOLUME,
    BarTable,
    Instrument,
)
from alpha_forge_sdk.sandbox.intervals import HOUR

Floats = NDArray[np.float64]

#: 2024-01-01T00:00:00Z: where all synthetic history starts.
ANCHOR_MS: Final = 1_704_067_200_000
BLOCK_HOURS: Final = 1024

TREND_MEMORY: Final = 0.95
TREND_SHARE: Final = 0.4
_VOLATILITY_MEMORY: Final = 0.97
_VOLATILITY_OF_VOLATILITY: Final = 0.35
LEVEL_HALF_LIFE: Final = 60 * 24
_LEVEL_MEMORY: Final = 0.5 ** (1 / LEVEL_HALF_LIFE)

#: At least so many volume units and trades an hour, so that every minute can have one.
MIN_HOUR_VOLUME: Final = 600
MIN_HOUR_TRADES: Final = 60


def generator(seed: int, *name: object) -> np.random.Generator:
    """A counter-based generator for one named piece of the market; stable between processes and machines."""
    digest = hashlib.blake2b(":".join(map(str, name)).encode(), digest_size=8).digest()
    key = np.array([seed & (2**64 - 1), int.from_bytes(digest, "little")], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key))


def autoregression(shocks: Floats, memory: float, before: float) -> Floats:
    """`y[k] = memory * y[k-1] + shocks[k]` with `y[-1] = before`, by doubling: log2(n) passes over the
    array."""
    values = shocks.copy()
    values[0] += memory * before
    reach, factor = 1, memory
    while reach < len(values):
        values[reach:] += factor * values[:-reach].copy()
        reach, factor = reach * 2, factor * factor
    return values


@dataclass(frozen=True, slots=True)
class FactorState:
    """Where a factor stands at the end of a block."""

    trend: float
    volatility: float


@dataclass(frozen=True, slots=True)
class Factor:
    """A block of unit-variance hourly innovations and the log volatility that goes with them."""

    innovation: Floats
    log_volatility: Floats
    end: FactorState


def draw_factor(rng: np.random.Generator, before: FactorState | None) -> Factor:
    """The next block of a factor; `before` is None in the first block, which starts in the stationary
    state."""
    if before is None:
        first = rng.standard_normal(2)
        before = FactorState(float(first[0]), float(first[1]))
    shocks = rng.standard_normal((3, BLOCK_HOURS))
    trend = autoregression(shocks[0] * math.sqrt(1 - TREND_MEMORY**2), TREND_MEMORY, before.trend)
    volatility = autoregression(
        shocks[1] * math.sqrt(1 - _VOLATILITY_MEMORY**2), _VOLATILITY_MEMORY, before.volatility
    )
    innovation = math.sqrt(TREND_SHARE) * trend + math.sqrt(1 - TREND_SHARE) * shocks[2]
    return Factor(innovation, volatility, FactorState(float(trend[-1]), float(volatility[-1])))


@dataclass(frozen=True, slots=True)
class Traits:
    """What makes a symbol itself: its price level, hourly scale, tie to the market and turnover."""

    instrument: Instrument
    price: float
    scale: float
    market_share: float
    hourly_turnover: float


@dataclass(frozen=True, slots=True)
class SymbolState:
    """Where a symbol stands at the end of a block: deviation of its log price, last close, next trade id,
    factor."""

    deviation: float
    close: int
    next_id: int
    factor: FactorState | None


@dataclass(frozen=True, slots=True)
class HourBlock:
    """`BLOCK_HOURS` final hourly bars, with the diffusion of each hour and its share of taker buys."""

    bars: BarTable
    diffusion: Floats
    taker_share: Floats
    end: SymbolState


def first_state(seed: int, traits: Traits) -> SymbolState:
    """The state in which a symbol's history starts, at `ANCHOR_MS`."""
    ids = generator(seed, "ids", traits.instrument.symbol)
    instrument = traits.instrument
    close = on_grid(np.array([traits.price]), instrument)
    return SymbolState(0.0, int(close[0]), int(ids.integers(10**7, 10**9)), None)


def on_grid(prices: Floats, instrument: Instrument) -> NDArray[np.int64]:
    """Prices as integers on the tick grid, at least two ticks."""
    ticks = np.rint(prices * (10**instrument.price_decimals / instrument.tick)).astype(np.int64)
    grid: NDArray[np.int64] = np.maximum(ticks, 2) * instrument.tick
    return grid


def draw_hours(seed: int, traits: Traits, block: int, before: SymbolState, market: Factor) -> HourBlock:
    """The hourly bars of block number `block`, which follows the state `before`."""
    rng = generator(seed, "hours", traits.instrument.symbol, block)
    own = draw_factor(rng, before.factor)
    rho = traits.market_share
    mixed = rho * market.innovation + math.sqrt(1 - rho * rho) * own.innovation
    log_volatility = (0.7 * market.log_volatility + 0.714 * own.log_volatility) * _VOLATILITY_OF_VOLATILITY
    scale = traits.scale * np.exp(log_volatility - _VOLATILITY_OF_VOLATILITY**2)
    returns = scale * mixed
    deviation = autoregression(returns, _LEVEL_MEMORY, before.deviation)
    diffusion = scale * math.sqrt(1 - TREND_SHARE)

    table = np.empty((COLUMNS, BLOCK_HOURS), dtype=np.int64)
    hours = np.arange(block * BLOCK_HOURS, (block + 1) * BLOCK_HOURS, dtype=np.int64)
    table[OPEN_TIME] = ANCHOR_MS + hours * HOUR
    closes = on_grid(traits.price * np.exp(deviation), traits.instrument)
    table[CLOSE] = closes
    table[OPEN] = np.concatenate(([before.close], closes[:-1]))
    _draw_extremes(rng, table, diffusion, traits.instrument)
    taker_share = _draw_activity(rng, table, traits, returns / traits.scale, log_volatility)
    next_id = _number_trades(table, before.next_id)
    end = SymbolState(float(deviation[-1]), int(closes[-1]), next_id, own.end)
    return HourBlock(table, diffusion, taker_share, end)


def _draw_extremes(
    rng: np.random.Generator, table: BarTable, diffusion: Floats, instrument: Instrument
) -> None:
    """Highs and lows by the law of a Brownian bridge's maximum given its ends."""
    unit = 10.0**-instrument.price_decimals
    start, end = np.log(table[OPEN] * unit), np.log(table[CLOSE] * unit)
    gap = (start - end) ** 2
    up, down = -2.0 * diffusion**2 * np.log1p(-rng.random((2, BLOCK_HOURS)))
    highest = (start + end + np.sqrt(gap + up)) / 2
    lowest = (start + end - np.sqrt(gap + down)) / 2
    body_high, body_low = np.maximum(table[OPEN], table[CLOSE]), np.minimum(table[OPEN], table[CLOSE])
    table[HIGH] = np.maximum(on_grid(np.exp(highest), instrument), body_high)
    table[LOW] = np.minimum(on_grid(np.exp(lowest), instrument), body_low)


def _draw_activity(
    rng: np.random.Generator, table: BarTable, traits: Traits, strength: Floats, log_volatility: Floats
) -> Floats:
    """Volumes, trades and taker buys: more of them when prices move, when it is stormy and by day in Europe
    and the US."""
    instrument = traits.instrument
    shocks = rng.standard_normal((3, BLOCK_HOURS))
    hour_of_day = (table[OPEN_TIME] // HOUR) % 24
    season = 0.35 * np.cos((hour_of_day - 15) * (2 * math.pi / 24))
    turnover = traits.hourly_turnover * np.exp(
        0.35 * shocks[0] + 0.5 * np.minimum(np.abs(strength), 4.0) + log_volatility + season - 0.5
    )
    typical = (table[OPEN] + table[HIGH] + table[LOW] + table[CLOSE]) // 4
    prices = typical * 10.0**-instrument.price_decimals
    volume = np.rint(turnover / prices * 10**instrument.quantity_decimals).astype(np.int64)
    table[VOLUME] = np.maximum(volume, MIN_HOUR_VOLUME)
    table[QUOTE] = table[VOLUME] * typical
    trades = np.rint(turnover / 900.0 * np.exp(0.2 * shocks[1])).astype(np.int64)
    table[TRADES] = np.clip(trades, MIN_HOUR_TRADES, table[VOLUME] // 4)
    taker_share: Floats = np.clip(0.5 + 0.08 * np.tanh(strength) + 0.03 * shocks[2], 0.1, 0.9)
    table[TAKER_BASE] = np.floor(table[VOLUME] * taker_share)
    table[TAKER_QUOTE] = np.floor(table[QUOTE] * taker_share)
    return taker_share


def _number_trades(table: BarTable, next_id: int) -> int:
    """Trade ids; a bar spans slightly more ids than it counts trades, as on the real exchange. Returns the
    next id."""
    ends = next_id + np.cumsum(table[TRADES] + table[TRADES] // 128)
    table[END_ID] = ends
    table[FIRST_ID] = np.concatenate(([next_id], ends[:-1]))
    return int(ends[-1])
