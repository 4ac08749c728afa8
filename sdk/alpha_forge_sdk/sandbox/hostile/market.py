"""Holes of the market itself: outages, and symbols that are listed late or delisted early.

Every channel of the exchange reads the market through this, so a hole is the same in all of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from alpha_forge_sdk.sandbox import bars as tables
from alpha_forge_sdk.sandbox.bars import OPEN_TIME, BarTable, Instrument
from alpha_forge_sdk.sandbox.hostile.dice import Arsenal
from alpha_forge_sdk.sandbox.intervals import FIXED, MINUTE, floor_ms, next_ms
from alpha_forge_sdk.sandbox.market import Market

#: Later than any bar.
_NEVER: Final = 1 << 60


@dataclass(frozen=True, slots=True)
class Hole:
    """A range `[start_ms, end_ms)` without trades, and the kind of rule that made it."""

    kind: str
    start_ms: int
    end_ms: int


class HoleyMarket:
    """`market` without what the rules take out of it. Outages are whole minutes.

    A bar that lies in a hole altogether is absent; one that reaches out of it is made of its minutes outside, as far
    as the market has minutes. Once bars of a range were asked for, rules about that range come too late: channels
    may have shown them.
    """

    def __init__(self, market: Market, arsenal: Arsenal) -> None:
        self._market = market
        self._arsenal = arsenal

    @property
    def symbols(self) -> Sequence[str]:
        """The market's symbols, listed yet or not."""
        return self._market.symbols

    def instrument(self, symbol: str) -> Instrument:
        """The symbol's grid, with the times of its listing and delisting. KeyError for an unknown symbol."""
        found = self._market.instrument(symbol)
        for hole in self.holes(symbol):
            if hole.kind == "list":
                found = dataclasses.replace(found, onboard_ms=hole.end_ms)
            elif hole.kind == "delist":
                found = dataclasses.replace(found, delisted_ms=hole.start_ms)
        return found

    def holes(self, symbol: str) -> list[Hole]:
        """The ranges without trades, ascending."""
        found = []
        for kind in ("list", "outage", "delist"):
            for armed in self._arsenal.of(kind):
                if not armed.concerns(symbol, None) or not armed.takes(symbol) or armed.from_ms is None:
                    continue
                if kind == "list":
                    found.append(Hole(kind, -_NEVER, _minute_after(armed.from_ms)))
                elif kind == "delist":
                    found.append(Hole(kind, _minute_after(armed.from_ms), _NEVER))
                elif armed.until_ms is not None:
                    start = armed.from_ms // MINUTE * MINUTE
                    found.append(Hole(kind, start, _minute_after(armed.until_ms)))
        return sorted(found, key=lambda hole: hole.start_ms)

    def bars(self, symbol: str, interval: str, start_ms: int, end_ms: int) -> BarTable:
        """Final values of the bars that open in `[start_ms, end_ms)` and are not in a hole."""
        table = self._market.bars(symbol, interval, start_ms, end_ms)
        holes = self.holes(symbol)
        if not holes or table.shape[1] == 0:
            return table
        opens = table[OPEN_TIME]
        ends = _ends(opens, interval)
        touched = np.zeros(len(opens), dtype=bool)
        for hole in holes:
            reached = (ends > hole.start_ms) & (opens < hole.end_ms)
            if reached.any():
                self._arsenal.count_once(hole.kind, symbol, hole.start_ms)
            touched |= reached
        if not touched.any():
            return table
        parts = [tables.empty()]
        for index in range(len(opens)):
            bar = table[:, index : index + 1]
            span = int(opens[index]), int(ends[index])
            parts.append(self._left_of(symbol, bar, *span, holes) if touched[index] else bar)
        return np.concatenate(parts, axis=1)

    def progress(self, symbol: str, interval: str, at_ms: float) -> BarTable | None:
        """The bar in progress at `at_ms`, made of what was traded outside of the holes; None if that is nothing."""
        opened = floor_ms(int(at_ms), interval)
        holes = [hole for hole in self.holes(symbol) if hole.start_ms <= at_ms and hole.end_ms > opened]
        if not holes:
            return self._market.progress(symbol, interval, at_ms)
        minute = int(at_ms) // MINUTE * MINUTE
        before = _outside(self._market.bars(symbol, "1m", opened, minute), holes)
        parts = [before]
        if not any(hole.start_ms <= minute < hole.end_ms for hole in holes):
            running = self._market.progress(symbol, "1m", at_ms)
            if running is not None:
                parts.append(running)
        traded = np.concatenate(parts, axis=1)
        return tables.merge(traded, opened) if traded.shape[1] else None

    def _left_of(self, symbol: str, bar: BarTable, opened: int, end: int, holes: list[Hole]) -> BarTable:
        """What is left of one bar that a hole touches: no or one column."""
        if any(hole.start_ms <= opened and end <= hole.end_ms for hole in holes):
            return tables.empty()
        minutes = self._market.bars(symbol, "1m", opened, end)
        if minutes.shape[1] == 0:
            return bar
        left = _outside(minutes, holes)
        return tables.merge(left, opened) if left.shape[1] else left


def _outside(bars: BarTable, holes: list[Hole]) -> BarTable:
    kept = np.ones(bars.shape[1], dtype=bool)
    for hole in holes:
        kept &= (bars[OPEN_TIME] < hole.start_ms) | (bars[OPEN_TIME] >= hole.end_ms)
    return bars[:, kept]


def _ends(opens: BarTable, interval: str) -> BarTable:
    if interval in FIXED:
        return opens + FIXED[interval]
    return np.array([next_ms(opened, interval) for opened in opens.tolist()], dtype=np.int64)


def _minute_after(at_ms: int) -> int:
    return -(-at_ms // MINUTE) * MINUTE
