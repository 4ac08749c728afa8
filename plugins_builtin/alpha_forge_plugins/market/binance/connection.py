"""One WebSocket connection: connect, subscribe, read until it ends. Reconnecting is the feed's business."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from alpha_forge_plugins.market.binance.messages import (
    FrameDecoder,
    Refusal,
    Shutdown,
    Stream,
    Unreadable,
    request,
    stream_name,
)
from alpha_forge_sdk import Interval, MarketEvent

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

log = logging.getLogger(__name__)

_IN_URL = 100  # names in the URL; some 2,000 characters, which every proxy takes
_IN_REQUEST = 200
_PACE = (
    0.25  # seconds between requests: 4 of the 10 messages a second, pings included, that the exchange admits
)


@dataclass(frozen=True, slots=True)
class SocketSettings:
    """Times are real seconds: they guard sockets, not market time."""

    url: str
    interval: Interval
    open_timeout: float
    silence: float
    lifetime: float
    every: float = 1.0


class Connection:
    """Streams of some symbols over one socket.

    ``verified`` is set by the first kline: an acknowledgement proves nothing. ``retire`` is set when the
    connection should be replaced while it still lives: it is silent or old, or the server said that it goes.
    """

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
        self._decoder = FrameDecoder(symbols, settings.interval, settings.every)
        self._numbers = itertools.count(1)
        self._heard = 0.0
        self._resubscribed: set[str] = set()
        self.verified = asyncio.Event()
        self.retire = asyncio.Event()
        self.reason = ""

    async def run(self) -> None:
        """Returns never; raises what ended the connection (OSError, or an exception of websockets).

        Cancelled, it says goodbye and closes the socket within half a second.
        """
        names = [stream_name(symbol, self._settings.interval.name) for symbol in self._symbols]
        url = f"{self._settings.url}/stream?streams={quote('/'.join(names[:_IN_URL]), safe='/@_')}"
        socket = await connect(
            url,
            open_timeout=self._settings.open_timeout,
            close_timeout=0.5,
            max_size=2**20,
            # Backpressure ends here, not in memory: a slow reader makes TCP wait.
            max_queue=1024,
            compression=None,
        )
        watch: asyncio.Task[None] | None = None
        try:
            self._heard = asyncio.get_running_loop().time()
            watch = asyncio.create_task(self._tend(socket, names[_IN_URL:]))
            watch.add_done_callback(self._tended)
            await self._read(socket)
        finally:
            if watch is not None:
                watch.cancel()
                await asyncio.wait([watch])
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await socket.close()
            socket.transport.abort()

    async def _read(self, socket: ClientConnection) -> None:
        loop_time = asyncio.get_running_loop().time
        read, deliver, recv = self._decoder.read, self._deliver, socket.recv
        while True:
            frame = await recv(decode=False)
            self._heard = now = loop_time()
            event = read(frame, now)
            if event is None:
                continue
            if type(event) is MarketEvent:
                if not self.verified.is_set():
                    await self._before_first()
                    self.verified.set()
                deliver(event)
            else:
                self._control(event)

    def _control(self, message: object) -> None:
        if isinstance(message, Refusal):
            log.error("the exchange refused a request: %s (code %d)", message.message, message.code)
        elif isinstance(message, Shutdown):
            self._ask_to_retire("the server announced its shutdown")
        elif isinstance(message, Unreadable):
            log.warning("frame ignored: %s", message.reason)

    def _ask_to_retire(self, reason: str) -> None:
        if not self.retire.is_set():
            self.reason = reason
            self.retire.set()

    async def _tend(self, socket: ClientConnection, rest: Sequence[str]) -> None:
        """Subscribe what did not fit into the URL, then watch for silence and age."""
        try:
            for at in range(0, len(rest), _IN_REQUEST):
                await asyncio.sleep(_PACE)
                await self._subscribe(socket, rest[at : at + _IN_REQUEST])
            born = asyncio.get_running_loop().time()
            while True:
                await asyncio.sleep(self._settings.silence / 8)
                now = asyncio.get_running_loop().time()
                if now - self._heard > self._settings.silence:
                    self._ask_to_retire(f"nothing received for {now - self._heard:.0f} s")
                elif now - born > self._settings.lifetime:
                    self._ask_to_retire(f"it is {now - born:.0f} s old and the exchange cuts at 24 h")
                elif now - born > self._settings.silence / 2:
                    await self._subscribe_silent(socket)
        except ConnectionClosed:
            return  # the reader raises it too, and says why

    def _tended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            # A connection that nobody watches must not go on as if it were watched.
            log.error("the watch over a connection failed", exc_info=error)
            self._ask_to_retire(f"its watch failed: {error}")

    async def _subscribe(self, socket: ClientConnection, names: Sequence[str]) -> None:
        await socket.send(request("SUBSCRIBE", names, next(self._numbers)))

    async def _subscribe_silent(self, socket: ClientConnection) -> None:
        """Subscribe once more to streams that have never spoken: an acknowledged one may be silent."""
        streams: dict[bytes, Stream] = self._decoder.streams
        silent = [name.decode() for name, stream in streams.items() if stream.seen is None]
        fresh = [name for name in silent if name not in self._resubscribed]
        if not fresh:
            return
        log.warning(
            "%d stream(s) acknowledged but silent, subscribing again: %s", len(fresh), ", ".join(fresh[:5])
        )
        self._resubscribed.update(fresh)
        for at in range(0, len(fresh), _IN_REQUEST):
            await self._subscribe(socket, fresh[at : at + _IN_REQUEST])
            await asyncio.sleep(_PACE)
