"""`Feed` over real sockets, against servers that misbehave: what is said, what is counted, and that it goes on."""

from __future__ import annotations

import asyncio
import http
import json
import logging
import shutil
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from alpha_forge_plugins.market.binance.connects import ConnectBudget
from alpha_forge_plugins.market.binance.feed import Feed, FeedSettings
from alpha_forge_plugins.market.binance.venue import SPOT, USDM, Venue
from alpha_forge_sdk import Interval, MarketEvent, SourceError, SystemClock

from .support import eventually, soon, take
from .ws_world import frame

Handler = Callable[[ServerConnection, int], Awaitable[None]]
Answer = Callable[[int], Response | None]


class Exchange:
    """A WebSocket server of the test's own; ``connections`` counts handshakes, refused ones too."""

    def __init__(self, handler: Handler, answer: Answer) -> None:
        self.handler = handler
        self.answer = answer
        self.connections = 0
        self.requested: list[str] = []
        self.received: list[dict[str, object]] = []
        self.port = 0

    def process(self, connection: ServerConnection, request: Request) -> Response | None:
        self.connections += 1
        self.requested.append(request.path)
        return self.answer(self.connections)

    async def serve(self, connection: ServerConnection) -> None:
        with suppress(ConnectionClosed):
            await self.handler(connection, self.connections)


@asynccontextmanager
async def exchange(
    handler: Handler, answer: Answer = lambda count: None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Exchange]:
    host = Exchange(handler, answer)
    server: Server
    async with serve(
        host.serve, "127.0.0.1", 0, process_request=host.process, ssl=tls, compression=None
    ) as server:
        host.port = next(iter(server.sockets)).getsockname()[1]
        yield host


@asynccontextmanager
async def feeding(
    url: str, symbols: Sequence[str] = ("BTCUSDT",), venue: Venue = USDM, **changes: float
) -> AsyncIterator[tuple[Feed, AsyncIterator[MarketEvent]]]:
    times = {
        "open_timeout": 5.0,
        "silence": 2.0,
        "lifetime": 1000.0,
        "bar": 60.0,
        "patience": 600.0,
    } | changes
    settings = FeedSettings(url, venue, Interval.parse("1m"), per_connection=200, **times)  # type: ignore[arg-type]

    async def nothing() -> None: ...

    feed = Feed(settings, symbols, SystemClock(), ConnectBudget(venue.connects), nothing)
    events = feed.start()
    try:
        yield feed, events
    finally:
        await events.aclose()  # type: ignore[attr-defined]
        await feed.stop()


def of_url(path: str) -> list[str]:
    return parse_qs(urlsplit(path).query)["streams"][0].split("/")


async def pushes(connection: ServerConnection, *symbols: str, every: float = 0.05) -> None:
    while True:
        for symbol in symbols or ("BTCUSDT",):
            await connection.send(frame(symbol, time.monotonic()), text=True)
        await asyncio.sleep(every)


def bars(events: Sequence[MarketEvent]) -> list[MarketEvent]:
    return [event for event in events if event.bar is not None]


def test_garbage_is_counted_said_once_and_survived(caplog: pytest.LogCaptureFixture) -> None:
    garbage = [
        b"not json",
        b"\xff\xfe",
        b"[1,2",
        b'{"stream":"btcusdt@kline_1m","data":{"e":"kline","k":{}}}',
        b"7",
    ] * 20

    async def handler(connection: ServerConnection, count: int) -> None:
        await connection.send(frame("BTCUSDT", 1.0), text=True)
        for text in garbage:
            await connection.send(text, text=text.isascii())
        await connection.send(json.dumps({"e": "aggTrade", "s": "BTCUSDT"}))
        await pushes(connection)

    async def run() -> None:
        async with exchange(handler) as host, feeding(f"ws://127.0.0.1:{host.port}") as (feed, events):
            await take(events, lambda taken: len(bars(taken)) >= 2)
            assert feed.counts.unreadable == len(garbage)
            assert feed.counts.foreign == 1
            assert host.connections == 1, "a frame that can't be read ends no connection"

    with caplog.at_level(logging.WARNING):
        asyncio.run(run())
    said = [record for record in caplog.records if "frame ignored" in record.message]
    assert len(said) == 1, "a hundred lines about a hundred frames help nobody"


