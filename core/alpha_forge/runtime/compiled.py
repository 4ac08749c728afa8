"""Compiled inner loops of the runtime. numba is imported, and the loops compiled, at first use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


class Lazy:
    """A function that numba compiles when it is first called, cached on disk where that is possible."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._compiled: Callable[..., Any] | None = None

    def __call__(self, *args: Any) -> Any:
        if self._compiled is None:
            import numba

            try:
                self._compiled = numba.njit(cache=True)(self._function)
            except RuntimeError:  # no place to cache: costs time at each start, nothing else
                self._compiled = numba.njit(self._function)
        return self._compiled(*args)


@Lazy
def gather_own(data, present, row_numbers, row, capacity, symbols, out):  # type: ignore[no-untyped-def]
    """Fill `out` (rows, n) from the bottom with each symbol's own bars up to `row`, walking back over holes."""
    rows = out.shape[0]
    oldest = row - capacity + 1
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
