"""A scripted data source: any order of arrival, holes and lateness; nothing is left to luck."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from alpha_forge.contracts.plugin import DataSource, SourceContext
from alpha_forge.contracts.types import BAR_CLOSE, BAR_COLUMNS, Bar, BarBlock, MarketEvent
from alpha_forge_sdk.testing.clock import VirtualClock

Arrival = tuple[int, str]
"""(close in ns, symbol) of a bar that the stream brings."""
Market = Mapping[str, Any]
"""Symbol → columns: ``ts`` (closes, ns) and the bar's five, as arrays of one length; or a DataFrame with the closes
as its index."""


class Series:
    """The bars of one symbol, oldest first."""

    def __init__(self, columns: Any) -> None:
        closes = columns["ts"] if "ts" in columns else columns.index  # noqa: SIM401 - a mapping has no index
        self.ts: npt.NDArray[np.int64] = np.asarray(closes, dtype=np.int64)
        self.columns = {name: np.asarray(columns[name], dtype=np.float64) for name in BAR_COLUMNS}
        if (np.diff(self.ts) <= 0).any():
            raise ValueError("closes must ascend, each once")
        self._place = {int(close): at for at, close in enumerate(self.ts)}

    def bar(self, ts: int) -> Bar:
        """The bar that closes at `ts`. Raises KeyError if there is none."""
        at = self._place[ts]
        return Bar(ts, *(float(self.columns[name][at]) for name in BAR_COLUMNS))

    def block(self, symbol: str, start: int, end: int) -> BarBlock:
        """The bars with ``start < ts <= end``."""
        inside = (self.ts > start) & (self.ts <= end)
        open_, high, low, close, volume = (self.columns[name][inside] for name in BAR_COLUMNS)
        return BarBlock(symbol, self.ts[inside], open_, high, low, close, volume)


class ScriptedSource(DataSource):
    """Serves a market: history on request, and a stream of the given arrivals, in exactly that order.

    ``arrivals`` are (ts, symbol); the clock moves to the newest ts seen. ``per_turn`` events come before the event
    loop gets its turn: how they are grouped must not matter. The stream ends after the last arrival. What was asked of
    the history is in ``history_calls``, how often it was closed in ``closed``.
    """

    def __init__(
        self,
        market: Market,
        arrivals: Iterable[Arrival],
        clock: VirtualClock,
        interval_ns: int,
        *,
        per_turn: int = 1,
    ) -> None:
        self.market = market
        self.series = {symbol: Series(columns) for symbol, columns in market.items()}
        self.arrivals = list(arrivals)
        self.clock = clock
        self.interval_ns = interval_ns
        self.per_turn = per_turn
        self.history_calls: list[tuple[tuple[str, ...], int, int]] = []
        self.closed = 0

    async def find_clock(self) -> Any:
        return self.clock

    async def open(self, context: SourceContext) -> None:
        self.context = context

    async def stream(self) -> AsyncIterator[MarketEvent]:
        first_ts, first_symbol = min(self.arrivals)
        yield MarketEvent(BAR_CLOSE, first_symbol, first_ts)  # the bar in progress: the first sign of life
        for count, (ts, symbol) in enumerate(self.arrivals):
            self.clock.advance(ts)
            yield MarketEvent(BAR_CLOSE, symbol, ts, self.series[symbol].bar(ts), closed=True)
            if count % self.per_turn == 0:
                await asyncio.sleep(0)

    async def history(self, symbols: Sequence[str], start: int, end: int) -> AsyncIterator[BarBlock]:
        self.history_calls.append((tuple(symbols), start, end))
        for symbol in symbols:
            yield self.series[symbol].block(symbol, start, end)
            await asyncio.sleep(0)

    async def close(self) -> None:
        self.closed += 1


def arrivals_in_order(market: Market, after: int) -> list[Arrival]:
    """Every bar that closes after `after`, in order of its close, symbols as they stand."""
    series = {symbol: Series(columns) for symbol, columns in market.items()}
    closes = sorted({int(ts) for bars in series.values() for ts in bars.ts[bars.ts > after]})
    known = {symbol: set(bars.ts.tolist()) for symbol, bars in series.items()}
    return [(ts, symbol) for ts in closes for symbol in market if ts in known[symbol]]
