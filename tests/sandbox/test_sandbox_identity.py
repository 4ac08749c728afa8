"""The name of an archive's content: the same where every byte is, another where any may differ."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sandbox_support import browser, exchange

from alpha_forge_sdk.sandbox import Faults, FaultScript, SandboxConfig, SandboxExchange

SYMBOLS = ("BTCUSDT", "ETHUSDT")


def name(**options: object) -> str | None:
    config = {"symbols": SYMBOLS, "seed": 1, **options}
    return SandboxExchange(SandboxConfig(**config)).identity  # type: ignore[arg-type]


def test_equal_markets_have_one_name_whatever_the_clock() -> None:
    assert name() is not None
    assert name() == name(speed=3600.0, hold=True, start_ms=1_770_000_000_000)


@pytest.mark.parametrize(
    "other", [{"seed": 2}, {"symbols": ("BTCUSDT",)}, {"symbols": ("BTCUSDT", "SOLUSDT")}, {"venue": "spot"}]
)
def test_other_markets_have_other_names(other: dict[str, object]) -> None:
    assert name(**other) not in (None, name())


def test_recordings_are_named_by_their_files(tmp_path: Path) -> None:
    def write(close: str) -> None:
        rows = "".join(
            f"{1_700_000_000_000 // 3_600_000 * 3_600_000 + k * 3_600_000},1,2,0.5,{close},7\n"
            for k in range(40)
        )
        (tmp_path / "BTC_USDT_1h.csv").write_text("open_time,open,high,low,close,volume\n" + rows)

    write("1.5")
    first = name(data=tmp_path, symbols=None)
    assert first is not None
    assert name(data=tmp_path, symbols=None) == first
    write("1.25")
    assert name(data=tmp_path, symbols=None) not in (None, first)


def test_an_exchange_with_faults_has_none() -> None:
    script = FaultScript.parse("faults: [{kind: wrong_checksum}]")
    assert SandboxExchange(SandboxConfig(symbols=SYMBOLS), faults=script).identity is None

    class Own(Faults):
        pass

    assert SandboxExchange(SandboxConfig(symbols=SYMBOLS), faults=Own()).identity is None
    spoilt = SandboxExchange(SandboxConfig(symbols=SYMBOLS))
    assert spoilt.identity is not None
    spoilt.inject("wrong_checksum")
    assert spoilt.identity is None


def test_it_is_told_to_clients_unless_there_is_none() -> None:
    async def run() -> None:
        async with exchange(symbols=SYMBOLS) as running, browser(running) as client:
            assert (await client.get("/sandbox/identity")).json() == {"market": running.identity}
            running.inject("http_5xx", paths=["/nowhere"])
            assert (await client.get("/sandbox/identity")).status_code == 404

    asyncio.run(run())
