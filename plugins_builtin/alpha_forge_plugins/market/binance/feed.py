"""The stream as one: connections kept alive, replaced before they end, their events in one queue."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from websockets.exceptions import InvalidStatus, WebSocketException

from alpha_forge_plugins.market.binance.connection import Connection, SocketSettings
from alpha_forge_plugins.market.binance.rest_client import backoff
from alpha_forge_sdk import Clock, MarketEvent, SourceError

log = logging.getLogger(__name__)

CONNECTED = "source.connected"
RECONNECTED = "source.reconnected"
MAX_STREAMS = 1024
"""Streams that one connection carries; one more and the exchange drops them all."""


class Outlet:
    """The queue between connections and the one reader. Closed bars are never dropped.

    When the reader falls `limit` events behind, bars in progress are shed: they update nothing, and the next
    one says the same better. A closed bar that comes twice (overlapping connections) passes once.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._events: deque[MarketEvent] = deque()
        self._wake = asyncio.Event()
        self._failure: BaseException | None = None
        self._ended = False
        self._closed: dict[str, deque[int]] = {}
        self.shed = 0
        self.duplicates = 0

    def put(self, event: MarketEvent) -> None:
        if event.closed:
            if self._seen(event.symbol or "", event.ts):
                return
        elif event.bar is not None and len(self._events) >= self._limit:
            self.shed += 1
            return
        self._events.append(event)
        self._wake.set()

    def _seen(self, symbol: str, ts: int) -> bool:
        recent = self._closed.setdefault(symbol, deque(maxlen=8))
        if ts in recent:
            self.duplicates += 1
            return True
        recent.append(ts)
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


class Feed:
    """All streams of a universe over as few connections as hold them.

    ``before_first`` is awaited before the first event of all is delivered.
    """

    def __init__(
        self,
        settings: SocketSettings,
        symbols: Sequence[str],
        per_connection: int,
        clock: Clock,
        before_first: Callable[[], Awaitable[None]],
        limit: int = 100_000,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._before_first = before_first
        self._outlet = Outlet(limit)
        self._shards = _split(symbols, min(per_connection, MAX_STREAMS))
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> AsyncIterator[MarketEvent]:
        """Start connecting; returns the events. They raise SourceError for what no retry mends."""
        for shard in self._shards:
            task = asyncio.create_task(self._keep(shard))
            task.add_done_callback(self._ended)
            self._tasks.append(task)
        return self._outlet.events()

    async def stop(self) -> None:
        """Close every connection, wait for it at most a second, and end the events. Idempotent."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1.0)
        self._tasks.clear()
        self._outlet.end()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._outlet.fail(error)

    async def _keep(self, symbols: Sequence[str]) -> None:
        """Keep one verified connection for `symbols`; the next one delivers before an old one is let go."""
        lives = _Lives(self._settings, symbols, self._before_first, self._outlet.put)
        kind = CONNECTED
        try:
            while True:
                connection = await lives.establish(first=kind == CONNECTED)
                self._outlet.put(MarketEvent(kind, None, self._clock.now()))
                kind = RECONNECTED
                await lives.watch(connection)
        finally:
            await lives.stop()


class _Lives:
    """The connections of one shard: usually one, two while one replaces another."""

    def __init__(
        self,
        settings: SocketSettings,
        symbols: Sequence[str],
        before_first: Callable[[], Awaitable[None]],
        deliver: Callable[[MarketEvent], None],
    ) -> None:
        self._settings = settings
        self._symbols = symbols
        self._before_first = before_first
        self._deliver = deliver
        self._running: dict[Connection, asyncio.Task[None]] = {}

    async def establish(self, first: bool) -> Connection:
        """A verified connection; older ones are let go once it delivers. Retries for ever, with back-off.

        On the very first connection a refused handshake raises: nobody mends a wrong URL by trying again.
        """
        attempt = 0
        while True:
            connection = Connection(self._settings, self._symbols, self._before_first, self._deliver)
            older = [*self._running]
            task = self._running[connection] = asyncio.create_task(connection.run())
            await _either(task, connection.verified, self._settings.open_timeout + self._settings.silence)
            if connection.verified.is_set():
                await self._let_go(older)
                return connection
            cause = _cause(task) if task.done() else "subscribed, but no event came"
            if task.done() and first:
                _raise_if_refused(task, self._settings.url)
            await self._let_go([connection])
            delay = backoff(attempt, first=0.5, longest=30.0)
            attempt += 1
            log.warning("%s: %s; trying again in %.1f s", self._settings.url, cause, delay)
            await asyncio.sleep(delay)

    async def watch(self, connection: Connection) -> None:
        """Return when `connection` has ended or should be replaced."""
        task = self._running[connection]
        await _either(task, connection.retire)
        if task.done():
            log.warning("%s: connection lost: %s", self._settings.url, _cause(task))
            await self._let_go([connection])
            await asyncio.sleep(backoff(0, first=0.5))
        else:
            log.warning("%s: replacing the connection: %s", self._settings.url, connection.reason)

    async def stop(self) -> None:
        await self._let_go([*self._running])

    async def _let_go(self, connections: Sequence[Connection]) -> None:
        tasks = [self._running.pop(connection) for connection in connections if connection in self._running]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                task.exception()


async def _either(task: asyncio.Task[None], event: asyncio.Event, timeout: float | None = None) -> None:
    """Return when `task` is done, `event` is set, or `timeout` real seconds have passed."""
    wait = asyncio.create_task(event.wait())
    try:
        await asyncio.wait([task, wait], timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    finally:
        wait.cancel()
        await asyncio.wait([wait])  # not `await wait`: that would swallow a cancellation of ours


def _split(symbols: Sequence[str], most: int) -> list[Sequence[str]]:
    """Shards of about equal size: a lost connection should cost as few streams as it can."""
    count = -(-len(symbols) // most)
    return [symbols[i::count] for i in range(count)]


def _cause(task: asyncio.Task[None]) -> str:
    error = None if task.cancelled() else task.exception()
    if error is None:
        return "the connection ended"
    if not isinstance(error, (OSError, WebSocketException, TimeoutError)):
        raise error  # not the network's fault: a defect, and it must show
    return f"{type(error).__name__}: {error}".rstrip(": ")


def _raise_if_refused(task: asyncio.Task[None], url: str) -> None:
    error = task.exception()
    if not isinstance(error, InvalidStatus) or not 400 <= error.response.status_code < 500:
        return
    status = error.response.status_code
    if status in (408, 418, 425, 429):
        return
    code = "AF5004" if status == 451 else "AF5007"
    raise SourceError(
        code,
        f"{url}/stream refuses WebSocket connections (HTTP {status})",
        "correct endpoints.ws: klines of Binance USD-M are at wss://fstream.binance.com/market"
        if code == "AF5007"
        else "run from a location that the exchange serves, or set endpoints to one you may use",
    )
