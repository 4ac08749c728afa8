"""History from the hostile sandbox: whatever its archive and REST do, the bars are those of the market."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from alpha_forge_plugins.market.binance import archive_client, rest_client
from alpha_forge_plugins.market.binance.planner import Costs
from alpha_forge_plugins.market.binance_futures import BinanceFutures
from alpha_forge_plugins.market.binance_spot import BinanceSpot
from alpha_forge_sdk.sandbox import FaultScript

from .support import HOUR, Hosted, history, hosted, joined, opened, truth

SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
ARCHIVE = (
    "wrong_checksum", "missing_file", "missing_checksum", "cut_day", "header", "microseconds", "corrupt_zip",
    "zip_bomb", "off_grid_rows", "duplicate_rows",
)  # fmt: skip
KINDS = {"usdm": BinanceFutures, "spot": BinanceSpot}
REST = ("http_429", "http_418", "http_5xx", "http_403", "html_200", "truncated_body", "reset")


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Faults of the network are not waited for, and files cost nothing: there are as many as can be."""
    for module in (archive_client, rest_client):
        monkeypatch.setattr(module, "backoff", lambda *_, **__: 0.0)
    monkeypatch.setattr(Costs.__init__, "__defaults__", (1.0, 0.0, 1.0, 0.0, 0.0))


def script(seed: int, kinds: Sequence[str], rate: float) -> FaultScript:
    rules = "\n".join(f"- {{kind: {kind}, rate: {rate}, times: 6}}" for kind in kinds)
    return FaultScript.parse(f"seed: {seed}\nfaults:\n{rules}\n")


@pytest.mark.parametrize(("seed", "venue"), [(1, "usdm"), (2, "usdm"), (3, "spot")])
def test_every_fault_of_archive_and_rest_at_once(tmp_path: Path, seed: int, venue: str) -> None:
    async def run(host: Hosted) -> None:
        for _ in range(2):  # the second time with what the first has kept
            async with opened(host.url, tmp_path, SYMBOLS, "1h", KINDS[venue], patience=3600) as (
                source,
                clock,
            ):
                end = clock.now() // HOUR * HOUR
                start = end - 1500 * HOUR
                found = await history(source, SYMBOLS, start, end)
                for symbol in SYMBOLS:
                    ts, values = joined(found[symbol])
                    true_ts, true_values = truth(host.exchange, symbol, "1h", start, end, HOUR)
                    assert ts.tolist() == true_ts.tolist()
                    assert (values == true_values).all()
                    assert {block.origin for block in found[symbol]} == {"archive", "rest"}

    faults = script(seed, (*ARCHIVE, *REST), 0.08)
    with hosted(faults, symbols=SYMBOLS, speed=600.0, venue=venue) as host:
        asyncio.run(run(host))
        counts = host.exchange.faults.counts
        assert len([kind for kind in ARCHIVE if counts[kind]]) >= 5, counts
        assert len([kind for kind in REST if counts[kind]]) >= 3, counts
