"""Compiled inner loops of the runtime. numba is imported, and the loops compiled, at first use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt


class Lazy:
    """A function that numba compiles when it is first called, cached on disk where that is possible.

    A cache that can't be written costs time at each start, nothing else.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._compiled: Callable[..., Any] | None = None

    def __call__(self, *args: Any) -> Any:
        if self._compiled is None:
            self._compiled = self._compile(cache=True)
        try:
            return self._compiled(*args)
        except OSError:  # disk full, directory gone: raised by compiling, before the loop has run
            self._compiled = self._compile(cache=False)
            return self._compiled(*args)

    def _compile(self, *, cache: bool) -> Callable[..., Any]:
        import numba

        try:
            compiled: Callable[..., Any] = numba.njit(cache=cache)(self._function)
        except RuntimeError:  # "cannot cache function …: no locator available"
            compiled = numba.njit(self._function)
        return compiled


@Lazy
def gather_own(data, present, row_numbers, row, reach, capacity, symbols, out):  # type: ignore[no-untyped-def]
    """Fill `out` (rows, n) from the bottom with each symbol's own bars up to `row`, walking back over holes, at most
    `reach` rows."""
    rows = out.shape[0]
    oldest = row - reach + 1
    for j in range(len(symbols)):
        s = symbols[j]
        at_row = row
        k = rows - 1
        while k >= 0 and at_row >= oldest:
            at = at_row % capacity
            if row_numbers[at] != at_row:
                break
            if present[at, s]:
                out[k, j] = data[at, s]
                k -= 1
            at_row -= 1


@Lazy
def step_generations(  # type: ignore[no-untyped-def]
    row, every, settle, symbols, known, ready_row, last, generation, seen, reset, choice
):
    """Move the generations of a recursive feature on by one bar of `symbols`; see `generations.Generations`.

    ``generation``, ``seen`` are (slots, symbols); ``last``, ``ready_row`` (symbols,); ``known`` says whose inputs are
    known, (n,), or empty for all. Sets ``reset`` (slots, n), all False on entry, where a fresh state begins, and
    ``choice`` (n,) to the slot to read or -1. Returns True if any state begins.
    """
    slots = generation.shape[0]
    now = row // every
    any_reset = False
    for j in range(len(symbols)):
        s = symbols[j]
        first = last[s] + 1
        if first < now - slots + 1:
            first = now - slots + 1
        for g in range(first, now + 1):
            slot = g % slots
            reset[slot, j] = True
            any_reset = True
            seen[slot, s] = 0
            generation[slot, s] = g if g * every >= ready_row[s] else -1
        last[s] = now
        choice[j] = -1
        if len(known) > 0 and not known[j]:
            continue
        for slot in range(slots):
            seen[slot, s] += 1
        for back in range(slots):
            g = now - back
            slot = g % slots
            if generation[slot, s] == g and seen[slot, s] >= settle:
                choice[j] = slot
                break
    return any_reset


@Lazy
def pick_generations(values, choice):  # type: ignore[no-untyped-def]
    """(slots * n,) values and the slot chosen for each of n → (n,), NaN where none is."""
    n = len(choice)
    out = np.empty(n)
    for j in range(n):
        out[j] = values[choice[j] * n + j] if choice[j] >= 0 else np.nan
    return out


@Lazy
def squeeze(aligned, present, out):  # type: ignore[no-untyped-def]
    """(rows, symbols) with a presence mask → each symbol's present rows, one after the other, from the top of `out`."""
    at = np.zeros(aligned.shape[1], dtype=np.int64)
    for t in range(aligned.shape[0]):
        for s in range(aligned.shape[1]):
            if present[t, s]:
                out[at[s], s] = aligned[t, s]
                at[s] += 1


@Lazy
def spread(own, present, out):  # type: ignore[no-untyped-def]
    """The inverse of `squeeze`; rows where a symbol is absent stay as they are."""
    at = np.zeros(own.shape[1], dtype=np.int64)
    for t in range(out.shape[0]):
        for s in range(out.shape[1]):
            if present[t, s]:
                out[t, s] = own[at[s], s]
                at[s] += 1


@Lazy
def choose_starts(  # type: ignore[no-untyped-def]
    rows,
    context,
    counts,
    every,
    settle,
    known,
    ready_row,
    own_bars,
    upstream,
    last,
    generation,
    seen,
    start,
    out,
):
    """For each own bar of a chunk: the place at which the state to read began, or -1. `step_generations` for arrays.

    ``rows`` is (places, symbols); the chunk's bars are at ``context`` and after it, ``counts`` of each symbol.
    ``known`` (places of the chunk, symbols) says whose inputs are known. ``generation``, ``seen``, ``start`` are
    (slots, symbols); ``ready_row``, ``own_bars``, ``last`` (symbols,); all of them move on in place. ``upstream`` is 0
    for inputs that are known as soon as their rows are.
    """
    slots = generation.shape[0]
    never = np.iinfo(np.int64).max
    for s in range(rows.shape[1]):
        for i in range(counts[s]):
            row = rows[context + i, s]
            if upstream > 0 and ready_row[s] == never:
                own_bars[s] += 1
                if own_bars[s] >= upstream and known[i, s]:
                    ready_row[s] = row
            now = row // every
            first = last[s] + 1
            if first < now - slots + 1:
                first = now - slots + 1
            for g in range(first, now + 1):
                slot = g % slots
                seen[slot, s] = 0
                start[slot, s] = context + i
                generation[slot, s] = g if g * every >= ready_row[s] else -1
            last[s] = now
            out[i, s] = -1
            if not known[i, s]:
                continue
            for slot in range(slots):
                seen[slot, s] += 1
            for back in range(slots):
                g = now - back
                slot = g % slots
                if generation[slot, s] == g and seen[slot, s] >= settle:
                    out[i, s] = start[slot, s]
                    break


def prepare() -> None:
    """Compile the loops that a stream needs for the first hole or straggler, which warm-up may not have met: they
    must not cost that tick seconds."""
    one: npt.NDArray[np.int64] = np.zeros(1, dtype=np.int64)
    slots: npt.NDArray[np.int64] = np.zeros((1, 1), dtype=np.int64)
    nobody, nothing = np.zeros((1, 1), dtype=np.bool_), np.zeros((1, 1))
    gather_own(nothing, nobody, one, 0, 1, 1, one, nothing)
    step_generations(0, 1, 1, one, nobody[0], one, one.copy(), slots, slots.copy(), nobody, one.copy())
    pick_generations(nothing[0], one)
