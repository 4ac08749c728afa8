"""A hostile stream over a made-up market: late, lost, doubled, shuffled, broken and missing bars, all from one seed."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from alpha_forge.runtime.memory import resident_bytes
from alpha_forge_sdk import BAR_CLOSE, Bar, BarBlock, DataSource, MarketEvent

HOUR = 3600 * 10**9
SECOND = 10**9
FIRST = 1_700_000_000 * SECOND // HOUR * HOUR
HISTORY_DELAY = 20 * SECOND
"""History has a bar that long after its close: sooner than the source's promise of 30 s."""

CLOSED, OPEN, BROKEN = 0, 1, 2
"""Kinds of events: a closed bar, one in progress, a closed one with a NaN, which the gate must refuse."""


@dataclass(frozen=True)
class Hostility:
    """Shares of bars, 0 … 1, but ``outages``: how many times a symbol is absent for up to 40 bars."""

    missing: float
    """Never made by the exchange: not in the stream, not in history."""
    lost: float
    """Made, but never streamed: only history has them."""
    late: float
    """Up to 110 s after the close, within the buffer."""
    very_late: float
    """Up to three hours, long after they have been fetched from history."""
    doubled: float
    broken: float
    outages: int

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Hostility:
        """From peaceful to wild."""
        wild = float(rng.choice([0.1, 1.0, 5.0]))
        shares = rng.uniform(0, 0.01, 6) * wild
        return cls(*map(float, shares), outages=int(rng.integers(0, 4)))


class Market:
    """``values`` (bars, 5, symbols), NaN where a symbol has no bar; the first `warm` bars are the past."""

    def __init__(
        self, symbols: int, warm: int, live: int, hostility: Hostility, rng: np.random.Generator
    ) -> None:
        self.names = [f"S{k:03d}USDT" for k in range(symbols)]
        self.warm = warm
        self.live = live
        self.hostility = hostility
        self.values = _walks(symbols, warm + live, rng)
        self.values[self._holes(rng)[:, None, :].repeat(5, axis=1)] = np.nan
        self.events = self._arrivals(rng)

    @property
    def present(self) -> np.ndarray:
        """(bars, symbols)."""
        found: np.ndarray = ~np.isnan(self.values[:, 3])
        return found

    @property
    def anchor(self) -> int:
        """The last close of the past."""
        return close_of(self.warm - 1)

    def frame_of(self, place: int) -> pd.DataFrame:
        """One symbol's own bars, as `tests.market_truth` wants them."""
        mask = self.present[:, place]
        closes = np.array([close_of(k) for k in np.flatnonzero(mask)], dtype=np.int64)
        return pd.DataFrame(
            self.values[mask, :, place], index=closes, columns=["open", "high", "low", "close", "volume"]
        )

    def _holes(self, rng: np.random.Generator) -> np.ndarray:
        bars, symbols = self.warm + self.live, len(self.names)
        holes = rng.random((bars, symbols)) < self.hostility.missing
        for _ in range(self.hostility.outages):
            # Not in the past: warm-up fetches a tenth more than the need, which an outage may well exceed.
            start, place = int(rng.integers(self.warm, bars)), int(rng.integers(0, symbols))
            holes[start : start + int(rng.integers(2, 40)), place] = True
        # Somebody has a bar at the end: a run knows of no close that nobody ever sent.
        holes[-1, 0] = False
        return holes

    def _arrivals(self, rng: np.random.Generator) -> np.ndarray:
        """(events, 4) int64 in order of arrival: instant, bar, place, kind."""
        h = self.hostility
        bar, place = np.nonzero(self.present[self.warm :])
        bar += self.warm
        n = len(bar)
        delay = rng.exponential(0.5, n)
        late, very_late = rng.random(n) < h.late, rng.random(n) < h.very_late
        delay[late] = rng.uniform(1, 110, late.sum())
        delay[very_late] = rng.uniform(120, 3 * 3600, very_late.sum())
        lost = rng.random(n) < h.lost
        lost[-1] = lost[np.flatnonzero(bar == bar[-1])[0]] = False
        parts = [self._events(bar[~lost], place[~lost], delay[~lost], CLOSED)]
        doubled = ~lost & (rng.random(n) < h.doubled)
        parts.append(
            self._events(
                bar[doubled], place[doubled], delay[doubled] + rng.exponential(600, doubled.sum()), CLOSED
            )
        )
        broken = rng.random(n) < h.broken
        parts.append(self._events(bar[broken], place[broken], rng.exponential(30, broken.sum()), BROKEN))
        running = rng.random(n) < 0.05
        parts.append(self._events(bar[running], place[running], -rng.uniform(1, 3600, running.sum()), OPEN))
        events = np.concatenate(parts)
        return events[np.argsort(events[:, 0], kind="stable")]

    @staticmethod
    def _events(bar: np.ndarray, place: np.ndarray, delay: np.ndarray, kind: int) -> np.ndarray:
        instants = FIRST + (bar + 1) * HOUR + (delay * SECOND).astype(np.int64)
        return np.stack((instants, bar, place, np.full(len(bar), kind)), axis=1).astype(np.int64)


