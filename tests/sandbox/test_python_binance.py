"""An independent client, unchanged but for its base URLs, reads the sandbox."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sandbox_support import HOUR, START, exchange, soon

from alpha_forge_sdk.sandbox import FaultScript

binance = pytest.importorskip("binance")


def _point_at(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setattr(binance.AsyncClient, "API_URL", url + "/api")
    monkeypatch.setattr(binance.AsyncClient, "FUTURES_URL", url + "/fapi")


def test_python_binance_reads_klines_and_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> tuple[list[list[Any]], list[dict[str, Any]], dict[str, Any], list[list[Any]]]:
        async with exchange(speed=3600.0, hold=True) as running:
            _point_at(monkeypatch, running.url)
            client = await soon(binance.AsyncClient.create())
            try:
                rows = await soon(client.futures_klines(symbol="BTCUSDT", interval="1h", limit=3))
                info = await soon(client.futures_exchange_info())
                manager = binance.BinanceSocketManager(client)
                manager.FSTREAM_URL = running.url.replace("http://", "ws://") + "/"
                messages = []
                async with manager.futures_multiplex_socket(
                    ["btcusdt@kline_1h", "ethusdt@kline_1h"]
                ) as stream:
                    while sum(message["data"]["k"]["x"] for message in messages) < 4:
                        messages.append(await soon(stream.recv()))
                after = await soon(client.futures_klines(symbol="BTCUSDT", interval="1h", limit=10))
            finally:
                await client.close_connection()
            return rows, messages, info, after

    rows, messages, info, after = asyncio.run(run())
    assert [row[0] for row in rows] == [START - HOUR // 2 - HOUR * back for back in (2, 1, 0)]
    assert info["futuresType"] == "U_MARGINED"
    closed = [message["data"]["k"] for message in messages if message["data"]["k"]["x"]]
    bitcoin = [k for k in closed if k["s"] == "BTCUSDT"]
    assert [k["t"] for k in bitcoin[:2]] == [START - HOUR // 2, START + HOUR // 2]
    by_open = {row[0]: row for row in after}
    for k in bitcoin:
        assert by_open[k["t"]][1:6] == [k["o"], k["h"], k["l"], k["c"], k["v"]]


def test_python_binance_reads_a_single_kline_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> dict[str, Any]:
        async with exchange(speed=60.0) as running:
            _point_at(monkeypatch, running.url)
            client = await soon(binance.AsyncClient.create())
            try:
                manager = binance.BinanceSocketManager(client)
                manager.FSTREAM_URL = running.url.replace("http://", "ws://") + "/"
                async with manager.kline_futures_socket("BTCUSDT", interval="1m") as stream:
                    message: dict[str, Any] = await soon(stream.recv())
                    return message
            finally:
                await client.close_connection()

    message = asyncio.run(run())
    assert message["e"] in ("continuous_kline", "kline")
    assert message["k"]["i"] == "1m"


def test_python_binance_reads_spot(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> tuple[list[list[Any]], list[dict[str, Any]], dict[str, Any]]:
        async with exchange(venue="spot", speed=3600.0, hold=True) as running:
            _point_at(monkeypatch, running.url)
            client = await soon(binance.AsyncClient.create())
            try:
                info = await soon(client.get_symbol_info("BTCUSDT"))
                manager = binance.BinanceSocketManager(client)
                manager.STREAM_URL = running.url.replace("http://", "ws://") + "/"
                messages = []
                async with manager.multiplex_socket(["btcusdt@kline_1h", "ethusdt@kline_1h"]) as stream:
                    while sum(message["data"]["k"]["x"] for message in messages) < 4:
                        messages.append(await soon(stream.recv()))
                rows = await soon(client.get_klines(symbol="BTCUSDT", interval="1h", limit=10))
            finally:
                await client.close_connection()
            return rows, messages, info

    rows, messages, info = asyncio.run(run())
    assert info["status"] == "TRADING"
    by_open = {row[0]: row for row in rows}
    closed = [message["data"]["k"] for message in messages if message["data"]["k"]["x"]]
    bitcoin = [k for k in closed if k["s"] == "BTCUSDT"]
    assert bitcoin
    for k in bitcoin:
        assert by_open[k["t"]][1:6] == [k["o"], k["h"], k["l"], k["c"], k["v"]]


@pytest.mark.parametrize(
    ("rule", "status", "code"),
    [("kind: http_429", 429, -1003), ("kind: http_418", 418, -1003), ("kind: http_5xx", 503, -1001)],
)
def test_python_binance_understands_the_refusals(
    monkeypatch: pytest.MonkeyPatch, rule: str, status: int, code: int
) -> None:
    script = FaultScript.parse(f"faults: [{{{rule}, symbols: [BTCUSDT]}}]")

    async def run() -> Any:
        async with exchange(faults=script, hold=True) as running:
            _point_at(monkeypatch, running.url)
            client = await soon(binance.AsyncClient.create())
            try:
                with pytest.raises(binance.exceptions.BinanceAPIException) as refused:
                    await soon(client.futures_klines(symbol="BTCUSDT", interval="1h"))
                return refused.value
            finally:
                await client.close_connection()

    error = asyncio.run(run())
    assert (error.status_code, error.code) == (status, code)
