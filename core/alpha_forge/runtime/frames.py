"""FrameLog: the bars and columns of one frame, a bounded ring over the time grid."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

from alpha_forge.contracts.interval import Interval
from alpha_forge.runtime import compiled

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

FRAME_LOG_SIZE_MULTIPLIER = 2
"""Rows kept, in multiples of what warm-up needs: a late bar must still find its window."""

MIN_ROWS = 64


def ring_rows(warmup_bars: int) -> tuple[int, int]:
    """Capacity of a frame's ring at first, and the rows that a window of own bars may span, for a warm-up."""
    capacity = max(MIN_ROWS, warmup_bars * FRAME_LOG_SIZE_MULTIPLIER)
    return capacity, capacity * 3 // 4


class FrameLog:
    """A ring of columns, ``(rows, symbols)`` float64, one row per close of the time grid, with a presence mask.

    Rows are addressed by their number on the grid (`Interval.row`), so that a bar that comes late finds its place.
    Each write is mirrored one capacity further on, so that the rows up to any kept one lie contiguous in memory: a
    window is a view, never a copy, as long as nothing is missing in it.

    Bars of one symbol are appended in order (the sequencer sees to that); symbols are independent.
    """

    def __init__(
        self, interval: Interval, symbols: Sequence[str], columns: Sequence[str], warmup_bars: int
    ) -> None:
        self.interval = interval
        self.symbols = tuple(symbols)
        self.index = {name: i for i, name in enumerate(columns)}
        self.capacity, self.reach = ring_rows(warmup_bars)
        """``reach``: rows that a window of own bars may span. It never changes, however the ring grows for symbols
        that are late: what a window holds must not depend on who came when."""
        size = self.size = len(self.symbols)
        self._data = np.full((len(columns), 2 * self.capacity, size), np.nan)
        self._present = np.zeros((2 * self.capacity, size), dtype=np.bool_)
        self._mirror()
        self._unwritten: slice | Int = slice(None)
        self._run = np.zeros((self.capacity, size), dtype=np.int64)
        self._rows = np.full(self.capacity, -1, dtype=np.int64)
        self._streak_row, self._streak = -1, 0
        self._newest = -1
        self._everyone = np.arange(size, dtype=np.int64)

    def _mirror(self) -> None:
        """Views in which a row and its mirror image lie along an axis of their own: one write serves both."""
        shape = (2, self.capacity, self.size)
        self._both = self._data.reshape(len(self.index), *shape)
        self._both_present = self._present.reshape(shape)

    def expect(self, columns: Collection[str]) -> None:
        """Say which columns are written for all symbols as soon as a whole row was appended, before anybody reads
        them: `append` leaves what an older row had there, where it would have to blank them."""
        left = [number for column, number in self.index.items() if column not in columns]
        self._unwritten = np.array(left, dtype=np.int64)

    @property
    def newest(self) -> int:
        """Number of the newest row; -1 before the first."""
        return self._newest

    @property
    def everyone(self) -> Int:
        """Positions of all symbols."""
        return self._everyone

    def has(self, row: int) -> bool:
        """True if any symbol has a bar in `row`, and it is still kept."""
        return bool(self._rows[row % self.capacity] == row and self._present[row % self.capacity].any())

    def append(self, row: int, symbols: Int, values: Float) -> bool:
        """Put base columns ``(columns, n)`` of `symbols` into `row`. False if the row has left the ring."""
        whole = len(symbols) == self.size
        if row > self._newest:
            self._make_room(row, whole)
        elif row <= self._newest - self.capacity:
            return False
        at = row % self.capacity
        if whole:
            self._both[: len(values), :, at] = values[:, None]
            self._both_present[:, at] = True
        else:
            self._data[: len(values), at, symbols] = values
            self._data[: len(values), at + self.capacity, symbols] = values
            self._present[at, symbols] = True
            self._present[at + self.capacity, symbols] = True
        self._count_run(row, at, symbols)
        return True

    def _count_run(self, row: int, at: int, symbols: Int) -> None:
        before = (row - 1) % self.capacity
        if self._rows[before] != row - 1:
            self._run[at, symbols] = 1
        elif len(symbols) == self.size:
            np.add(self._run[before], 1, out=self._run[at])
            # While rows come whole, their count goes on by one: no need to look at all symbols again.
            more = self._streak + 1 if self._streak_row == row - 1 else int(np.minimum.reduce(self._run[at]))
            self._streak_row, self._streak = row, more
        else:
            self._run[at, symbols] = self._run[before, symbols] + 1

    def reserve(self, rows: int) -> None:
        """Have room for `rows` rows at least; what is kept stays.

        For when some symbols wait for a repair while others go on: the waiting ones' bars must still find their place.
        """
        if rows <= self.capacity:
            return
        old = self.capacity
        numbers = np.arange(max(0, self._newest - old + 1), self._newest + 1)
        numbers = numbers[self._rows[numbers % old] == numbers]
        data, present, run = self._data, self._present, self._run
        self.capacity = max(rows, 2 * old)
        shape = (len(self.index), 2 * self.capacity, self.size)
        self._data = np.full(shape, np.nan)
        self._present = np.zeros(shape[1:], dtype=np.bool_)
        self._mirror()
        self._run = np.zeros((self.capacity, self.size), dtype=np.int64)
        self._rows = np.full(self.capacity, -1, dtype=np.int64)
        at = numbers % self.capacity
        self._rows[at] = numbers
        self._run[at] = run[numbers % old]
        for place in (at, at + self.capacity):
            self._data[:, place] = data[:, numbers % old]
            self._present[place] = present[numbers % old]

    def _make_room(self, row: int, whole: bool) -> None:
        """Blank what is left of older rows in the places up to `row`, which is about to be written ``whole`` or not."""
        if self._newest < 0:
            # Rows before the first that came: blank so far, but a symbol that is behind may still bring bars to them.
            older = np.arange(max(0, row - self.capacity + 1), row)
            self._rows[older % self.capacity] = older
            self._newest = row - 1
        first = max(self._newest + 1, row - self.capacity + 1)
        for number in range(first, row + 1):
            at = number % self.capacity
            self._rows[at] = number
            self._run[at] = 0
            self._both_present[:, at] = False
            # Of a frame of many columns this is much of what a row costs.
            self._both[self._unwritten if whole and number == row else slice(None), :, at] = np.nan
        self._newest = row

    def store(self, columns: Sequence[int], row: int, symbols: Int, values: Sequence[Float]) -> None:
        """Write ``(n,)`` values of each of the columns, by number, for `symbols` at `row`."""
        at = row % self.capacity
        if len(symbols) == self.size:
            both = self._both
            for k, column in enumerate(columns):
                both[column, :, at] = values[k]
            return
        for column, its in zip(columns, values, strict=True):
            self._data[column, at, symbols] = its
            self._data[column, at + self.capacity, symbols] = its

    def present(self, row: int) -> Bool:
        """(symbols,) presence mask of a kept row."""
        mask: Bool = self._present[row % self.capacity]
        return mask

    def values(self, column: str, row: int, symbols: Int) -> Float:
        """(n,) values at `row`."""
        found: Float = self._data[self.index[column], row % self.capacity]
        return found if len(symbols) == self.size else found[symbols]

    def unbroken(self, row: int, symbols: Int) -> int:
        """How many rows up to `row` every one of `symbols` has without a hole (0: one is absent at `row`)."""
        everyone = len(symbols) == self.size
        if everyone and row == self._streak_row:
            return self._streak
        run = self._run[row % self.capacity]
        return int(np.minimum.reduce(run if everyone else run[symbols]))

    def own_window(self, column: str, row: int, symbols: Int, rows: int, unbroken: int) -> Float:
        """(rows, n): the last `rows` bars of each symbol up to `row`, its absent ones skipped, NaN before its first.

        ``unbroken`` is what `unbroken` says of the same row and symbols: asked once for all columns.
        """
        data = self._data[self.index[column]]
        # A very late row may have lost its oldest bars.
        if unbroken >= rows and row - rows >= self._newest - self.capacity:
            end = (row - rows + 1) % self.capacity + rows
            view = data[end - rows : end]
            return view if len(symbols) == self.size else np.take(view, symbols, axis=1)
        out = np.full((rows, len(symbols)), np.nan)
        compiled.gather_own(data, self._present, self._rows, row, self.reach, self.capacity, symbols, out)
        return out

    def aligned_rows(self, row: int, rows: int, *, grid: bool = False) -> Int:
        """Numbers of the last `rows` rows up to `row` in which any symbol has a bar, oldest first.

        With ``grid`` the rows looked at are the last `rows` of the grid, those without any bar left out.
        """
        oldest = max(self._newest - self.capacity + 1, row - (rows if grid else self.reach) + 1, 0)
        row = min(row, self._newest)
        found: list[int] = []
        while row >= oldest and len(found) < rows:
            at = row % self.capacity
            if self._rows[at] != row:
                break
            if self._present[at].any():
                found.append(row)
            row -= 1
        return np.array(found[::-1], dtype=np.int64)

    def aligned_window(self, column: str, numbers: Int, symbols: Int) -> Float:
        """(rows, n) at the given row numbers, aligned by ts, NaN where a symbol is absent."""
        data = self._data[self.index[column]]
        window: Float = data[numbers % self.capacity]
        return window if len(symbols) == self.size else np.take(window, symbols, axis=1)
