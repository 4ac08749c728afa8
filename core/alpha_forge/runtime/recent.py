"""RecentBars: what was processed lately, so that a bar that comes again can be held against it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Int = npt.NDArray[np.int64]
Float = npt.NDArray[np.float64]

Values = tuple[float, float, float, float, float]
Entry = tuple[float, float, float, float, float, int]
"""A bar behind the gate: its five values and the code of its origin."""

DEPTH = 64
"""Rows that are remembered; a bar that comes again later than that can't be compared."""


@dataclass(frozen=True, slots=True)
class Revision:
    """A bar that came again and said something else. What was processed stands.

    ``processed`` is None where the bar had been certified absent.
    """

    symbol: int
    row: int
    processed: Values | None
    processed_origin: int
    other: Values
    other_origin: int


class RecentBars:
    """The last `DEPTH` rows that went through the gate, with their origins: arrays, bounded for ever."""

    def __init__(self, symbols: int) -> None:
        self._rows = np.full((DEPTH, symbols), -1, dtype=np.int64)
        self._entries = np.full((DEPTH, symbols, 6), np.nan)

    def store(self, row: int, symbols: Int, entries: Float) -> None:
        """Remember `entries`, (n, 6): five values and the origin's code; of certified absent bars NaN."""
        at = row % DEPTH
        self._rows[at, symbols] = row
        self._entries[at, symbols] = entries

    def seed(self, first: int, values: Float, origins: npt.NDArray[np.uint8]) -> None:
        """Remember the newest rows of a history: (5, rows, symbols) from row `first` on, NaN where absent."""
        everyone = np.arange(values.shape[2])
        for k in range(max(0, values.shape[1] - DEPTH), values.shape[1]):
            self.store(first + k, everyone, np.vstack((values[:, k], origins[k])).T)

    def find(self, row: int, symbol: int) -> Entry | None:
        """The entry, with NaN for values if it was certified absent; None if it is not remembered."""
        at = row % DEPTH
        if self._rows[at, symbol] != row:
            return None
        o, h, low, c, v, origin = self._entries[at, symbol].tolist()
        return o, h, low, c, v, int(origin) if origin == origin else 0
