"""Faults of the stream, each seen on the wire by a client that knows nothing of the sandbox."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
import websockets
from sandbox_support import (
    DEADLINE,
    HOUR,
    START,
    ask,
    browser,
    exchange,
    receive,
    receive_until,
    socket,
    soon,
)
from websockets.asyncio.client import ClientConnection

from alpha_forge_sdk.sandbox import FaultScript, HostileFaults, Later, Push, SandboxExchange, Stage
from alpha_forge_sdk.sandbox.hostile.dice import Armed
from alpha_forge_sdk.sandbox.venue import USDM

MINUTE = 60_000
SPEED = 1800.0  # thirty bars of a minute in a second
TWO = "/market/stream?streams=btcusdt@kline_1m/ethusdt@kline_1m"
ONE = "/market/ws/btcusdt@kline_1m"


def script(*rules: str, seed: int = 3) -> FaultScript:
    return FaultScript.parse(f"seed: {seed}\nfaults:\n" + "".join(f"- {{{rule}}}\n" for rule in rules))


def counted(running: SandboxExchange) -> Counter[str]:
    assert isinstance(running.faults, HostileFaults)
    return running.faults.counts


async def closes(client: ClientConnection, count: int) -> list[dict[str, Any]]:
    """Messages until `count` of them are closes."""
    return await receive_until(client, lambda seen: len(closed(seen)) >= count)


def closed(messages: Sequence[dict[str, Any]], symbol: str = "") -> list[dict[str, Any]]:
    bars = [message.get("data", message).get("k") for message in messages]
    return [k for k in bars if k is not None and k["x"] and k["s"].startswith(symbol)]


def play(fault: FaultScript, path: str, count: int) -> tuple[list[dict[str, Any]], Counter[str]]:
    """What a client on `path` hears until `count` closes, and what was counted."""

    async def run() -> tuple[list[dict[str, Any]], Counter[str]]:
        async with exchange(speed=SPEED, faults=fault) as running, socket(running, path) as client:
            return await closes(client, count), counted(running)

    return asyncio.run(run())


async def until(condition: Callable[[], bool]) -> None:
    """Return once `condition` holds."""
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110 - it is another task that brings it about
            await asyncio.sleep(0.005)


async def raw_socket(
    running: SandboxExchange, path: str
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A WebSocket without a library: the bytes as they come."""
    host, port = running.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    head = await soon(reader.readuntil(b"\r\n\r\n"))
    assert b" 101 " in head
    return reader, writer


def split_frames(data: bytes) -> tuple[list[bytes], bytes]:
    """Payloads of the whole frames of a server, and the bytes of the one that is torn."""
    frames = []
    while len(data) >= 2:
        size, start = data[1] & 0x7F, 2
        if size == 126:
            size, start = int.from_bytes(data[2:4], "big"), 4
        elif size == 127:
            size, start = int.from_bytes(data[2:10], "big"), 10
        if len(data) < start + size:
            break
        frames.append(data[start : start + size])
        data = data[start + size :]
    return frames, data


@pytest.mark.parametrize("share", [0.0, 0.004, 0.5, 0.99])
def test_a_disconnect_tears_the_frame_of_a_close(share: float) -> None:
    fault = script(f"kind: disconnect, times: 1, after: 3m, share: {share}")

    async def run() -> tuple[list[bytes], bytes, int]:
        async with exchange(speed=SPEED, faults=fault) as running:
            reader, writer = await raw_socket(running, ONE)
            data = await soon(reader.read(-1))
            writer.close()
            return *split_frames(data), counted(running)["disconnect"]

    frames, torn, count = asyncio.run(run())
    bars = [json.loads(frame)["k"] for frame in frames]
    ends = [k["t"] + MINUTE for k in bars if k["x"]]
    assert ends == list(range(START + MINUTE, START + 3 * MINUTE, MINUTE)), (
        "closes before the rule came whole"
    )
    assert (len(torn) > 0) == (share > 0)
    assert count == 1
    if share > 0.9:
        assert b'"x":true' in torn


