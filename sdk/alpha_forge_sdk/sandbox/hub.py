"""Who listens to which stream: hands what the feed has due to the connections that subscribed to it."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
from typing import Any, Final

from alpha_forge_sdk.sandbox.clock import ExchangeClock
from alpha_forge_sdk.sandbox.connection import Connection, text_frame
from alpha_forge_sdk.sandbox.faults import Deed, Faults, Frame, Hangup, Later, Mute
from alpha_forge_sdk.sandbox.feed import Feed, Push
from alpha_forge_sdk.sandbox.market import Market
from alpha_forge_sdk.sandbox.payloads import combined_text
from alpha_forge_sdk.sandbox.protocol import parse_stream
from alpha_forge_sdk.sandbox.venue import USDM, Venue

#: Real seconds between two looks at the feed at least: what is due in between goes out together, in order.
_BREATH: Final = 0.004


class Hub:
    """The exchange's stream side: one feed, any number of connections."""

    def __init__(self, market: Market, clock: ExchangeClock, faults: Faults, venue: Venue = USDM) -> None:
        self._venue = venue
        self._clock = clock
        self._faults = faults
        self._symbols = frozenset(market.symbols)
        self._feed = Feed(market, clock.now_ms(), clock.speed, venue)
        self._listeners: dict[str, dict[int, Connection]] = {}
        self._connections: dict[int, Connection] = {}
        #: What is held back: (due, order, connection or None for all that listen, what)
        self._later: list[tuple[float, int, int | None, Push | Hangup]] = []
        self._order = itertools.count()
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Push what is due, for ever."""
        while True:
            caught_up = self.pump()
            delay = self._clock.real_seconds_until(self._next_due_ms())
            if caught_up and delay > 0:
                await self._wait(max(delay, _BREATH))
            else:
                await asyncio.sleep(0)  # Behind: go on at once, but let the sockets have their turn.

    def pump(self) -> bool:
        """Push what is due by now, or a good part of it; True if nothing is left."""
        if self._clock.held:
            return True
        now = self._clock.now_ms()
        touched: dict[int, Connection] = {}
        pushes = self._feed.advance(now)
        for push in pushes:
            self._send_held(push.event_ms, touched)
            for item in self._faults.publish(push):
                if isinstance(item, Later):
                    self._hold(item, None)
                else:
                    self._distribute(item, touched)
        # Pushes that were left for the next time come before what is held back beyond them.
        self._send_held(min(now, self._feed.position_ms), touched)
        for connection in touched.values():
            connection.flush()
        return self._feed.position_ms >= now

    def sync(self, connection: Connection) -> None:
        """Make the feed follow a connection's subscriptions after they may have changed.

        Call `pump` before the change, so that nobody is sent what happened before it. The first kline
        subscription lets a held clock run.
        """
        session = connection.session
        asked, session.asked = session.asked, []
        for name in asked:
            self._faults.subscribed(connection.number, name, self._clock.now_ms())
        wanted = frozenset(session.streams) if session.live and connection.is_open else frozenset()
        if wanted == connection.registered:
            return
        for name in connection.registered - wanted:
            self._drop(name, connection)
        for name in session.streams:
            if name in wanted and name not in connection.registered:
                self._add(name, connection)
        connection.registered = wanted
        self._changed.set()

    def welcome(self, connection: Connection) -> None:
        """Take in a connection that was just opened."""
        self._connections[connection.number] = connection
        for item in self._faults.connected(connection.number, self._clock.now_ms()):
            self._hold(item, connection.number)

    def forget(self, connection: Connection) -> None:
        """Drop all subscriptions of a connection that has ended."""
        del self._connections[connection.number]
        self._faults.ended(connection.number)
        for name in connection.registered:
            self._drop(name, connection)
        connection.registered = frozenset()

    def _add(self, name: str, connection: Connection) -> None:
        spec = parse_stream(name, self._venue)
        if spec is None or spec.symbol not in self._symbols:
            return
        self._listeners.setdefault(name, {})[connection.number] = connection
        self._feed.want(spec)
        self._clock.release()

    def _drop(self, name: str, connection: Connection) -> None:
        listeners = self._listeners.get(name)
        if listeners is None:
            return
        listeners.pop(connection.number, None)
        if not listeners:
            del self._listeners[name]
            self._feed.unwant(name)

    def _distribute(self, push: Push, touched: dict[int, Connection]) -> None:
        frames: dict[tuple[Push, bool], bytes] = {}  # one push for hundreds of connections is one frame
        for number, connection in list(self._listeners.get(push.stream, {}).items()):
            if not connection.is_open or (not push.closed and connection.is_behind):
                continue
            for item in self._faults.push(number, push):
                if not isinstance(item, Push):
                    if not self._do(connection, item):
                        break
                    continue
                key = (item, connection.session.combined)
                if key not in frames:
                    frames[key] = _frame(*key)
                connection.queue(frames[key])
                touched[number] = connection

    def _do(self, connection: Connection, deed: Deed) -> bool:
        """Anything but a push; False if it ended the connection."""
        if isinstance(deed, Hangup):
            _hang_up(connection, deed)
            return False
        if isinstance(deed, Later):
            self._hold(deed, connection.number)
        elif isinstance(deed, Mute):
            connection.mute()
        elif isinstance(deed, Frame):
            connection.queue(deed.data)
            connection.flush()
        return True

    def _hold(self, later: Later, connection: int | None) -> None:
        heapq.heappush(self._later, (later.due_ms, next(self._order), connection, later.item))
        self._changed.set()

    def _send_held(self, now_ms: float, touched: dict[int, Connection]) -> None:
        """What was held back until `now_ms`."""
        while self._later and self._later[0][0] <= now_ms:
            _, _, number, item = heapq.heappop(self._later)
            if number is None:
                if isinstance(item, Push):
                    self._distribute(item, touched)
                continue
            connection = self._connections.get(number)
            if connection is None or not connection.is_open:
                continue
            if isinstance(item, Push):
                connection.queue(_frame(item, connection.session.combined))
                touched[number] = connection
            else:
                _hang_up(connection, item)

    def _next_due_ms(self) -> float:
        due = self._feed.next_due_ms()
        return min(due, self._later[0][0]) if self._later else due

    async def _wait(self, delay: float) -> None:
        """Sleep for `delay` real seconds (for ever if infinite), or until the subscriptions change."""
        self._changed.clear()
        waits: list[asyncio.Task[Any]] = [asyncio.create_task(self._changed.wait())]
        if math.isfinite(delay):
            waits.append(asyncio.create_task(self._sleep_until(self._clock.source.seconds() + delay)))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()

    async def _sleep_until(self, seconds: float) -> None:
        await self._clock.source.sleep_until(seconds)


def _frame(push: Push, combined: bool) -> bytes:
    return text_frame(combined_text(push.stream, push.text) if combined else push.text)


def _hang_up(connection: Connection, hangup: Hangup) -> None:
    if hangup.code is None:
        if hangup.torn is not None:
            frame = _frame(hangup.torn, connection.session.combined)
            connection.queue(frame[: int(len(frame) * hangup.share)])
        connection.flush()
        connection.cut(reset=hangup.reset)
    else:
        connection.close(hangup.code, hangup.reason)
