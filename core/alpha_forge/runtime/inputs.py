"""InputResolver: what a step reads, gathered once for all steps of a flow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from alpha_forge.runtime.frames import FrameLog

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]


def longest_windows(wants: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Longest window of each column, from (column, rows) of all steps of a flow."""
    longest: dict[str, int] = {}
    for column, rows in wants:
        longest[column] = max(rows, longest.get(column, 0))
    return longest


class InputResolver:
    """Windows of one frame at one row for some symbols. One for each run of a flow; nothing outlives it.

    ``longest`` says how many rows of each column the longest reader wants: the window is gathered once and
    everybody gets its end.
    """

    def __init__(self, frame: FrameLog, row: int, symbols: Int, longest: Mapping[str, int]) -> None:
        self.frame = frame
        self.row = row
        self.symbols = symbols
        self._longest = longest
        self._unbroken = frame.unbroken(row, symbols)
        self._windows: dict[str, Float] = {}
        self._numbers: dict[int, Int] = {}
        self._tiles: dict[str, Float] = {}

    def own(self, column: str, rows: int) -> Float:
        """(rows, n): each symbol's own last bars. See `FrameLog.own_window`."""
        window = self._windows.get(column)
        if window is None:
            longest = max(rows, self._longest.get(column, rows))
            window = self.frame.own_window(column, self.row, self.symbols, longest, self._unbroken)
            self._windows[column] = window
        return window[len(window) - rows :]

    def panel(self, column: str, rows: int) -> Float:
        """(up to rows, all symbols), aligned by ts. See `FrameLog.aligned_rows`."""
        numbers = self._numbers.get(rows)
        if numbers is None:
            numbers = self._numbers[rows] = self.frame.aligned_rows(self.row, rows)
        return self.frame.aligned_window(column, numbers, self.frame.everyone)

    def now(self, column: str, *, everyone: bool = False) -> Float:
        """(n,) values at the row itself; with ``everyone`` of all symbols."""
        return self.frame.values(column, self.row, self.frame.everyone if everyone else self.symbols)

    def tiled(self, column: str, times: int) -> Float:
        """(1, times * n): the values at the row itself, over and over. ``times`` is the same in all calls."""
        found = self._tiles.get(column)
        if found is None:
            found = self._tiles[column] = tile(self.now(column), times)
        return found


def tile(values: Float, times: int) -> Float:
    """(n,) → (1, times * n)."""
    out = np.empty((1, times * len(values)))
    out.reshape(times, -1)[:] = values
    return out
