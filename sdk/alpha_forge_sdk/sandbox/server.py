"""The socket side of the exchange: one loopback port for REST, archive and WebSocket."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import logging
from collections import Counter, deque
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from websockets.http11 import Request as HandshakeRequest
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from alpha_forge_sdk.sandbox import archive as archives
from alpha_forge_sdk.sandbox.archive import Archive
from alpha_forge_sdk.sandbox.clock import ExchangeClock
from alpha_forge_sdk.sandbox.connection import Connection, end_by_reset
from alpha_forge_sdk.sandbox.faults import Faults
from alpha_forge_sdk.sandbox.http import MAX_HEAD, BadRequest, Request, Response, json_response, parse_head
from alpha_forge_sdk.sandbox.hub import Hub
from alpha_forge_sdk.sandbox.protocol import Session, route
from alpha_forge_sdk.sandbox.rest import RestApi
from alpha_forge_sdk.sandbox.venue import USDM, Venue

#: Real seconds that a connection lives.
LIFETIME: Final = 24 * 3600.0

#: So many WebSocket handshakes of one address are allowed within so many real seconds.
_MAX_CONNECTS: Final = 300
_CONNECT_WINDOW: Final = 300.0

#: A slow body comes in so many pieces.
_PIECES: Final = 10

#: What a client did wrong, by the reason its connection is closed for.
_VIOLATIONS: Final = {"Too many requests": "message_rate", "Invalid request": "too_many_streams"}

_LISTING_PATHS: Final = ("/", "/data.binance.vision", "/data.binance.vision/")

_LOG = logging.getLogger("alpha_forge_sdk.sandbox")


class ExchangeServer:
    """Serves connections until `stop`. `archive` is used from a thread of its own."""

    def __init__(
        self,
        clock: ExchangeClock,
        rest: RestApi,
        archive: Archive,
        hub: Hub,
        faults: Faults,
        venue: Venue = USDM,
        identity: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._identity = identity
        self._clock = clock
        self._venue = venue
        self._rest = rest
        self._archive = archive
        self._hub = hub
        self._faults = faults
        self._numbers = itertools.count(1)
        self._asked: Counter[str] = Counter()
        self._connects: dict[str, deque[float]] = {}
        self._connections: dict[int, Connection] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._archive_thread = ThreadPoolExecutor(1, thread_name_prefix="sandbox-archive")
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port. OSError if the address can't be had."""
        self._server = await asyncio.start_server(self._accepted, host, port, limit=MAX_HEAD, backlog=1024)
        self._spawn(self._hub.run())
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Stop listening, close every connection with 1001 and leave no task behind."""
        if self._server is None:
            return
        self._server.close()
        for connection in self._connections.values():
            connection.close(1001, "Going away")
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.wait_closed()
        self._archive_thread.shutdown(cancel_futures=True)
        self._server = None

    def cut(self) -> None:
        """End every WebSocket connection without a word."""
        for connection in self._connections.values():
            connection.cut()

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _LOG.error("a sandbox task failed", exc_info=task.exception())

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._spawn(self._serve(reader, writer))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._serve_requests(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # The client went away, which is its right.
        finally:
            writer.close()

    async def _serve_requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address = str(writer.get_extra_info("peername")[0])
        while True:
            try:
                request = parse_head(await reader.readuntil(b"\r\n\r\n"))
            except (BadRequest, asyncio.LimitOverrunError) as error:
                writer.write(_plain(400, f"Bad request: {error}").encode(keep_alive=False))
                return
            if request.is_upgrade:
                await self._websocket(request, reader, writer)
                return
            await reader.readexactly(min(request.body_length, MAX_HEAD))
            response = await self._answer(request, address)
            alive = request.keeps_alive
            await self._send(response, writer, keep_alive=alive, head_only=request.method == "HEAD")
            if not alive or response.reset or response.cut_at is not None:
                return

    async def _send(
        self, response: Response, writer: asyncio.StreamWriter, *, keep_alive: bool, head_only: bool
    ) -> None:
        """Write a response, whole or spoilt as it says."""
        if response.reset:
            end_by_reset(writer)
            writer.transport.abort()
            return
        data = response.encode(keep_alive=keep_alive, head_only=head_only)
        if response.cut_at is not None and not head_only:
            data = data[: len(data) - len(response.body) + response.cut_at]
        if response.span <= 0:
            writer.write(data)
            await writer.drain()
            return
        piece = -(-len(data) // _PIECES)
        for start in range(0, len(data), piece):
            if start:
                await asyncio.sleep(response.span / (_PIECES - 1))
            writer.write(data[start : start + piece])
            await writer.drain()

    async def _answer(self, request: Request, address: str) -> Response:
        now, budget = self._clock.now_ms(), self._clock.budget_ms()
        path = request.path
        self._asked[request.target] += 1
        request = dataclasses.replace(request, number=self._asked[request.target])
        if request.method not in ("GET", "HEAD"):
            return _plain(405, "Only GET and HEAD are served here.")
        if path == "/sandbox/clock":
            return json_response({"epoch_ms": now, "speed": self._clock.speed, "held": self._clock.held})
        if path == "/sandbox/identity" and (identity := self._identity()) is not None:
            return json_response({"market": identity})
        response = self._faults.intercept(request, address, now, budget)
        if response is not None:
            return response
        if self._rest.serves(path):
            response = self._faults.rest(path, self._rest.answer(request, address, now, budget), now)
        else:
            response = await self._from_archive(request, now)
        return self._faults.answered(request, response, now)

    async def _from_archive(self, request: Request, now: float) -> Response:
        loop = asyncio.get_running_loop()
        if request.path in _LISTING_PATHS:
            return await loop.run_in_executor(self._archive_thread, self._archive.listing, request.query, now)
        return await loop.run_in_executor(self._archive_thread, self._object, request.path, now)

    def _object(self, path: str, now_ms: float) -> Response:
        key = path.removeprefix("/data.binance.vision").removeprefix("/")
        body = self._archive.fetch(key, now_ms)
        if body is not None:
            body = self._faults.archived(key, body, now_ms)
        if body is None:
            return archives.missing(key)
        kind = "text/plain" if key.endswith(".CHECKSUM") else "application/zip"
        return Response(200, body, kind)

    async def _websocket(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._count_connect(str(writer.get_extra_info("peername")[0]))
        where = route(request.path, request.query, self._venue)
        refusal = self._faults.accept(request.path, self._clock.now_ms())
        if where is None:
            refusal = _plain(404, f"No WebSocket at {request.path}")
        if refusal is not None:
            writer.write(refusal.encode(keep_alive=False))
            return
        protocol = ServerProtocol(max_size=1 << 20)
        if not _handshake(protocol, request, writer) or where is None:
            return
        session, actions = Session.open(where, self._clock.source.seconds(), self._venue)
        connection = Connection(next(self._numbers), protocol, session, writer, self._dismissed)
        self._connections[connection.number] = connection
        self._hub.pump()
        self._hub.welcome(connection)
        connection.carry_out(actions)
        self._hub.sync(connection)
        keeper = self._spawn(self._keep(connection))
        try:
            await self._converse(connection, reader)
        finally:
            keeper.cancel()
            self._hub.forget(connection)
            del self._connections[connection.number]

    async def _converse(self, connection: Connection, reader: asyncio.StreamReader) -> None:
        while True:
            data = await reader.read(1 << 16)
            seconds = self._clock.source.seconds()
            texts = connection.feed(data, seconds)
            if texts:
                self._hub.pump()
            for text in texts:
                if connection.is_open:
                    connection.carry_out(connection.session.receive(text, seconds))
            self._hub.sync(connection)
            if not data or connection.is_done:
                return

    def _dismissed(self, reason: str) -> None:
        if reason in _VIOLATIONS:
            self._faults.violations[_VIOLATIONS[reason]] += 1

    def _count_connect(self, address: str) -> None:
        now = self._clock.source.seconds()
        recent = self._connects.setdefault(address, deque())
        recent.append(now)
        while recent[0] <= now - _CONNECT_WINDOW:
            recent.popleft()
        if len(recent) > _MAX_CONNECTS:
            self._faults.violations["connect_rate"] += 1

    async def _keep(self, connection: Connection) -> None:
        """Ping the client, and end its connection when it is silent too long or has lived a day."""
        source = self._clock.source
        born = connection.last_pong
        while connection.is_open:
            await source.sleep_until(source.seconds() + self._venue.ping_every)
            now = source.seconds()
            if now - born >= LIFETIME:
                connection.close(1001, "Connection lifetime reached")
            elif now - connection.last_pong >= self._venue.pong_within:
                connection.close(1008, "Pong timeout")
            else:
                connection.ping(str(int(self._clock.now_ms())).encode())


def _handshake(protocol: ServerProtocol, request: Request, writer: asyncio.StreamWriter) -> bool:
    """Answer the upgrade request; False if it was no good, and has been told so."""
    # The path is routed already. A path that names hundreds of streams is longer than the library reads.
    protocol.receive_data(b"GET / HTTP/1.1\r\n" + request.head.split(b"\r\n", 1)[1])
    events = protocol.events_received()
    if events and isinstance(events[0], HandshakeRequest):
        protocol.send_response(protocol.accept(events[0]))
    for piece in protocol.data_to_send():
        if piece:
            writer.write(piece)
    return protocol.state is OPEN


def _plain(status: int, text: str) -> Response:
    return Response(status, (text + "\n").encode(), "text/plain;charset=utf-8")
