"""A local exchange in a thread of its own, and the truth about its bars, read from its market object."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from alpha_forge_plugins.market.binance_futures import BinanceFutures
from alpha_forge_sdk import BarBlock, Clock, MarketEvent, SourceContext, SystemClock
from alpha_forge_sdk.sandbox import Faults, SandboxConfig, SandboxExchange

DEADLINE = 180.0
START_MS = 1_767_573_000_000  # 2026-01-05T00:30:00Z
MS = 1_000_000
MINUTE = 60 * 10**9
HOUR = 60 * MINUTE

T = TypeVar("T")


def exact(path: Path) -> pd.DataFrame:
    """A CSV with every number as Python reads it: pandas' own parser is not exact to the last bit everywhere."""
    texts = pd.read_csv(path, dtype=str)
    numbers = {name: [float(text) for text in texts[name]] for name in texts.columns if name != "datetime"}
    table = pd.DataFrame(numbers)
    times = [name for name in ("open_time", "timestamp") if name in table]
    return table.astype(dict.fromkeys(times, "int64"))


async def soon(awaitable: Awaitable[T]) -> T:
    """The result, or a failure once the deadline has passed."""
    async with asyncio.timeout(DEADLINE):
        return await awaitable


async def eventually(condition: Callable[[], bool]) -> None:
    """Return once `condition` holds."""
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110 - what is awaited happens in another thread
            await asyncio.sleep(0.01)


class Hosted:
    """A running exchange; ``connections`` counts its open WebSocket connections."""

    def __init__(self, exchange: SandboxExchange) -> None:
        self.exchange = exchange
        self.url = exchange.url

    @property
    def connections(self) -> int:
        server = self.exchange._server
        return 0 if server is None else len(server._connections)


@contextmanager
def hosted(faults: Faults | None = None, **options: Any) -> Iterator[Hosted]:
    """An exchange in another thread: nothing that a client leaves open can hide among its tasks."""
    started = threading.Event()
    box: list[Any] = []

    def serve() -> None:
        async def run() -> None:
            exchange = SandboxExchange(SandboxConfig(**options), faults=faults)
            await exchange.start()
            stop = asyncio.Event()
            box.extend([exchange, asyncio.get_running_loop(), stop])
            started.set()
            await stop.wait()
            await exchange.stop()

        asyncio.run(run())

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    assert started.wait(DEADLINE), "the exchange did not start"
    exchange, loop, stop = box
    try:
        yield Hosted(exchange)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(DEADLINE)


@asynccontextmanager
async def opened(
    url: str,
    folder: Path,
    symbols: Sequence[str],
    interval: str = "1m",
    kind: type[Any] = BinanceFutures,
    **params: Any,
) -> AsyncIterator[tuple[Any, Clock]]:
    """A source that is open on the exchange at `url`, with its clock."""
    source = kind(kind.Params(universe=tuple(symbols), interval=interval, endpoints=url, **params))
    clock = await soon(source.find_clock()) or SystemClock()
    try:
        await soon(source.open(SourceContext(clock, folder, {})))
        yield source, clock
    finally:
        await soon(source.close())


async def history(source: Any, symbols: Sequence[str], start: int, end: int) -> dict[str, list[BarBlock]]:
    found: dict[str, list[BarBlock]] = {}
    async for block in source.history(symbols, start, end):
        found.setdefault(block.symbol, []).append(block)
    return found


async def take(
    events: AsyncIterator[MarketEvent], enough: Callable[[list[MarketEvent]], bool]
) -> list[MarketEvent]:
    """Events until `enough` says so."""
    taken: list[MarketEvent] = []

    async def run() -> None:
        async for event in events:
            taken.append(event)
            if enough(taken):
                return

    await soon(run())
    return taken


def truth(exchange: SandboxExchange, symbol: str, interval: str, start: int, end: int, step: int) -> Any:
    """Rows (6, bars) of the bars with start < ts <= end (ns): close time, open, high, low, close, volume."""
    table = exchange.market.bars(symbol, interval, (start - step) // MS + 1, (end - step) // MS + 1)
    grid = exchange.market.instrument(symbol)
    price, quantity = 10**grid.price_decimals, 10**grid.quantity_decimals
    # Python's int / int is correctly rounded, as reading the printed decimal is.
    values = [[v / price for v in table[row].tolist()] for row in (1, 2, 3, 4)]
    values.append([v / quantity for v in table[5].tolist()])
    return table[0] * MS + step, np.array(values).reshape(5, -1)


def joined(blocks: Sequence[BarBlock]) -> tuple[Any, Any]:
    """The blocks of one symbol as (ts, values)."""
    ts = np.concatenate([b.ts for b in blocks]) if blocks else np.empty(0, np.int64)
    if not blocks:
        return ts, np.empty((5, 0))
    return ts, np.concatenate([np.stack([b.open, b.high, b.low, b.close, b.volume]) for b in blocks], axis=1)