def test_a_disconnect_may_be_a_reset() -> None:
    fault = script("kind: disconnect, times: 1, reset: true, share: 0")

    async def run() -> None:
        async with exchange(speed=SPEED, faults=fault) as running:
            reader, writer = await raw_socket(running, ONE)
            with pytest.raises(ConnectionResetError):
                await soon(reader.read(-1))
            writer.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("rule", "code", "reason"),
    [
        ("kind: close", 1001, "Going away"),
        ("kind: close, code: 1012, reason: Restart", 1012, "Restart"),
        ("kind: too_many_requests", 1008, "Too many requests"),
        ("kind: daily_disconnect, lifetime: 5m", 1001, "Connection lifetime reached"),
    ],
)
def test_the_exchange_closes_the_connection(rule: str, code: int, reason: str) -> None:
    fault = script(f"{rule}, times: 1")

    async def run() -> tuple[int | None, str | None, Counter[str], int]:
        async with exchange(speed=SPEED, faults=fault) as running:
            async with socket(running, TWO) as client:
                await soon(client.wait_closed())
                ended = client.close_code, client.close_reason
            async with socket(running, TWO) as client:
                again = len(closed(await closes(client, 12)))
            return *ended, counted(running), again

    got_code, got_reason, counts, again = asyncio.run(run())
    assert (got_code, got_reason) == (code, reason)
    assert sum(counts.values()) == 1
    assert again == 12, "the next connection lives"


def test_a_stalled_connection_stays_open_and_says_nothing() -> None:
    async def run() -> tuple[int, int, bool, int | None]:
        fault = script("kind: stall, times: 1, after: 2m")
        async with exchange(speed=SPEED, faults=fault) as running, socket(running, TWO) as stalled:
            heard: list[Any] = []

            async def listen() -> None:
                async for message in stalled:
                    heard.append(message)

            listener = asyncio.create_task(listen())
            await until(lambda: counted(running)["stall"] == 1)
            async with socket(running, TWO) as lively:
                await closes(lively, 4)
                before = len(heard)
                pong = await stalled.ping()
                await closes(lively, 40)
            listener.cancel()
            return before, len(heard), pong.done(), stalled.close_code

    before, after, answered, code = asyncio.run(run())
    assert before == after > 0
    assert not answered
    assert code is None


def test_a_silent_stream_stops_while_others_go_on_until_it_is_asked_for_again() -> None:
    fault = script("kind: silent_stream, times: 1, after: 3m, symbols: [ETHUSDT]")

    async def run() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        async with exchange(speed=SPEED, faults=fault) as running, socket(running, TWO) as client:
            before = await receive_until(client, lambda seen: len(closed(seen, "BTC")) >= 20)
            await ask(client, "SUBSCRIBE", ["ethusdt@kline_1m"], 1)
            after = await receive_until(client, lambda seen: len(closed(seen, "ETH")) >= 3)
            return before, after

    before, after = asyncio.run(run())
    spoken = [k["t"] for k in closed(before, "ETH")]
    assert spoken, "it spoke before"
    assert max(spoken) < START + 3 * MINUTE
    assert not [m for m in before if m["data"]["k"]["s"] == "ETHUSDT" and m["data"]["E"] > START + 4 * MINUTE]
    assert len(closed(after, "ETH")) == 3


