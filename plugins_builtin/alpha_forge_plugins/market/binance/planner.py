"""Which part of a range comes from the archive and which over REST: whatever costs less time.

A plan is a run of archive files for the older part, then REST pages up to the end. REST always has the tail,
because the archive publishes days later; where the cut lies depends on the files and weight that it takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

from alpha_forge_plugins.market.binance.archive import (
    DAY,
    ArchiveFile,
    day_file,
    month_file,
    next_month,
    utc_date,
)
from alpha_forge_plugins.market.binance.rest import page_sizes, pages_weight
from alpha_forge_plugins.market.binance.venue import Venue
from alpha_forge_sdk import Interval

MONTHLY_ONLY = ("3d", "1w")
"""Intervals that the archive has in monthly files only."""

PART_ROWS = 50_000
"""Bars of one symbol that are held at a time: a month of 1m."""

_MONTH_ROWS = 200_000  # a month of more bars (1s) is read by the day: its file alone would fill 300 MB
_DAY_PUBLISHED_AFTER = 10 * 3600 * 1_000_000_000  # seen 06:57-08:40 UTC of the next day


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds for one of the requests that run side by side; ``weight`` is for one unit of REST weight."""

    request: float = 0.010
    archive_row: float = 1e-6
    rest_row: float = 2e-5
    cached_file: float = 2e-4
    weight: float = 0.0


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

    def parts(self, interval: Interval, rows: int = PART_ROWS) -> Iterator[Plan]:
        """The same in parts of about `rows` bars, oldest first: as many as may be held in memory at a time."""
        start, files = self.start, list(self.files)
        while files and (self.cut - start) // interval.ns > rows:
            taken = [files.pop(0)]
            while files and (files[0].end - start) // interval.ns <= rows:
                taken.append(files.pop(0))
            cut = min(self.cut, interval.floor(taken[-1].end))
            yield Plan(start, cut, cut, tuple(taken), 0, 0.0)
            start = cut
        while (self.end - max(self.cut, start)) // interval.ns > rows:
            end = max(self.cut, start) + rows * interval.ns
            yield Plan(start, max(self.cut, start), end, tuple(files), 0, 0.0)
            start, files = end, []
        yield Plan(start, max(self.cut, start), self.end, tuple(files), self.weight, self.seconds)


def plan(
    symbol: str,
    interval: Interval,
    venue: Venue,
    start: int,
    end: int,
    published: Published,
    costs: Costs,
    cached: Callable[[ArchiveFile], bool] = lambda file: False,
) -> Plan:
    """The cheapest plan for the closes in (start, end], both on the grid."""
    best = _priced(interval, venue, start, start, end, (), 0.0, costs)
    files: list[ArchiveFile] = []
    seconds = 0.0
    for file in _candidates(venue.archive_folder, symbol, interval, start, published):
        if file.begin + interval.ns > end:
            break
        seconds += costs.cached_file if cached(file) else 2 * costs.request
        seconds += file.rows(interval) * costs.archive_row
        files.append(file)
        cut = min(end, interval.floor(file.end))
        option = _priced(interval, venue, start, cut, end, tuple(files), seconds, costs)
        if option.seconds < best.seconds:
            best = option
    return best


def _candidates(
    folder: str, symbol: str, interval: Interval, start: int, published: Published
) -> Iterator[ArchiveFile]:
    """Files from the bar after `start` on, without a hole: months while they are published, then days."""
    day = utc_date(start)  # the next bar opens at `start` itself
    by_month = 31 * DAY // interval.ns <= _MONTH_ROWS
    while by_month and published.month is not None and day.replace(day=1) <= published.month:
        yield month_file(folder, symbol, interval.name, day)
        day = next_month(day)
    if interval.name in MONTHLY_ONLY:
        return
    while published.day is not None and day <= published.day:
        yield day_file(folder, symbol, interval.name, day)
        day += timedelta(days=1)


