"""Random scripts leave an exchange that a plain client survives: a socket that reconnects, and REST that asks again.

The client knows nothing of the product's own. What it pieces together is compared with a second exchange of the same
seed and without faults, but for the holes that the script itself names.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections import Counter
from typing import Any

import httpx
import pytest
import websockets
from sandbox_support import DEADLINE, SMALL, START, browser, exchange

from alpha_forge_sdk.sandbox import FaultScript, HostileFaults, SandboxExchange

MINUTE = 60_000
BARS = 40
SPEED = 3600.0
END = START + BARS * MINUTE

#: Column numbers of a REST row by the keys of a stream's bar.
COLUMNS = {"o": 1, "h": 2, "l": 3, "c": 4, "v": 5, "q": 7, "n": 8, "V": 9, "Q": 10}

Bars = dict[tuple[str, int], list[Any]]


async def listen(running: SandboxExchange, seen: Bars) -> None:
    """Closes as they come, from one connection after the other, until the end."""
    url = running.url.replace("http://", "ws://") + "/market/stream?streams="
    url += "/".join(f"{symbol.lower()}@kline_1m" for symbol in SMALL)
    while running.clock.now_ms() < END + MINUTE:
        with contextlib.suppress(OSError, websockets.WebSocketException, TimeoutError):
            async with websockets.connect(url, close_timeout=0.1, ping_interval=None) as client:
                while running.clock.now_ms() < END + MINUTE:
                    note(await asyncio.wait_for(client.recv(), 0.5), seen)


def note(text: str | bytes, seen: Bars) -> None:
    with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
        k = json.loads(text)["data"]["k"]
        if k["x"] and isinstance(k["t"], int) and k["t"] < END:
            seen.setdefault((k["s"], k["t"]), []).append([k["t"], *(k[name] for name in COLUMNS)])


async def history(client: httpx.AsyncClient, symbol: str) -> list[list[Any]]:
    """The closed bars of the run by REST, asked for until it answers with all that it has."""
    query = {"symbol": symbol, "interval": "1m", "startTime": START, "endTime": END - 1, "limit": 1500}
    async with asyncio.timeout(DEADLINE):
        while True:
            wait = 0.05
            with contextlib.suppress(httpx.TransportError, ValueError):
                answer = await client.get("/fapi/v1/klines", params=query)
                if answer.status_code == 200:
                    return [[row[0], *(row[column] for column in COLUMNS.values())] for row in answer.json()]
                wait = float(answer.headers.get("Retry-After", wait))
            await asyncio.sleep(wait)


def holes(script: FaultScript) -> list[tuple[str, int, int]]:
    """What a script takes out of the market: symbol, start and end."""
    found = []
    for rule in script.rules:
        if rule.kind in ("outage", "list", "delist"):
            assert rule.start is not None
            begin = rule.start.at(START)
            end = rule.end.at(START) if rule.end is not None else END
            for symbol in rule.symbols or SMALL:
                found.append((symbol, begin, end) if rule.kind != "list" else (symbol, 0, begin))
    return found


def truth() -> Bars:
    async def run() -> Bars:
        async with exchange(start_ms=END + MINUTE, hold=True) as running, browser(running) as client:
            return {(symbol, row[0]): row for symbol in SMALL for row in await history(client, symbol)}

    return asyncio.run(run())


@pytest.fixture(scope="module")
def clean() -> Bars:
    bars = truth()
    assert len(bars) == BARS * len(SMALL)
    return bars


def draw(seed: int, profile: str) -> FaultScript:
    return FaultScript.random(
        seed, symbols=SMALL, interval_ms=MINUTE, start_ms=START, until_ms=END, profile=profile
    )


@pytest.mark.parametrize(
    ("profile", "seeds"), [("mixed", range(34, 40)), ("stream", range(8)), ("rest", range(5))]
)
def test_a_plain_client_gets_every_bar(
    profile: str, seeds: range, clean: Bars, caplog: pytest.LogCaptureFixture
) -> None:
    async def one(seed: int) -> tuple[Bars, Bars, HostileFaults]:
        faults = HostileFaults(draw(seed, profile))
        seen: Bars = {}
        async with exchange(faults=faults, speed=SPEED, hold=True) as running:
            async with asyncio.timeout(DEADLINE):
                await listen(running, seen)
            async with browser(running) as client:
                rest = {(symbol, row[0]): row for symbol in SMALL for row in await history(client, symbol)}
        return seen, rest, faults

    async def every() -> list[tuple[Bars, Bars, HostileFaults]]:
        return await asyncio.gather(*(one(seed) for seed in seeds))

    caplog.set_level(logging.ERROR, "alpha_forge_sdk.sandbox")
    done: Counter[str] = Counter()
    for seed, (seen, rest, faults) in zip(seeds, asyncio.run(every()), strict=True):
        gone = holes(faults.script)
        expected = {
            (symbol, opened): row
            for (symbol, opened), row in clean.items()
            if not any(name == symbol and begin <= opened < end for name, begin, end in gone)
        }
        told = f"seed {seed}, profile {profile}:\n{faults.script.dump()}"
        assert rest == expected, told
        for key, copies in seen.items():
            assert all(copy == expected[key] for copy in copies), f"{key} of {told}"
        done.update(faults.counts)
        assert set(faults.counts) <= {rule.kind for rule in faults.script.rules}
        assert not set(faults.violations) - {"banned"}, told
    assert len(done) >= len(seeds) // 2
    assert not caplog.records
