"""The feed: every close exactly once, in order, whatever the speed."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sandbox_support import HOUR, START, exchange, receive, receive_until, socket, soon

from alpha_forge_sdk.sandbox import Faults, Hangup, ManualTime, Push
from alpha_forge_sdk.sandbox.bars import BarTable, Instrument
from alpha_forge_sdk.sandbox.feed import CLOSE_DELAY_MS, Feed
from alpha_forge_sdk.sandbox.payloads import decimal_text, rest_text
from alpha_forge_sdk.sandbox.protocol import parse_stream
from alpha_forge_sdk.sandbox.synthetic import DEFAULT_SYMBOLS, SyntheticMarket

MANY = tuple(symbol for symbol in DEFAULT_SYMBOLS if symbol.startswith("SYM"))
MINUTE = 60_000


def want(feed: Feed, *names: str) -> None:
    for name in names:
        spec = parse_stream(name)
        assert spec is not None
        feed.want(spec)


def closes_of(pushes: list[Push]) -> dict[str, list[int]]:
    opened: dict[str, list[int]] = defaultdict(list)
    for push in pushes:
        if push.closed:
            opened[push.stream].append(json.loads(push.text)["k"]["t"])
    return opened


def test_five_hundred_symbols_at_high_speed_close_every_bar_once_and_in_order() -> None:
    feed = Feed(SyntheticMarket(1, MANY), START, 36_000.0)
    names = [f"{symbol.lower()}@kline_15m" for symbol in MANY]
    want(feed, *names)
    pushes: list[Push] = []
    steps = np.random.default_rng(5).exponential(20 * MINUTE, 40)
    now = float(START)
    for step in steps:
        now += float(step)
        while True:
            pushes += feed.advance(now, limit=300)
            if feed.position_ms >= now:
                break
    events = [push.event_ms for push in pushes]
    assert events == sorted(events)
    length = 15 * MINUTE
    expected = list(range(START, int(now) - length - CLOSE_DELAY_MS + 1, length))
    closed = closes_of(pushes)
    assert set(closed) == set(names)
    assert all(times == expected for times in closed.values())


def test_a_close_has_the_final_values_and_the_next_push_the_next_bar() -> None:
    market = SyntheticMarket(1, ("BTCUSDT",))
    feed = Feed(market, START, 1.0)
    want(feed, "btcusdt@kline_1m")
    pushes = [push for now in range(START, START + 5 * MINUTE, 250) for push in feed.advance(now)]
    messages = [json.loads(push.text) for push in pushes]
    for before, after in pairwise(messages):
        assert after["k"]["t"] == before["k"]["t"] + (MINUTE if before["k"]["x"] else 0)
        assert after["E"] >= before["E"]
    closed = [message["k"] for message in messages if message["k"]["x"]]
    rows = json.loads(
        rest_text(market.instrument("BTCUSDT"), "1m", market.bars("BTCUSDT", "1m", START, START + 4 * MINUTE))
    )
    assert [
        [k["t"], k["o"], k["h"], k["l"], k["c"], k["v"], k["T"], k["q"], k["n"], k["V"], k["Q"], k["B"]]
        for k in closed
    ] == rows
    assert all(
        message["E"] == message["k"]["T"] + 1 + CLOSE_DELAY_MS for message in messages if message["k"]["x"]
    )


def test_bars_in_progress_are_coalesced_at_high_speed() -> None:
    feed = Feed(SyntheticMarket(1, ("BTCUSDT",)), START, 3600.0)
    want(feed, "btcusdt@kline_1h")
    shown = [
        push.event_ms
        for now in range(START, START + 2 * HOUR, 5000)
        for push in feed.advance(now)
        if not push.closed
    ]
    assert len(shown) > 10
    assert min(np.diff(shown)) >= 100 * 3600


def test_nothing_is_pushed_when_nothing_changed_or_nobody_wants_it() -> None:
    feed = Feed(SyntheticMarket(1, ("BTCUSDT",)), START, 1.0)
    want(feed, "btcusdt@kline_1h")
    assert len(feed.advance(START)) == 1
    assert feed.advance(START) == []
    feed.unwant("btcusdt@kline_1h")
    assert feed.advance(START + 2 * HOUR) == []
    want(feed, "btcusdt@kline_1h")
    replayed = closes_of(feed.advance(START + 2 * HOUR + 1000))
    assert not replayed, "a subscription brings no bar that had closed before it"


class _Holey:
    """A market with a hole: it has only every other minute; bars without trades among them."""

    symbols = ("BTCUSDT",)

    def instrument(self, symbol: str) -> Instrument:
        return Instrument(symbol, "BTC", "USDT", 2, 1, 3, 0)

    def bars(self, symbol: str, interval: str, start_ms: int, end_ms: int) -> BarTable:
        opens = [at for at in range(-(-start_ms // MINUTE) * MINUTE, end_ms, MINUTE) if at // MINUTE % 2 == 0]
        table = np.zeros((12, len(opens)), dtype=np.int64)
        table[0] = opens
        table[1:5] = 12345
        return table

    def progress(self, symbol: str, interval: str, at_ms: float) -> BarTable | None:
        bars = self.bars(symbol, interval, int(at_ms) // MINUTE * MINUTE, int(at_ms) + 1)
        return bars if bars.shape[1] else None


def test_a_hole_is_silent_and_a_bar_without_trades_says_so() -> None:
    feed = Feed(_Holey(), 0, 1.0)
    want(feed, "btcusdt@kline_1m")
    pushes = feed.advance(6 * MINUTE + 100)
    closed = [json.loads(push.text)["k"] for push in pushes if push.closed]
    assert [k["t"] // MINUTE for k in closed] == [0, 2, 4]
    prices = dict.fromkeys("ohlc", "123.45")
    none = {"f": -1, "L": -1, "n": 0, "v": "0.000", "V": "0.000", "q": "0.00000", "Q": "0.00000"}
    assert prices.items() | none.items() <= closed[0].items()


def _shape(value: Any) -> Any:
    """Keys in their order and types of a JSON value; decimals only by being decimal strings."""
    if isinstance(value, dict):
        return [(key, _shape(part)) for key, part in value.items()]
    if isinstance(value, str) and value.replace(".", "").isdigit():
        return "decimal"
    return type(value).__name__


@pytest.mark.real_data
@pytest.mark.parametrize(("line", "stream", "combined"), [
    (0, "btcusdt@kline_1m", True),
    (1, "btcusdt@kline_1m", False),
    (3, "btcusdt_perpetual@continuousKline_1m", False),
])  # fmt: skip
def test_frames_have_the_shape_of_captured_ones(
    shared_data: Path, line: int, stream: str, combined: bool
) -> None:
    captured = json.loads((shared_data / "frames" / "frames.jsonl").read_text().splitlines()[line])

    async def run() -> Any:
        path = f"/market/stream?streams={stream}" if combined else f"/market/ws/{stream}"
        async with exchange() as running, socket(running, path) as client:
            return await receive(client)

    pushed = asyncio.run(run())
    assert _shape(pushed) == _shape(captured)
    for payload, real in ((pushed, captured), (pushed.get("data"), captured.get("data"))):
        if real and "k" in real and real["e"] == "kline":
            decimals = {key: len(text.split(".")[1]) for key, text in real["k"].items() if key in "ochlvqVQ"}
            assert {key: len(payload["k"][key].split(".")[1]) for key in decimals} == decimals


def test_many_connections_share_the_frames_and_none_misses_a_close() -> None:
    async def run() -> None:
        source = ManualTime()
        async with exchange(source=source, speed=3600.0, symbols=MANY[:100]) as running:
            streams = "/".join(f"{symbol.lower()}@kline_1h" for symbol in MANY[:100])
            async with (
                socket(running, f"/market/stream?streams={streams}") as one,
                socket(running, f"/market/ws/{streams}") as two,
            ):
                seen: list[dict[str, list[int]]] = []
                for _ in range(8):
                    source.advance(0.5)
                    await asyncio.sleep(0)

                def all_closed(messages: list[dict[str, Any]]) -> bool:
                    last = messages[-1].get("data", messages[-1]) if messages else None
                    return (
                        last is not None
                        and last["k"]["x"]
                        and last["s"] == MANY[99]
                        and (last["k"]["t"] == START - 30 * MINUTE + 3 * HOUR)
                    )

                for client in (one, two):
                    messages = await receive_until(client, all_closed)
                    payloads = [message.get("data", message) for message in messages]
                    closed: dict[str, list[int]] = defaultdict(list)
                    for payload in payloads:
                        if payload["k"]["x"]:
                            closed[payload["s"]].append(payload["k"]["t"])
                    seen.append(closed)
                expected = [START - 30 * MINUTE + hour * HOUR for hour in range(4)]
                assert seen[0] == seen[1] == dict.fromkeys(MANY[:100], expected)

    asyncio.run(run())


class _Twice(Faults):
    """Sends every close twice and hangs up after the second one."""

    def __init__(self) -> None:
        self.closes = 0

    def push(self, connection: int, push: Push) -> tuple[Push | Hangup, ...]:
        if not push.closed:
            return ()
        self.closes += 1
        return (push, push) if self.closes < 3 else (Hangup(1011, "gone"),)


def test_faults_are_asked_before_a_push() -> None:
    async def run() -> None:
        source = ManualTime()
        async with (
            exchange(source=source, speed=60.0, faults=_Twice()) as running,
            socket(running, "/market/ws/btcusdt@kline_1m") as client,
        ):
            source.advance(3.5)
            opened = [(await receive(client))["k"]["t"] for _ in range(4)]
            assert opened == [START, START, START + MINUTE, START + MINUTE]
            await soon(client.wait_closed())
            assert client.close_code == 1011

    asyncio.run(run())


@pytest.mark.parametrize(
    ("value", "decimals", "text"), [(8308490, 2, "83084.90"), (5, 3, "0.005"), (0, 5, "0.00000"), (7, 0, "7")]
)
def test_decimals_are_printed_in_full(value: int, decimals: int, text: str) -> None:
    assert decimal_text(value, decimals) == text
