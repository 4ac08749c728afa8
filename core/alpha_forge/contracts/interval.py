"""Bar intervals: names such as ``15m``, their length, and the grid of closes they stand on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

NS = 1_000_000_000
_UNITS = {"s": NS, "m": 60 * NS, "h": 3600 * NS, "d": 86_400 * NS, "w": 7 * 86_400 * NS}
# 1970-01-01 was a Thursday; weeks of the exchanges begin on Monday.
_WEEK_OFFSET = 4 * 86_400 * NS
_FORM = re.compile(r"([1-9][0-9]*)([smhdw])")


@dataclass(frozen=True, slots=True)
class Interval:
    """A bar length. Bars close at ``offset + k * ns`` for whole k (ns since the epoch, UTC)."""

    name: str
    ns: int
    offset: int = 0

    @classmethod
    def parse(cls, text: str) -> Interval:
        """``15m`` → Interval. Raises ValueError with the right form for anything else (calendar months too)."""
        match = _FORM.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise ValueError(
                f"{text!r} is not an interval: a whole number and one of s, m, h, d, w, for example 15m or 4h"
            )
        ns = int(match[1]) * _UNITS[match[2]]
        return cls(text, ns, _WEEK_OFFSET if match[2] == "w" else 0)

    @property
    def seconds(self) -> float:
        return self.ns / NS

    def row(self, ts: int) -> int:
        """Number of the close `ts` on the grid; for an instant between closes, that of the last one before it."""
        return (ts - self.offset) // self.ns

    def ts(self, row: int) -> int:
        """The close with this number, ns since the epoch."""
        return self.offset + row * self.ns

    def floor(self, ts: int) -> int:
        """The last close at or before `ts`."""
        return self.ts(self.row(ts))

    def on_grid(self, ts: int) -> bool:
        return (ts - self.offset) % self.ns == 0

    def divides(self, other: Interval) -> bool:
        """True if every close of `other` is a close of this interval too."""
        return other.ns % self.ns == 0 and (other.offset - self.offset) % self.ns == 0

    def __str__(self) -> str:
        return self.name


def to_datetime(ts: int) -> datetime:
    """ns since the epoch → aware UTC datetime (whole microseconds; bars close on whole seconds)."""
    return datetime.fromtimestamp(ts // NS, UTC).replace(microsecond=ts % NS // 1000)


def iso(ts: int) -> str:
    """ns since the epoch → ``2026-01-05T13:00:00Z`` (fraction only where there is one)."""
    return to_datetime(ts).isoformat().replace("+00:00", "Z")
