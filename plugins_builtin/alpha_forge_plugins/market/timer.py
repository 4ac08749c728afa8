"""``data.timer``: ticks on a schedule, for steps that run by the calendar rather than at every bar."""

from __future__ import annotations

import bisect
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ClassVar, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, model_validator

from alpha_forge_plugins.market.universe import Universe
from alpha_forge_sdk import (
    BAR_CLOSE,
    Bar,
    BarBlock,
    DataSource,
    Interval,
    MarketEvent,
    Params,
    SourceContext,
    SourceError,
)

ORIGIN = "timer"
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
TimeOfDay = Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?$")]

_NS = 1_000_000_000
_DAY = timedelta(days=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ANY_YEAR = (1_735_689_600 * _NS, 1_767_225_600 * _NS)
"""2025: a year in which every zone that changes its clocks did so."""
_LOOK_AHEAD = 400
"""Days within which a schedule must tick; every one that a date can meet does."""


def _known_interval(text: str) -> str:
    Interval.parse(text)
    return text


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"{name!r} is no time zone; write it like Europe/Berlin or UTC") from None
    return name


def _once_each(names: tuple[str, ...] | None) -> tuple[str, ...] | None:
    if names is not None and len(set(names)) != len(names):
        raise ValueError(f"named twice in {list(names)}")
    return names


class Timer(DataSource):
    """Ticks on a schedule by the run's clock; a step with ``on: [data.timer_1h]`` runs at each of them.

    A tick at T triggers every symbol of the universe: the step runs on the newest bar of its own frame that closed at T
    or before, as soon as that frame is complete through T (every bar is in, repaired or certified absent), and on no
    bar twice. So what it computes depends on the schedule and the bars alone, not on when the process woke up, and a
    replay computes the same. What the machine slept through is made up in order.

    Without ``at`` there is a tick at every close of the interval's grid (UTC). With ``at`` there are ticks at those
    times of the day in ``zone``, as its clocks show them: a time that a change of the clocks leaves out has no tick
    on that day, one that they show twice has the first. Every such instant must lie on the grid of ``interval``.

    Raises SourceError AF5008 outside open and close, AF5080 for a time that isn't on the grid.
    """

    class Params(Params):
        """Which symbols, and when."""

        universe: Universe
        interval: Annotated[str, AfterValidator(_known_interval)] = Field(
            description="a tick at every multiple of it; with `at`, the grid on which those times lie"
        )
        at: Annotated[tuple[TimeOfDay, ...] | None, Field(min_length=1), AfterValidator(_once_each)] = Field(
            None, description='times of the day, for example ["09:30", "16:00"]; default: all of the grid'
        )
        days: Annotated[tuple[Day, ...], Field(min_length=1), AfterValidator(_once_each)] = Field(
            DAYS, description="days of the week, for example [mon, tue, wed, thu, fri]"
        )
        zone: Annotated[str, AfterValidator(_known_zone)] = Field(
            "UTC", description="time zone of `at` and `days`, for example America/New_York"
        )

        @model_validator(mode="after")
        def _fits(self) -> Timer.Params:
            if self.at is None:
                return self
            if Interval.parse(self.interval).seconds > _DAY.total_seconds():
                raise ValueError(
                    "with `at` the interval is at most 1d: choose one on whose grid the times lie"
                )
            try:
                Schedule(self).between(*_ANY_YEAR)
            except SourceError as error:
                raise ValueError(f"{error.message}; {error.help}") from None
            return self

    examples: ClassVar[Sequence[Mapping[str, Any]]] = (
        {"universe": ["BTCUSDT", "ETHUSDT"], "interval": "1h"},
        {
            "universe": ["BTCUSDT"],
            "interval": "30m",
            "at": ["09:30", "16:00"],
            "days": ["mon", "tue", "wed", "thu", "fri"],
            "zone": "America/New_York",
        },
    )

    ticks = True
    history_lag = 0.0
    """A schedule knows at once what is not in it."""

    params: Params

    def __init__(self, params: Params) -> None:
        super().__init__(params)
        self._schedule = Schedule(params)
        self._context: SourceContext | None = None

    async def open(self, context: SourceContext) -> None:
        """Remember the clock. Raises SourceError AF5080 if a time of the schedule is off the interval's grid."""
        self._context = context
        self._schedule.after(context.clock.now())

    async def stream(self) -> AsyncIterator[MarketEvent]:
        """Ticks from now on, each for every symbol; the first event says which one will be the first. Never ends."""
        clock = self._opened().clock
        due = self._schedule.after(clock.now())
        yield MarketEvent(BAR_CLOSE, self.params.universe[0], due)
        while True:
            while (now := clock.now()) < due:
                await clock.sleep((due - now) / _NS)
            for symbol in self.params.universe:
                yield MarketEvent(BAR_CLOSE, symbol, due, tick(due), True, ORIGIN)
            due = self._schedule.after(due)

    async def history(self, symbols: Sequence[str], start: int, end: int) -> AsyncIterator[BarBlock]:
        """The ticks with ``start < ts <= end`` that have passed, the same for every symbol."""
        import numpy as np

        found = self._schedule.between(start, min(end, self._opened().clock.now()))
        if found:
            ts = np.array(found, dtype=np.int64)
            ones = np.ones(len(ts))
            for symbol in symbols:
                yield BarBlock(symbol, ts, ones, ones, ones, ones, np.zeros(len(ts)), ORIGIN)

    def _opened(self) -> SourceContext:
        if self._context is None:
            raise SourceError(
                "AF5008", "the source is not open", "call open(context) first, and not after close()"
            )
        return self._context

    async def close(self) -> None:
        """Forget the clock. Idempotent."""
        self._context = None


