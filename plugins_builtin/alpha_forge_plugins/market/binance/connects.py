"""How many connections one address may open, in a sliding window. Sans-I/O: instants in, instants out."""

from __future__ import annotations

import math
from collections import deque

WINDOW = 300.0
_SHARE = 0.8  # others behind the same address connect too
_SPACING = 0.1  # seconds between two connects, so that many shards don't knock in one instant


class ConnectBudget:
    """Counts the connections that all feeds of one host open. Instants are seconds of a monotonic clock.

    ``connects`` is what the exchange admits in five minutes; a share of it is used.
    """

    def __init__(self, connects: int) -> None:
        if connects < 1:
            raise ValueError(f"connects must be positive, got {connects}")
        self._allowed = max(1, int(connects * _SHARE))
        self._taken: deque[float] = deque()
        self._blocked = -math.inf

    def reserve(self, now: float) -> float:
        """Count a connection and return `now`; if it must wait, count nothing and return when to ask again."""
        while self._taken and self._taken[0] <= now - WINDOW:
            self._taken.popleft()
        at = self._blocked
        if self._taken:
            at = max(at, self._taken[-1] + _SPACING)
        if len(self._taken) >= self._allowed:
            at = max(at, self._taken[0] + WINDOW)
        if at > now:
            return at
        self._taken.append(now)
        return now

    @property
    def blocked_until(self) -> float:
        """The instant before which the exchange wants no connection; long ago if it never said so."""
        return self._blocked

    def block(self, until: float) -> None:
        """No connection before `until`: the exchange said so."""
        self._blocked = max(self._blocked, until)
