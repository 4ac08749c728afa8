"""Frames: what is a bar, what is closed, what may go unread; nothing raises."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpha_forge_plugins.market.binance.messages import (
    Ack,
    Foreign,
    FrameDecoder,
    Refusal,
    Shutdown,
    Unreadable,
    request,
)
from alpha_forge_sdk import Interval, MarketEvent

OPEN_MS = 1_767_573_000_000


def frame(*, spaces: bool = False, raw: bool = False, **changes: Any) -> bytes:
    """A combined kline frame of BTCUSDT 1m; `changes` go into ``k``."""
    kline = {
        "t": OPEN_MS,
        "T": OPEN_MS + 59_999,
        "s": "BTCUSDT",
        "i": "1m",
        "f": 1,
        "L": 9,
        "o": "1.5",
        "c": "2.5",
    }
    kline |= {"h": "3.5", "l": "0.5", "v": "7.25", "n": 9, "x": False, "q": "9", "V": "8", "Q": "7", "B": "0"}
    kline |= changes
    payload = {"e": "kline", "E": OPEN_MS + 100, "s": kline["s"], "k": kline}
    message = payload if raw else {"stream": f"{str(kline['s']).lower()}@kline_{kline['i']}", "data": payload}
    return json.dumps(message, separators=None if spaces else (",", ":")).encode()


def decoder(interval: str = "1m", *symbols: str) -> FrameDecoder:
    return FrameDecoder(symbols or ("BTCUSDT", "ETHUSDT"), Interval.parse(interval))


def captured(folder: Path) -> list[bytes]:
    return (folder / "frames" / "frames.jsonl").read_bytes().splitlines()


@pytest.mark.real_data
def test_every_captured_kline_reads_as_json_says_to_the_last_digit(shared_data: Path) -> None:
    read = 0
    for line in captured(shared_data):
        message = json.loads(line)
        payload = message.get("data", message)
        kline = payload["k"]
        event = decoder(kline["i"], payload.get("s", "-")).read(line, 0.0)
        if payload["e"] != "kline":
            assert event == Foreign(payload["e"])
            continue
        assert isinstance(event, MarketEvent)
        assert event.bar is not None
        assert event.closed is kline["x"]
        assert event.symbol == payload["s"]
        # repr is the shortest decimal that reads back as this float: equal, nothing was lost on the way.
        assert [Decimal(repr(value)) for value in event.bar[1:]] == [Decimal(kline[key]) for key in "ohlcv"]
        assert event.ts == event.bar.ts == (kline["T"] + 1) * 1_000_000
        read += 1
    assert read == 14 - 1


@pytest.mark.real_data
def test_captured_streams_are_noted_as_heard_and_told_apart(shared_data: Path) -> None:
    """One decoder a market reads all of its frames, combined or raw, and notes when each stream spoke."""
    frames = [line for line in captured(shared_data) if json.loads(line).get("data", {}).get("e") == "kline"]
    assert frames
    for now, line in enumerate(frames, start=1):
        message = json.loads(line)
        kline = message["data"]["k"]
        d = decoder(kline["i"], kline["s"], "OTHERUSDT")
        d.read(line, float(now))
        heard = {name.decode(): stream.seen for name, stream in d.streams.items()}
        assert heard.pop(message["stream"]) == now
        assert set(heard.values()) == {None}


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("spaces", [False, True])
@pytest.mark.parametrize("closed", [False, True])
def test_a_bar_is_closed_only_if_it_says_so_however_it_is_spaced(
    raw: bool, spaces: bool, closed: bool
) -> None:
    event = decoder().read(frame(raw=raw, spaces=spaces, x=closed), 0.0)
    assert isinstance(event, MarketEvent)
    assert event.closed is closed
    assert event.bar == (OPEN_MS * 10**6 + 60 * 10**9, 1.5, 3.5, 0.5, 2.5, 7.25)


def test_of_a_bar_in_progress_the_first_frame_passes_and_then_one_a_second() -> None:
    d = decoder()
    assert d.read(frame(), 10.0) is not None
    assert d.read(frame(c="2.6"), 10.9) is None
    assert d.read(frame(c="2.7"), 11.1) is not None
    assert d.read(frame(t=OPEN_MS + 60_000), 11.2) is not None, "a new bar shows at once"
    assert d.read(frame(s="ETHUSDT"), 11.2) is not None, "streams don't shed each other"


def test_a_closed_bar_is_never_shed() -> None:
    d = decoder()
    for _ in range(3):
        event = d.read(frame(x=True), 10.0)
        assert isinstance(event, MarketEvent)
        assert event.closed


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"i": "5m"}, "interval"),
        ({"s": "XRPUSDT"}, "not subscribed"),
        ({"t": OPEN_MS + 1}, "off the grid"),
        ({"c": "NaN"}, ""),
        ({"h": "Infinity"}, ""),
        ({"o": None}, ""),
        ({"x": None}, ""),
        ({"v": "abc"}, ""),
    ],
)
def test_what_is_no_bar_of_ours_is_unreadable_and_says_why(changes: dict[str, Any], reason: str) -> None:
    event = decoder().read(frame(**{"x": True} | changes), 0.0)
    assert isinstance(event, Unreadable)
    assert reason in event.reason


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"result": None, "id": 7}, Ack(7)),
        ({"result": None, "id": "0c4e"}, Ack("0c4e")),
        ({"code": 2, "msg": "Invalid request: x"}, Refusal(2, "Invalid request: x")),
        ({"error": {"code": 3, "msg": "Invalid JSON"}}, Refusal(3, "Invalid JSON")),
        (
            {"error": {"code": 4, "msg": "Too many subscriptions"}, "id": 3},
            Refusal(4, "Too many subscriptions"),
        ),
        ({"e": "serverShutdown", "E": 1}, Shutdown()),
        ({"stream": "!serverShutdown", "data": {"e": "serverShutdown", "E": 1}}, Shutdown()),
    ],
)
def test_control_messages_in_every_form_that_is_seen(message: dict[str, Any], expected: object) -> None:
    assert decoder().read(json.dumps(message, separators=(",", ":")).encode(), 0.0) == expected


@pytest.mark.parametrize(
    ("message", "event"),
    [
        ({"e": "aggTrade", "E": 1, "s": "BTCUSDT"}, "aggTrade"),
        ({"stream": "btcusdt@depth", "data": {"e": "depthUpdate", "b": []}}, "depthUpdate"),
        ({"stream": "!x", "data": {"e": "somethingNew", "k": None}}, "somethingNew"),
    ],
)
def test_events_that_nobody_asked_for_are_no_fault(message: dict[str, Any], event: str) -> None:
    assert decoder().read(json.dumps(message).encode(), 0.0) == Foreign(event)


@pytest.mark.parametrize(
    "text",
    [
        '{"code": "2", "msg": "text where a number belongs"}',
        '{"error": {"code": null}}',
        '{"stream": "x", "data": []}',
        '{"e": "kline", "s": "BTCUSDT", "k": null}',
        '{"e": 7}',
        "[" * 100_000,
        '{"a":' * 100_000,
        "null",
        '""',
        "",
        "\x00",
        '{"stream":"btcusdt@kline_1m","data":{"e":"kline","s":"BTCUSDT","k":{"t":1e400}}}',
        frame(t=10**18, x=True).decode(),
        frame(t=-60_000, x=True).decode(),
        frame(x=True).decode()[:-20],
        frame(x=True).decode() + "}",
    ],
)
def test_garbage_is_unreadable_and_raises_nothing(text: str) -> None:
    answer = decoder().read(text.encode(), 0.0)
    assert isinstance(answer, Unreadable)
    assert len(answer.reason) < 400


@pytest.mark.parametrize("at", [b'"e":"kline"', b'"s":"BTCUSDT"', b'"i":"1m"', b'"c":"2.5"'])
def test_bytes_that_are_no_utf8_inside_a_sound_frame_raise_nothing(at: bytes) -> None:
    good = frame(x=True)
    assert at in good
    broken = good.replace(at, at[:-2] + b'\xff"')
    assert isinstance(decoder().read(broken, 0.0), Unreadable)


@pytest.mark.parametrize("broken", [b"\xff\xfe\x80", b"\xc3\x28"])
def test_a_text_that_is_no_utf_8_is_unreadable(broken: bytes) -> None:
    for where in (b'"kline"', b'"BTCUSDT"', b'"1m"'):
        data = frame(x=True).replace(where, where[:3] + broken + where[3:])
        assert broken in data
        assert isinstance(decoder().read(data, 0.0), Unreadable)


def test_a_name_that_is_escaped_in_the_envelope_is_heard_too() -> None:
    d = decoder("1m", "币安人生USDT")
    text = frame(s="币安人生USDT", x=True)
    assert b"\\u" in text, "json.dumps escapes what is not ASCII"
    assert isinstance(d.read(text, 7.0), MarketEvent)
    raw = json.dumps(json.loads(text), ensure_ascii=False, separators=(",", ":")).encode()
    (stream,) = d.streams.values()
    assert stream.seen == 7.0
    assert isinstance(d.read(raw, 8.0), MarketEvent)
    assert stream.seen == 8.0


@given(
    st.binary(max_size=300) | st.just(frame()).flatmap(lambda f: st.integers(0, len(f)).map(lambda n: f[:n]))
)
def test_no_bytes_raise(data: bytes) -> None:
    decoder().read(data, 0.0)


@given(st.decimals(min_value=Decimal("1e-9"), max_value=Decimal("1e9"), places=9))
def test_prices_are_the_nearest_floats(price: Decimal) -> None:
    event = decoder().read(frame(c=str(price), x=True), 0.0)
    assert isinstance(event, MarketEvent)
    assert event.bar is not None
    assert event.bar.close == float(str(price))


def test_requests_are_the_exchange_s_form() -> None:
    assert json.loads(request("SUBSCRIBE", ["a@kline_1m"], 3)) == {
        "method": "SUBSCRIBE",
        "params": ["a@kline_1m"],
        "id": 3,
    }
