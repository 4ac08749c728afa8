"""Bars of a second, by the same path inside a minute that tells the bar in progress: sixty of them are the minute.

Seconds without a trade are bars too, as on the real spot exchange: flat at the close before, with no volume.
"""

from __future__ import annotations

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
from alpha_forge_sdk.sandbox.intervals import MINUTE, SECOND
from alpha_forge_sdk.sandbox.progress import partial

_COUNT = MINUTE // SECOND
_SUMMED = (VOLUME, QUOTE, TRADES, TAKER_BASE, TAKER_QUOTE)


def split_minute(minute: BarTable, tick: int) -> BarTable:
    """The sixty bars of a second that add up to `minute`, shape (12, 1)."""
    table = np.zeros((COLUMNS, _COUNT), dtype=np.int64)
    table[OPEN_TIME] = minute[OPEN_TIME, 0] + np.arange(_COUNT) * SECOND
    opened = int(minute[OPEN, 0])
    before, last, high, low = dict.fromkeys(_SUMMED, 0), opened, opened, opened
    end_id = int(minute[FIRST_ID, 0])
    for second in range(_COUNT):
        # A minute of a single trade has it in its first second.
        single = int(minute[TRADES, 0]) <= 1
        elapsed = MINUTE if single else (second + 1) * SECOND
        seen = [int(value) for value in partial(minute, elapsed, MINUTE, tick)[:, 0]]
        traded = seen[TRADES] > before[TRADES]
        table[FIRST_ID, second] = end_id
        if traded:
            # The first trade is at the minute's open; later seconds start where the last trade was.
            table[OPEN, second] = last
            close = seen[CLOSE]
            table[HIGH, second] = seen[HIGH] if seen[HIGH] > high else max(last, close)
            table[LOW, second] = seen[LOW] if seen[LOW] < low else min(last, close)
            table[CLOSE, second] = close
            last, high, low, end_id = close, max(high, seen[HIGH]), min(low, seen[LOW]), seen[END_ID]
            for column in _SUMMED:
                table[column, second] = seen[column] - before[column]
                before[column] = seen[column]
        else:
            table[OPEN : CLOSE + 1, second] = last
        table[END_ID, second] = end_id
    return table
