"""REST: weights, pages, rows, refusals, the budget, and the loop around them."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpha_forge_plugins.market.binance import rest, rest_client
from alpha_forge_plugins.market.binance.budget import MINUTE, WeightBudget
from alpha_forge_plugins.market.binance.rest_client import RestClient
from alpha_forge_plugins.market.binance.venue import SPOT, USDM, Venue
from alpha_forge_sdk import Interval, SourceError

HOUR = Interval.parse("1h")
T0 = 1_767_573_000 * 10**9


# The table of the documentation and the measured one, the heavier of the two at their edges.
@pytest.mark.parametrize(
    ("limit", "weight"), [(1, 1), (99, 1), (100, 2), (499, 2), (500, 5), (1000, 5), (1001, 10), (1500, 10)]
)
def test_weight_by_limit(limit: int, weight: int) -> None:
    assert USDM.klines_weight(limit) == weight


@pytest.mark.parametrize("limit", [1, 100, 1000])
def test_spot_weighs_the_same_for_every_limit(limit: int) -> None:
    assert SPOT.klines_weight(limit) == 2


@pytest.mark.parametrize(("venue", "most"), [(USDM, 1500), (SPOT, 1000)])
def test_more_rows_than_a_page_holds_have_no_weight(venue: Venue, most: int) -> None:
    with pytest.raises(ValueError, match=str(most)):
        venue.klines_weight(most + 1)


def weight_of(limit: int, venue: Venue) -> int:
    """By the documentation's table, written down a second time."""
    if venue is SPOT:
        return 2
    return 1 if limit < 100 else 2 if limit < 500 else 5 if limit <= 1000 else 10


@given(st.integers(0, 20_000), st.sampled_from([USDM, SPOT]))
def test_page_sizes_sum_up_and_weigh_no_more_than_equal_pages(rows: int, venue: Venue) -> None:
    sizes = rest.page_sizes(rows, venue)
    most = 1000 if venue is SPOT else 1500
    assert sum(sizes) == rows
    assert all(1 <= size <= most for size in sizes)
    weight = sum(weight_of(size, venue) for size in sizes)
    assert weight == rest.pages_weight(sizes, venue)
    for size in (99, 499, 1000, most):
        full, part = divmod(rows, size)
        assert weight <= full * weight_of(size, venue) + (weight_of(part, venue) if part else 0)


@pytest.mark.parametrize(
    ("rows", "venue", "sizes"),
    [
        (0, USDM, []),
        (38, USDM, [38]),
        (598, USDM, [499, 99]),
        (998, USDM, [499, 499]),
        (999, USDM, [999]),
        (1188, USDM, [499, 499, 190]),
        (1188, SPOT, [1000, 188]),
        (1000, SPOT, [1000]),
    ],
)
def test_page_sizes_by_hand(rows: int, venue: Venue, sizes: list[int]) -> None:
    assert rest.page_sizes(rows, venue) == sizes


@given(st.integers(0, 5000), st.integers(0, 5000), st.sampled_from([USDM, SPOT]))
def test_pages_hold_every_bar_of_the_range_once(start: int, rows: int, venue: Venue) -> None:
    opens: list[int] = []
    for page in rest.pages(HOUR.ts(start), HOUR.ts(start + rows), HOUR, venue):
        mine = list(range(page.first, page.last + 1, 3_600_000))
        assert len(mine) == page.limit
        opens += mine
    assert opens == [(start + k) * 3_600_000 for k in range(rows)]


def test_captured_rows_read_as_json_says(shared_data: Path) -> None:
    body = (shared_data / "frames" / "rest_fapi_klines_BTCUSDT_1m_limit2.json").read_bytes()
    ts, values = rest.parse_klines(body, Interval.parse("1m"))
    rows = json.loads(body)
    assert ts.tolist() == [(row[6] + 1) * 10**6 for row in rows]
    assert values.T.tolist() == [[float(text) for text in row[1:6]] for row in rows]


def test_captured_exchange_info(shared_data: Path) -> None:
    body = (shared_data / "frames" / "rest_fapi_exchangeInfo_trimmed.json").read_bytes()
    info = rest.parse_exchange_info(body, USDM)
    assert info.tradable == {"BTCUSDT"}
    assert (info.weight_per_minute, info.server_time) == (2400, 1_791_362_591_474)


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b'[["a"]]', b"[[1,2]]", b'{"code":-1,"msg":"x"}'])
def test_bodies_of_another_shape_are_value_errors(body: bytes) -> None:
    with pytest.raises(ValueError):
        rest.parse_klines(body, HOUR)
    with pytest.raises(ValueError):
        rest.parse_exchange_info(body, USDM)
    with pytest.raises(ValueError):
        rest.parse_server_time(body)


def test_no_data_is_no_rows() -> None:
    ts, values = rest.parse_klines(b"[]", HOUR)
    assert ts.shape == (0,)
    assert values.shape == (5, 0)


