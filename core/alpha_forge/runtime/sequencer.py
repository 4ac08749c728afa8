"""BarSequencer: the gate between a data source and the frames.

Pure: events in, batches and repair requests out; no I/O, no clock of its own. Of each symbol every bar goes through
once and in order. What can't go through yet is held: a bar behind a hole waits until the hole is repaired or
certified absent, while other symbols go on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from alpha_forge.contracts.interval import Interval
from alpha_forge.contracts.types import Bar, BarBatch

Int = npt.NDArray[np.int64]

Values = tuple[float, float, float, float, float]

UNLIMITED = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class RepairRequest:
    """Bars to fetch from history: closes with ``start < ts <= end`` of these symbols (positions)."""

    symbols: tuple[int, ...]
    start: int
    end: int


@dataclass(slots=True)
class GateCounts:
    """What the gate has seen."""

    accepted: int = 0
    repeated: int = 0
    refused: int = 0
    absent: int = 0
    repaired: int = 0


@dataclass(slots=True)
class BarSequencer:
    """One for each data frame. ``begin`` first; then ``offer``, ``resolve`` and ``take`` in any order."""

    interval: Interval
    symbols: tuple[str, ...]
    counts: GateCounts = field(default_factory=GateCounts)
    limit: int = UNLIMITED
    """No row after this one is released (``--bars``)."""
    _next: Int = field(init=False)
    _held: list[dict[int, Values]] = field(init=False)
    _asked: Int = field(init=False)
    _ready: dict[int, list[tuple[int, Values | None]]] = field(init=False)
    _holes: set[int] = field(init=False)

    def __post_init__(self) -> None:
        size = len(self.symbols)
        self._next = np.zeros(size, dtype=np.int64)
        self._asked = np.full(size, -1, dtype=np.int64)
        self._held = [{} for _ in range(size)]
        self._ready = {}
        self._holes = set()

    def begin(self, rows: Sequence[int] | Int) -> None:
        """Say which row each symbol's next bar has."""
        self._next[:] = rows

    @property
    def finished(self) -> bool:
        """True if every symbol has been released up to ``limit``."""
        return bool(self._next.min() > self.limit)

    def offer(self, symbol: int, bar: Bar) -> str | None:
        """A closed bar. Returns why it was refused, or None. A repeated bar is counted and dropped."""
        problem = refusal(bar, self.interval)
        if problem is not None:
            self.counts.refused += 1
            return problem
        row = self.interval.row(bar.ts)
        if row < self._next[symbol] or row in self._held[symbol]:
            self.counts.repeated += 1
            return None
        self.counts.accepted += 1
        self._held[symbol][row] = (bar.open, bar.high, bar.low, bar.close, bar.volume)
        if row == self._next[symbol]:
            self._release(symbol)
        else:
            self._holes.add(symbol)
        return None

    def _release(self, symbol: int) -> None:
        """Let go of everything of a symbol that has no hole before it."""
        held = self._held[symbol]
        row = int(self._next[symbol])
        while row in held and row <= self.limit:
            self._ready.setdefault(row, []).append((symbol, held.pop(row)))
            row += 1
        self._next[symbol] = row
        if held:
            self._holes.add(symbol)
        else:
            self._holes.discard(symbol)

    def take(self) -> list[BarBatch]:
        """Everything that may go to the frames now: one batch a close, oldest first."""
        batches = []
        for row in sorted(self._ready):
            # The order within a close carries no meaning; sorted, because arrays over symbols are.
            entries = sorted(self._ready[row], key=lambda e: e[0])
            bars = [(s, v) for s, v in entries if v is not None]
            values = np.array([v for _, v in bars], dtype=np.float64).reshape(len(bars), 5).T
            batches.append(
                BarBatch(
                    self.interval.ts(row),
                    np.array([s for s, _ in bars], dtype=np.int64),
                    np.ascontiguousarray(values),
                    np.array([s for s, v in entries if v is None], dtype=np.int64),
                )
            )
        self._ready.clear()
        return batches

    def requests(self, now: int, buffer_ns: int) -> list[RepairRequest]:
        """What to fetch: holes before held bars, and bars that are `buffer_ns` late. Each is asked for once, until
        `resolve` answers it. Symbols with the same range share a request."""
        due_row = min(self.interval.row(now - buffer_ns), self.limit)
        wanted: dict[tuple[int, int], list[int]] = {}
        late = np.flatnonzero((self._next <= due_row) & (self._asked < 0))
        for s in set(late.tolist()) | {h for h in self._holes if self._asked[h] < 0}:
            first = int(self._next[s])
            before = min(self._held[s]) - 1 if self._held[s] else 0
            last = min(before if self._held[s] else due_row, self.limit)
            if last >= first:
                self._asked[s] = last
                wanted.setdefault((first, last), []).append(s)
        return [
            RepairRequest(tuple(sorted(members)), self.interval.ts(first - 1), self.interval.ts(last))
            for (first, last), members in sorted(wanted.items())
        ]

    def resolve(self, request: RepairRequest, bars: Iterable[tuple[int, Bar]], certain: bool) -> list[str]:
        """The answer to a request. With ``certain`` the bars that are not in it are certified absent; otherwise they
        will be asked for again. Returns the reasons of refused bars."""
        problems = []
        for symbol, bar in bars:
            before = self.counts.accepted
            problem = self.offer(symbol, bar)
            self.counts.repaired += self.counts.accepted - before
            if problem is not None:
                problems.append(problem)
        last = self.interval.row(request.end)
        for symbol in request.symbols:
            self._asked[symbol] = -1
            if certain:
                self._certify(symbol, last)
        return problems

    def _certify(self, symbol: int, last: int) -> None:
        """Release up to row `last`; what is not held does not exist."""
        while self._next[symbol] <= min(last, self.limit):
            row = int(self._next[symbol])
            if row not in self._held[symbol]:
                self._ready.setdefault(row, []).append((symbol, None))
                self.counts.absent += 1
                self._next[symbol] = row + 1
            self._release(symbol)


def refusal(bar: Bar, interval: Interval) -> str | None:
    """Why a bar can't be true, or None: not finite, not positive, or not on the grid of its interval."""
    if not all(map(math.isfinite, bar[1:])):
        return f"not finite: {bar}"
    if not interval.on_grid(bar.ts):
        return f"its close is not on the grid of {interval}: {bar}"
    if min(bar.open, bar.high, bar.low, bar.close) <= 0 or bar.volume < 0:
        return f"a price that is not positive or a negative volume: {bar}"
    if bar.high < max(bar.open, bar.close, bar.low) or bar.low > min(bar.open, bar.close):
        return f"high and low don't hold open and close: {bar}"
    return None
