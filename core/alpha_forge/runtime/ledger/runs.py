"""FrameRuns: which rows of each symbol came from where, run-length encoded, so that months take no room."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from alpha_forge.runtime.ledger.origins import MOST

Int = npt.NDArray[np.int64]
Codes = npt.NDArray[np.uint8]

PROVED, SKIPPED, BEFORE, LOST = 255, 254, 253, 252
"""Codes of holes: the source was silent for long enough; its history goes on behind the hole; the symbol had no bar
yet; nobody accounted for the row, which no run without a defect ever writes."""

LONGEST = 512
"""Runs kept of a symbol; beyond, the oldest are forgotten, and the certificate begins later."""


class Run(NamedTuple):
    """Rows ``first … last`` of one symbol: bars of one origin, or a hole. ``proof`` is the instant (ns) up to which
    the source is known to have been silent about a hole, 0 if something else proves it."""

    first: int
    last: int
    code: int
    proof: int = 0

    @property
    def rows(self) -> int:
        return self.last - self.first + 1

    @property
    def hole(self) -> bool:
        return self.code >= MOST


class FrameRuns:
    """The runs of all symbols of a frame. Each symbol's rows come in order and tile without overlap."""

    def __init__(self, symbols: int) -> None:
        self.last: Int = np.full(symbols, -1, dtype=np.int64)
        """(symbols,) newest row that is accounted for, -1 before the first."""
        self.doubled: Int = np.zeros(symbols, dtype=np.int64)
        """(symbols,) rows that came again: a defect, and the certificate must show it."""
        self.forgotten: Int = np.zeros(symbols, dtype=np.int64)
        """(symbols,) bars of runs that are no longer kept."""
        self._start: Int = np.zeros(symbols, dtype=np.int64)
        self._code: Codes = np.zeros(symbols, dtype=np.uint8)
        self._proof: Int = np.zeros(symbols, dtype=np.int64)
        self._closed: list[list[Run]] = [[] for _ in range(symbols)]

    def extend(self, row: int, symbols: Int, codes: Codes | int, proofs: Int | int = 0) -> None:
        """One row of several symbols, (n,) each: arrays only, as long as every symbol goes on as before."""
        same = (self.last[symbols] == row - 1) & (self._code[symbols] == codes)
        if same.all():
            self.last[symbols] = row
            self._proof[symbols] = np.maximum(self._proof[symbols], proofs)
            return
        each = np.broadcast_to(codes, symbols.shape).tolist(), np.broadcast_to(proofs, symbols.shape).tolist()
        for symbol, code, proof in zip(symbols.tolist(), *each, strict=True):
            self.append(symbol, Run(row, row, code, proof))

    def append(self, symbol: int, run: Run) -> None:
        """Rows after all that are known of the symbol. What is left out before them is a hole nobody explains; what
        is known already is counted."""
        known = int(self.last[symbol])
        if known >= 0 and run.first <= known:
            self.doubled[symbol] += min(run.last, known) - run.first + 1
            if run.last <= known:
                return
            run = run._replace(first=known + 1)
        if known >= 0 and run.first > known + 1:
            self._push(symbol, Run(known + 1, run.first - 1, LOST))
        self._push(symbol, run)

    def _push(self, symbol: int, run: Run) -> None:
        if self.last[symbol] >= 0:
            if self._code[symbol] == run.code:
                self.last[symbol] = run.last
                self._proof[symbol] = max(int(self._proof[symbol]), run.proof)
                return
            closed = self._closed[symbol]
            closed.append(self._current(symbol))
            if len(closed) > LONGEST:
                self._forget(symbol, closed.pop(0))
        self._start[symbol], self.last[symbol] = run.first, run.last
        self._code[symbol], self._proof[symbol] = run.code, run.proof

    def _current(self, symbol: int) -> Run:
        at = (self._start, self.last, self._code, self._proof)
        return Run(*(int(array[symbol]) for array in at))

    def _forget(self, symbol: int, run: Run) -> None:
        self.forgotten[symbol] += 0 if run.hole else run.rows

    def of(self, symbol: int) -> list[Run]:
        """Every run of a symbol, oldest first."""
        return [*self._closed[symbol], self._current(symbol)] if self.last[symbol] >= 0 else []

    def clear(self, symbol: int) -> None:
        """Begin anew with a symbol."""
        for run in self.of(symbol):
            self._forget(symbol, run)
        self._closed[symbol].clear()
        self.last[symbol] = -1

    def cut(self, symbol: int, row: int) -> None:
        """Take back what is said of `row` and later ones: it will be said anew."""
        kept = [run._replace(last=min(run.last, row - 1)) for run in self.of(symbol) if run.first < row]
        self._closed[symbol].clear()
        self.last[symbol] = -1
        for run in kept:
            self._push(symbol, run)

    def forget_before(self, row: int) -> None:
        """Forget whole runs that end before `row`, and the part of a longer one that does."""
        for symbol, closed in enumerate(self._closed):
            while closed and closed[0].last < row:
                self._forget(symbol, closed.pop(0))
            if closed and closed[0].first < row:
                cut = closed[0]
                self._forget(symbol, cut._replace(last=row - 1))
                closed[0] = cut._replace(first=row)
            elif not closed and 0 <= self._start[symbol] < row <= self.last[symbol]:
                self._forget(symbol, self._current(symbol)._replace(last=row - 1))
                self._start[symbol] = row
