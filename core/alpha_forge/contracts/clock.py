"""Where time comes from. Nothing but a `Clock` reads the wall clock.

asyncio is imported where it is slept in: checking a configuration needs this module, and no event loop.
"""

from __future__ import annotations

import time
from typing import Protocol, runtime_checkable


@runtime_checkable
class Clock(Protocol):
    """The time of the exchange, and waiting in it."""

    def now(self) -> int:
        """The present instant, ns since the epoch, UTC."""

    async def sleep(self, seconds: float) -> None:
        """Return once `seconds` of this clock have passed. Cancellable."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> int:
        return time.time_ns()

    async def sleep(self, seconds: float) -> None:
        import asyncio

        await asyncio.sleep(max(0.0, seconds))


class ScaledClock:
    """A clock that stood at `epoch` (ns) when it was made and runs `speed` times as fast as real time.

    It follows an accelerated exchange, so that a runner needs no other change.
    """

    def __init__(self, epoch: int, speed: float) -> None:
        if not speed > 0:
            raise ValueError(f"speed must be positive, got {speed}")
        self.speed = speed
        self._epoch = epoch
        self._origin = time.monotonic_ns()

    def now(self) -> int:
        return self._epoch + int((time.monotonic_ns() - self._origin) * self.speed)

    def synchronize(self, epoch: int) -> None:
        """Set the clock to `epoch` (ns) as of now."""
        self._epoch, self._origin = epoch, time.monotonic_ns()

    async def sleep(self, seconds: float) -> None:
        import asyncio

        await asyncio.sleep(max(0.0, seconds) / self.speed)
