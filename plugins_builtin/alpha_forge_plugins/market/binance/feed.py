"""The stream as one: shards of the universe, each with its connections, their events in one queue."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

from alpha_forge_plugins.market.binance.connection import Complaints, Connection, StreamCounts
from alpha_forge_plugins.market.binance.connects import ConnectBudget
from alpha_forge_plugins.market.binance.messages import Control
from alpha_forge_plugins.market.binance.outlet import Outlet
from alpha_forge_plugins.market.binance.refusals import failure_of
from alpha_forge_plugins.market.binance.session import Patience
from alpha_forge_plugins.market.binance.shard import Announce, Connect, Drop, Fail, Life, Send, Shard
from alpha_forge_plugins.market.binance.venue import Venue
from alpha_forge_sdk import Clock, Interval, MarketEvent

log = logging.getLogger(__name__)

_PACE = 2.5  # messages at most are a fraction of what the exchange admits: pings and pongs count too


@dataclass(frozen=True, slots=True)
class FeedSettings:
    """Times are real seconds: they guard sockets, not market time. ``bar`` is how long a bar lasts."""

    url: str
    venue: Venue
    interval: Interval
    open_timeout: float
    silence: float
    lifetime: float
    bar: float
    patience: float
    per_connection: int
    limit: int = 100_000

    def session(self) -> Patience:
        return Patience(self.silence, self.lifetime, self.bar, _PACE / self.venue.messages_per_second)


class Feed:
    """All streams of a universe over as few connections as hold them.

    ``before_first`` is awaited before the first event of all is delivered; ``budget`` is shared by all feeds of the
    host.
    """

    def __init__(
        self,
        settings: FeedSettings,
        symbols: Sequence[str],
        clock: Clock,
        budget: ConnectBudget,
        before_first: Callable[[], Awaitable[None]],
    ) -> None:
        self.counts = StreamCounts()
        self._outlet = Outlet(settings.limit)
        self._shards = [
            _ShardLoop(settings, shard, clock, budget, before_first, self._outlet, self.counts)
            for shard in _split(symbols, settings.per_connection)
        ]
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> AsyncIterator[MarketEvent]:
        """Start connecting; returns the events. They raise SourceError for what no retry mends."""
        for shard in self._shards:
            task = asyncio.create_task(shard.run())
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


class _ShardLoop:
    """Carries out what a `Shard` decides: the sockets, the timer, nothing else."""

    def __init__(
        self,
        settings: FeedSettings,
        symbols: Sequence[str],
        clock: Clock,
        budget: ConnectBudget,
        before_first: Callable[[], Awaitable[None]],
        outlet: Outlet,
        counts: StreamCounts,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._before_first = before_first
        self._outlet = outlet
        self._counts = counts
        self._shard = Shard(
            symbols, settings.interval, settings.session(), settings.open_timeout, budget, random.Random()
        )
        self._connections: dict[int, tuple[Connection, asyncio.Task[None]]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._defect: BaseException | None = None
        self._complaints = Complaints(counts, self._now)
        self.deliver = outlet.put

    async def run(self) -> None:
        """Returns never. Cancelled, it closes its connections. Raises what is a defect here, not a fault outside."""
        try:
            while True:
                self._wake.clear()
                self._carry_out()
                if self._defect is not None:
                    raise self._defect
                wait = self._shard.wake_at(self._now()) - self._now()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(None if math.isinf(wait) else max(wait, 0.0)):
                        await self._wake.wait()
        finally:
            for number in list(self._connections):
                self._drop(number)
            if self._closing:
                await asyncio.wait(self._closing)

    # What the connections tell.

    def opened(self, number: int) -> Life:
        self._counts.connected += 1
        self._wake.set()
        return self._shard.opened(number, self._now())

    async def verified(self, number: int) -> None:
        await self._before_first()
        self._shard.verified(number, self._now())
        self._carry_out()  # at once: what is announced stands before the event that proved it
        self._wake.set()

    def control(self, number: int, message: Control) -> None:
        self._complaints.take(message)
        self._shard.control(number, message)
        self._wake.set()

    # What the shard decides.

    def _carry_out(self) -> None:
        for action in self._shard.step(self._now()):
            if isinstance(action, Connect):
                self._connect(action)
            elif isinstance(action, Send):
                self._connections[action.number][0].send(action.text)
            elif isinstance(action, Drop):
                self._drop(action.number)
            elif isinstance(action, Announce):
                self._outlet.put(MarketEvent(action.kind, None, self._clock.now()))
            elif isinstance(action, Fail):
                self._outlet.fail(action.error)

    def _connect(self, action: Connect) -> None:
        self._counts.connects += 1
        url = self._settings.url + action.query
        connection = Connection(action.number, url, self._settings.open_timeout, self)
        task = asyncio.create_task(connection.run())
        self._connections[action.number] = connection, task
        task.add_done_callback(lambda done: self._ended(action.number, done))

    def _drop(self, number: int) -> None:
        _, task = self._connections.pop(number)
        self._closing.add(task)
        task.cancel()

    def _ended(self, number: int, task: asyncio.Task[None]) -> None:
        self._closing.discard(task)
        error = None if task.cancelled() else task.exception()
        if self._connections.pop(number, None) is None or error is None:
            return  # dropped by us
        self._counts.lost += 1
        settings = self._settings
        failure = failure_of(error, f"{settings.url}/stream", settings.venue, settings.patience)
        if failure is None:
            self._defect = error
        else:
            self._shard.lost(number, failure, self._now())
        self._wake.set()

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _split(symbols: Sequence[str], most: int) -> list[Sequence[str]]:
    """Shards of about equal size: a lost connection should cost as few streams as it can."""
    count = -(-len(symbols) // most)
    return [symbols[i::count] for i in range(count)]
