"""Refinement of synthetic hours into minutes that add up to them exactly.

Each hour becomes sixty minutes along a Brownian bridge from its open to its close, bounded by its low and
high, which one minute each touches. Volume, quote volume, trades and ids are shared out in integers, so that
aggregating the minutes gives back the hour to the last digit.
"""

from __future__ import annotations

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
from alpha_forge_sdk.sandbox.intervals import MINUTE
from alpha_forge_sdk.sandbox.skeleton import Floats

Ints = NDArray[np.int64]


def refine(
    rng: np.random.Generator, hours: BarTable, diffusion: Floats, taker_share: Floats, instrument: Instrument
) -> BarTable:
    """The minute bars of `hours`, shape `(12, 60 * n)`.

    `diffusion` is the standard deviation of each hour's noise in log price, `taker_share` the part of its
    volume that takers bought. The draw depends on n: always refine the same hours together.
    """
    count = hours.shape[1]
    table = np.empty((COLUMNS, count, 60), dtype=np.int64)
    table[OPEN_TIME] = hours[OPEN_TIME][:, None] + np.arange(60) * MINUTE
    _draw_prices(rng, table, hours, diffusion, instrument.tick)
    _share_volume(rng, table, hours)
    _share_quote(table, hours)
    _share_trades(table, hours)
    for total, part in ((VOLUME, TAKER_BASE), (QUOTE, TAKER_QUOTE)):
        bought = np.floor(np.cumsum(table[total], axis=1) * taker_share[:, None]).astype(np.int64)
        table[part] = np.diff(bought, axis=1, prepend=0)
    return table.reshape(COLUMNS, count * 60)


def _draw_prices(
    rng: np.random.Generator, table: BarTable, hours: BarTable, diffusion: Floats, tick: int
) -> None:
    count = hours.shape[1]
    step = (diffusion / np.sqrt(60.0))[:, None]
    walk = np.cumsum(rng.standard_normal((count, 60)) * step, axis=1)
    along = np.arange(1, 61) / 60.0
    start, end = np.log(hours[OPEN])[:, None], np.log(hours[CLOSE])[:, None]
    path = np.exp(start + (end - start) * along + walk - along * walk[:, -1:])
    low, high = hours[LOW][:, None], hours[HIGH][:, None]
    closes = np.clip(np.rint(path / tick).astype(np.int64) * tick, low, high)
    closes[:, -1] = hours[CLOSE]
    opens = np.concatenate((hours[OPEN][:, None], closes[:, :-1]), axis=1)
    wicks = np.abs(rng.standard_normal((2, count, 60))) * (step * hours[OPEN][:, None] * 0.6)
    wick_up, wick_down = np.rint(wicks / tick).astype(np.int64) * tick
    highs = np.minimum(np.maximum(opens, closes) + wick_up, high)
    lows = np.maximum(np.minimum(opens, closes) - wick_down, low)
    rows = np.arange(count)
    highs[rows, highs.argmax(axis=1)] = hours[HIGH]
    lows[rows, lows.argmin(axis=1)] = hours[LOW]
    table[OPEN], table[HIGH], table[LOW], table[CLOSE] = opens, highs, lows, closes


def _share_volume(rng: np.random.Generator, table: BarTable, hours: BarTable) -> None:
    """Volume by minute: more in minutes that move, and so that the hour's average price comes out nearly
    right.

    Minutes above the hour's average price and minutes below it are weighted as two groups that balance; the
    little that rounding leaves is settled in `_share_quote`.
    """
    ranges = (table[HIGH] - table[LOW]).astype(np.float64)
    busy = 1.0 + ranges / np.maximum(ranges.mean(axis=1, keepdims=True), 1e-9)
    weights = busy * np.exp(0.5 * rng.standard_normal(ranges.shape))
    average = (hours[QUOTE] / hours[VOLUME])[:, None]
    offset = _typical(table) - average
    above = (weights * np.maximum(offset, 0.0)).sum(axis=1, keepdims=True)
    below = (weights * np.maximum(-offset, 0.0)).sum(axis=1, keepdims=True)
    ratio = np.sqrt(np.clip((below + 1e-12) / (above + 1e-12), 1e-3, 1e3))
    weights = np.where(offset > 0, weights * ratio, weights / ratio)
    spare = hours[VOLUME] - 60
    running = np.cumsum(weights, axis=1)
    shared = np.floor(running / running[:, -1:] * spare[:, None]).astype(np.int64)
    shared[:, -1] = spare
    table[VOLUME] = 1 + np.diff(shared, axis=1, prepend=0)


def _share_quote(table: BarTable, hours: BarTable) -> None:
    """Quote volume by minute: at the typical price, with the rest spread where the minute's range leaves
    room."""
    volume = table[VOLUME]
    quote = np.rint(_typical(table)).astype(np.int64) * volume
    rest = hours[QUOTE] - quote.sum(axis=1)
    room = np.where(rest[:, None] > 0, volume * table[HIGH] - quote, quote - volume * table[LOW])
    weights = np.where(room.sum(axis=1, keepdims=True) > 0, room, volume).astype(np.float64)
    running = np.cumsum(weights, axis=1)
    shared = np.floor(running / running[:, -1:] * np.abs(rest)[:, None]).astype(np.int64)
    shared[:, -1] = np.abs(rest)
    table[QUOTE] = quote + np.sign(rest)[:, None] * np.diff(shared, axis=1, prepend=0)


def _share_trades(table: BarTable, hours: BarTable) -> None:
    """Trades by volume, at least one a minute; ids in proportion to trades."""
    running = np.cumsum(table[VOLUME] - 1, axis=1)
    spare = (hours[TRADES] - 60)[:, None]
    shared = running * spare // np.maximum(running[:, -1:], 1)
    table[TRADES] = 1 + np.diff(shared, axis=1, prepend=0)
    counted: Ints = np.cumsum(table[TRADES], axis=1)
    span = (hours[END_ID] - hours[FIRST_ID])[:, None]
    ends = hours[FIRST_ID][:, None] + counted * span // hours[TRADES][:, None]
    table[END_ID] = ends
    table[FIRST_ID] = np.concatenate((hours[FIRST_ID][:, None], ends[:, :-1]), axis=1)


def _typical(table: BarTable) -> Floats:
    typical: Floats = (table[OPEN] + table[HIGH] + table[LOW] + table[CLOSE]) / 4.0
    return typical