def tick(ts: int) -> Bar:
    """What stands for a bar where there is none: it says nothing but its instant."""
    return Bar(ts, 1.0, 1.0, 1.0, 1.0, 0.0)


class Schedule:
    """The instants of a timer, ns since the epoch. Pure."""

    def __init__(self, params: Timer.Params) -> None:
        self._grid = Interval.parse(params.interval)
        self._at = None if params.at is None else sorted(_seconds(text) for text in params.at)
        self._days = frozenset(DAYS.index(day) for day in params.days)
        self._zone = ZoneInfo(params.zone)
        self._plain = self._at is None and len(self._days) == len(DAYS)

    def after(self, instant: int) -> int:
        """The first tick after `instant`. Raises SourceError AF5080 for one that is off the grid."""
        if self._plain:
            return self._grid.ts(self._grid.row(instant) + 1)
        day = self._day(instant)
        for _ in range(_LOOK_AHEAD):
            found = self._of_day(day)
            if (place := bisect.bisect_right(found, instant)) < len(found):
                return found[place]
            day += _DAY
        raise AssertionError("a schedule ticks at least once a year")

    def between(self, start: int, end: int) -> list[int]:
        """The ticks with ``start < ts <= end``, oldest first. Raises SourceError AF5080."""
        if self._plain:
            rows = range(self._grid.row(start) + 1, self._grid.row(end) + 1)
            return [self._grid.ts(row) for row in rows]
        found: list[int] = []
        day, last = self._day(start), self._day(end)
        while day <= last:
            found += [ts for ts in self._of_day(day) if start < ts <= end]
            day += _DAY
        return found

    def _day(self, instant: int) -> datetime:
        """Midnight of the zone's day that holds `instant`, naive."""
        local = datetime.fromtimestamp(instant // _NS, self._zone)
        return datetime(local.year, local.month, local.day)

    def _of_day(self, day: datetime) -> list[int]:
        """The ticks of one day of the zone."""
        if day.weekday() not in self._days:
            return []
        if self._at is None:
            first, last = self._instant(day), self._instant(day + _DAY)
            rows = range(self._grid.row(first - 1) + 1, self._grid.row(last - 1) + 1)
            return [self._grid.ts(row) for row in rows]
        found = []
        for seconds in self._at:
            local = day + timedelta(seconds=seconds)
            ts = self._instant(local)
            if datetime.fromtimestamp(ts // _NS, self._zone).replace(tzinfo=None) != local:
                continue  # the clocks were put forward over it
            if not self._grid.on_grid(ts):
                raise SourceError(
                    "AF5080",
                    f"{local.isoformat()} in {self._zone.key} is not on the grid of {self._grid}",
                    "choose an interval that divides the time of the day in UTC, for example 30m or 15m",
                )
            found.append(ts)
        return found

    def _instant(self, local: datetime) -> int:
        """ns of a local time; where the clocks show it twice, the first."""
        return int((local.replace(tzinfo=self._zone) - _EPOCH) // timedelta(microseconds=1)) * 1000


def _seconds(text: str) -> int:
    hours, minutes, *seconds = map(int, text.split(":"))
    return hours * 3600 + minutes * 60 + (seconds[0] if seconds else 0)
