"""BarSequencer: the gate between a data source and the frames.

Pure: events in, batches and repair requests out; no I/O, no clock of its own. Of each symbol every bar goes through
once and in order. What can't go through yet is held: a bar behind a hole waits until the hole is repaired or
certified absent, while other symbols go on. A bar that comes again and says something else is a revision: what was
let through stands, and both are told.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from alpha_forge.contracts.interval import Interval
from alpha_forge.contracts.types import Bar, BarBatch
from alpha_forge.runtime.ledger.origins import REPAIR, STREAM
from alpha_forge.runtime.recent import Entry, RecentBars, Revision

Int = npt.NDArray[np.int64]
Float = npt.NDArray[np.float64]

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
    """Bars that came again and said the same, or came too late to be compared."""
    revised: int = 0
    refused: int = 0
    absent: int = 0
    repaired: int = 0


@dataclass(frozen=True, slots=True)
class Unsettled:
    """Rows of a symbol that should be through the gate and are not; ``held`` bars wait behind them."""

    symbol: int
    first: int
    last: int
    held: int


@dataclass(slots=True)
class BarSequencer:
    """One for each data frame. ``begin`` first; then everything else in any order. Not thread-safe."""

    interval: Interval
    symbols: tuple[str, ...]
    counts: GateCounts = field(default_factory=GateCounts)
    limit: int = UNLIMITED
    """No row after this one is released (``--bars``)."""
    revisions: list[Revision] = field(default_factory=list)
    """Since somebody last took them away."""
    recent: RecentBars = field(init=False)
    _next: Int = field(init=False)
    _held: list[dict[int, Entry]] = field(init=False)
    _asked: Int = field(init=False)
    _ready: dict[int, dict[int, Entry | int]] = field(init=False)
    """Row → symbol → its bar, or the instant up to which its absence is proved."""
    _holes: set[int] = field(init=False)

    def __post_init__(self) -> None:
        size = len(self.symbols)
        self.recent = RecentBars(size)
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

    def passed(self, row: int) -> bool:
        """True if every symbol's bar of `row`, and of all rows before, is through or certified absent."""
        return bool(self._next.min() > min(row, self.limit))

    def offer(self, symbol: int, bar: Bar, origin: int = STREAM) -> str | None:
        """A closed bar. Returns why it was refused, or None. A bar that was here already is counted and dropped."""
        problem = refusal(bar, self.interval)
        if problem is not None:
            self.counts.refused += 1
            return problem
        row = self.interval.row(bar.ts)
        held = self._held[symbol]
        entry = (bar.open, bar.high, bar.low, bar.close, bar.volume, origin)
        if row < self._next[symbol]:
            self._again(symbol, row, entry, self._through(symbol, row))
        elif row in held:
            self._again(symbol, row, entry, held[row])
        else:
            self.counts.accepted += 1
            held[row] = entry
            if row == self._next[symbol]:
                self._release(symbol)
            else:
                self._holes.add(symbol)
        return None

    def _through(self, symbol: int, row: int) -> Entry | int | None:
        """What went through the gate at `row`; None if that is forgotten."""
        waiting = self._ready.get(row)
        if waiting is not None and symbol in waiting:
            return waiting[symbol]
        return self.recent.find(row, symbol)

    def _again(self, symbol: int, row: int, entry: Entry, first: Entry | int | None) -> None:
        """A bar whose place is taken: the same again, or a revision."""
        if row > self.limit:
            return  # nobody processes it
        origin = entry[5]
        if first is None or (isinstance(first, tuple) and first[:5] == entry[:5]):
            # A repair asks for whole ranges: what it brings again is no news.
            self.counts.repeated += origin != REPAIR
            return
        self.counts.revised += 1
        if isinstance(first, tuple) and not math.isnan(first[3]):
            self.revisions.append(Revision(symbol, row, first[:5], first[5], entry[:5], origin))
        else:
            self.revisions.append(Revision(symbol, row, None, STREAM, entry[:5], origin))

    def _release(self, symbol: int) -> None:
        """Let go of everything of a symbol that has no hole before it."""
        held = self._held[symbol]
        row = int(self._next[symbol])
        while row in held and row <= self.limit:
            self._ready.setdefault(row, {})[symbol] = held.pop(row)
            row += 1
        self._next[symbol] = row
        if held:
            self._holes.add(symbol)
        else:
            self._holes.discard(symbol)

    def take(self) -> list[BarBatch]:
        """Everything that may go to the frames now: one batch a close, oldest first."""
        batches = [self._batch(row, self._ready[row]) for row in sorted(self._ready)]
        self._ready.clear()
        return batches

    def _batch(self, row: int, entries: dict[int, Entry | int]) -> BarBatch:
        # The order within a close carries no meaning; sorted, because arrays over symbols are.
        order = sorted(entries)
        bars = [s for s in order if type(entries[s]) is tuple]
        symbols = np.array(bars, dtype=np.int64)
        table = np.array([entries[s] for s in bars], dtype=np.float64).reshape(len(bars), 6)
        self.recent.store(row, symbols, table)
        silent = [s for s in order if type(entries[s]) is int] if len(bars) < len(order) else []
        absent = np.array(silent, dtype=np.int64)
        if silent:
            self.recent.store(row, absent, np.full((len(silent), 6), np.nan))
        columns = np.ascontiguousarray(table.T)
        proved = np.array([entries[s] for s in silent], dtype=np.int64)
        origins = columns[5].astype(np.uint8)
        return BarBatch(self.interval.ts(row), symbols, columns[:5], absent, origins, proved)

    def requests(self, now: int, buffer_ns: int) -> list[RepairRequest]:
        """What to fetch: holes before held bars, and bars that are `buffer_ns` late. Each is asked for once, until
        `settle` finds it answered. Symbols with the same range share a request."""
        due_row = self._due_row(now, buffer_ns)
        wanted: dict[tuple[int, int], list[int]] = {}
        late = np.flatnonzero((self._next <= due_row) & (self._asked < 0))
        for s in set(late.tolist()) | {h for h in self._holes if self._asked[h] < 0}:
            first = int(self._next[s])
            last = min(min(self._held[s]) - 1 if self._held[s] else due_row, self.limit)
            if last >= first:
                self._asked[s] = last
                wanted.setdefault((first, last), []).append(s)
        return [self._request(members, *rows) for rows, members in sorted(wanted.items())]

    def _due_row(self, now: int, buffer_ns: int) -> int:
        return min(self.interval.row(now - buffer_ns), self.limit)

    def _request(self, symbols: Iterable[int], first: int, last: int) -> RepairRequest:
        return RepairRequest(tuple(sorted(symbols)), self.interval.ts(first - 1), self.interval.ts(last))

    def fill(self, bars: Iterable[tuple[int, Bar]]) -> list[str]:
        """Bars that a repair has brought; those without a hole before them are released. Returns the reasons of
        refused ones."""
        problems = []
        for symbol, bar in bars:
            before = self.counts.accepted
            problem = self.offer(symbol, bar, REPAIR)
            self.counts.repaired += self.counts.accepted - before
            if problem is not None:
                problems.append(problem)
        return problems

    def settle(self, request: RepairRequest) -> RepairRequest | None:
        """The part of a request that is still unanswered, None if there is none. Symbols that have all of it may be
        asked for anew."""
        last = self.interval.row(request.end)
        left = []
        for symbol in request.symbols:
            if self._next[symbol] <= min(last, self.limit):
                left.append(symbol)
            else:
                self._asked[symbol] = -1
        return self._request(left, int(min(self._next[s] for s in left)), last) if left else None

    def certify(self, request: RepairRequest, until: int, proved: int) -> int:
        """What a request asked for, closes not after the instant `until`, and is not here does not exist: the source,
        known to have passed the instant `proved`, was asked. Returns how many bars that were."""
        before = self.counts.absent
        last = min(self.interval.row(request.end), self.interval.row(until), self.limit)
        for symbol in request.symbols:
            while self._next[symbol] <= last:
                row = int(self._next[symbol])
                if row not in self._held[symbol]:
                    self._ready.setdefault(row, {})[symbol] = proved
                    self.counts.absent += 1
                    self._next[symbol] = row + 1
                self._release(symbol)
        return self.counts.absent - before

    def unsettled(self, now: int, buffer_ns: int) -> list[Unsettled]:
        """Of each symbol that is behind: the rows that are missing, or wait behind a missing one. By symbol."""
        due_row = self._due_row(now, buffer_ns)
        behind = set(np.flatnonzero(self._next <= due_row).tolist()) | self._holes
        found = []
        for symbol in sorted(behind):
            held = self._held[symbol]
            first, last = int(self._next[symbol]), min(max(due_row, *held), self.limit) if held else due_row
            if last >= first:
                found.append(Unsettled(symbol, first, last, len(held)))
        return found


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