def close_of(bar: int) -> int:
    return FIRST + (int(bar) + 1) * HOUR


def _walks(symbols: int, bars: int, rng: np.random.Generator) -> np.ndarray:
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, (bars, symbols)), axis=0))
    open_ = np.vstack((np.full((1, symbols), 100.0), close[:-1]))
    up, down = np.abs(rng.normal(0, 0.004, (2, bars, symbols)))
    high, low = np.maximum(open_, close) * (1 + up), np.minimum(open_, close) * (1 - down)
    return np.stack((open_, high, low, close, rng.lognormal(3, 0.5, (bars, symbols))), axis=1)


class SoakClock:
    """Moves with the arrivals. ``waiting`` tells whether somebody has nothing to do but to wait for it."""

    def __init__(self, now: int) -> None:
        self._now = now
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._count = 0
        self.waiting = 0

    def now(self) -> int:
        return self._now

    async def sleep(self, seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._sleepers, (self._now + int(seconds * SECOND), self._count, future))
        self.waiting += 1
        try:
            await future
        finally:
            self.waiting -= 1

    def advance(self, to: int) -> None:
        self._now = max(self._now, to)
        while self._sleepers and (self._sleepers[0][0] <= self._now or self._sleepers[0][2].done()):
            future = heapq.heappop(self._sleepers)[2]
            if not future.done():
                future.set_result(None)


class HostileSource(DataSource):
    """Plays a market's arrivals in groups of random size; sometimes it runs ahead, sometimes it waits for the runtime.

    ``backlog`` says how many records the sinks still have before them: the stream waits when they fall far behind, as
    it would in real time. ``memory`` gets the resident bytes again and again.
    """

    def __init__(
        self, market: Market, rng: np.random.Generator, backlog: Callable[[], int], group: int
    ) -> None:
        self.clock = SoakClock(close_of(market.warm - 1) + HOUR // 2)
        self.memory: list[int] = []
        self._market = market
        self._rng = rng
        self._backlog = backlog
        self._group = group
        self._ended = False

    async def find_clock(self) -> SoakClock:
        return self.clock

    async def open(self, context: object) -> None:
        pass

    async def close(self) -> None:
        pass

    async def stream(self) -> AsyncIterator[MarketEvent]:
        market = self._market
        yield MarketEvent(BAR_CLOSE, market.names[0], close_of(market.warm))
        await asyncio.sleep(0.01)
        at = 0
        while at < len(market.events):
            size = int(self._rng.integers(1, self._group + 1))
            for instant, bar, place, kind in market.events[at : at + size].tolist():
                self.clock.advance(instant)
                yield self._event(bar, place, kind)
            at += size
            self.memory.append(resident_bytes())
            await self._pause()
        self._ended = True

    def _event(self, bar: int, place: int, kind: int) -> MarketEvent:
        ts, name = close_of(bar), self._market.names[place]
        values = self._market.values[bar, :, place].tolist()
        if kind == BROKEN:
            values[3] = float("nan")
        return MarketEvent(BAR_CLOSE, name, ts, Bar(ts, *values), kind != OPEN)

    async def _pause(self) -> None:
        for _ in range(3):
            await asyncio.sleep(0)
        if self._rng.random() < 0.7:
            while not self.clock.waiting:  # noqa: ASYNC110 - the runtime doesn't say when it is idle
                await asyncio.sleep(0.0005)
        while self._backlog() > 20_000:  # noqa: ASYNC110 - sinks run on threads of their own
            await asyncio.sleep(0.002)

    async def history(self, symbols: Sequence[str], start: int, end: int) -> AsyncIterator[BarBlock]:
        market = self._market
        first = max(0, (start - FIRST) // HOUR)
        known = self.clock.now() - (0 if self._ended else HISTORY_DELAY)
        stop = min(market.warm + market.live, (min(end, known) - FIRST) // HOUR)
        for symbol in symbols:
            place = market.names.index(symbol)
            rows = first + np.flatnonzero(~np.isnan(market.values[first:stop, 3, place]))
            ts = FIRST + (rows.astype(np.int64) + 1) * HOUR
            yield BarBlock(symbol, ts, *np.ascontiguousarray(market.values[rows, :, place].T))
            if self._rng.random() < 0.02:
                await asyncio.sleep(0)