def _priced(
    interval: Interval,
    venue: Venue,
    start: int,
    cut: int,
    end: int,
    files: tuple[ArchiveFile, ...],
    archive: float,
    costs: Costs,
) -> Plan:
    rows = max(0, (end - cut) // interval.ns)
    sizes = page_sizes(rows, venue)
    weight = pages_weight(sizes, venue)
    seconds = archive + len(sizes) * costs.request + rows * costs.rest_row + weight * costs.weight
    return Plan(start, cut, end, files, weight, seconds)


@dataclass(frozen=True, slots=True)
class Range:
    """What all symbols of one call have in common: the closes in (start, end], both on the grid (ns).

    ``left`` is the REST weight that may be spent at once, ``allowed`` that of a fresh minute. ``asks`` says that
    files on disk are compared with the archive's checksums, at the price of a request.
    """

    interval: Interval
    venue: Venue
    start: int
    end: int
    published: Published
    left: int
    allowed: int
    asks: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """A plan for each symbol. ``scarce``: together they would not fit into the minute, so weight had its price."""

    plans: Mapping[str, Plan]
    weight: int
    scarce: bool
    costs: Costs


def choose(symbols: Sequence[str], wanted: Range, kept: Mapping[str, set[str]]) -> Choice:
    """The cheapest plans. Weight costs nothing while the minute's budget holds all, and the minute's time beyond.

    `kept` are the names of each symbol's files on disk.
    """
    base = Costs()
    if wanted.asks:
        base = replace(base, cached_file=base.request)
    free = _plans(symbols, wanted, kept, base)
    weight = sum(its.weight for its in free.values())
    if weight <= 0.8 * wanted.left:
        return Choice(free, weight, False, base)
    priced = replace(base, weight=60.0 / wanted.allowed)
    plans = _plans(symbols, wanted, kept, priced)
    return Choice(plans, sum(its.weight for its in plans.values()), True, priced)


def _plans(
    symbols: Sequence[str], wanted: Range, kept: Mapping[str, set[str]], costs: Costs
) -> dict[str, Plan]:
    """One plan a symbol; symbols with the same periods on disk have the same one, but for their names."""
    known: dict[frozenset[str], Plan] = {}
    plans = {}
    for symbol in symbols:
        names = kept.get(symbol, set())
        lead = len(f"{symbol}-")
        periods = frozenset(name[lead:] for name in names)
        if periods not in known:
            known[periods] = plan(
                symbol,
                wanted.interval,
                wanted.venue,
                wanted.start,
                wanted.end,
                wanted.published,
                costs,
                lambda file, names=names: file.name in names,  # type: ignore[misc]
            )
        its = known[periods]
        plans[symbol] = replace(its, files=tuple(replace(file, symbol=symbol) for file in its.files))
    return plans


def explain(choice: Choice, wanted: Range, kept: Mapping[str, set[str]]) -> list[str]:
    """Where the bars of a choice would come from, and why: lines for people."""
    if not choice.plans:
        return []
    its = next(iter(choice.plans.values()))
    interval, count = wanted.interval, len(choice.plans)
    rows, tail = (its.cut - its.start) // interval.ns, (its.end - its.cut) // interval.ns
    months = sum(file.monthly for file in its.files)
    total = sum(len(each.files) for each in choice.plans.values())
    here = sum(file.name in kept.get(name, ()) for name, each in choice.plans.items() for file in each.files)
    lines = []
    if its.files:
        span = f"{months} monthly and {len(its.files) - months} daily file(s)"
        lines.append(f"archive: {rows:,} bars a symbol in {span}; {here:,} of all {total:,} are on disk")
    lines.append(
        f"REST: {tail:,} bars a symbol in {len(page_sizes(tail, wanted.venue))} request(s) of weight {its.weight}; "
        f"{choice.weight:,} for {count:,} symbol(s), {wanted.allowed:,} a minute may be spent"
    )
    rest = _priced(interval, wanted.venue, its.start, its.start, its.end, (), 0.0, choice.costs)
    lines.append(f"because {_reason(choice, its, rest, wanted, count)}")
    return lines


def _reason(choice: Choice, its: Plan, rest: Plan, wanted: Range, count: int) -> str:
    newest = wanted.published.day if wanted.interval.name not in MONTHLY_ONLY else wanted.published.month
    if not its.files and choice.scarce:
        return (
            f"the archive is not quicker: its newest file is expected to be {newest}, and REST takes about "
            f"{rest.seconds * count:,.0f} s at {wanted.allowed:,} of weight a minute"
        )
    if not its.files:
        return f"REST alone is quicker: {rest.weight * count:,} of weight fit into a minute"
    if choice.scarce:
        return (
            f"REST alone would weigh {rest.weight * count:,}, more than the {int(0.8 * wanted.left):,} that may be "
            f"spent at once: about {rest.seconds * count:,.0f} s of requests, with the archive "
            f"{its.seconds * count:,.0f} s"
        )
    return (
        f"with the archive it takes about {its.seconds * count:.1f} s of requests, over REST alone "
        f"{rest.seconds * count:.1f} s; the archive's newest file is expected to be {newest}"
    )
