"""The sandbox exchange beside a test: on a thread of its own, gone when the block ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alpha_forge.contracts.types import Bar
    from alpha_forge_sdk.sandbox import Faults, FaultScript, SandboxConfig, SandboxExchange


@contextmanager
def running_exchange(
    config: SandboxConfig | None = None, *, faults: Faults | FaultScript | None = None
) -> Iterator[SandboxExchange]:
    """A started `SandboxExchange` (``.url``, ``.market``, ``.clock``, ``.faults``, ``.inject()``), with the faults of a
    script. Raises what its start raises."""
    from alpha_forge_sdk.sandbox import SandboxExchange

    exchange = SandboxExchange(config, faults=faults)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="sandbox exchange", daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(exchange.start(), loop).result(30)
        try:
            yield exchange
        finally:
            asyncio.run_coroutine_threadsafe(exchange.stop(), loop).result(30)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()


def market_bars(exchange: SandboxExchange, symbol: str, interval: str, start: int, end: int) -> list[Bar]:
    """The exchange's own bars with closes in ``start < ts <= end`` (ns), past and future, oldest first."""
    from alpha_forge.contracts.interval import Interval
    from alpha_forge.contracts.types import Bar

    length = Interval.parse(interval).ns
    prices, volumes, _ = exchange.market.instrument(symbol).decimals
    opens_from, opens_to = (start - length) // 1_000_000 + 1, (end - length) // 1_000_000 + 1
    table = exchange.market.bars(symbol, interval, opens_from, opens_to)
    found = []
    for column in table.T.tolist():
        # Through text, as the exchange sends it: dividing integers would round elsewhere.
        open_, high, low, close = (float(f"{value}e-{prices}") for value in column[1:5])
        volume = float(f"{column[5]}e-{volumes}")
        found.append(Bar(column[0] * 1_000_000 + length, open_, high, low, close, volume))
    return found
