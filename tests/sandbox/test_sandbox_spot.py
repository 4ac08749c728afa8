"""The spot venue: its paths, limits, forms of numbers and archive, against values read off the market itself."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import zipfile
from typing import Any

import httpx
import numpy as np
import pytest
import websockets
from sandbox_support import (
    START,
    ask,
    browser,
    exchange,
    is_quiet,
    receive,
    receive_until,
    socket,
    soon,
)

from alpha_forge_sdk.sandbox import ManualTime, SandboxConfig, SandboxExchange
from alpha_forge_sdk.sandbox.bars import CLOSE, HIGH, LOW, OPEN, OPEN_TIME, QUOTE, TAKER_BASE, TRADES, VOLUME
from alpha_forge_sdk.sandbox.synthetic import SyntheticMarket
from alpha_forge_sdk.sandbox.venue import SPOT

MINUTE = 60_000


def test_streams_come_on_the_plain_paths_with_eight_decimals() -> None:
    async def run() -> tuple[list[dict[str, Any]], dict[str, Any], list[Any]]:
        async with exchange(venue="spot", speed=600.0) as running:
            async with socket(running, "/stream?streams=btcusdt@kline_1m/ethusdt@kline_1m") as client:
                messages = await receive_until(
                    client, lambda seen: sum(each["data"]["k"]["x"] for each in seen) >= 3
                )
            async with socket(running, "/ws") as client:
                await ask(client, "SUBSCRIBE", ["solusdt@kline_1m"], 1)
                raw = await receive(client)
            k = next(each["data"]["k"] for each in messages if each["data"]["k"]["x"])
            async with browser(running) as web:
                query = {"symbol": k["s"], "interval": "1m", "startTime": k["t"], "limit": 1}
                rows = (await web.get("/api/v3/klines", params=query)).json()
            return messages, raw, [k, *rows]

    messages, raw, (k, row) = asyncio.run(run())
    assert {each["stream"] for each in messages} == {"btcusdt@kline_1m", "ethusdt@kline_1m"}
    assert raw["e"] == "kline"
    assert row[:6] == [k["t"], k["o"], k["h"], k["l"], k["c"], k["v"]]
    for text in (*row[1:6], row[7], *row[9:11]):
        assert len(text.split(".")[1]) == 8


@pytest.mark.parametrize("path", ["/market/ws", "/market/stream", "/public/ws", "/wsx"])
def test_paths_of_futures_are_none_of_spot(path: str) -> None:
    async def run() -> int:
        async with exchange(venue="spot", hold=True) as running:
            with pytest.raises(websockets.InvalidStatus) as refused:
                async with socket(running, path):
                    pass
            return refused.value.response.status_code

    assert asyncio.run(run()) == 404


def test_the_plain_paths_stay_silent_for_futures() -> None:
    async def run() -> bool:
        time = ManualTime()
        async with exchange(source=time, speed=60.0) as running, socket(running, "/stream") as client:
            await ask(client, "SUBSCRIBE", ["btcusdt@kline_1m"], 1)
            time.advance(30.0)
            return await is_quiet(client)

    assert asyncio.run(run())


def test_more_than_five_messages_a_second_end_the_connection() -> None:
    async def run() -> tuple[int, int | None, str | None]:
        time = ManualTime()
        async with exchange(venue="spot", source=time) as running, socket(running, "/ws") as client:
            for number in range(30):
                await client.send(json.dumps({"method": "LIST_SUBSCRIPTIONS", "id": number}))
            answers = 0
            try:
                while True:
                    await soon(client.recv())
                    answers += 1
            except websockets.ConnectionClosed:
                return answers, client.close_code, client.close_reason

    assert asyncio.run(run()) == (SPOT.message_burst, 1008, "Too many requests")


def test_pings_come_every_twenty_seconds_and_a_silent_client_is_dropped_after_a_minute() -> None:
    async def run() -> tuple[float, float]:
        time = ManualTime()
        async with exchange(venue="spot", source=time) as running:
            reader, writer = await asyncio.open_connection(*running._address)
            writer.write(
                b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            )
            await soon(reader.readuntil(b"\r\n\r\n"))
            heard = bytearray()

            async def listen() -> None:
                while piece := await reader.read(1000):
                    heard.extend(piece)

            async def advance_until(text: bytes) -> float:
                while text not in heard and time.seconds() < 300:
                    time.advance(1.0)
                    await asyncio.sleep(0.001)
                return time.seconds()

            listener = asyncio.create_task(listen())
            first = await advance_until(b"\x89")
            dropped = await advance_until(b"Pong timeout")
            listener.cancel()
            writer.close()
            return first, dropped

    first, dropped = asyncio.run(run())
    assert 19 <= first <= 25
    assert 55 <= dropped <= 90


def _web(path: str, **query: Any) -> httpx.Response:
    async def run() -> httpx.Response:
        async with exchange(venue="spot", hold=True) as running, browser(running) as client:
            return await client.get(path, params=query)

    return asyncio.run(run())


def test_rest_has_the_limits_and_weights_of_spot() -> None:
    answer = _web("/api/v3/klines", symbol="BTCUSDT", interval="1m", limit=1500)
    assert len(answer.json()) == 1000
    assert answer.headers["X-MBX-USED-WEIGHT-1M"] == "2"
    info = _web("/api/v3/exchangeInfo", symbol="BTCUSDT")
    assert info.headers["X-MBX-USED-WEIGHT-1M"] == "20"
    assert [each["status"] for each in info.json()["symbols"]] == ["TRADING"]
    assert _web("/fapi/v1/klines", symbol="BTCUSDT", interval="1m").status_code == 404
    assert _web("/api/v3/klines", symbol="NOPE", interval="1m").json()["code"] == -1121


def test_archive_files_have_no_header_and_microseconds_from_2025() -> None:
    def lines(month: str) -> list[list[str]]:
        key = f"data/spot/monthly/klines/BTCUSDT/1h/BTCUSDT-1h-{month}.zip"
        answer = _web("/" + key)
        assert answer.status_code == 200, key
        with zipfile.ZipFile(io.BytesIO(answer.content)) as opened:
            return list(csv.reader(io.StringIO(opened.read(opened.namelist()[0]).decode())))

    old, new = lines("2024-12"), lines("2025-01")
    assert (len(old), len(new)) == (744, 744)
    assert (old[0][0], old[0][6]) == ("1733011200000", "1733014799999")
    assert (new[0][0], new[0][6]) == ("1735689600000000", "1735693199999999")
    assert all(len(row[4].split(".")[1]) == 8 for row in old + new)
    assert _web("/data/futures/um/monthly/klines/BTCUSDT/1h/BTCUSDT-1h-2024-12.zip").status_code == 404
    listing = _web("/", prefix="data/spot/daily/klines/BTCUSDT/", delimiter="/").text
    assert "data/spot/daily/klines/BTCUSDT/1s/" in listing


@pytest.mark.parametrize("symbol", ["BTCUSDT", "SYM007USDT"])
def test_sixty_seconds_are_their_minute(symbol: str) -> None:
    market = SyntheticMarket(3, (symbol,))
    seconds = market.bars(symbol, "1s", START, START + 30 * MINUTE)
    minutes = market.bars(symbol, "1m", START, START + 30 * MINUTE)
    assert seconds.shape == (12, 1800)
    assert (np.diff(seconds[OPEN_TIME]) == 1000).all()
    parts = seconds.reshape(12, 30, 60)
    assert (parts[OPEN, :, 0] == minutes[OPEN]).all()
    assert (parts[CLOSE, :, -1] == minutes[CLOSE]).all()
    assert (parts[HIGH].max(axis=1) == minutes[HIGH]).all()
    assert (parts[LOW].min(axis=1) == minutes[LOW]).all()
    for column in (VOLUME, QUOTE, TRADES, TAKER_BASE):
        assert (parts[column].sum(axis=1) == minutes[column]).all()
    assert (seconds[HIGH] >= np.maximum(seconds[OPEN], seconds[CLOSE])).all()
    assert (seconds[LOW] <= np.minimum(seconds[OPEN], seconds[CLOSE])).all()
    quiet = seconds[:, seconds[TRADES] == 0]
    assert (quiet[VOLUME] == 0).all()
    assert (quiet[HIGH] == quiet[LOW]).all()


def test_bars_of_a_second_are_streamed() -> None:
    async def run() -> list[dict[str, Any]]:
        async with (
            exchange(venue="spot", speed=60.0) as running,
            socket(running, "/ws/btcusdt@kline_1s") as one,
        ):
            return await receive_until(one, lambda seen: sum(each["k"]["x"] for each in seen) >= 20)

    closed = [each["k"] for each in asyncio.run(run()) if each["k"]["x"]]
    opened = [k["t"] for k in closed]
    assert opened == list(range(opened[0], opened[0] + 1000 * len(opened), 1000))
    assert all(k["T"] == k["t"] + 999 for k in closed)


def test_errors_of_control_messages_are_bare() -> None:
    async def run() -> dict[str, Any]:
        async with exchange(venue="spot", hold=True) as running, socket(running, "/ws") as client:
            await client.send(json.dumps({"method": "NOPE", "id": 3}))
            return await receive(client)

    answer = asyncio.run(run())
    assert (answer["code"], answer["id"]) == (2, 3)


def test_an_unknown_venue_is_refused() -> None:
    with pytest.raises(ValueError, match=r"venue 'perp': it is one of usdm, spot"):
        SandboxExchange(SandboxConfig(venue="perp"))
