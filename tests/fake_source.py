"""A scripted data source and a virtual clock: any arrival order, holes, lateness; nothing is left to luck."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Iterable, Sequence

import numpy as np
import pandas as pd

from alpha_forge_sdk import BAR_CLOSE, Bar, BarBlock, DataSource, MarketEvent


class VirtualClock:
    """Time that only `advance` moves; sleepers wake when it passes them."""

    def __init__(self, now: int) -> None:
        self._now = now
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._count = 0

    def now(self) -> int:
        return self._now

    async def sleep(self, seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._sleepers, (self._now + int(seconds * 1e9), self._count, future))
        await future

    def advance(self, to: int) -> None:
        self._now = max(self._now, to)
        while self._sleepers and self._sleepers[0][0] <= self._now:
            future = heapq.heappop(self._sleepers)[2]
            if not future.done():
                future.set_result(None)


class ScriptedSource(DataSource):
    """Serves a market: history on request, and a stream of the given arrivals, in exactly that order.

    ``arrivals`` are (ts, symbol); the clock moves to the newest ts seen. ``per_turn`` events come before the event
    loop gets its turn: how they are grouped must not matter.
    """

    def __init__(
        self,
        market: dict[str, pd.DataFrame],
        arrivals: Iterable[tuple[int, str]],
        clock: VirtualClock,
        interval_ns: int,
        *,
        per_turn: int = 1,
        history_knows: Iterable[tuple[int, str]] | None = None,
    ) -> None:
        self.market = market
        self.arrivals = list(arrivals)
        self.clock = clock
        self.interval_ns = interval_ns
        self.per_turn = per_turn
        self.history_calls: list[tuple[tuple[str, ...], int, int]] = []
        self.closed = 0

    async def find_clock(self):
        return self.clock

    async def open(self, context) -> None:
        self.context = context

    async def stream(self) -> AsyncIterator[MarketEvent]:
        first_ts, first_symbol = min(self.arrivals)
        yield MarketEvent(BAR_CLOSE, first_symbol, first_ts)  # the bar in progress: the first sign of life
        for count, (ts, symbol) in enumerate(self.arrivals):
            row = self.market[symbol].loc[ts]
            self.clock.advance(ts)
            yield MarketEvent(BAR_CLOSE, symbol, ts, Bar(ts, *map(float, row)), closed=True)
            if count % self.per_turn == 0:
                await asyncio.sleep(0)

    async def history(self, symbols: Sequence[str], start: int, end: int) -> AsyncIterator[BarBlock]:
        self.history_calls.append((tuple(symbols), start, end))
        for symbol in symbols:
            bars = self.market[symbol]
            bars = bars[(bars.index > start) & (bars.index <= end)]
            columns = {
                c: bars[c].to_numpy(dtype=np.float64) for c in ("open", "high", "low", "close", "volume")
            }
            yield BarBlock(symbol, bars.index.to_numpy(dtype=np.int64), **columns)
            await asyncio.sleep(0)

    async def close(self) -> None:
        self.closed += 1
