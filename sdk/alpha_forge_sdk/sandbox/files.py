"""A market out of recorded klines. Its holes are holes of the exchange: nothing is made up between the
bars."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from alpha_forge_sdk.sandbox import bars as tables
from alpha_forge_sdk.sandbox.bars import OPEN_TIME, BarTable, Instrument
from alpha_forge_sdk.sandbox.intervals import FIXED, MINUTE, ceil_ms, divides, floor_ms, next_ms, size_rank
from alpha_forge_sdk.sandbox.progress import partial
from alpha_forge_sdk.sandbox.recordings import Recording, SandboxDataError, load

#: The part of the recording that is left to stream when the clock starts.
_LEFT_TO_STREAM: Final = 0.1


class FileMarket:
    """A `Market` of the recordings under `folder`, all symbols or the chosen ones.

    An interval without files is aggregated from the longest recorded one that divides it; an interval shorter
    than all recorded ones has no bars. Raises SandboxDataError.
    """

    def __init__(self, folder: Path, symbols: Sequence[str] | None = None) -> None:
        self._recordings = load(folder)
        if symbols is not None:
            unknown = [symbol for symbol in symbols if symbol not in self._recordings]
            if unknown:
                raise SandboxDataError(
                    f"{folder}: no klines of {', '.join(unknown)}; it has {', '.join(self._recordings)}"
                )
            self._recordings = {symbol: self._recordings[symbol] for symbol in symbols}
        self._derived: dict[tuple[str, str], BarTable] = {}

    @property
    def symbols(self) -> Sequence[str]:
        """The symbols, in the order chosen, or else of the alphabet."""
        return tuple(self._recordings)

    def instrument(self, symbol: str) -> Instrument:
        """The symbol's grid, read off its numbers. KeyError for an unknown symbol."""
        return self._recordings[symbol].instrument

    def bars(self, symbol: str, interval: str, start_ms: int, end_ms: int) -> BarTable:
        """The recorded bars that open in `[start_ms, end_ms)`."""
        return tables.between(self._table(symbol, interval), start_ms, end_ms)

    def progress(self, symbol: str, interval: str, at_ms: float) -> BarTable | None:
        """The bar in progress, told by the finest recorded interval that covers the whole of it."""
        instant = int(at_ms)
        opened = floor_ms(instant, interval)
        end = next_ms(opened, interval)
        own = self.bars(symbol, interval, opened, opened + 1)
        if own.shape[1] == 0:
            return None
        tick = self.instrument(symbol).tick
        for finer, table in self._recordings[symbol].intervals.items():
            if not divides(finer, interval):
                continue
            inside = tables.between(table, opened, end)
            if inside.shape[1] * FIXED[finer] != end - opened:
                continue
            current = floor_ms(instant, finer)
            before = tables.between(inside, opened, current)
            running = partial(
                tables.between(inside, current, current + 1), at_ms - current, FIXED[finer], tick
            )
            return tables.merge(np.concatenate((before, running), axis=1), opened)
        return partial(own, at_ms - opened, end - opened, tick)

    def default_start_ms(self) -> int:
        """Where the clock starts by default: nine tenths into what is recorded side by side from the
        beginning.

        Of the intervals whose files start first (give or take one of their bars) the one that ends first
        counts.
        """
        spans: dict[str, tuple[int, int]] = {}
        for recording in self._recordings.values():
            for interval, table in recording.intervals.items():
                start, end = int(table[OPEN_TIME, 0]), next_ms(int(table[OPEN_TIME, -1]), interval)
                if interval in spans:
                    start, end = min(start, spans[interval][0]), min(end, spans[interval][1])
                spans[interval] = (start, end)
        first = min(start for start, _ in spans.values())
        leading = [span for interval, span in spans.items() if span[0] <= ceil_ms(first, interval)]
        start, end = min(leading, key=lambda span: span[1])
        return (end - int((end - start) * _LEFT_TO_STREAM)) // MINUTE * MINUTE

    def _table(self, symbol: str, interval: str) -> BarTable:
        recorded = self._recordings[symbol].intervals
        if interval in recorded:
            return recorded[interval]
        key = (symbol, interval)
        if key not in self._derived:
            self._derived[key] = _derive(self._recordings[symbol], interval)
        return self._derived[key]


def _derive(recording: Recording, interval: str) -> BarTable:
    sources = [name for name in recording.intervals if divides(name, interval)]
    if not sources:
        return tables.empty()
    return tables.aggregate(recording.intervals[max(sources, key=size_rank)], interval)
