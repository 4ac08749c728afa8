"""A frame as whole arrays, chunk by chunk: its rows aligned by ts, and each symbol's own bars without the absent ones.

A chunk holds the new rows; before them stand the rows that windows reach back to, kept from chunk to chunk. So a
value never depends on where a chunk begins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from alpha_forge.runtime import compiled

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

NONE = -1
"""Row number of a place that holds no bar."""


class AlignedRows:
    """Rows in which any symbol has a bar, by number, oldest first; columns are (rows, symbols), NaN where absent.

    ``fresh`` is the place of the chunk's first row: what stands before it is context.
    """

    def __init__(self, columns: Sequence[str], symbols: int, context: int) -> None:
        self._context = context
        self.size = symbols
        self.numbers: Int = np.empty(0, dtype=np.int64)
        self.columns: dict[str, Float] = {c: np.empty((0, symbols)) for c in columns}
        self.fresh = 0

    def extend(self, numbers: Int, columns: Mapping[str, Float]) -> None:
        """Add a chunk's rows. Columns that steps will make are left out: `put` brings them."""
        kept = min(self._context, len(self.numbers))
        start = len(self.numbers) - kept
        self.fresh = kept
        if kept:
            self.numbers = np.concatenate((self.numbers[start:], numbers))
            for name, values in columns.items():
                self.columns[name] = np.concatenate((self.columns[name][start:], values))
        else:
            self.numbers = numbers
            self.columns |= columns
        for name in self.columns.keys() - columns.keys():
            self.columns[name] = self.columns[name][start:]

    def put(self, column: str, values: Float) -> None:
        """The chunk's rows of a column that a step made."""
        before = self.columns[column]
        self.columns[column] = np.concatenate((before[: self.fresh], values)) if self.fresh else values

    def new(self, column: str) -> Float:
        """(new rows, symbols) of a column."""
        return self.columns[column][self.fresh :]


class OwnBars:
    """Columns by each symbol's own bars: ``context`` places of older bars, then the chunk's, then padding.

    ``rows`` are (places, symbols) row numbers, `NONE` where there is no bar. ``counts`` (symbols,) says how many bars
    of the chunk each symbol has. ``regular`` says that all symbols have all rows here, context included, so that a
    place is the same row for everyone.
    """

    def __init__(self, columns: Sequence[str], symbols: int, context: int) -> None:
        self.context = context
        self.size = symbols
        self.rows: Int = np.full((context, symbols), NONE, dtype=np.int64)
        self.columns: dict[str, Float] = {c: np.full((context, symbols), np.nan) for c in columns}
        self.counts: Int = np.zeros(symbols, dtype=np.int64)
        self.regular = False
        self._chunk: tuple[Bool, Int] | None = None

    def extend(self, numbers: Int, present: Bool, columns: Mapping[str, Float]) -> None:
        """Begin a chunk: rows `numbers`, (rows, symbols) presence, and the base columns."""
        self._keep()
        self.counts = present.sum(axis=0).astype(np.int64)
        whole = bool(present.all())
        self._chunk = (present, numbers)
        own_rows = np.broadcast_to(numbers[:, None], present.shape)
        if not whole:
            own_rows = self.squeezed(np.ascontiguousarray(own_rows).astype(np.float64), fill=NONE).astype(
                np.int64
            )
        self.rows = np.concatenate((self.rows, own_rows))
        self.regular = whole and bool((self.rows == self.rows[:, :1]).all())
        for name, values in columns.items():
            new = values if whole else self.squeezed(values)
            self.columns[name] = np.concatenate((self.columns[name], new))

    def _keep(self) -> None:
        """Make the last ``context`` bars of each symbol the context of the next chunk."""
        if self._chunk is None:
            return
        if (self.counts == self.counts[0]).all():
            at = int(self.counts[0])
            window = slice(at, at + self.context)
            self.rows = self.rows[window].copy()
            self.columns = {name: values[window].copy() for name, values in self.columns.items()}
            return
        places = np.arange(self.context)[:, None] + self.counts[None, :]
        self.rows = np.take_along_axis(self.rows, places, axis=0)
        self.columns = {
            name: np.take_along_axis(values, places, axis=0) for name, values in self.columns.items()
        }

    def squeezed(self, aligned: Float, fill: float = np.nan) -> Float:
        """(rows of the chunk, symbols) → each symbol's own bars first, `fill` after its last."""
        assert self._chunk is not None
        present = self._chunk[0]
        out = np.full((int(self.counts.max(initial=0)), self.size), fill)
        compiled.squeeze(aligned, present, out)
        return out

    def put(self, column: str, values: Float) -> None:
        """The chunk's own bars of a column that a step made, (places of the chunk, symbols)."""
        self.columns[column] = np.concatenate((self.columns[column], values))

    @property
    def new(self) -> int:
        """Places of the chunk."""
        return len(self.rows) - self.context

    def tail(self, column: str, before: int) -> Float:
        """The chunk's places of a column and the `before` places before them."""
        return self.columns[column][self.context - before :]

    def aligned(self, own: Float) -> Float:
        """(places of the chunk, symbols) → (rows of the chunk, symbols), NaN where absent."""
        assert self._chunk is not None
        present = self._chunk[0]
        if len(own) == len(present) and bool(present.all()):
            return own
        out = np.full(present.shape, np.nan)
        compiled.spread(own, present, out)
        return out
