"""Time for threads: what the workers read and wait with, so that a test can hand in a time of its own."""

from __future__ import annotations

import threading
import time
from typing import Protocol

from alpha_forge.contracts.clock import SystemClock


class Pacing(Protocol):
    """The time that workers live in."""

    def monotonic(self) -> float:
        """Seconds that never go back."""

    def now(self) -> int:
        """The present instant, ns since the epoch, UTC."""

    def wait(self, event: threading.Event, seconds: float | None) -> bool:
        """Block until the event is set (True) or `seconds` have passed (False); None waits for ever."""


class RealTime:
    """The machine's time."""

    def monotonic(self) -> float:
        return time.monotonic()

    def now(self) -> int:
        return SystemClock().now()

    def wait(self, event: threading.Event, seconds: float | None) -> bool:
        return event.wait(seconds)
