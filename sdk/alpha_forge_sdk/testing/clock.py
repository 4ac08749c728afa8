"""A clock that stands until it is told to move: tests of what takes time, in no time."""

from __future__ import annotations

import asyncio
import heapq

NS = 1_000_000_000


class VirtualClock:
    """A `Clock` whose time only `advance` moves; sleepers wake, in order, when it passes them.

    ``now`` is in ns since the epoch, UTC. For one event loop.
    """

    def __init__(self, now: int = 0) -> None:
        self._now = now
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._count = 0

    def now(self) -> int:
        """The present instant, ns since the epoch."""
        return self._now

    async def sleep(self, seconds: float) -> None:
        """Return once the clock was advanced by `seconds`. Cancellable."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # The count keeps those who wake at one instant in the order in which they lay down.
        self._count += 1
        heapq.heappush(self._sleepers, (self._now + int(seconds * NS), self._count, future))
        await future

    def advance(self, to: int) -> None:
        """Move to the instant `to` (ns; never backwards) and wake whose time has come."""
        self._now = max(self._now, to)
        while self._sleepers and self._sleepers[0][0] <= self._now:
            future = heapq.heappop(self._sleepers)[2]
            if not future.done():
                future.set_result(None)

    def advance_by(self, seconds: float) -> None:
        """Move on by `seconds`."""
        self.advance(self._now + int(seconds * NS))
