"""The queue between the connections and the one reader of their events."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from alpha_forge_sdk import MarketEvent

_RECENT = 8  # closed bars of a symbol that a repetition is known by


class Outlet:
    """Events in order of arrival. Closed bars are never dropped.

    When the reader falls `limit` events behind, bars in progress are shed: they update nothing, and the next
    one says the same better. A closed bar that comes twice with the same values (overlapping connections) passes once;
    one that comes again with other values passes too, for that is a revision, and not this queue's to judge.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._events: deque[MarketEvent] = deque()
        self._wake = asyncio.Event()
        self._failure: BaseException | None = None
        self._ended = False
        self._closed: dict[str | None, deque[object]] = {}
        self.shed = 0
        self.duplicates = 0

    def put(self, event: MarketEvent) -> None:
        if event.closed:
            if self._seen(event):
                return
        elif event.bar is not None and len(self._events) >= self._limit:
            self.shed += 1
            return
        self._events.append(event)
        self._wake.set()

    def _seen(self, event: MarketEvent) -> bool:
        recent = self._closed.get(event.symbol)
        if recent is None:
            recent = self._closed[event.symbol] = deque(maxlen=_RECENT)
        if event.bar in recent:
            self.duplicates += 1
            return True
        recent.append(event.bar)
        return False

    def fail(self, error: BaseException) -> None:
        """Raise `error` in the reader once it has taken what came before."""
        self._failure = self._failure or error
        self._wake.set()

    def end(self) -> None:
        """End the events once the reader has taken what came before: the source was closed under it."""
        self._ended = True
        self._wake.set()

    async def events(self) -> AsyncIterator[MarketEvent]:
        events = self._events
        while True:
            while events:
                yield events.popleft()
            if self._failure is not None:
                raise self._failure
            if self._ended:
                return
            self._wake.clear()
            await self._wake.wait()
