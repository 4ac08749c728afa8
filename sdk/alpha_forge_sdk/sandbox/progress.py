"""The inside of a bar: what of it has happened by an instant, by one deterministic path.

The path starts at the open, walks in straight legs to the two extremes (the low first in a rising bar, the
high first in a falling one) and ends at the close, so that the bar in progress always converges to the final
bar.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import numpy as np

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
)

#: Fractions of the bar at which the path reaches its first and its second extreme.
_FIRST_EXTREME: Final = 0.3
_SECOND_EXTREME: Final = 0.7


def partial(bar: BarTable, elapsed_ms: float, length_ms: int, tick: int) -> BarTable:
    """The part of `bar` (shape (12, 1)) that has happened `elapsed_ms` after its open, as a bar of its own.

    At 0 only the first trade has happened; at `length_ms` the result equals `bar`. Volumes, trades and
    extremes never shrink as time passes. Prices stay on the grid of `tick`.
    """
    values: list[int] = bar[:, 0].tolist()
    if values[TRADES] == 0 or elapsed_ms >= length_ms:
        return bar
    done = max(0.0, elapsed_ms / length_ms)
    high, low, close = _path(values[OPEN], values[HIGH], values[LOW], values[CLOSE], done, tick)
    trades = 1 + int((values[TRADES] - 1) * done)
    share = trades / values[TRADES]
    table = np.empty((COLUMNS, 1), dtype=np.int64)
    table[OPEN_TIME, 0] = values[OPEN_TIME]
    table[OPEN, 0] = values[OPEN]
    table[HIGH, 0] = high
    table[LOW, 0] = low
    table[CLOSE, 0] = close
    for column in (VOLUME, QUOTE, TAKER_BASE, TAKER_QUOTE):
        table[column, 0] = int(values[column] * share)
    table[TRADES, 0] = trades
    table[FIRST_ID, 0] = values[FIRST_ID]
    table[END_ID, 0] = values[FIRST_ID] + max(trades, int((values[END_ID] - values[FIRST_ID]) * share))
    return table


def _path(open_: int, high: int, low: int, close: int, done: float, tick: int) -> tuple[int, int, int]:
    """(highest, lowest, last) price of the path after the fraction `done` in [0, 1)."""
    first, second = (low, high) if close >= open_ else (high, low)
    knots = ((0.0, open_), (_FIRST_EXTREME, first), (_SECOND_EXTREME, second), (1.0, close))
    seen = [open_]
    for (left, start), (right, end) in pairwise(knots):
        if done >= right:
            seen.append(end)
            continue
        steps = round((end - start) / tick * (done - left) / (right - left))
        seen.append(start + steps * tick)
        break
    return max(seen), min(seen), seen[-1]
