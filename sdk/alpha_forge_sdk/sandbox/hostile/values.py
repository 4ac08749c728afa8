"""Values of a fault script: durations, instants and the forms of options. Text in, checked values out."""

from __future__ import annotations

import datetime as dt
import math
import re
from dataclasses import dataclass
from typing import Any, Final

_UNITS: Final = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"([+-]?\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class ValueFault(ValueError):
    """A value of the wrong form; the text says what was expected."""


@dataclass(frozen=True, slots=True)
class Moment:
    """An instant of the exchange clock: milliseconds of the epoch, or after the clock's start if `relative`."""

    ms: int
    relative: bool = False

    def at(self, start_ms: int) -> int:
        """Exchange milliseconds, for a clock that started at `start_ms`."""
        return start_ms + self.ms if self.relative else self.ms

    def __str__(self) -> str:
        return duration_text(self.ms) if self.relative else time_text(self.ms)


def parse_duration(value: Any) -> int:
    """Milliseconds of `1.5s`, `10m`, `2h`, `1d`, `250ms`, or of a number of seconds. Raises ValueFault."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return round(value * 1000)
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueFault("expected a duration, as 250ms, 1.5s, 10m, 2h or 1d")
    return round(float(match[1]) * _UNITS[match[2]])


def parse_moment(value: Any) -> Moment:
    """An ISO 8601 time (UTC if it names no zone), or a duration after the start. Raises ValueFault."""
    if isinstance(value, str) and _DURATION.fullmatch(value.strip()):
        return Moment(parse_duration(value), relative=True)
    try:
        moment = dt.datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        moment = None
    if isinstance(moment, dt.date) and not isinstance(moment, dt.datetime):
        moment = dt.datetime(moment.year, moment.month, moment.day)
    if not isinstance(moment, dt.datetime):
        raise ValueFault(
            "expected a time, as 2026-01-05T12:00:00Z, or a duration after the start, as 10m"
        ) from None
    zoned = moment if moment.tzinfo is not None else moment.replace(tzinfo=dt.UTC)
    return Moment(round((zoned - _EPOCH) / dt.timedelta(milliseconds=1)))


def duration_text(ms: int) -> str:
    """The shortest text that `parse_duration` reads as `ms`."""
    for unit in ("d", "h", "m", "s"):
        if ms and ms % _UNITS[unit] == 0:
            return f"{ms // _UNITS[unit]}{unit}"
    return f"{ms}ms"


def time_text(ms: int) -> str:
    """ISO 8601 with a Z, milliseconds only where there are any."""
    moment = _EPOCH + dt.timedelta(milliseconds=ms)
    form = "milliseconds" if ms % 1000 else "seconds"
    return moment.isoformat(timespec=form).replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a kind of fault.

    `form` is `duration` (milliseconds), `whole` (an integer in `[least, most]`), `share` (in [0, 1]), `flag`, `text`
    or `choice`. A `default` of None stands for "drawn anew each time" where `about` says so.
    """

    form: str
    default: Any
    about: str
    choices: tuple[str, ...] = ()
    least: float = 0
    most: float = math.inf

    def parse(self, value: Any) -> Any:
        """The checked value. Raises ValueFault."""
        return getattr(self, f"_parse_{self.form}")(value)

    def values(self) -> str:
        """What may be given, in words."""
        if self.form == "choice":
            return ", ".join(f"`{choice}`" for choice in self.choices)
        if self.form == "whole":
            return (
                f"{self.least:.0f} to {self.most:.0f}"
                if self.most < math.inf
                else f"{self.least:.0f} or more"
            )
        words = {"duration": "a duration", "share": "0 to 1", "flag": "`true`, `false`", "text": "a text"}
        return words[self.form]

    def default_text(self) -> str:
        """The default as a script would write it; nothing if it is drawn or absent."""
        if self.default is None:
            return ""
        return f"`{str(self.text(self.default)).lower() if self.form == 'flag' else self.text(self.default)}`"

    def text(self, value: Any) -> Any:
        """The value as a script writes it."""
        return duration_text(value) if self.form == "duration" and value is not None else value

    def _parse_duration(self, value: Any) -> int:
        ms = parse_duration(value)
        if not self.least <= ms <= self.most:
            raise ValueFault(f"expected a duration of at least {duration_text(int(self.least))}")
        return ms

    def _parse_whole(self, value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not self.least <= value <= self.most:
            most = "" if self.most == math.inf else f" to {self.most:g}"
            raise ValueFault(f"expected a whole number from {self.least:g}{most}")
        return value

    def _parse_share(self, value: Any) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
            raise ValueFault("expected a number from 0 to 1")
        return float(value)

    def _parse_flag(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise ValueFault("expected true or false")
        return value

    def _parse_text(self, value: Any) -> str:
        if not isinstance(value, str):
            raise ValueFault("expected a text")
        return value

    def _parse_choice(self, value: Any) -> str:
        if value not in self.choices:
            raise ValueFault(f"expected one of {', '.join(self.choices)}")
        return str(value)
