"""REST: parameters, defaults, errors, weights and bodies."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sandbox_support import HOUR, SMALL, START, browser, exchange

from alpha_forge_sdk.sandbox import Faults, ManualTime
from alpha_forge_sdk.sandbox.exchange_info import futures_info
from alpha_forge_sdk.sandbox.http import Response, json_response, parse_head
from alpha_forge_sdk.sandbox.rest import RestApi
from alpha_forge_sdk.sandbox.skeleton import ANCHOR_MS
from alpha_forge_sdk.sandbox.synthetic import SyntheticMarket
from alpha_forge_sdk.sandbox.weight import FIRST_BAN_MS, PATIENCE, WeightLedger

OPEN_BAR = START - HOUR // 2  # the hour in progress at START


@pytest.fixture(scope="module")
def market() -> SyntheticMarket:
    return SyntheticMarket(1, SMALL)


@pytest.fixture
def api(market: SyntheticMarket) -> RestApi:
    return RestApi(market)


def get(
    api: RestApi, target: str, now: float = START, address: str = "127.0.0.1"
) -> tuple[int, Any, Response]:
    """Status, decoded body and response of a GET."""
    request = parse_head(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    response = api.answer(request, address, now, now)
    return response.status, json.loads(response.body), response


def klines(api: RestApi, **query: Any) -> list[list[Any]]:
    target = "/fapi/v1/klines?" + "&".join(f"{name}={value}" for name, value in query.items())
    status, rows, _ = get(api, target)
    assert status == 200, rows
    return rows


def opens(rows: list[list[Any]]) -> list[int]:
    return [row[0] for row in rows]


def test_without_times_the_latest_rows_and_the_open_candle_last(api: RestApi) -> None:
    rows = klines(api, symbol="BTCUSDT", interval="1h")
    assert opens(rows) == [OPEN_BAR - HOUR * back for back in range(499, -1, -1)]
    assert rows[-1][6] == OPEN_BAR + HOUR - 1 >= START
    assert klines(api, symbol="BTCUSDT", interval="1h", limit=1) == rows[-1:]


def test_with_a_start_the_oldest_rows_from_there(api: RestApi) -> None:
    rows = klines(api, symbol="BTCUSDT", interval="1h", startTime=OPEN_BAR - 10 * HOUR - 1, limit=3)
    assert opens(rows) == [OPEN_BAR - 10 * HOUR, OPEN_BAR - 9 * HOUR, OPEN_BAR - 8 * HOUR]
    assert opens(klines(api, symbol="BTCUSDT", interval="1h", startTime=0, limit=2)) == [
        ANCHOR_MS,
        ANCHOR_MS + HOUR,
    ]
    up_to_now = klines(api, symbol="BTCUSDT", interval="1h", startTime=OPEN_BAR - HOUR, limit=5)
    assert opens(up_to_now) == [OPEN_BAR - HOUR, OPEN_BAR]


def test_with_an_end_the_latest_rows_up_to_it(api: RestApi) -> None:
    rows = klines(api, symbol="BTCUSDT", interval="1h", endTime=OPEN_BAR - HOUR, limit=2)
    assert opens(rows) == [OPEN_BAR - 2 * HOUR, OPEN_BAR - HOUR]
    rows = klines(api, symbol="BTCUSDT", interval="1h", endTime=OPEN_BAR - 1, limit=1)
    assert opens(rows) == [OPEN_BAR - HOUR]
    assert klines(api, symbol="BTCUSDT", interval="1h", endTime=ANCHOR_MS - 1) == []


def test_with_both_times_from_the_start_capped(api: RestApi) -> None:
    span = {"startTime": OPEN_BAR - 5 * HOUR, "endTime": OPEN_BAR - 2 * HOUR}
    assert opens(klines(api, symbol="BTCUSDT", interval="1h", **span, limit=2)) == [
        OPEN_BAR - 5 * HOUR,
        OPEN_BAR - 4 * HOUR,
    ]
    assert len(klines(api, symbol="BTCUSDT", interval="1h", **span)) == 4
    assert (
        klines(api, symbol="BTCUSDT", interval="1h", startTime=START + HOUR, endTime=START + 2 * HOUR) == []
    )


@pytest.mark.parametrize("interval", ["1m", "15m", "4h", "1d", "3d", "1w", "1M"])
def test_paging_forward_meets_paging_backward(api: RestApi, interval: str) -> None:
    latest = klines(api, symbol="ETHUSDT", interval=interval, limit=8)
    again = klines(api, symbol="ETHUSDT", interval=interval, startTime=latest[0][0], limit=8)
    assert again == latest
    assert all(after[0] == before[6] + 1 for before, after in pairwise(latest))


def test_the_open_candle_becomes_the_closed_one(api: RestApi) -> None:
    (running,) = klines(api, symbol="BTCUSDT", interval="1h", limit=1)
    target = f"/fapi/v1/klines?symbol=BTCUSDT&interval=1h&startTime={OPEN_BAR}&limit=1"
    (closed,) = get(api, target, OPEN_BAR + HOUR)[1]
    assert running[:2] == closed[:2]
    assert float(running[5]) < float(closed[5])
    assert get(api, target, START + 100 * HOUR)[1] == [closed]


@pytest.mark.parametrize(
    ("query", "code", "text"),
    [
        ("interval=1h", -1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed."),
        (
            "symbol=BTCUSDT",
            -1102,
            "Mandatory parameter 'interval' was not sent, was empty/null, or malformed.",
        ),
        ("symbol=NOPE&interval=1h", -1121, "Invalid symbol."),
        ("symbol=btcusdt&interval=1h", -1121, "Invalid symbol."),
        ("symbol=BTCUSDT&interval=7m", -1120, "Invalid interval."),
        ("symbol=BTCUSDT&interval=1s", -1120, "Invalid interval."),
        ("symbol=BTCUSDT&interval=1h&limit=1501", -1130, "Data sent for parameter 'limit' is not valid."),
        ("symbol=BTCUSDT&interval=1h&limit=0", -1130, "Data sent for parameter 'limit' is not valid."),
        ("symbol=BTCUSDT&interval=1h&startTime=2&endTime=1", -1023, "Start time is greater than end time."),
    ],
)
def test_errors_have_the_exchange_s_bodies_and_cost_weight(
    api: RestApi, query: str, code: int, text: str
) -> None:
    status, body, response = get(api, "/fapi/v1/klines?" + query)
    assert (status, body) == (400, {"code": code, "msg": text})
    assert int(response.headers["X-MBX-USED-WEIGHT-1M"]) > 0


@pytest.mark.parametrize(
    ("limit", "weight"),
    [(None, 5), (1, 1), (100, 1), (101, 2), (500, 2), (501, 5), (1000, 5), (1001, 10), (1500, 10)],
)
def test_weights_as_measured(api: RestApi, limit: int | None, weight: int) -> None:
    query = "symbol=BTCUSDT&interval=1d" + (f"&limit={limit}" if limit else "")
    response = get(api, "/fapi/v1/klines?" + query)[2]
    assert response.headers["X-MBX-USED-WEIGHT-1M"] == str(weight)


def test_the_budget_is_per_address_and_fixed_minute(api: RestApi) -> None:
    target = "/fapi/v1/klines?symbol=BTCUSDT&interval=1d&limit=1500"
    for _ in range(240):
        assert get(api, target)[0] == 200
    status, body, response = get(api, target, START + 20_500)
    assert (status, response.headers["Retry-After"]) == (429, "40")
    assert body["code"] == -1003
    assert body["msg"].startswith(
        "Too many requests; current limit of IP(127.0.0.1) is 2400 requests per minute."
    )
    assert get(api, target, address="10.0.0.1")[0] == 200
    assert get(api, "/api/v3/ping")[0] == 200, "spot has a budget of its own"
    assert get(api, target, START + 60_000)[0] == 200


def test_who_ignores_429_is_banned(api: RestApi) -> None:
    ledger = WeightLedger(10)
    assert ledger.charge("a", 10, 0).status == 200
    statuses = [ledger.charge("a", 1, 1000).status for _ in range(PATIENCE + 2)]
    assert statuses == [429] * PATIENCE + [418, 418]
    assert ledger.charge("a", 1, 60_000).status == 418
    assert ledger.charge("a", 1, 1000 + FIRST_BAN_MS).status == 200


def test_retry_after_is_in_real_seconds(market: SyntheticMarket) -> None:
    api = RestApi(market, speed=10.0)
    for _ in range(240):
        get(api, "/fapi/v1/klines?symbol=BTCUSDT&interval=1d&limit=1500")
    response = get(api, "/fapi/v1/klines?symbol=BTCUSDT&interval=1d&limit=1500")[2]
    assert (response.status, response.headers["Retry-After"]) == (429, "6")


def test_continuous_klines_are_those_of_the_perpetual(api: RestApi) -> None:
    query = "pair=BTCUSDT&contractType=PERPETUAL&interval=1h&limit=3"
    assert get(api, "/fapi/v1/continuousKlines?" + query)[1] == klines(
        api, symbol="BTCUSDT", interval="1h", limit=3
    )
    assert get(api, "/fapi/v1/continuousKlines?pair=BTCUSDT&interval=1h")[1]["code"] == -1102
    query = query.replace("PERPETUAL", "CURRENT_QUARTER")
    assert get(api, "/fapi/v1/continuousKlines?" + query)[1] == []


def test_ping_time_and_unknown_paths(api: RestApi) -> None:
    for base in ("/fapi/v1", "/api/v3"):
        assert get(api, base + "/ping")[:2] == (200, {})
        assert get(api, base + "/time", START + 0.9)[:2] == (200, {"serverTime": START})
    assert get(api, "/fapi/v1/nope")[0] == 404


def test_spot_klines_take_microseconds_and_clamp_the_limit(api: RestApi) -> None:
    base = "/api/v3/klines?symbol=BTCUSDT&interval=1h"
    rows = get(api, f"{base}&startTime={(OPEN_BAR - HOUR) * 1000}")[1]
    assert opens(rows) == [OPEN_BAR - HOUR, OPEN_BAR]
    assert len(get(api, base + "&limit=5000")[1]) == 1000


def test_spot_exchange_info_filters_symbols(api: RestApi) -> None:
    named = get(api, "/api/v3/exchangeInfo?symbol=ETHUSDT")[1]["symbols"]
    assert [item["symbol"] for item in named] == ["ETHUSDT"]
    named = get(api, '/api/v3/exchangeInfo?symbols=["BTCUSDT","ETHUSDT"]'.replace('"', "%22"))[1]["symbols"]
    assert [item["symbol"] for item in named] == ["BTCUSDT", "ETHUSDT"]
    assert get(api, "/api/v3/exchangeInfo?symbol=NOPE")[1]["code"] == -1121


@pytest.mark.real_data
def test_exchange_info_has_every_key_of_the_real_one(market: SyntheticMarket, shared_data: Path) -> None:
    real = json.loads((shared_data / "frames" / "rest_fapi_exchangeInfo_trimmed.json").read_text())
    ours = futures_info(market, START)
    assert list(ours) == list(real)
    assert ours["rateLimits"] == real["rateLimits"]
    assert [item["symbol"] for item in ours["symbols"]] == list(SMALL)
    for item in ours["symbols"]:
        assert list(item) == list(real["symbols"][0])
        kinds = [entry["filterType"] for entry in item["filters"]]
        assert kinds == [entry["filterType"] for entry in real["symbols"][0]["filters"]]
    bitcoin = ours["symbols"][0]
    for key in ("pricePrecision", "quantityPrecision", "status", "contractType", "deliveryDate", "baseAsset"):
        assert bitcoin[key] == real["symbols"][0][key]


@pytest.mark.real_data
def test_rows_have_the_shape_of_captured_ones(api: RestApi, shared_data: Path) -> None:
    real = json.loads((shared_data / "frames" / "rest_fapi_klines_BTCUSDT_1m_limit2.json").read_text())
    ours = klines(api, symbol="BTCUSDT", interval="1m", limit=2)

    def shape(row: list[Any]) -> list[tuple[type, int]]:
        return [(type(cell), len(cell.partition(".")[2]) if isinstance(cell, str) else 0) for cell in row]

    assert [shape(row) for row in ours] == [shape(row) for row in real]


class _Overloaded(Faults):
    def rest(self, path: str, response: Response, now_ms: float) -> Response:
        return json_response({"code": -1007, "msg": "Timeout"}, 503) if path.endswith("klines") else response

    def accept(self, path: str, now_ms: float) -> Response | None:
        return json_response({}, 503)


def test_over_the_wire_with_keep_alive_and_faults() -> None:
    async def run() -> None:
        async with exchange(source=ManualTime(), faults=_Overloaded()) as running, browser(running) as client:
            for _ in range(3):
                assert (await client.get("/fapi/v1/time")).json() == {"serverTime": START}
            assert (await client.get("/fapi/v1/klines")).status_code == 503
            assert (await client.post("/fapi/v1/time", content=b"x" * 10)).status_code == 405
            head = await client.head("/fapi/v1/time")
            assert (head.status_code, head.content) == (200, b"")
            assert (await client.get("/nowhere")).status_code == 404
            assert (await client.get("/fapi/v1/time")).headers["x-mbx-used-weight-1m"]

    asyncio.run(run())


def test_the_history_of_many_symbols_loads_while_the_clock_is_held() -> None:
    async def run() -> None:
        source = ManualTime()
        async with exchange(source=source, hold=True) as running, browser(running) as client:
            target = "/fapi/v1/klines?symbol=BTCUSDT&interval=1d&limit=1500"
            for _ in range(240):
                assert (await client.get(target)).status_code == 200
            assert (await client.get(target)).status_code == 429
            source.advance(60)
            assert (await client.get(target)).status_code == 200
            assert running.clock.now_ms() == START

    asyncio.run(run())
