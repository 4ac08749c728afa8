"""Faults of REST, seen by an HTTP client that knows nothing of the sandbox."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import httpx
import pytest
from sandbox_support import HOUR, START, browser, exchange, soon

from alpha_forge_sdk.sandbox import FaultScript, HostileFaults, ManualTime, SandboxExchange

MINUTE = 60_000
T = TypeVar("T")


def script(*rules: str, seed: int = 3) -> FaultScript:
    return FaultScript.parse(f"seed: {seed}\nfaults:\n" + "".join(f"- {{{rule}}}\n" for rule in rules))


def counted(running: SandboxExchange) -> Counter[str]:
    assert isinstance(running.faults, HostileFaults)
    return running.faults.counts


def with_web(
    fault: FaultScript,
    scene: Callable[[httpx.AsyncClient, SandboxExchange], Awaitable[T]],
    source: ManualTime | None = None,
    **options: Any,
) -> T:
    async def run() -> T:
        async with exchange(faults=fault, source=source, **options) as running, browser(running) as client:
            return await scene(client, running)

    return asyncio.run(run())


def klines(client: httpx.AsyncClient, symbol: str = "BTCUSDT", **query: Any) -> Awaitable[httpx.Response]:
    return client.get("/fapi/v1/klines", params={"symbol": symbol, "interval": "1m", "limit": 5, **query})


@pytest.mark.parametrize(
    ("rule", "status", "text", "kind"),
    [
        ("kind: http_429", 429, '"code":-1003', "application/json"),
        ("kind: http_5xx, status: 502", 502, '"code":-1001', "application/json"),
        ("kind: http_451", 451, "restricted location", "application/json"),
        ("kind: http_403", 403, "<html>", "text/html"),
        ("kind: html_200", 200, "<html>", "text/html"),
    ],
)
def test_an_answer_in_place_of_the_exchanges(rule: str, status: int, text: str, kind: str) -> None:
    async def scene(
        client: httpx.AsyncClient, running: SandboxExchange
    ) -> tuple[Any, Any, Any, Counter[str]]:
        other = await klines(client, "ETHUSDT")
        first = await klines(client)
        return other, first, await klines(client), counted(running)

    other, first, second, counts = with_web(script(f"{rule}, times: 1, symbols: [BTCUSDT]"), scene, hold=True)
    assert (first.status_code, second.status_code, other.status_code) == (status, 200, 200)
    assert text in first.text
    assert first.headers["Content-Type"].startswith(kind)
    assert counts == Counter({rule.split(",")[0].removeprefix("kind: "): 1})


@pytest.mark.parametrize(("said", "header"), [(3, "3"), (0, None)])
def test_a_429_with_and_without_retry_after(said: int, header: str | None) -> None:
    async def scene(client: httpx.AsyncClient, running: SandboxExchange) -> str | None:
        answer = await klines(client)
        assert answer.status_code == 429
        return answer.headers.get("Retry-After")

    assert with_web(script(f"kind: http_429, retry_after: {said}"), scene, hold=True) == header


def test_a_ban_holds_for_every_path_and_a_request_prolongs_it() -> None:
    source = ManualTime()

    async def scene(client: httpx.AsyncClient, running: SandboxExchange) -> list[tuple[int, int]]:
        seen = []

        async def ask(path: str) -> None:
            answer = await client.get(path, params={"symbol": "BTCUSDT", "interval": "1m"})
            until = (
                int(answer.text.split("banned until ")[1].split(".")[0]) if answer.status_code == 418 else 0
            )
            seen.append((answer.status_code, until))

        await ask("/fapi/v1/klines")
        source.advance(1.5)  # 90 of the 120 seconds
        await ask("/fapi/v1/ping")
        source.advance(1.5)
        await ask("/api/v3/klines")
        source.advance(2.1)
        await ask("/fapi/v1/klines")
        assert running.faults.violations["banned"] == 2
        assert counted(running)["http_418"] == 1
        return seen

    seen = with_web(script("kind: http_418, times: 1, ban: 2m"), scene, source, speed=60.0)
    assert seen == [(418, START + 120_000), (418, START + 210_000), (418, START + 300_000), (200, 0)]


def test_while_the_clock_stands_an_early_request_does_not_prolong_a_ban() -> None:
    source = ManualTime()

    async def scene(client: httpx.AsyncClient, running: SandboxExchange) -> list[tuple[int, str]]:
        seen = []
        for _ in range(5):
            answer = await klines(client)
            told = answer.text.split("banned until ")[-1].split(".")[0] if answer.status_code == 418 else ""
            seen.append((answer.status_code, told))
            source.advance(0.5)  # 30 of the 120 seconds
        assert not running.faults.violations
        return seen

    seen = with_web(script("kind: http_418, times: 1, ban: 2m"), scene, source, speed=60.0, hold=True)
    left = [120, 90, 60, 30]
    assert seen == [*((418, str(START + seconds * 1000)) for seconds in left), (200, "")]


def test_a_truncated_body_breaks_off() -> None:
    async def scene(client: httpx.AsyncClient, running: SandboxExchange) -> int:
        with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
            await klines(client)
        return (await klines(client)).status_code

    assert with_web(script("kind: truncated_body, times: 1, share: 0.7"), scene, hold=True) == 200


def test_the_part_of_a_truncated_body_is_as_long_as_said() -> None:
    async def scene(client: httpx.AsyncClient, running: SandboxExchange) -> bytes:
        host, port = running.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /fapi/v1/klines?symbol=BTCUSDT&interval=1m HTTP/1.1\r\nHost: x\r\n\r\n")
        data = await soon(reader.read(-1))
        writer.close()
        return data

    head, _, body = with_web(script("kind: truncated_body, share: 0.25"), scene, hold=True).partition(
        b"\r\n\r\n"
    )
    length = next(
        int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length")
    )
    assert len(body) == length // 4


def test_a_slow_body_takes_its_time_and_is_whole() -> None:
    async def scene(client: httpx.AsyncClient, running: SandboxExchange) -> tuple[float, Any, Any]:
        began = time.monotonic()
        slow = await klines(client)
        took = time.monotonic() - began
        return took, slow.json(), (await klines(client)).json()

    took, slow, quick = with_web(script("kind: slow_body, times: 1, span: 300ms"), scene, hold=True)
    assert took >= 0.3
    assert slow == quick


def test_a_reset_is_no_answer() -> None:
    async def scene(client: httpx.AsyncClient, running: SandboxExchange) -> int:
        with pytest.raises(httpx.ReadError):
            await klines(client)
        return (await klines(client)).status_code

    assert with_web(script("kind: reset, times: 1"), scene, hold=True) == 200


def test_rest_lags_behind_the_stream() -> None:
    source = ManualTime()

    async def scene(client: httpx.AsyncClient, running: SandboxExchange) -> list[list[int]]:
        seen = []
        for seconds in (
            50,
            15,
            16,
        ):  # of the minute that began with the clock: in it, 5 s and 21 s after its end
            source.advance(seconds)
            seen.append([(row[0] - START) // MINUTE for row in (await klines(client, limit=2)).json()])
        until = (await klines(client, endTime=START + MINUTE, limit=2)).json()
        assert [(row[0] - START) // MINUTE for row in until] == [0, 1]
        return seen

    inside, lagging, after = with_web(script("kind: rest_lag, lag: 20s"), scene, source)
    assert inside == [-1, 0]
    assert lagging == [-2, -1], "neither the closed bar nor the one in progress"
    assert after == [0, 1]


def test_rest_lags_for_the_bars_that_are_drawn_only() -> None:
    source = ManualTime()

    async def scene(client: httpx.AsyncClient, running: SandboxExchange) -> tuple[int, int]:
        lagging = 0
        for _ in range(60):
            source.advance(60.0)
            last = (await klines(client, limit=1)).json()[-1][0]
            lagging += last < running.clock.now_ms() // MINUTE * MINUTE
        return lagging, counted(running)["rest_lag"]

    lagging, counts = with_web(script("kind: rest_lag, lag: 30s, rate: 0.4"), scene, source)
    assert lagging == counts
    assert 12 <= lagging <= 36


def test_the_server_time_is_off_while_it_is_said_to_be() -> None:
    source = ManualTime()

    async def scene(client: httpx.AsyncClient, running: SandboxExchange) -> list[int]:
        told = []
        for path in ("/fapi/v1/time", "/fapi/v1/exchangeInfo", "/api/v3/time"):
            told.append((await client.get(path)).json()["serverTime"] - START)
        source.advance(61.0)
        told.append((await client.get("/fapi/v1/time")).json()["serverTime"] - START)
        return told

    told = with_web(script("kind: wrong_clock, offset: -10m, until: 1m"), scene, source)
    assert told == [-600_000, -600_000, -600_000, 61_000]


def test_rules_of_http_keep_to_rest_unless_paths_are_named() -> None:
    key = "/data/futures/um/daily/klines/BTCUSDT/1h/BTCUSDT-1h-2026-01-03.zip"

    async def scene(client: httpx.AsyncClient, running: SandboxExchange) -> list[int]:
        return [
            (await client.get(path)).status_code for path in ("/fapi/v1/ping", key, key, "/?prefix=data/")
        ]

    assert with_web(script("kind: http_5xx"), scene, hold=True) == [503, 200, 200, 200]
    assert with_web(script("kind: http_5xx, paths: [/data/], times: 1"), scene, hold=True) == [
        200,
        503,
        200,
        200,
    ]
    assert with_web(script("kind: http_5xx, paths: [/]"), scene, hold=True) == [503, 503, 503, 503]


def _pattern(seed: int, delay: float) -> list[int]:
    async def scene(client: httpx.AsyncClient, running: SandboxExchange) -> list[int]:
        statuses = []
        for _ in range(40):
            statuses.append((await klines(client)).status_code)
            await asyncio.sleep(delay)
        return statuses

    return with_web(script("kind: http_5xx, rate: 0.5", seed=seed), scene, speed=60.0)


def test_a_seed_refuses_the_same_requests_whatever_the_timing() -> None:
    assert _pattern(1, 0.0) == _pattern(1, 0.002)
    assert _pattern(1, 0.0) != _pattern(2, 0.0)
    assert 8 < _pattern(1, 0.0).count(503) < 32


def test_violations_of_the_weight_and_bans_by_weight_are_counted() -> None:
    async def scene(client: httpx.AsyncClient, running: SandboxExchange) -> Counter[str]:
        for _ in range(256):
            await klines(client, limit=1500, startTime=START + HOUR)
        return running.faults.violations

    violations = with_web(script(), scene, hold=True)
    assert violations == Counter(weight=10, banned=6)