@pytest.mark.parametrize(("life", "comes_back"), [("subscription", True), ("connection", False)])
def test_an_acknowledged_subscription_delivers_nothing(life: str, comes_back: bool) -> None:
    fault = script(f"kind: silent_subscription, times: 1, symbols: [ETHUSDT], life: {life}")

    async def run() -> tuple[Any, list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
        async with exchange(speed=SPEED, faults=fault) as running:
            async with socket(running, "/market/stream") as client:
                names = ["btcusdt@kline_1m", "ethusdt@kline_1m"]
                answer = await ask(client, "SUBSCRIBE", names, 1)
                before = await receive_until(client, lambda seen: len(closed(seen, "BTC")) >= 8)
                await ask(client, "UNSUBSCRIBE", names[1:], 2)
                await ask(client, "SUBSCRIBE", names[1:], 3)
                after = await receive_until(client, lambda seen: len(closed(seen, "BTC")) >= 8)
            async with socket(running, TWO) as client:
                anew = await receive_until(client, lambda seen: len(closed(seen, "BTC")) >= 4)
            return answer, before, after, anew

    answer, before, after, anew = asyncio.run(run())
    assert answer == {"result": None, "id": 1}
    assert not [message for message in before if message["data"]["s"] == "ETHUSDT"]
    assert bool(closed(after, "ETH")) == comes_back
    assert closed(anew, "ETH")


def test_a_refused_handshake_says_why_and_the_next_is_taken() -> None:
    async def run() -> tuple[int, str | None, int]:
        fault = script("kind: refuse_connect, times: 1, status: 429, retry_after: 2")
        async with exchange(speed=SPEED, faults=fault) as running:
            with pytest.raises(websockets.InvalidStatus) as refused:
                async with socket(running, TWO):
                    pass
            async with socket(running, TWO) as client:
                heard = len(closed(await closes(client, 2)))
            answer = refused.value.response
            return answer.status_code, answer.headers.get("Retry-After"), heard

    assert asyncio.run(run()) == (429, "2", 2)


@pytest.mark.parametrize("path", [TWO, ONE])
def test_a_shutdown_is_announced_and_comes(path: str) -> None:
    fault = script("kind: server_shutdown, times: 1, after: 2m, lead: 3m")

    async def run() -> tuple[list[dict[str, Any]], int | None]:
        async with exchange(speed=SPEED, faults=fault) as running, socket(running, path) as client:
            messages = []
            try:
                while True:
                    messages.append(await receive(client))
            except websockets.ConnectionClosed:
                return messages, client.close_code

    messages, code = asyncio.run(run())
    if path == TWO:
        events = [m["data"] for m in messages if m["stream"] == "!serverShutdown"]
    else:
        events = [m for m in messages if m["e"] == "serverShutdown"]
    assert len(events) == 1
    assert set(events[0]) == {"e", "E"}
    assert events[0]["e"] == "serverShutdown"
    assert code == 1001
    last = max(k["t"] for k in closed(messages)) + MINUTE
    assert MINUTE < last - events[0]["E"] < 3 * MINUTE, "bars go on until the end"


@pytest.mark.parametrize("form", ["malformed", "truncated", "types", "unknown", "list", "binary", "utf8"])
def test_garbage_comes_before_a_close(form: str) -> None:
    fault = script(f"kind: garbage, times: 1, after: 2m, form: {form}")

    async def run() -> list[bytes]:
        async with exchange(speed=SPEED, faults=fault) as running:
            reader, writer = await raw_socket(running, ONE)
            data = b""
            while len(split_frames(data)[0]) < 2 or data.count(b'"x":true') < 5:
                data += await soon(reader.read(1 << 16))
            writer.close()
            return split_frames(data)[0]

    def is_event(frame: bytes) -> bool:
        try:
            message = json.loads(frame)
        except ValueError:
            return False
        return isinstance(message, dict) and message["e"] == "kline" and isinstance(message["k"]["t"], int)

    frames = asyncio.run(run())
    (odd,) = (place for place, frame in enumerate(frames) if not is_event(frame))
    after = json.loads(frames[odd + 1])["k"]
    assert after["x"]
    assert after["t"] == START + MINUTE
    if form in ("malformed", "truncated", "binary", "utf8"):
        with pytest.raises(ValueError, match=r".*"):
            json.loads(frames[odd])
    if form == "list":
        assert isinstance(json.loads(frames[odd]), list)
    if form == "types":
        assert json.loads(frames[odd])["k"]["t"] == "soon"


def test_garbage_in_place_of_a_close() -> None:
    messages, counts = play(script("kind: garbage, times: 1, form: unknown, replaces: true"), ONE, 4)
    assert counts["garbage"] == 1
    assert [k["t"] for k in closed(messages)] == [START + MINUTE * number for number in (1, 2, 3, 4)]


@pytest.mark.parametrize("size", [1_500_000, 17_000_000])
def test_a_frame_may_be_huge(size: int) -> None:
    fault = script(f"kind: oversized, times: 1, bytes: {size}")

    async def run() -> int:
        async with (
            exchange(speed=SPEED, faults=fault) as running,
            socket(running, ONE, max_size=None) as client,
        ):
            while True:
                text = await soon(client.recv())
                if len(text) > 1000:
                    return len(text)

    assert asyncio.run(run()) > size


def test_a_close_comes_twice() -> None:
    messages, counts = play(script("kind: duplicate_close, times: 2, copies: 2"), ONE, 8)
    times = Counter(k["t"] for k in closed(messages))
    assert [times[START + number * MINUTE] for number in range(4)] == [3, 3, 1, 1]
    texts = [json.dumps(message) for message in messages if message["k"]["t"] == START and message["k"]["x"]]
    assert len(set(texts)) == 1
    assert counts["duplicate_close"] == 2


def test_a_copy_may_come_later() -> None:
    messages, _ = play(script("kind: duplicate_close, times: 1, delay: 150s"), ONE, 5)
    order = [(k["t"] - START) // MINUTE for k in closed(messages)]
    assert order == [0, 1, 2, 0, 3]


def test_a_late_close_comes_after_rest_has_it() -> None:
    fault = script("kind: late_close, delay: 45s, symbols: [BTCUSDT]")

    async def run() -> tuple[list[dict[str, Any]], list[list[Any]]]:
        async with exchange(speed=300.0, faults=fault) as running, socket(running, TWO) as client:
            await receive_until(client, lambda seen: bool(closed(seen, "ETH")))
            async with browser(running) as web:
                rows = (
                    await web.get("/fapi/v1/klines", params={"symbol": "BTCUSDT", "interval": "1m"})
                ).json()
            return await closes(client, 5), rows

    messages, rows = asyncio.run(run())
    assert START in [row[0] for row in rows[:-1]], "REST has the bar at once"
    late = [(m["data"]["E"] - m["data"]["k"]["T"]) for m in messages if closed([m], "BTC")]
    assert late
    assert all(delay == 45_000 + 5 for delay in late)
    first = next(place for place, m in enumerate(messages) if closed([m], "BTC"))
    ahead = [m for m in messages[:first] if m["data"]["s"] == "BTCUSDT"]
    assert any(m["data"]["k"]["t"] == START + MINUTE for m in ahead), "the next bar is shown before"


def test_a_missing_close_never_comes() -> None:
    messages, counts = play(script("kind: missing_close, times: 2, after: 90s, symbols: [ETHUSDT]"), TWO, 16)
    ether = [(k["t"] - START) // MINUTE for k in closed(messages, "ETH")]
    assert ether[:4] == [0, 3, 4, 5]
    bitcoin = [(k["t"] - START) // MINUTE for k in closed(messages, "BTC")]
    assert bitcoin == list(range(len(bitcoin)))
    assert counts["missing_close"] == 2


def test_a_second_close_differs() -> None:
    messages, _ = play(script("kind: changed_close, times: 1, delay: 10s"), ONE, 4)
    first, second = (k for k in closed(messages) if k["t"] == START)
    assert first["c"] != second["c"]
    assert first["v"] != second["v"]
    assert float(second["l"]) <= float(second["c"]) <= float(second["h"])
    assert {name: first[name] for name in "tThlo"} == {name: second[name] for name in "tThlo"}


def test_symbols_overtake_each_other_and_none_itself() -> None:
    messages, counts = play(script("kind: out_of_order, window: 90s"), TWO, 40)
    assert counts["out_of_order"] > 20
    events = [m["data"]["k"]["t"] for m in messages if m["data"]["k"]["x"]]
    assert any(after < before for before, after in pairwise(events)), "across symbols"
    for symbol in ("BTCUSDT", "ETHUSDT"):
        own = [(m["data"]["k"]["t"], m["data"]["k"]["x"]) for m in messages if m["data"]["s"] == symbol]
        assert own == sorted(own)
        opened = [t for t, x in own if x]
        assert opened == list(range(opened[0], opened[0] + len(opened) * MINUTE, MINUTE))


def test_faults_are_injected_while_the_exchange_runs() -> None:
    async def run() -> tuple[list[int], Counter[str]]:
        async with exchange(speed=SPEED) as running, socket(running, ONE) as client:
            before = closed(await closes(client, 3))
            await asyncio.to_thread(
                running.inject, "duplicate_close", copies=1, times=1, symbols=["BTCUSDT"], intervals=["1m"]
            )
            after = closed(await closes(client, 4))
            return [k["t"] for k in before + after], counted(running)

    opened, counts = asyncio.run(run())
    assert len(opened) == 7
    assert len(set(opened)) == 6
    assert counts == Counter(duplicate_close=1)


def test_an_injected_fault_is_taken_out_again() -> None:
    async def run() -> list[int]:
        async with exchange(speed=SPEED) as running, socket(running, ONE) as client:
            end = running.inject("duplicate_close")
            before = Counter(k["t"] for k in closed(await closes(client, 6)))
            end()
            after = Counter(k["t"] for k in closed(await closes(client, 6)))
            assert set(before.values()) == {2}
            return list(after.values())[1:]

    assert set(asyncio.run(run())) == {1}


def test_a_disconnect_inside_a_bar_spares_the_connection_that_follows() -> None:
    fault = script("kind: disconnect, inside: true, times: 2, share: 0.5")

    async def run() -> tuple[list[tuple[int, float]], int]:
        cuts = []
        async with exchange(speed=60.0, faults=fault) as running:
            while len(cuts) < 2:
                async with socket(running, ONE) as client:
                    heard = []
                    with contextlib.suppress(websockets.ConnectionClosed):
                        while True:
                            heard.append(await receive(client))
                    last = heard[-1]
                    cuts.append((last["k"]["t"], (running.clock.now_ms() - last["k"]["t"]) / MINUTE))
            async with socket(running, ONE) as client:
                await closes(client, 2)
            return cuts, counted(running)["disconnect"]

    cuts, count = asyncio.run(run())
    assert count == 2
    assert [opened for opened, _ in cuts] == [START, START + MINUTE]
    armed = Armed(fault.rules[0], 0, fault.seed, START)
    for opened, part in cuts:
        point = armed.draw("point", "btcusdt@kline_1m", opened)
        assert point - 0.25 <= part <= point + 0.5, "at the drawn point of the bar, give or take a push"


@pytest.mark.parametrize("kind", ["stall", "silent_stream", "close", "garbage", "server_shutdown"])
def test_other_faults_strike_inside_a_bar_too(kind: str) -> None:
    fault = script(f"kind: {kind}, inside: true, times: 1, symbols: [BTCUSDT]")

    async def run() -> tuple[int, int]:
        async with exchange(speed=60.0, faults=fault) as running, socket(running, TWO) as client:
            heard: list[Any] = []

            async def listen() -> None:
                with contextlib.suppress(websockets.ConnectionClosed):
                    async for message in client:
                        heard.append(message)

            listener = asyncio.create_task(listen())
            await until(lambda: counted(running)[kind] == 1)
            whole = sum('"x":true' in str(message) and "BTCUSDT" in str(message) for message in heard)
            listener.cancel()
            return whole, len(heard)

    whole, heard = asyncio.run(run())
    assert whole == 0, "before the first close"
    assert heard > 0


def test_what_clients_do_wrong_is_counted() -> None:
    async def run() -> Counter[str]:
        async with exchange(hold=True) as running:
            async with socket(running, "/market/ws") as client:
                for number in range(40):
                    await client.send(json.dumps({"method": "LIST_SUBSCRIPTIONS", "id": number}))
                await soon(client.wait_closed())
            async with socket(running, "/market/ws") as client:
                names = [f"s{number}@kline_1m" for number in range(1025)]
                await client.send(json.dumps({"method": "SUBSCRIBE", "params": names, "id": 1}))
                await soon(client.wait_closed())
            async with socket(running, "/market/ws") as client:
                for _ in range(40):
                    await client.pong()
                await soon(client.wait_closed())
            async with browser(running) as web:
                for _ in range(245):
                    await web.get(
                        "/fapi/v1/klines", params={"symbol": "NOPE", "interval": "1m", "limit": 1500}
                    )
            return running.faults.violations

    violations = asyncio.run(run())
    assert violations["message_rate"] == 2, "pongs are messages too"
    assert violations["too_many_streams"] == 1
    assert violations["weight"] == 5


def _published(order: int) -> list[tuple[str, int, float]]:
    """What the stream side makes of six bars of 500 symbols, told in an order of one's own."""
    symbols = [f"SYM{number:03d}USDT" for number in range(500)]
    pushes = [
        Push(f"{symbol.lower()}@kline_1h", "{}", opened + HOUR + 4, True, opened, symbol, "1h")
        for opened in range(START, START + 6 * HOUR, HOUR)
        for symbol in symbols
    ]
    random.Random(order).shuffle(pushes)
    faults = HostileFaults(
        script("kind: missing_close, rate: 0.1", "kind: late_close, rate: 0.1, delay: 20s", seed=11)
    )
    faults.begin(Stage(START, 1.0, USDM))
    out: list[tuple[str, int, float]] = []
    for push in pushes:
        for item in faults.publish(push):
            inner, due = (item.item, item.due_ms) if isinstance(item, Later) else (item, push.event_ms)
            assert isinstance(inner, Push)
            out.append((inner.stream, inner.open_ms, due))
    return sorted(out)


def test_a_seed_strikes_the_same_bars_whatever_the_order() -> None:
    once, again = _published(1), _published(2)
    assert once == again
    assert 0.88 < len(once) / 3000 < 0.92
    late = sum(due > opened + HOUR + 4 for _, opened, due in once)
    assert 0.07 < late / 3000 < 0.11
