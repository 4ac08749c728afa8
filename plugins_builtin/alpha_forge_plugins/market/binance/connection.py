"""The thin loop around one WebSocket: connect, send what it is told, read until it ends. It decides nothing."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, Protocol

from websockets.asyncio.client import connect

from alpha_forge_plugins.market.binance.messages import Control, Foreign, Refusal, Unreadable
from alpha_forge_sdk import MarketEvent

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

    from alpha_forge_plugins.market.binance.shard import Life

log = logging.getLogger(__name__)

MAX_FRAME = 2**20
"""Bytes; a kline has 330. A larger frame ends the connection before it is in memory."""
_QUEUE = 1024  # frames; beyond it TCP waits: backpressure ends at the exchange, not in this memory
_QUIET = 60.0  # seconds between two lines about frames that are ignored


@dataclass
class StreamCounts:
    """What a feed has met since it was made."""

    connects: int = 0
    connected: int = 0
    lost: int = 0
    unreadable: int = 0
    foreign: int = 0
    refusals: int = 0


class Listener(Protocol):
    """Who is told what happens on a connection, on the event loop."""

    def opened(self, number: int) -> Life: ...
    async def verified(self, number: int) -> None: ...
    def control(self, number: int, message: Control) -> None: ...
    def deliver(self, event: MarketEvent) -> None: ...


class Connection:
    """Connection `number` to `url`."""

    def __init__(self, number: int, url: str, open_timeout: float, listener: Listener) -> None:
        self._number = number
        self._url = url
        self._open_timeout = open_timeout
        self._listener = listener
        self._outgoing: asyncio.Queue[str] = asyncio.Queue()

    def send(self, text: str) -> None:
        """Send a message as soon as the socket takes it. Never waits: a peer that stalls must not stall others."""
        self._outgoing.put_nowait(text)

    async def run(self) -> NoReturn:
        """Returns never; raises what ended the connection (OSError, or an exception of websockets).

        Cancelled, it says goodbye and closes the socket within half a second.
        """
        socket = await connect(
            self._url,
            open_timeout=self._open_timeout,
            close_timeout=0.5,
            max_size=MAX_FRAME,
            max_queue=_QUEUE,
            compression=None,
        )
        writing = asyncio.create_task(self._write(socket))
        try:
            await self._read(socket, self._listener.opened(self._number))
        finally:
            writing.cancel()
            await asyncio.wait([writing])
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await socket.close()
            socket.transport.abort()

    async def _read(self, socket: ClientConnection, life: Life) -> NoReturn:
        session = life.session
        assert session is not None
        loop_time = asyncio.get_running_loop().time
        read, deliver, recv = life.decoder.read, self._listener.deliver, socket.recv
        verified = False
        while True:
            frame = await recv(decode=False)
            session.heard = now = loop_time()
            event = read(frame, now)
            if event is None:
                continue
            if isinstance(event, MarketEvent):
                if not verified:
                    await self._listener.verified(self._number)
                    verified = True
                deliver(event)
            else:
                self._listener.control(self._number, event)

    async def _write(self, socket: ClientConnection) -> None:
        # The reader raises what ends the connection, and says why.
        with contextlib.suppress(Exception):
            while True:
                await socket.send(await self._outgoing.get())


class Complaints:
    """Says what was ignored: at once, and then once a minute, with the number of those in between."""

    def __init__(self, counts: StreamCounts, clock: Callable[[], float]) -> None:
        self._counts = counts
        self._clock = clock
        self._next = -1.0
        self._unsaid = 0

    def take(self, message: Control) -> None:
        if isinstance(message, Refusal):
            self._counts.refusals += 1
            self._say(f"the exchange refused a request: {message.message} (code {message.code})")
        elif isinstance(message, Unreadable):
            self._counts.unreadable += 1
            self._say(f"frame ignored: {message.reason}")
        elif isinstance(message, Foreign):
            self._counts.foreign += 1
            log.debug("event ignored: %s", message.event)

    def _say(self, text: str) -> None:
        now = self._clock()
        if now < self._next:
            self._unsaid += 1
            return
        log.warning("%s%s", text, f" ({self._unsaid} more like it in between)" if self._unsaid else "")
        self._next = now + _QUIET
        self._unsaid = 0
