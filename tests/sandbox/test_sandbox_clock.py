"""One clock for server time, stream and history."""

from __future__ import annotations

import asyncio
import math

import pytest
from sandbox_support import START, browser, exchange, receive_until, socket, soon

from alpha_forge_sdk.sandbox import ExchangeClock, ManualTime


def test_runs_at_its_speed_from_its_start() -> None:
    source = ManualTime()
    clock = ExchangeClock(1000, 60.0, source=source)
    source.advance(2.0)
    assert clock.now_ms() == 1000 + 120_000
    assert clock.real_seconds_until(1000 + 180_000) == pytest.approx(1.0)


def test_a_held_clock_stands_until_released_but_budgets_go_on() -> None:
    source = ManualTime()
    clock = ExchangeClock(1000, 10.0, held=True, source=source)
    source.advance(5.0)
    assert (clock.now_ms(), clock.held, clock.real_seconds_until(2000)) == (1000, True, math.inf)
    assert clock.budget_ms() == 51_000
    clock.release()
    source.advance(1.0)
    clock.release()
    assert (clock.now_ms(), clock.held) == (11_000, False)


@pytest.mark.parametrize("speed", [0.0, -1.0, math.nan, math.inf])
def test_refuses_a_speed_that_is_none(speed: float) -> None:
    with pytest.raises(ValueError, match="speed"):
        ExchangeClock(0, speed)


def test_manual_time_wakes_sleepers_in_order() -> None:
    async def run() -> list[str]:
        source, woken = ManualTime(), []

        async def sleeper(name: str, seconds: float) -> None:
            await source.sleep_until(seconds)
            woken.append(name)

        tasks = [asyncio.create_task(sleeper(name, at)) for name, at in (("b", 2.0), ("a", 1.0), ("c", 3.0))]
        await asyncio.sleep(0)
        source.advance(2.5)
        await soon(asyncio.gather(*tasks[:2]))
        assert not tasks[2].done()
        source.advance(1.0)
        await soon(tasks[2])
        return woken

    assert asyncio.run(run()) == ["a", "b", "c"]


def test_the_clock_endpoint_follows_the_hold() -> None:
    async def run() -> None:
        source = ManualTime()
        async with exchange(source=source, speed=3600.0, hold=True) as running, browser(running) as client:
            source.advance(10)
            standing = (await client.get("/sandbox/clock")).json()
            assert standing == {"epoch_ms": START, "speed": 3600.0, "held": True}
            async with socket(running, "/market/stream?streams=btcusdt@kline_1h") as stream:
                source.advance(1)
                running_now = (await client.get("/sandbox/clock")).json()
                assert running_now == {"epoch_ms": START + 3_600_000, "speed": 3600.0, "held": False}
                server = (await client.get("/fapi/v1/time")).json()
                assert server == {"serverTime": START + 3_600_000}
                messages = await receive_until(stream, lambda seen: any(m["data"]["k"]["x"] for m in seen))
                assert messages[-1]["data"]["k"]["T"] == START + 1_800_000 - 1

    asyncio.run(run())


@pytest.mark.parametrize(
    "path", ["/public/stream?streams=btcusdt@kline_1h", "/market/ws/0", "/ws/btcusdt@kline_1h"]
)
def test_only_a_live_kline_subscription_ends_the_hold(path: str) -> None:
    async def run() -> None:
        async with exchange(hold=True) as running, socket(running, path) as stream:
            await stream.send('{"method":"LIST_SUBSCRIPTIONS","id":1}')
            await soon(stream.recv())
            assert running.clock.held

    asyncio.run(run())