@pytest.mark.parametrize("size", [2**20 + 1, 17 * 2**20])
def test_an_oversized_frame_ends_the_connection_and_the_next_one_goes_on(
    size: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(connection: ServerConnection, count: int) -> None:
        await connection.send(frame("BTCUSDT", 1.0), text=True)
        if count == 1:
            await connection.send("x" * size)
        await pushes(connection)

    async def run() -> None:
        async with exchange(handler) as host, feeding(f"ws://127.0.0.1:{host.port}") as (feed, events):
            taken = await take(events, lambda taken: taken[-1].type == "source.reconnected")
            assert [event.type for event in taken if event.bar is None] == [
                "source.connected",
                "source.reconnected",
            ]
            assert feed.counts.lost == 1

    with caplog.at_level(logging.WARNING):
        asyncio.run(run())
    assert "1009" in caplog.text or "too big" in caplog.text


def test_a_frame_of_just_the_size_allowed_is_read() -> None:
    async def handler(connection: ServerConnection, count: int) -> None:
        text = frame("BTCUSDT", 1.0)
        await connection.send(text + b" " * (2**20 - len(text)), text=True)
        await connection.wait_closed()

    async def run() -> None:
        async with exchange(handler) as host, feeding(f"ws://127.0.0.1:{host.port}") as (_, events):
            assert bars(await take(events, lambda taken: bool(bars(taken))))

    asyncio.run(run())


def test_what_is_announced_stands_before_the_bar_that_proved_it() -> None:
    async def handler(connection: ServerConnection, count: int) -> None:
        await pushes(connection)

    async def run() -> None:
        async with exchange(handler) as host, feeding(f"ws://127.0.0.1:{host.port}") as (_, events):
            taken = await take(events, lambda taken: len(taken) == 2)
            assert [event.type for event in taken] == ["source.connected", "market.bar_close"]

    asyncio.run(run())


@pytest.mark.parametrize("venue", [USDM, SPOT])
def test_a_thousand_streams_are_subscribed_within_the_rate_of_the_venue(venue: Venue) -> None:
    symbols = [f"S{k:04d}USDT" for k in range(600)]
    received: list[list[tuple[float, dict[str, list[str]]]]] = []

    async def handler(connection: ServerConnection, count: int) -> None:
        mine: list[tuple[float, dict[str, list[str]]]] = []
        received.append(mine)
        assert connection.request is not None
        names = of_url(connection.request.path)
        pushing = asyncio.create_task(pushes(connection, *(name.split("@")[0].upper() for name in names)))
        try:
            async for text in connection:
                message = json.loads(text)
                mine.append((time.monotonic(), message))
                await connection.send(json.dumps({"result": None, "id": message["id"]}))
        finally:
            pushing.cancel()

    async def run() -> None:
        async with (
            exchange(handler) as host,
            feeding(f"ws://127.0.0.1:{host.port}", symbols, venue, silence=60.0) as (_, events),
        ):
            reading = asyncio.create_task(take(events, lambda taken: False))
            await eventually(
                lambda: (
                    len(received) == 3
                    and sum(len(names(k)) for k in range(3)) + sum(len(of_url(p)) for p in host.requested)
                    == 600
                )
            )
            reading.cancel()
            await asyncio.wait([reading])
            asked = [name for path in host.requested for name in of_url(path)]
            asked += [name for k in range(3) for name in names(k)]
            assert sorted(asked) == sorted(f"{symbol.lower()}@kline_1m" for symbol in symbols)
            assert all(len(path) < 4096 for path in host.requested)
        for mine in received:
            instants = [at for at, _ in mine]
            assert mine
            for at in instants:
                assert sum(at <= other < at + 1 for other in instants) <= venue.messages_per_second / 2 + 1

    def names(k: int) -> list[str]:
        return [
            name
            for _, message in received[k]
            if message["method"] == "SUBSCRIBE"
            for name in message["params"]
        ]

    asyncio.run(run())


def refuse(status: int, body: bytes = b"", **headers: str) -> Response:
    given = Headers({name.replace("_", "-"): value for name, value in headers.items()})
    given["Content-Length"] = str(len(body))
    return Response(status, http.HTTPStatus(status).phrase, given, body)


async def never(connection: ServerConnection, count: int) -> None:
    raise AssertionError("refused connections have no handler")


@pytest.mark.parametrize(
    ("answer", "code", "says"),
    [
        (refuse(404), "AF5007", "HTTP 404"),
        (refuse(400), "AF5007", "HTTP 400"),
        (refuse(403, b"<html>Request blocked</html>"), "AF5007", "firewall"),
        (refuse(451, b"restricted location"), "AF5004", "restricted location"),
        (refuse(200, b"<html>Please sign in</html>"), "AF5005", "sign in"),
        (refuse(429, b"", Retry_After="7200"), "AF5002", "7200 s"),
        (refuse(418, b"", Retry_After="86400"), "AF5002", "86400 s"),
    ],
)
def test_a_refusal_that_waiting_does_not_mend_is_an_error_with_its_cure(
    answer: Response, code: str, says: str
) -> None:
    async def run() -> None:
        async with (
            exchange(never, lambda count: answer) as host,
            feeding(f"ws://127.0.0.1:{host.port}") as (_, events),
        ):
            with pytest.raises(SourceError) as error:
                await take(events, lambda taken: False)
            assert error.value.code == code
            assert says in error.value.message
            assert f"ws://127.0.0.1:{host.port}" in error.value.message
            assert error.value.help
            assert host.connections == 1

    asyncio.run(run())


def test_after_a_429_no_connection_is_made_before_the_time_it_names() -> None:
    instants: list[float] = []

    async def handler(connection: ServerConnection, count: int) -> None:
        await pushes(connection)

    def answer(count: int) -> Response | None:
        instants.append(time.monotonic())
        return refuse(429, b"", Retry_After="2") if count == 1 else None

    async def run() -> None:
        async with exchange(handler, answer) as host, feeding(f"ws://127.0.0.1:{host.port}") as (_, events):
            await take(events, lambda taken: bool(bars(taken)))
            assert len(instants) == 2
            assert instants[1] - instants[0] >= 2.0

    asyncio.run(run())


def test_a_server_that_fails_for_a_while_is_tried_again() -> None:
    async def handler(connection: ServerConnection, count: int) -> None:
        await pushes(connection)

    async def run() -> None:
        async with (
            exchange(handler, lambda count: refuse(503) if count < 3 else None) as host,
            feeding(f"ws://127.0.0.1:{host.port}") as (feed, events),
        ):
            await take(events, lambda taken: bool(bars(taken)))
            assert feed.counts.connects == host.connections == 3

    asyncio.run(run())


def test_a_port_where_nobody_listens_is_named_after_some_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alpha_forge_plugins.market.binance.shard._FIRST_DELAY", 0.01)

    async def run() -> None:
        async with feeding("ws://127.0.0.1:9") as (feed, events):
            with pytest.raises(SourceError) as error:
                await take(events, lambda taken: False)
            assert error.value.code == "AF5001"
            assert "ws://127.0.0.1:9" in error.value.message
            assert feed.counts.connects == 6

    asyncio.run(run())


def test_a_server_that_speaks_no_http_is_no_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alpha_forge_plugins.market.binance.shard._FIRST_DELAY", 0.01)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        await writer.drain()
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        async with server, feeding(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}") as (_, events):
            with pytest.raises(SourceError) as error:
                await take(events, lambda taken: False)
            assert error.value.code == "AF5005"

    asyncio.run(run())


def test_tls_where_none_is_spoken_is_said_at_once() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, feeding(f"wss://127.0.0.1:{port}") as (feed, events):
            with pytest.raises(SourceError) as error:
                await take(events, lambda taken: False)
            assert error.value.code == "AF5018"
            assert feed.counts.connects == 1

    asyncio.run(run())


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_a_certificate_that_nobody_vouches_for_is_said_at_once(tmp_path: Path) -> None:
    tls = self_signed(tmp_path)

    async def run() -> None:
        async with (
            exchange(never, tls=tls) as host,
            feeding(f"wss://127.0.0.1:{host.port}") as (feed, events),
        ):
            with pytest.raises(SourceError) as error:
                await take(events, lambda taken: False)
            assert error.value.code == "AF5018"
            assert "certificate" in error.value.message.lower() or "self" in error.value.message.lower()
            assert "SSL_CERT_FILE" in (error.value.help or "")
            assert feed.counts.connects == 1

    asyncio.run(run())


def self_signed(folder: Path) -> ssl.SSLContext:
    """A server's context with a certificate of its own making."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    )
    command += f" -keyout {key} -out {certificate}"
    subprocess.run(command.split(), check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def test_what_runs_goes_on_when_the_exchange_refuses_later() -> None:
    async def handler(connection: ServerConnection, count: int) -> None:
        await connection.send(frame("BTCUSDT", 1.0), text=True)
        if count > 1:
            await pushes(connection)

    async def run() -> None:
        async with (
            exchange(handler, lambda count: refuse(404) if count in (2, 3) else None) as host,
            feeding(f"ws://127.0.0.1:{host.port}") as (_, events),
        ):
            await take(events, lambda taken: taken[-1].type == "source.reconnected")
            assert host.connections == 4

    asyncio.run(run())


def test_a_closed_bar_passes_once_and_one_with_other_values_is_not_swallowed() -> None:
    def closed(close: str) -> bytes:
        text = json.loads(frame("BTCUSDT", 1.0))
        text["data"]["k"] |= {"x": True, "c": close, "h": "9"}
        return json.dumps(text, separators=(",", ":")).encode()

    async def handler(connection: ServerConnection, count: int) -> None:
        for text in (closed("1.5"), closed("1.5"), closed("1.6"), closed("1.6"), closed("1.5")):
            await connection.send(text, text=True)
        await connection.send(frame("BTCUSDT", 61.0), text=True)
        await connection.wait_closed()

    async def run() -> None:
        async with exchange(handler) as host, feeding(f"ws://127.0.0.1:{host.port}") as (_, events):
            taken = bars(await take(events, lambda taken: taken[-1].bar is not None and not taken[-1].closed))
            assert [event.bar.close for event in taken if event.closed and event.bar] == [1.5, 1.6]

    asyncio.run(run())


@pytest.mark.parametrize("how", ["stop", "cancel"])
def test_a_socket_that_takes_nothing_does_not_hold_up_the_end(how: str) -> None:
    """The peer reads nothing and says nothing after the handshake: closing must not wait for it."""

    async def run() -> None:
        held: list[asyncio.StreamWriter] = []

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            held.append(writer)
            await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(3600)

        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        before = asyncio.all_tasks()
        async with feeding(f"ws://127.0.0.1:{port}", open_timeout=30.0) as (feed, events):
            reading = asyncio.create_task(take(events, lambda taken: False))
            await eventually(lambda: bool(held))
            start = time.monotonic()
            if how == "cancel":
                reading.cancel()
            await soon(feed.stop())
            assert time.monotonic() - start < 5
            await asyncio.wait([reading])
        for writer in held:
            writer.transport.abort()
        server.close()
        mine = {task for task in asyncio.all_tasks() - before if "talk" not in repr(task)}
        await eventually(lambda: all(task.done() for task in mine))

    asyncio.run(run())
