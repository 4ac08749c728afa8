"""Control messages, paths, errors and limits of the WebSocket."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
import websockets
from sandbox_support import START, ask, exchange, is_quiet, receive, receive_until, socket, soon
from websockets.frames import Opcode

from alpha_forge_sdk.sandbox import ManualTime
from alpha_forge_sdk.sandbox.protocol import Close, Reply, Route, Session, parse_stream, route
from alpha_forge_sdk.sandbox.server import LIFETIME
from alpha_forge_sdk.sandbox.venue import USDM


def opened(path: str = "/market/ws", **query: str) -> Session:
    where = route(path, query)
    assert where is not None
    return Session.open(where, 0.0)[0]


def say(session: Session, message: Any, seconds: float = 0.0) -> list[Any]:
    """What the session answers: JSON of replies, Close values as they are."""
    text = message if isinstance(message, str) else json.dumps(message)
    return [
        json.loads(item.text) if isinstance(item, Reply) else item for item in session.receive(text, seconds)
    ]


@pytest.mark.parametrize(
    ("path", "query", "expected"),
    [
        ("/market/ws", {}, Route(False, True, ())),
        ("/market/stream", {}, Route(True, True, ())),
        ("/market/ws/a/b", {}, Route(False, True, ("a", "b"))),
        ("/market/ws/0", {}, Route(False, True, ("0",))),
        ("/market/stream", {"streams": "a/b"}, Route(True, True, ("a", "b"))),
        ("/public/stream", {"streams": "a"}, Route(True, False, ("a",))),
        ("/private/ws", {}, Route(False, False, ())),
        ("/ws/a", {}, Route(False, False, ("a",))),
        ("/stream", {"streams": "a"}, Route(True, False, ("a",))),
        ("/market/ws/", {}, None),
        ("/market/stream/", {}, None),
        ("/market", {}, None),
        ("/", {}, None),
    ],
)
def test_paths(path: str, query: dict[str, str], expected: Route | None) -> None:
    assert route(path, query) == expected


@pytest.mark.parametrize(
    "identifier", [1, 0, 1_791_382_992_723, "0f8c1c1e-4d0e-4b7b-9a55-2f1f0e9f7d11", None]
)
def test_every_subscription_is_acknowledged_with_its_id(identifier: Any) -> None:
    session = opened()
    for names in (["btcusdt@kline_1h"], ["nosuch@kline_1h", "BTCUSDT@KLINE_1H", "x@y"], ["btcusdt@kline_1h"]):
        answer = say(session, {"method": "SUBSCRIBE", "params": names, "id": identifier})
        assert answer == [{"result": None, "id": identifier}]
    listed = say(session, {"method": "LIST_SUBSCRIPTIONS", "id": identifier})
    expected = ["btcusdt@kline_1h", "nosuch@kline_1h", "BTCUSDT@KLINE_1H", "x@y"]
    assert listed == [{"result": expected, "id": identifier}]
    assert say(session, {"method": "UNSUBSCRIBE", "params": ["x@y", "never"], "id": identifier}) == [
        {"result": None, "id": identifier}
    ]
    assert list(session.streams) == expected[:3]


def test_the_combined_property() -> None:
    for path, default in (("/market/ws", False), ("/market/stream", True)):
        session = opened(path)
        assert say(session, {"method": "GET_PROPERTY", "params": ["combined"], "id": 2}) == [
            {"result": default, "id": 2}
        ]
        assert say(session, {"method": "SET_PROPERTY", "params": ["combined", not default], "id": 5}) == [
            {"result": None, "id": 5}
        ]
        assert session.combined is not default


@pytest.mark.parametrize(
    ("message", "code", "text"),
    [
        ({"method": "NOPE", "id": 1}, 2, "unknown variant `NOPE`"),
        ({"id": 1}, 2, "missing field `method`"),
        ({"method": "SUBSCRIBE", "id": 1}, 2, "missing field `params`"),
        ({"method": "SUBSCRIBE", "params": "btcusdt@kline_1h", "id": 1}, 2, "array"),
        ({"method": "SUBSCRIBE", "params": [1], "id": 1}, 2, "strings"),
        ({"method": "GET_PROPERTY", "params": ["size"], "id": 1}, 0, "Unknown property"),
        ({"method": "SET_PROPERTY", "params": ["combined", "yes"], "id": 1}, 1, "Boolean"),
        ([], 2, "object"),
    ],
)
def test_invalid_requests_are_answered_and_survived(message: Any, code: int, text: str) -> None:
    session = opened()
    (answer,) = say(session, message)
    assert answer["error"]["code"] == code
    assert text in answer["error"]["msg"]
    assert say(session, {"method": "LIST_SUBSCRIPTIONS", "id": 9}) == [{"result": [], "id": 9}]


def test_invalid_json_is_answered_and_then_disconnected() -> None:
    answer, close = say(opened(), "hello")
    assert answer == {"error": {"code": 3, "msg": "Invalid JSON: expected value at line 1 column 1"}}
    assert isinstance(close, Close)


def test_the_1025th_stream_closes_the_connection_and_loses_all() -> None:
    session = opened()
    for start in range(0, 1024, 128):
        names = [f"s{number}usdt@kline_1m" for number in range(start, start + 128)]
        say(session, {"method": "SUBSCRIBE", "params": names, "id": 1})
    assert len(session.streams) == 1024
    assert say(session, {"method": "SUBSCRIBE", "params": ["s0usdt@kline_1m"], "id": 2}) == [
        {"result": None, "id": 2}
    ]
    answer, close = say(session, {"method": "SUBSCRIBE", "params": ["onemore@kline_1m"], "id": 3})
    assert answer == {"error": {"code": 4, "msg": "Too many subscriptions"}}
    assert close == Close(1008, "Invalid request")
    assert not session.streams


def test_of_forty_messages_at_once_fifteen_are_answered() -> None:
    session = opened()
    answers = [say(session, {"method": "LIST_SUBSCRIPTIONS", "id": number}) for number in range(16)]
    assert all("result" in answer[0] for answer in answers[:15])
    assert answers[15] == [Close(1008, "Too many requests")]


def test_ten_messages_a_second_are_served_for_ever_and_pings_count() -> None:
    session = opened()
    for number in range(100):
        assert "result" in say(session, {"method": "LIST_SUBSCRIPTIONS", "id": 1}, number * 0.1)[0]
    flood = [session.control_frame(10.0) for _ in range(40)]
    assert [Close(1008, "Too many requests")] in flood


@pytest.mark.parametrize(
    ("name", "symbol", "interval", "contract"),
    [
        ("btcusdt@kline_1m", "BTCUSDT", "1m", ""),
        ("btcusdt@kline_1M", "BTCUSDT", "1M", ""),
        ("btcusdt_perpetual@continuousKline_1h", "BTCUSDT", "1h", "PERPETUAL"),
    ],
)
def test_stream_names(name: str, symbol: str, interval: str, contract: str) -> None:
    spec = parse_stream(name)
    assert spec is not None
    assert (spec.symbol, spec.interval, spec.contract) == (symbol, interval, contract)


@pytest.mark.parametrize(
    "name",
    ["BTCUSDT@kline_1m", "btcusdt@kline_1H", "btcusdt@kline_7m", "btcusdt@trade", "0", "btcusdt@kline_1s"],
)
def test_other_names_are_silent(name: str) -> None:
    assert parse_stream(name) is None


@pytest.mark.parametrize(
    "path",
    ["/ws/btcusdt@kline_1m", "/stream?streams=btcusdt@kline_1m", "/public/ws/btcusdt@kline_1m", "/private/ws",
     "/market/ws/BTCUSDT@kline_1m", "/market/ws/nosuchusdt@kline_1m"],
)  # fmt: skip
def test_acknowledged_and_silent(path: str) -> None:
    async def run() -> None:
        source = ManualTime()
        async with (
            exchange(source=source) as running,
            socket(running, path) as silent,
            socket(running, "/market/ws/btcusdt@kline_1m") as loud,
        ):
            name = "BTCUSDT@kline_1m" if path.startswith("/market") else "btcusdt@kline_1m"
            assert await ask(silent, "SUBSCRIBE", [name], 1) == {"result": None, "id": 1}
            source.advance(61)
            await receive_until(loud, lambda seen: any(message["k"]["x"] for message in seen))
            assert await is_quiet(silent)

    asyncio.run(run())


def test_subscribe_unsubscribe_and_wrapping_over_the_wire() -> None:
    async def run() -> None:
        source = ManualTime()
        async with exchange(source=source) as running, socket(running, "/market/ws/0") as client:
            assert await ask(client, "SUBSCRIBE", ["ethusdt@kline_1m"], "id-1") == {
                "result": None,
                "id": "id-1",
            }
            assert (await receive(client))["s"] == "ETHUSDT"
            await ask(client, "SET_PROPERTY", ["combined", True], 2)
            source.advance(1)
            assert (await receive(client))["stream"] == "ethusdt@kline_1m"
            await ask(client, "UNSUBSCRIBE", ["ethusdt@kline_1m"], 3)
            source.advance(100)
            assert await is_quiet(client)

    asyncio.run(run())


def test_errors_close_over_the_wire() -> None:
    async def run() -> None:
        async with exchange() as running:
            async with socket(running, "/market/stream") as client:
                await client.send("{nonsense")
                assert (await receive(client))["error"]["code"] == 3
                await soon(client.wait_closed())
            async with socket(running, "/market/stream") as client:
                for number in range(40):
                    await client.send(json.dumps({"method": "LIST_SUBSCRIPTIONS", "id": number}))
                await soon(client.wait_closed())
                assert (client.close_code, client.close_reason) == (1008, "Too many requests")
            with pytest.raises(websockets.exceptions.InvalidStatus):
                async with socket(running, "/market/ws/"):
                    pass

    asyncio.run(run())


def test_a_path_may_name_a_thousand_streams() -> None:
    names = "/".join(f"sym{number:03d}usdt@kline_1h" for number in range(1000))

    async def run() -> None:
        async with (
            exchange(symbols=("SYM999USDT",)) as running,
            socket(running, f"/market/stream?streams={names}") as client,
        ):
            assert (await receive(client))["stream"] == "sym999usdt@kline_1h"

    asyncio.run(run())


def test_pings_the_pong_limit_and_the_lifetime_are_in_real_seconds() -> None:
    async def life(answers: bool) -> tuple[float, int | None]:
        source = ManualTime()
        async with (
            exchange(source=source, speed=1.0) as running,
            socket(running, "/market/ws", ping_interval=None) as client,
        ):
            if not answers:
                send = client.protocol.send_frame
                client.protocol.send_frame = lambda frame: (
                    None if frame.opcode is Opcode.PONG else send(frame)
                )  # type: ignore[method-assign]
            pings = 0
            while client.close_code is None and source.seconds() < 2 * LIFETIME:
                source.advance(USDM.ping_every)
                pings += 1
                # A round trip: what the server sent before its answer has arrived when the answer has.
                try:
                    await ask(client, "LIST_SUBSCRIPTIONS", None, pings)
                except websockets.exceptions.ConnectionClosed:
                    break
            return source.seconds(), client.close_code

    silent, code = asyncio.run(life(answers=False))
    assert USDM.pong_within <= silent <= USDM.pong_within + 3 * USDM.ping_every
    assert code == 1008
    lived, code = asyncio.run(life(answers=True))
    assert LIFETIME <= lived <= LIFETIME + 3 * USDM.ping_every
    assert code == 1001


def test_start_is_what_the_tests_take_it_for() -> None:
    async def run() -> None:
        async with exchange(hold=True) as running:
            assert running.clock.now_ms() == START

    asyncio.run(run())