def test_a_wait_goes_by_header_then_by_the_ban_then_to_the_next_minute() -> None:
    ban = "Way too many requests; IP(1.2.3.4) banned until 1746327239762. Please use the websocket."
    assert rest.wait_until(T0, "7", ban) == T0 + 7 * 10**9
    assert rest.wait_until(T0, None, ban) == 1746327239762 * 10**6
    assert rest.wait_until(T0, None, "Too many requests") == (T0 // MINUTE + 1) * MINUTE


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (451, b'{"code":0,"msg":"Service unavailable from a restricted location"}', "AF5004"),
        (400, b'{"code":-1121,"msg":"Invalid symbol."}', "AF5003"),
        (400, b'{"code":-1120,"msg":"Invalid interval."}', "AF5006"),
        (403, b"<html><body>Request blocked</body></html>", "AF5005"),
        (302, b"", "AF5005"),
    ],
)
def test_refusals_have_a_code_and_a_cure(status: int, body: bytes, code: str) -> None:
    error = rest.refused("http://x/fapi", status, body)
    assert error.code == code
    assert error.exit_code == 3
    assert error.help
    assert "http://x/fapi" in error.message


@given(st.lists(st.tuples(st.integers(0, 40 * 10**9), st.sampled_from([1, 2, 5, 10])), max_size=300))
def test_no_minute_spends_more_than_its_share(requests: list[tuple[int, int]]) -> None:
    budget = WeightBudget(limit=100, share=0.9)
    now, spent = T0, Counter[int]()
    for pause, weight in requests:
        now += pause
        while (at := budget.reserve(now, weight)) > now:
            now = at
        spent[now // MINUTE] += weight
    assert all(weight <= 90 for weight in spent.values())


def test_what_others_spend_on_the_address_counts() -> None:
    budget = WeightBudget(limit=100, share=0.9)
    assert budget.reserve(T0, 10) == T0
    budget.observe(T0, 85)
    assert budget.reserve(T0, 10) > T0
    assert budget.reserve(T0, 5) == T0
    budget.observe(T0 - MINUTE, 100)  # an answer of the minute before says nothing about this one
    assert budget.left(T0) == 0
    assert budget.left(T0 + MINUTE) == 90


class Clock:
    """A clock that moves only when it sleeps, and remembers."""

    def __init__(self) -> None:
        self.time = T0
        self.slept: list[float] = []

    def now(self) -> int:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += int(seconds * 1e9)
        await asyncio.sleep(0)


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest_client, "backoff", lambda *_, **__: 0.0)


Answer = Callable[[httpx.Request], httpx.Response]


def asked(
    answers: list[httpx.Response | Exception], clock: Clock | None = None, patience: float = 600.0
) -> Any:
    """(`get` of a client whose exchange gives these answers, the last one for ever; number of requests)."""
    count = 0

    def answer(_: httpx.Request) -> httpx.Response:
        nonlocal count
        given_answer = answers[min(count, len(answers) - 1)]
        count += 1
        if isinstance(given_answer, Exception):
            raise given_answer
        return httpx.Response(
            given_answer.status_code, content=given_answer.content, headers=given_answer.headers
        )

    async def run() -> bytes:
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
            client = RestClient(
                http,
                "http://exchange",
                USDM,
                clock or Clock(),
                WeightBudget(),
                patience=patience,
                concurrency=4,
            )
            return await client.get("/fapi/v1/klines", {}, 1)

    return asyncio.run(run()), count


OK = httpx.Response(200, content=b"[]")


def too_many(status: int = 429, **headers: str) -> httpx.Response:
    body = {
        "code": -1003,
        "msg": f"banned until {T0 // 10**6 + 3_600_000}." if status == 418 else "Too many requests",
    }
    return httpx.Response(status, json=body, headers={k.replace("_", "-"): v for k, v in headers.items()})


def test_a_rate_limit_is_waited_out_in_exchange_time() -> None:
    clock = Clock()
    body, count = asked([too_many(Retry_After="7"), OK], clock)
    assert (body, count) == (b"[]", 2)
    assert 7.0 < sum(clock.slept) < 8.1


def test_a_ban_longer_than_patience_is_an_error_that_says_how_long() -> None:
    with pytest.raises(SourceError) as error:
        asked([too_many(418)])
    assert error.value.code == "AF5002"
    assert "3600" in error.value.message or "3601" in error.value.message


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize(
    "fault",
    [
        httpx.Response(503, content=b"<html>"),
        httpx.Response(500, json={"code": -1000, "msg": "An unknown error"}),
        httpx.Response(408, json={"code": -1007, "msg": "Timeout waiting for response"}),
        httpx.ConnectError("refused"),
        httpx.ReadError("reset"),
        httpx.ReadTimeout("slow"),
    ],
)
def test_faults_that_pass_are_retried(fault: httpx.Response | Exception) -> None:
    assert asked([fault, fault, OK]) == (b"[]", 3)


@pytest.mark.usefixtures("no_pauses")
def test_an_exchange_that_never_answers_is_named() -> None:
    with pytest.raises(SourceError) as error:
        asked([httpx.ConnectError("refused")])
    assert error.value.code == "AF5001"
    assert "http://exchange" in error.value.message


def test_a_refusal_is_not_repeated() -> None:
    with pytest.raises(SourceError) as error:
        asked([httpx.Response(400, json={"code": -1120, "msg": "Invalid interval."})])
    assert error.value.code == "AF5006"


def test_values_are_the_nearest_floats() -> None:
    texts = ["0.1", "83084.90", "0.00000001", "123456789.123456789", "5e-324"]
    row = [1_767_571_200_000, *texts, 1_767_574_799_999, "1", 1, "1", "1", "0"]
    _, values = rest.parse_klines(json.dumps([row]).encode(), HOUR)
    assert values[:, 0].tolist() == [float(text) for text in texts]
    assert values.dtype == np.float64
