"""Recursive features whose value never depends on when the process started.

A fresh state starts every ``settle(epsilon) / 4`` rows of the absolute time grid; the value comes from the
youngest state that has seen ``settle`` bars of its symbol. Every runner that knows the last 1.25 × settle bars of a
symbol therefore reads the same state, bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from alpha_forge.contracts.plugin import RecursiveFeature
from alpha_forge.plan.lookback import generation_bars
from alpha_forge.runtime import compiled

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

SLOTS = 6
"""States alive at once. Five reach back 1.25 × settle rows; the sixth serves symbols that lack up to a quarter of
the rows."""

NEVER = np.iinfo(np.int64).max

ALL_KNOWN: Bool = np.empty(0, dtype=np.bool_)


class InStep:
    """The bookkeeping of generations while it is the same for all symbols: numbers in place of arrays.

    Slot ``g % SLOTS`` holds generation g. It is read from once it is complete (`begins` at a row from which on
    everything is known) and has seen ``settle`` bars; of several the youngest.
    """

    __slots__ = (
        "_born",
        "_choice",
        "_every",
        "_generation",
        "_next",
        "_ready_row",
        "_settle",
        "bars",
        "last",
    )

    def __init__(
        self, every: int, settle: int, ready_row: int, last: int, generation: list[int], seen: list[int]
    ) -> None:
        self._every = every
        self._settle = settle
        self._ready_row = ready_row
        self.last = last
        self.bars = max(seen)
        self._generation = generation
        self._born = [self.bars - count for count in seen]
        self._choose()

    def step(self, row: int) -> tuple[list[int], int]:
        """Move on by a bar of everybody. Returns the slots where a fresh state begins, and the one to read or -1."""
        now = row // self._every
        begun: list[int] = []
        if now > self.last:
            for g in range(max(self.last + 1, now - SLOTS + 1), now + 1):
                self._generation[g % SLOTS] = g if g * self._every >= self._ready_row else -1
                self._born[g % SLOTS] = self.bars
                begun.append(g % SLOTS)
            self.last = now
        self.bars += 1
        if begun or self.bars >= self._next:
            self._choose()
        return begun, self._choice

    def _choose(self) -> None:
        """Find the slot to read, and the number of bars from which on it may be another one."""
        self._choice, self._next = -1, NEVER
        for g in range(self.last, self.last - SLOTS, -1):
            slot = g % SLOTS
            if self._generation[slot] != g:
                continue
            settled = self._born[slot] + self._settle
            if settled <= self.bars:
                self._choice = slot
                return
            self._next = min(self._next, settled)

    def write(self, last: Int, generation: Int, seen: Int) -> None:
        """Into arrays, (symbols,) and (SLOTS, symbols)."""
        last[:] = self.last
        generation[:] = np.array(self._generation)[:, None]
        seen[:] = self.bars - np.array(self._born)[:, None]


class Generations:
    """The states of one recursive feature for all symbols of a frame, `SLOTS` generations of each.

    Slot k of symbol s is row ``k * symbols + s`` of the state's arrays, so that one call of ``advance`` moves all.
    """

    def __init__(
        self,
        feature: RecursiveFeature,
        settle: int,
        symbols: int,
        upstream: int,
        *,
        plain: bool = True,
        always_known: bool = False,
    ) -> None:
        """``plain`` inputs are bars, or buckets of bars: known as soon as their rows are. ``always_known`` ones are
        never NaN at a bar that is at hand."""
        self._feature = feature
        self._settle = settle
        self._every = generation_bars(settle)
        self._size = symbols
        self._upstream = upstream
        self._panel = feature.scope == "panel"
        self._plain = plain
        self._always_known = always_known
        self._waiting = True
        self._state = feature.start(SLOTS * symbols)
        self._fresh = feature.start(SLOTS * symbols)
        self._generation = np.full((SLOTS, symbols), -1, dtype=np.int64)
        self._seen = np.zeros((SLOTS, symbols), dtype=np.int64)
        self._last = np.full(symbols, -1, dtype=np.int64)
        self._ready_row = np.full(symbols, NEVER, dtype=np.int64)
        self._own_bars = np.zeros(symbols, dtype=np.int64)
        self._offsets = np.arange(SLOTS, dtype=np.int64)[:, None] * symbols
        self._scratch: dict[int, tuple[Bool, Int]] = {}
        self._in_step: InStep | None = None

    def known_from(self, rows: Int) -> None:
        """Say from which row on everything about each symbol is known. Call once, before the first bar.

        A state that began earlier would have missed bars, so it is never read. Inputs that steps made are known
        later: from the first row on at which they are finite and ``upstream`` own bars have come.
        """
        if self._plain:
            self._ready_row[:] = rows
            self._waiting = False
        self._find_step()

    def step(self, row: int, symbols: Int, inputs: Sequence[Float]) -> tuple[Float, ...]:
        """Advance by the bars of `symbols` at `row`. Returns (n,) for each output.

        ``inputs`` are rows, (1, n) each for a panel feature, else (1, SLOTS * n): the same for each slot.
        """
        n = len(symbols)
        known = ALL_KNOWN
        if not self._always_known:
            known = np.asarray(~np.isnan([column[0, :n] for column in inputs]).any(axis=0))
            if known.all():
                known = ALL_KNOWN
        if self._in_step is not None:
            if known is ALL_KNOWN and n == self._size:
                return self._step_all(self._in_step, row, symbols, inputs)
            self._in_step.write(self._last, self._generation, self._seen)
            self._in_step = None
        if self._waiting:
            self._note_ready(row, symbols, known)
        return self._step_each(row, symbols, inputs, known)

    def _step_all(
        self, in_step: InStep, row: int, symbols: Int, inputs: Sequence[Float]
    ) -> tuple[Float, ...]:
        """`step` of everybody while all are in step."""
        n = self._size
        begun, choice = in_step.step(row)
        for slot in begun:
            for name, array in self._state.items():
                array[slot * n : (slot + 1) * n] = self._fresh[name][slot * n : (slot + 1) * n]
        outputs = self._advance_panel(inputs) if self._panel else self._advance(symbols, inputs)
        if choice < 0:
            return tuple([np.full(n, np.nan) for _ in outputs])
        return tuple([output[choice * n : (choice + 1) * n] for output in outputs])

    def _step_each(self, row: int, symbols: Int, inputs: Sequence[Float], known: Bool) -> tuple[Float, ...]:
        """`step` symbol by symbol."""
        reset, choice = self._work(len(symbols))
        begins = compiled.step_generations(
            row,
            self._every,
            self._settle,
            symbols,
            known,
            self._ready_row,
            self._last,
            self._generation,
            self._seen,
            reset,
            choice,
        )
        if begins:
            slots, places = np.nonzero(reset)
            rows = slots * self._size + symbols[places]
            for name, array in self._state.items():
                array[rows] = self._fresh[name][rows]
            reset[:] = False
            self._find_step()
        outputs = self._advance_panel(inputs) if self._panel else self._advance(symbols, inputs)
        return tuple([compiled.pick_generations(output, choice) for output in outputs])

    def _find_step(self) -> None:
        """See whether all symbols are in step (again)."""
        if self._waiting or not self._size:
            return
        table = np.vstack((self._ready_row, self._last, self._generation, self._seen))
        if (table == table[:, :1]).all():
            ready_row, last, *slots = table[:, 0].tolist()
            self._in_step = InStep(self._every, self._settle, ready_row, last, slots[:SLOTS], slots[SLOTS:])

    def _work(self, n: int) -> tuple[Bool, Int]:
        """Arrays to work on, kept for the numbers of symbols that come again and again."""
        found = self._scratch.get(n)
        if found is None:
            found = np.zeros((SLOTS, n), dtype=np.bool_), np.empty(n, dtype=np.int64)
            if len(self._scratch) < 64:
                self._scratch[n] = found
        return found

    def _note_ready(self, row: int, symbols: Int, known: Bool) -> None:
        """Where everything behind the inputs is known from this row on, states may begin."""
        self._own_bars[symbols] += 1
        ready = (self._own_bars[symbols] >= self._upstream) & (self._ready_row[symbols] == NEVER)
        if known is not ALL_KNOWN:
            ready &= known
        self._ready_row[symbols[ready]] = row
        self._waiting = bool((self._ready_row == NEVER).any())

    def _advance(self, symbols: Int, inputs: Sequence[Float]) -> tuple[Float, ...]:
        """One call for all slots of all `symbols`; each output is (slots * n,)."""
        if len(symbols) == self._size:
            return _as_tuple(self._feature.advance(self._state, *inputs))
        rows = (self._offsets + symbols[None, :]).ravel()
        part = {name: array[rows] for name, array in self._state.items()}
        outputs = _as_tuple(self._feature.advance(part, *inputs))
        for name, array in part.items():
            self._state[name][rows] = array
        return outputs

    def _advance_panel(self, inputs: Sequence[Float]) -> tuple[Float, ...]:
        """A panel feature reads across symbols, so each generation is a call of its own (over all symbols)."""
        parts = []
        for slot in range(SLOTS):
            here = slice(slot * self._size, (slot + 1) * self._size)
            part = {name: array[here] for name, array in self._state.items()}
            parts.append(_as_tuple(self._feature.advance(part, *inputs)))
            for name, array in part.items():
                self._state[name][here] = array
        return tuple(np.concatenate(outputs) for outputs in zip(*parts, strict=True))


def _as_tuple(outputs: Any) -> tuple[Float, ...]:
    """Last row of each output."""
    if isinstance(outputs, tuple):
        return tuple([output[-1] for output in outputs])
    return (outputs[-1],)
