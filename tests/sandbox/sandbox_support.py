"""Helpers for the tests of the sandbox exchange: a running exchange, and clients that wait with a
deadline."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import httpx
import websockets
from websockets.asyncio.client import ClientConnection

from alpha_forge_sdk.sandbox import Faults, ManualTime, SandboxConfig, SandboxExchange

DEADLINE = 20.0
HOUR = 3_600_000
START = 1_767_573_000_000  # 2026-01-05T00:30:00Z
SMALL = ("BTCUSDT", "ETHUSDT", "SOLUSDT")

T = TypeVar("T")


async def soon(awaitable: Awaitable[T]) -> T:
    """The result, or a failure once the deadline has passed."""
    return await asyncio.wait_for(awaitable, DEADLINE)


@asynccontextmanager
async def exchange(
    *, source: ManualTime | None = None, faults: Faults | None = None, **options: Any
) -> AsyncIterator[SandboxExchange]:
    """A running exchange of a few symbols."""
    options.setdefault("symbols", SMALL)
    running = SandboxExchange(SandboxConfig(**options), source=source, faults=faults)
    await running.start()
    try:
        yield running
    finally:
        await soon(running.stop())


@asynccontextmanager
async def socket(running: SandboxExchange, path: str, **options: Any) -> AsyncIterator[ClientConnection]:
    """A WebSocket client on `path`."""
    url = running.url.replace("http://", "ws://") + path
    async with websockets.connect(url, close_timeout=1, max_queue=None, **options) as connection:
        yield connection


@asynccontextmanager
async def browser(running: SandboxExchange) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of the exchange."""
    async with httpx.AsyncClient(base_url=running.url, timeout=DEADLINE, trust_env=False) as client:
        yield client


async def receive(connection: ClientConnection) -> dict[str, Any]:
    """The next message."""
    message: dict[str, Any] = json.loads(await soon(connection.recv()))
    return message


async def ask(
    connection: ClientConnection, method: str, params: Sequence[Any] | None, identifier: Any
) -> Any:
    """Send a control message and return the answer that carries its id; pushes in between are passed over."""
    message: dict[str, Any] = {"method": method, "id": identifier}
    if params is not None:
        message["params"] = list(params)
    await connection.send(json.dumps(message))
    while True:
        answer = await receive(connection)
        if "id" in answer or "error" in answer:
            return answer


async def receive_until(
    connection: ClientConnection, enough: Callable[[list[dict[str, Any]]], bool]
) -> list[dict[str, Any]]:
    """Messages until `enough` says so."""
    messages: list[dict[str, Any]] = []
    while not enough(messages):
        messages.append(await receive(connection))
    return messages


async def is_quiet(connection: ClientConnection) -> bool:
    """Whether nothing was pushed before an answer that is asked for now: what comes after it does not
    count."""
    await connection.send(json.dumps({"method": "LIST_SUBSCRIPTIONS", "id": "quiet?"}))
    return (await receive(connection)).get("id") == "quiet?"
