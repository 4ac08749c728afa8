"""A data source that the benchmark drives: history from memory, and a whole close of bars at once when told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import numpy as np

from alpha_forge_sdk import BAR_CLOSE, Bar, BarBlock, DataSource, MarketEvent
from benchmarks.market import Bars, close_of, names


class SteppedClock:
    """Stands at the newest close; nobody ever waits for it."""

    def __init__(self, now: int) -> None:
        self.time = now

    def now(self) -> int:
        return self.time

    async def sleep(self, seconds: float) -> None:
        await asyncio.get_running_loop().create_future()


class BurstSource(DataSource):
    """Streams bars `warm` … of all symbols, one close at a time, as a socket hands over what lies in its buffer.

    ``between`` is awaited after each close, with its number; ``started`` gets the instant of each close's last bar.
    """

    def __init__(
        self, bars: Bars, warm: int, between: Callable[[int], Awaitable[None]], started: list[float]
    ) -> None:
        self.clock = SteppedClock(close_of(warm - 1))
        self._bars = bars
        self._warm = warm
        self._between = between
        self._started = started

    async def find_clock(self) -> SteppedClock:
        return self.clock

    async def open(self, context: object) -> None:
        pass

    async def stream(self) -> AsyncIterator[MarketEvent]:
        symbols = names(self._bars.symbols)
        yield MarketEvent(BAR_CLOSE, symbols[0], close_of(self._warm))
        await self._between(-1)
        for number, bar in enumerate(range(self._warm, self._bars.count)):
            ts = close_of(bar)
            columns = self._bars.values[bar].T.tolist()
            events = [
                MarketEvent(BAR_CLOSE, symbol, ts, Bar(ts, *values), True)
                for symbol, values in zip(symbols, columns, strict=True)
            ]
            last = events.pop()
            self.clock.time = ts
            for event in events:
                yield event
            self._started.append(time.perf_counter())
            yield last
            await self._between(number)

    async def history(self, symbols: Sequence[str], start: int, end: int) -> AsyncIterator[BarBlock]:
        place = {name: k for k, name in enumerate(names(self._bars.symbols))}
        ts = np.array([close_of(k) for k in range(self._bars.count)])
        wanted = (ts > start) & (ts <= end)
        for symbol in symbols:
            yield BarBlock(
                symbol, ts[wanted], *np.ascontiguousarray(self._bars.values[wanted, :, place[symbol]].T)
            )

    async def close(self) -> None:
        pass
