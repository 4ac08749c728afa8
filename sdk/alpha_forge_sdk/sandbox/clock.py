"""The exchange's one clock: server time, stream and history all follow it.

Exchange time runs `speed` times as fast as the real seconds of a `TimeSource`. The source is handed in, so
that a test advances it by hand and nothing waits for luck.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import time
from typing import Protocol


class TimeSource(Protocol):
    """Real seconds, and waiting in them."""

    def seconds(self) -> float:
        """Seconds since an arbitrary origin; never goes back."""
        ...

    async def sleep_until(self, seconds: float) -> None:
        """Return once this source shows `seconds`; after one turn of the event loop if it does already.

        An instant, not a duration: the clock may have moved on before the waiting begins.
        """
        ...


class RealTime:
    """The machine's monotonic clock."""

    def seconds(self) -> float:
        """Seconds of the monotonic clock."""
        return time.monotonic()

    async def sleep_until(self, seconds: float) -> None:
        """Sleep in the running event loop."""
        await asyncio.sleep(max(0.0, seconds - self.seconds()))


class ManualTime:
    """A source that stands still until `advance` is called. One event loop only."""

    def __init__(self, start: float = 0.0) -> None:
        self._now = start
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def seconds(self) -> float:
        """Seconds as last set by `advance`."""
        return self._now

    async def sleep_until(self, seconds: float) -> None:
        """Wait until `advance` has brought the clock to `seconds`."""
        if seconds <= self._now:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (seconds, next(self._order), future))
        await future

    def advance(self, seconds: float) -> None:
        """Move the clock and wake every sleeper whose time has come, in the order of their times."""
        if seconds < 0:
            raise ValueError(f"a clock never goes back: advance({seconds})")
        self._now += seconds
        while self._sleepers and self._sleepers[0][0] <= self._now + 1e-9:
            future = heapq.heappop(self._sleepers)[2]
            if not future.done():
                future.set_result(None)


class ExchangeClock:
    """Exchange milliseconds as a function of real seconds.

    `start_ms` is the exchange's instant at construction, `speed` the exchange seconds that pass in a real
    second (finite, > 0). With `held` the clock stands at `start_ms` until `release` is called.
    """

    def __init__(
        self, start_ms: int, speed: float = 1.0, *, held: bool = False, source: TimeSource | None = None
    ) -> None:
        if not (math.isfinite(speed) and speed > 0):
            raise ValueError(f"speed must be a finite number above 0, not {speed!r}")
        self.source: TimeSource = source or RealTime()
        self.speed = speed
        self._start_ms = float(start_ms)
        self._made = self.source.seconds()
        self._origin: float | None = None if held else self._made

    @property
    def held(self) -> bool:
        """Whether the clock still stands at its start."""
        return self._origin is None

    def release(self) -> None:
        """Let a held clock run from this instant; nothing if it runs already."""
        if self._origin is None:
            self._origin = self.source.seconds()

    def now_ms(self) -> float:
        """Exchange time, in milliseconds with a fraction."""
        if self._origin is None:
            return self._start_ms
        return self._start_ms + (self.source.seconds() - self._origin) * 1000.0 * self.speed

    def budget_ms(self) -> float:
        """Exchange time as if it had never been held: what request budgets are renewed by.

        A clock that stands would never renew them, and a client that loads its history would be banned for
        ever.
        """
        return self._start_ms + (self.source.seconds() - self._made) * 1000.0 * self.speed

    def real_seconds_until(self, at_ms: float) -> float:
        """Real seconds until exchange time is `at_ms`: not positive if past, infinite while held."""
        if self._origin is None:
            return math.inf
        return (at_ms - self.now_ms()) / (1000.0 * self.speed)
