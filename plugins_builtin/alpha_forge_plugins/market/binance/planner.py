"""Which part of a range comes from the archive and which over REST: whatever costs less time.

A plan is a run of archive files for the older part, then REST pages up to the end. REST always has the tail,
because the archive publishes days later; where the cut lies depends on the files and weight that it takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta

from alpha_forge_plugins.market.binance.archive import (
    DAY,
    ArchiveFile,
    day_file,
    month_file,
    next_month,
    utc_date,
)
from alpha_forge_plugins.market.binance.rest import klines_weight, page_sizes
from alpha_forge_sdk import Interval

MONTHLY_ONLY = ("3d", "1w")
"""Intervals that the archive has in monthly files only."""

_DAY_PUBLISHED_AFTER = 10 * 3600 * 1_000_000_000  # seen 06:57-08:40 UTC of the next day


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds for one of the requests that run side by side; ``weight`` is for one unit of REST weight."""

    request: float = 0.010
    archive_row: float = 4e-6
    rest_row: float = 2e-5
    cached_file: float = 0.001
    weight: float = 60.0 / 2400.0


@dataclass(frozen=True, slots=True)
class Published:
    """The last month and the last day whose files may be expected, as first days; None if none."""

    month: date | None
    day: date | None

    @classmethod
    def by_calendar(cls, now: int) -> Published:
        """What should be there at `now` (ns): days the next morning, months after their first Monday."""
        day = utc_date(now - DAY - _DAY_PUBLISHED_AFTER)
        today = utc_date(now)
        first = today.replace(day=1)
        monday = first + timedelta(days=-first.weekday() % 7)
        previous = (first - timedelta(days=1)).replace(day=1)
        older = (previous - timedelta(days=1)).replace(day=1)
        return cls(previous if today > monday else older, day)


@dataclass(frozen=True, slots=True)
class Plan:
    """``files`` cover the closes in (start, cut], REST those in (cut, end]; ns."""

    start: int
    cut: int
    end: int
    files: tuple[ArchiveFile, ...]
    weight: int
    seconds: float


def plan(
    symbol: str,
    interval: Interval,
    start: int,
    end: int,
    published: Published,
    costs: Costs,
    cached: Callable[[ArchiveFile], bool] = lambda file: False,
) -> Plan:
    """The cheapest plan for the closes in (start, end], both on the grid."""
    best = _price(interval, start, start, end, (), 0.0, costs)
    files: list[ArchiveFile] = []
    seconds = 0.0
    for file in _candidates(symbol, interval, start, published):
        if file.begin + interval.ns > end:
            break
        rows = (file.end - file.begin) // interval.ns
        seconds += costs.cached_file if cached(file) else 2 * costs.request
        seconds += rows * costs.archive_row
        files.append(file)
        cut = min(end, interval.floor(file.end))
        option = _price(interval, start, cut, end, tuple(files), seconds, costs)
        if option.seconds < best.seconds:
            best = option
    return best


def _candidates(symbol: str, interval: Interval, start: int, published: Published) -> Iterator[ArchiveFile]:
    """Files from the bar after `start` on, without a hole: months while they are published, then days."""
    day = utc_date(start)  # the next bar opens at `start` itself
    while published.month is not None and day.replace(day=1) <= published.month:
        yield month_file(symbol, interval.name, day)
        day = next_month(day)
    if interval.name in MONTHLY_ONLY:
        return
    while published.day is not None and day <= published.day:
        yield day_file(symbol, interval.name, day)
        day += timedelta(days=1)


def _price(
    interval: Interval,
    start: int,
    cut: int,
    end: int,
    files: tuple[ArchiveFile, ...],
    archive: float,
    costs: Costs,
) -> Plan:
    rows = max(0, (end - cut) // interval.ns)
    sizes = page_sizes(rows)
    weight = sum(klines_weight(size) for size in sizes)
    seconds = archive + len(sizes) * costs.request + rows * costs.rest_row + weight * costs.weight
    return Plan(start, cut, end, files, weight, seconds)
