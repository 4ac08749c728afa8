"""Recursive features whose value never depends on when the process started.

A fresh state starts every ``settle(epsilon) / 4`` rows of the absolute time grid; the value comes from the
youngest state that has seen ``settle`` bars of its symbol. Every runner that knows the last 1.25 × settle bars of a
symbol therefore reads the same state, bit for bit.
"""

from __future__ import annotations

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

    def known_from(self, rows: Int) -> None:
        """Say from which row on everything about each symbol is known. Call once, before the first bar.

        A state that began earlier would have missed bars, so it is never read. Inputs that steps made are known
        later: from the first row on at which they are finite and ``upstream`` own bars have come.
        """
        if self._plain:
            self._ready_row[:] = rows

    def step(self, row: int, symbols: Int, inputs: tuple[Float, ...]) -> tuple[Float, ...]:
        """Advance by the bars of `symbols` at `row`; ``inputs`` are (n,) each. Returns (n,) for each output."""
        known = ALL_KNOWN if self._always_known else np.asarray(~np.isnan(np.stack(inputs)).any(axis=0))
        if not self._plain:
            self._note_ready(row, symbols, known)
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
        outputs = self._advance_panel(inputs) if self._panel else self._advance(symbols, inputs)
        return tuple([compiled.pick_generations(output, choice) for output in outputs])

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
        if not self._waiting:
            return
        self._own_bars[symbols] += 1
        ready = (self._own_bars[symbols] >= self._upstream) & known & (self._ready_row[symbols] == NEVER)
        self._ready_row[symbols[ready]] = row
        self._waiting = bool((self._ready_row == NEVER).any())

    def _advance(self, symbols: Int, inputs: tuple[Float, ...]) -> tuple[Float, ...]:
        """One call for all slots of all `symbols`; each output is (slots * n,)."""
        n = len(symbols)
        columns = []
        for column in inputs:
            tiled = np.empty((1, SLOTS * n))
            tiled.reshape(SLOTS, n)[:] = column
            columns.append(tiled)
        if n == self._size:
            return _as_tuple(self._feature.advance(self._state, *columns))
        rows = (self._offsets + symbols[None, :]).ravel()
        part = {name: array[rows] for name, array in self._state.items()}
        outputs = _as_tuple(self._feature.advance(part, *columns))
        for name, array in part.items():
            self._state[name][rows] = array
        return outputs

    def _advance_panel(self, inputs: tuple[Float, ...]) -> tuple[Float, ...]:
        """A panel feature reads across symbols, so each generation is a call of its own (over all symbols)."""
        columns = [column[None, :] for column in inputs]
        parts = []
        for slot in range(SLOTS):
            here = slice(slot * self._size, (slot + 1) * self._size)
            part = {name: array[here] for name, array in self._state.items()}
            parts.append(_as_tuple(self._feature.advance(part, *columns)))
            for name, array in part.items():
                self._state[name][here] = array
        return tuple(np.concatenate(outputs) for outputs in zip(*parts, strict=True))


def _as_tuple(outputs: Any) -> tuple[Float, ...]:
    """Last row of each output."""
    if isinstance(outputs, tuple):
        return tuple(output[-1] for output in outputs)
    return (outputs[-1],)
