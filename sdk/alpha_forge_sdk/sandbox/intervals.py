"""Kline intervals: their names and where their bars open and close.

All times are UTC milliseconds. Every interval up to a day divides the epoch's days; `3d` counts from the
epoch, `1w` opens on Mondays, `1M` on the first of a month. `1s` is of spot only.
"""

from __future__ import annotations

import datetime as dt
from typing import Final

import numpy as np
from numpy.typing import NDArray

SECOND: Final = 1000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR
WEEK: Final = 7 * DAY

#: 1970-01-05, the first Monday after the epoch: weekly bars count from it.
_FIRST_MONDAY: Final = 4 * DAY

#: Fixed-length intervals; `1M` is the only one whose bars differ in length.
FIXED: Final[dict[str, int]] = {
    "1s": SECOND,
    "1m": MINUTE,
    "3m": 3 * MINUTE,
    "5m": 5 * MINUTE,
    "15m": 15 * MINUTE,
    "30m": 30 * MINUTE,
    "1h": HOUR,
    "2h": 2 * HOUR,
    "4h": 4 * HOUR,
    "6h": 6 * HOUR,
    "8h": 8 * HOUR,
    "12h": 12 * HOUR,
    "1d": DAY,
    "3d": 3 * DAY,
    "1w": WEEK,
}

SPOT_INTERVALS: Final[tuple[str, ...]] = (*FIXED, "1M")

#: Futures have no bars of a second.
INTERVALS: Final[tuple[str, ...]] = SPOT_INTERVALS[1:]


def floor_ms(at_ms: int, interval: str) -> int:
    """Open time of the bar that holds the instant `at_ms`."""
    if interval == "1M":
        moment = dt.datetime.fromtimestamp(at_ms // 1000, tz=dt.UTC)
        return _month_ms(moment.year, moment.month)
    length = FIXED[interval]
    offset = _FIRST_MONDAY if interval == "1w" else 0
    return (at_ms - offset) // length * length + offset


def next_ms(open_ms: int, interval: str) -> int:
    """Open time of the bar after the one that opens at `open_ms`; its close time plus one."""
    if interval == "1M":
        moment = dt.datetime.fromtimestamp(open_ms // 1000, tz=dt.UTC)
        return _month_ms(moment.year + moment.month // 12, moment.month % 12 + 1)
    return open_ms + FIXED[interval]


def ceil_ms(at_ms: int, interval: str) -> int:
    """Open time of the first bar that opens at or after `at_ms`."""
    opened = floor_ms(at_ms, interval)
    return opened if opened == at_ms else next_ms(opened, interval)


def floor_many(times: NDArray[np.int64], interval: str) -> NDArray[np.int64]:
    """`floor_ms` over an array, with the same result element by element."""
    if interval == "1M":
        months = times.astype("datetime64[ms]").astype("datetime64[M]")
        return months.astype("datetime64[ms]").astype(np.int64)
    length = FIXED[interval]
    offset = _FIRST_MONDAY if interval == "1w" else 0
    floored: NDArray[np.int64] = (times - offset) // length * length + offset
    return floored


def divides(smaller: str, larger: str) -> bool:
    """Whether bars of `smaller` tile every bar of `larger` exactly, and are shorter."""
    if smaller == larger or smaller == "1M":
        return False
    if larger == "1M":
        return DAY % FIXED[smaller] == 0
    if larger == "1w" and smaller == "3d":
        return False
    return FIXED[larger] > FIXED[smaller] and FIXED[larger] % FIXED[smaller] == 0


def size_rank(interval: str) -> int:
    """Position of the interval in ascending order of length."""
    return SPOT_INTERVALS.index(interval)


def _month_ms(year: int, month: int) -> int:
    return int(dt.datetime(year, month, 1, tzinfo=dt.UTC).timestamp()) * 1000
