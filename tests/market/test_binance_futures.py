"""`data.binance_futures` against a local exchange that shares no code with it; truth is the exchange's market."""

from __future__ import annotations

import asyncio
import logging
import pickle
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import aclosing
from pathlib import Path

import pytest
from pydantic import ValidationError

from alpha_forge_plugins.market.binance_futures import BinanceFutures
from alpha_forge_sdk import BAR_CLOSE, BarBlock, MarketEvent, SourceContext, SourceError, SystemClock
from alpha_forge_sdk.sandbox import Faults, Hangup, Push
from alpha_forge_sdk.sandbox.http import Response

from .support import (
    HOUR,
    MINUTE,
    MS,
    START_MS,
    Hosted,
    eventually,
    history,
    hosted,
    joined,
    opened,
    soon,
    take,
    truth,
)

THREE = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
BTC = "BTCUSDT"
MANY = tuple(f"S{k:03d}USDT" for k in range(500))
START = START_MS * MS


def same(
    host: Hosted, found: dict[str, list[BarBlock]], symbol: str, start: int, end: int, step: int
) -> None:
    interval = {MINUTE: "1m", HOUR: "1h"}[step]
    ts, values = joined(found.get(symbol, []))
    true_ts, true_values = truth(host.exchange, symbol, interval, start, end, step)
    assert ts.tolist() == true_ts.tolist()
    assert (values == true_values).all()


def closed(events: Sequence[MarketEvent]) -> list[MarketEvent]:
    return [event for event in events if event.closed]


def enough(symbols: int, bars: int) -> Callable[[list[MarketEvent]], bool]:
    """Whether every one of `symbols` has closed `bars` bars."""

    def check(events: list[MarketEvent]) -> bool:
        if not events[-1].closed:
            return False
        counts: dict[str | None, int] = {}
        for event in closed(events):
            counts[event.symbol] = counts.get(event.symbol, 0) + 1
        return len(counts) == symbols and min(counts.values()) >= bars

    return check


def matches_truth(host: Hosted, events: Sequence[MarketEvent], symbol: str) -> None:
    """Closed bars of a symbol: in order, once each, without a hole, with the market's values."""
    bars = [event.bar for event in closed(events) if event.symbol == symbol and event.bar is not None]
    assert bars
    true_ts, true_values = truth(host.exchange, symbol, "1m", bars[0].ts - 1, bars[-1].ts, MINUTE)
    assert [bar.ts for bar in bars] == true_ts.tolist()
    assert [list(bar[1:]) for bar in bars] == true_values.T.tolist()


def test_stream_and_history_meet_without_a_gap(tmp_path: Path) -> None:
    async def run(host: Hosted) -> None:
        async with opened(host.url, tmp_path, THREE) as (source, clock), aclosing(source.stream()) as stream:
            first = await take(stream, lambda events: events[-1].type == BAR_CLOSE)
            anchor = first[-1].ts - MINUTE
            past = await history(source, THREE, anchor - 500 * MINUTE, anchor)
            events = first + await take(stream, enough(3, 3))
            for symbol in THREE:
                same(host, past, symbol, anchor - 500 * MINUTE, anchor, MINUTE)
                matches_truth(host, events, symbol)
                assert min(e.ts for e in closed(events) if e.symbol == symbol) == anchor + MINUTE
            assert any(event.type == "source.connected" for event in events)
            assert all(event.ts <= clock.now() for event in closed(events))

    with hosted(symbols=THREE, speed=60.0, hold=True) as host:
        asyncio.run(run(host))


def test_a_held_clock_is_read_again_once_the_stream_runs(tmp_path: Path) -> None:
    async def run(host: Hosted) -> None:
        async with opened(host.url, tmp_path, THREE) as (source, clock), aclosing(source.stream()) as stream:
            await asyncio.sleep(0.3)  # meanwhile the exchange stands, and the clock that was found runs on
            assert clock.now() > START + 10 * MINUTE
            await take(stream, lambda events: True)
            ahead = clock.now() / MS - host.exchange.clock.now_ms()
            assert abs(ahead) < 10 * MINUTE / MS, "read again, the clocks agree to the round trip"

    with hosted(symbols=THREE, speed=3600.0, hold=True) as host:
        asyncio.run(run(host))


def test_the_clock_of_a_local_exchange_is_never_ahead_of_it(tmp_path: Path) -> None:
    """Bans end by it: at this speed a hundredth of a second too early is six minutes."""

    async def run(host: Hosted) -> None:
        for _ in range(3):
            async with opened(host.url, tmp_path, THREE) as (_, clock):
                ours = clock.now() / MS
                theirs = host.exchange.clock.now_ms()
                assert ours <= theirs
                assert theirs - ours < 5 * 36_000_000, "and behind it by a request or two"

    with hosted(symbols=THREE, speed=36_000.0) as host:
        asyncio.run(run(host))


def test_five_hundred_symbols_stream_and_warm(tmp_path: Path) -> None:
    async def run(host: Hosted) -> None:
        async with (
            opened(host.url, tmp_path, MANY, "1h") as (source, _),
            aclosing(source.stream()) as stream,
        ):
            first = await take(stream, lambda events: events[-1].type == BAR_CLOSE)
            anchor = first[-1].ts - HOUR
            start = anchor - 300 * HOUR
            past = await soon(history(source, MANY, start, anchor))
            assert sum(len(b) for blocks in past.values() for b in blocks) == 500 * 300
            for symbol in MANY[::50]:
                same(host, past, symbol, start, anchor, HOUR)
            events = await take(stream, enough(500, 1))
            seen = [(event.symbol, event.ts) for event in closed(events)]
            assert len(seen) == len(set(seen))

    with hosted(symbols=MANY, speed=300.0, hold=True) as host:
        asyncio.run(run(host))


class Budgeted(Faults):
    """Counts refusals for spending too much."""

    def __init__(self) -> None:
        self.refused = 0

    def rest(self, path: str, response: Response, now_ms: float) -> Response:
        self.refused += response.status in (418, 429)
        return response


def test_the_budget_is_kept(tmp_path: Path) -> None:
    faults = Budgeted()

    async def run(host: Hosted) -> None:
        symbols = MANY[:60]
        async with opened(host.url, tmp_path, symbols, concurrency=16) as (source, clock):
            end = clock.now() - 2 * MINUTE
            # Today's bars, which the archive doesn't have yet: several minutes' budget over REST alone.
            for _ in range(8):
                found = await soon(history(source, symbols, end - 1000 * MINUTE, end))
                assert sum(len(b) for blocks in found.values() for b in blocks) == 60 * 1000
        assert faults.refused == 0

    with hosted(faults, symbols=MANY[:60], speed=60.0) as host:
        asyncio.run(run(host))


def test_the_bar_in_progress_is_not_history(tmp_path: Path) -> None:
    async def run(host: Hosted) -> None:
        async with opened(host.url, tmp_path, THREE) as (source, _):
            now = host.exchange.clock.now_ms() * MS
            found = await history(source, ["BTCUSDT"], int(now) - 10 * MINUTE, int(now) + HOUR)
            newest = found["BTCUSDT"][-1].ts.max()
            assert newest <= host.exchange.clock.now_ms() * MS
            assert newest > now - MINUTE - 1, "the bar that closed last is there"
            assert await history(source, ["BTCUSDT"], int(now) + HOUR, int(now) + 2 * HOUR) == {}
            assert await history(source, [], 0, int(now)) == {}

    with hosted(symbols=THREE) as host:
        asyncio.run(run(host))


def test_repairs_run_beside_the_stream(tmp_path: Path) -> None:
    async def run(host: Hosted) -> None:
        async with opened(host.url, tmp_path, THREE) as (source, _), aclosing(source.stream()) as stream:
            reading = asyncio.create_task(take(stream, enough(3, 3)))
            end = START - START % MINUTE
            several = [history(source, [s], end - k * MINUTE, end) for s in THREE for k in range(1, 6)]
            found = await soon(asyncio.gather(*several))
            lengths = [sum(len(b) for blocks in one.values() for b in blocks) for one in found]
            assert lengths == [1, 2, 3, 4, 5] * 3
            events = await reading
            for symbol in THREE:
                matches_truth(host, events, symbol)

    with hosted(symbols=THREE, speed=60.0) as host:
        asyncio.run(run(host))


class BadArchive(Faults):
    """One file torn, one changed under its checksum, one missing, one without checksum."""

    def __init__(self) -> None:
        self.served = 0

    def archived(self, key: str, body: bytes, now_ms: float) -> bytes | None:
        self.served += key.endswith(".zip")
        if key.endswith("2026-01-01.zip"):
            return body[: len(body) // 2]
        if key.endswith("2026-01-02.zip"):
            return bytes([body[0] ^ 1]) + body[1:]
        if "2026-01-03" in key or key.endswith("2025-12-31.zip.CHECKSUM"):
            return None
        return body


def test_what_the_archive_spoils_comes_over_rest(tmp_path: Path) -> None:
    faults = BadArchive()

    async def run(host: Hosted) -> None:
        async with opened(host.url, tmp_path, THREE) as (source, _):
            end = START - START % HOUR
            start = end - 8 * 24 * HOUR
            found = await soon(history(source, [BTC], start, end))
            same(host, found, BTC, start, end, MINUTE)
            assert {block.origin for block in found[BTC]} == {"archive", "rest"}
            spoilt = [b for b in found[BTC] if b.origin == "rest"]
            days = {int(ts - 1) // (24 * HOUR) for b in spoilt for ts in b.ts.tolist()}
            assert len(days) == 5  # four spoilt ones, and the last one, which is not published yet
            assert faults.served > 0
            first = faults.served
            again = await soon(history(source, [BTC], start, end))
            same(host, again, BTC, start, end, MINUTE)
            assert faults.served - first < first, "sound files were kept on disk"

    with hosted(faults, symbols=THREE) as host:
        asyncio.run(run(host))


def test_what_was_kept_and_damaged_is_fetched_again(tmp_path: Path) -> None:
    async def run(host: Hosted) -> None:
        end = START - START % HOUR
        start = end - 8 * 24 * HOUR
        async with opened(host.url, tmp_path, THREE) as (source, _):
            same(host, await soon(history(source, [BTC], start, end)), BTC, start, end, MINUTE)

    with hosted(symbols=THREE) as host:
        asyncio.run(run(host))
        kept = list(tmp_path.rglob("*.zip"))
        assert kept
        for path in kept:
            path.write_bytes(b"not what it was")
        asyncio.run(run(host))
    assert not [path for path in tmp_path.rglob(".*") if path.is_file()], "no half-written file stays"


class Cuts(Faults):
    """Cuts every connection after so many pushes, with and without a close frame."""

    def __init__(self, after: int) -> None:
        self.after = after
        self.count: dict[int, int] = {}

    def push(self, connection: int, push: Push) -> Sequence[Push | Hangup]:
        self.count[connection] = self.count.get(connection, 0) + 1
        if self.count[connection] == self.after:
            return (Hangup(1001 if connection % 2 else None),)
        return (push,)


def test_a_lost_connection_is_made_again_and_says_so(tmp_path: Path) -> None:
    async def run(host: Hosted) -> None:
        async with opened(host.url, tmp_path, THREE) as (source, _), aclosing(source.stream()) as stream:
            events = await take(stream, lambda e: sum(x.type == "source.reconnected" for x in e) == 2)
            seen = [(event.symbol, event.ts) for event in closed(events)]
            assert len(seen) == len(set(seen))

    with hosted(Cuts(20), symbols=THREE, speed=30.0) as host:
        asyncio.run(run(host))


class Twice(Faults):
    """Every push comes twice."""

    def push(self, connection: int, push: Push) -> Sequence[Push | Hangup]:
        return (push, push)


def test_a_bar_that_comes_twice_passes_once(tmp_path: Path) -> None:
    async def run(host: Hosted) -> None:
        async with opened(host.url, tmp_path, THREE) as (source, _), aclosing(source.stream()) as stream:
            events = await take(stream, enough(3, 3))
            for symbol in THREE:
                matches_truth(host, events, symbol)

    with hosted(Twice(), symbols=THREE, speed=60.0) as host:
        asyncio.run(run(host))


class Mute(Faults):
    """The first connection is accepted and acknowledged, and never delivers."""

    def push(self, connection: int, push: Push) -> Sequence[Push | Hangup]:
        return () if connection == 1 else (push,)


def test_a_connection_that_never_delivers_is_replaced(tmp_path: Path) -> None:
    async def run(host: Hosted) -> None:
        params = {"silence": 1.0, "request_timeout": 1.0}
        async with (
            opened(host.url, tmp_path, THREE, **params) as (source, _),
            aclosing(source.stream()) as stream,
        ):
            events = await take(stream, enough(3, 1))
            assert any(event.type == "source.connected" for event in events)
            await eventually(lambda: host.connections == 1)

    with hosted(Mute(), symbols=THREE, speed=60.0) as host:
        asyncio.run(run(host))


class Stalls(Faults):
    """The first connection delivers for a while and then says nothing, open as it is."""

    def __init__(self) -> None:
        self.count = 0

    def push(self, connection: int, push: Push) -> Sequence[Push | Hangup]:
        self.count += connection == 1
        return () if connection == 1 and self.count > 20 else (push,)


def test_a_stalled_connection_is_replaced(tmp_path: Path) -> None:
    async def run(host: Hosted) -> None:
        async with (
            opened(host.url, tmp_path, THREE, silence=1.0) as (source, _),
            aclosing(source.stream()) as stream,
        ):
            await take(stream, lambda events: events[-1].type == "source.reconnected")
            await eventually(lambda: host.connections == 1)

    with hosted(Stalls(), symbols=THREE, speed=30.0) as host:
        asyncio.run(run(host))


def test_an_old_connection_is_replaced_without_losing_a_bar(tmp_path: Path) -> None:
    async def run(host: Hosted) -> None:
        params = {"silence": 4.0, "connection_lifetime": 5.0}
        async with (
            opened(host.url, tmp_path, THREE, **params) as (source, _),
            aclosing(source.stream()) as stream,
        ):
            events = await take(stream, lambda e: sum(x.type == "source.reconnected" for x in e) == 2)
            for symbol in THREE:
                matches_truth(host, events, symbol)
            await eventually(lambda: host.connections == 1)

    with hosted(symbols=THREE, speed=120.0) as host:
        asyncio.run(run(host))


def test_several_connections_share_the_streams(tmp_path: Path) -> None:
    async def run(host: Hosted) -> None:
        symbols = MANY[:450]
        params = {"streams_per_connection": 225}
        async with (
            opened(host.url, tmp_path, symbols, **params) as (source, _),
            aclosing(source.stream()) as stream,
        ):
            events = await take(stream, enough(450, 1))
            assert host.connections == 2
            assert sum(event.type == "source.connected" for event in events) == 2

    with hosted(symbols=MANY[:450], speed=60.0) as host:
        asyncio.run(run(host))


@pytest.mark.parametrize("how", ["cancel", "aclose", "close"])
def test_nothing_is_left_open(tmp_path: Path, how: str) -> None:
    async def run(host: Hosted) -> None:
        before = asyncio.all_tasks()
        source = BinanceFutures(BinanceFutures.Params(universe=THREE, interval="1m", endpoints=host.url))
        clock = await source.find_clock() or SystemClock()
        await source.open(SourceContext(clock, tmp_path, {}))
        stream = source.stream()
        await take(stream, lambda events: len(events) > 5)
        assert host.connections == 1
        if how == "cancel":

            async def read() -> None:
                async for _ in stream:
                    pass

            reading = asyncio.create_task(read())
            await asyncio.sleep(0.1)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await soon(reading)
        elif how == "aclose":
            await soon(stream.aclose())  # type: ignore[attr-defined]
        await soon(source.close())
        await soon(source.close())
        await eventually(lambda: host.connections == 0)
        await eventually(lambda: asyncio.all_tasks() <= before)

    with hosted(symbols=THREE, speed=60.0) as host:
        asyncio.run(run(host))


def test_closing_the_source_ends_a_stream_that_is_being_read(tmp_path: Path) -> None:
    async def run(host: Hosted) -> None:
        async with opened(host.url, tmp_path, THREE) as (source, _):
            stream = source.stream()
            reading = asyncio.create_task(take(stream, lambda events: False))
            await eventually(lambda: host.connections == 1)
            await source.close()
            await soon(reading)

    with hosted(symbols=THREE) as host:
        asyncio.run(run(host))


def test_unopened_sources_travel_to_workers() -> None:
    for example in BinanceFutures.examples:
        source = BinanceFutures(BinanceFutures.Params.model_validate(example))
        assert pickle.loads(pickle.dumps(source)).params == source.params  # noqa: S301 - made right here


def test_a_history_left_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    async def run(host: Hosted) -> None:
        async with opened(host.url, tmp_path, MANY[:100]) as (source, clock):
            before = asyncio.all_tasks()
            end = clock.now() - MINUTE
            async with aclosing(source.history(MANY[:100], end - 100 * MINUTE, end)) as blocks:  # type: ignore[type-var]
                async for _ in blocks:
                    break
            await eventually(lambda: asyncio.all_tasks() <= before)

    with hosted(symbols=MANY[:100]) as host:
        asyncio.run(run(host))


def test_unknown_symbols_are_named_with_the_nearest(tmp_path: Path) -> None:
    async def run(host: Hosted) -> None:
        async with opened(host.url, tmp_path, ("BTCUSDT", "ETHUSD", "QQQQ")):
            pass

    with hosted(symbols=THREE) as host, pytest.raises(SourceError) as error:
        asyncio.run(run(host))
    assert error.value.code == "AF5003"
    assert error.value.exit_code == 3
    assert "ETHUSD is unknown, did you mean 'ETHUSDT'?" in error.value.message
    assert "QQQQ" in error.value.message
    assert "BTCUSDT" not in error.value.message


def test_an_unreachable_exchange_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alpha_forge_plugins.market.binance.rest_client.backoff", lambda *_, **__: 0.0)

    async def run() -> None:
        async with opened("http://127.0.0.1:9", tmp_path, THREE):
            pass

    with pytest.raises(SourceError) as error:
        asyncio.run(run())
    assert error.value.code == "AF5001"
    assert "http://127.0.0.1:9" in error.value.message


class Web(Faults):
    """Every REST answer is a page of HTML."""

    def rest(self, path: str, response: Response, now_ms: float) -> Response:
        return Response(200, b"<html>Please sign in</html>", "text/html")


class Restricted(Faults):
    """The location is not served."""

    def rest(self, path: str, response: Response, now_ms: float) -> Response:
        return Response(
            451, b'{"code":0,"msg":"Service unavailable from a restricted location"}', "application/json"
        )


@pytest.mark.parametrize(("faults", "code"), [(Web(), "AF5005"), (Restricted(), "AF5004")])
def test_an_exchange_that_is_none_is_an_error_with_a_cure(tmp_path: Path, faults: Faults, code: str) -> None:
    async def run(host: Hosted) -> None:
        async with opened(host.url, tmp_path, THREE):
            pass

    with hosted(faults, symbols=THREE) as host, pytest.raises(SourceError) as error:
        asyncio.run(run(host))
    assert error.value.code == code
    assert error.value.help


class Shut(Faults):
    """Refuses the handshake."""

    def accept(self, path: str, now_ms: float) -> Response | None:
        return Response(404, b"", "text/plain")


def test_a_refused_handshake_is_not_tried_for_ever(tmp_path: Path) -> None:
    async def run(host: Hosted) -> None:
        async with opened(host.url, tmp_path, THREE) as (source, _), aclosing(source.stream()) as stream:
            await take(stream, lambda events: True)

    with hosted(Shut(), symbols=THREE) as host, pytest.raises(SourceError) as error:
        asyncio.run(run(host))
    assert error.value.code == "AF5007"


def test_a_clock_that_is_off_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def run(host: Hosted) -> None:
        source = BinanceFutures(BinanceFutures.Params(universe=THREE, interval="1m", endpoints=host.url))
        await source.open(SourceContext(SystemClock(), tmp_path, {}))
        await source.close()

    with hosted(symbols=THREE) as host, caplog.at_level(logging.WARNING):
        asyncio.run(run(host))
    assert "off the exchange's" in caplog.text


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"interval": "1M"}, "months differ in length"),
        ({"interval": "7m"}, "15m"),
        ({"universe": []}, "at least 1"),
        ({"universe": ["btcusdt"]}, "'BTCUSDT'"),
        ({"universe": ["BTCUSDT", "ETHUSDT", "BTCUSDT"]}, "named twice: BTCUSDT"),
        ({"universe": ["BTC/USDT"]}, "not a symbol"),
        ({"endpoints": "localhost:8080"}, "http://127.0.0.1:8080"),
        ({"endpoints": {"ws": "https://x"}}, "wss"),
        ({"endpoints": {"ws": "wss://fstream.binance.com"}}, "under /market only"),
        ({"endpoints": {"ws": "wss://fstream.binance.com/ws"}}, "wss://fstream.binance.com/market"),
        ({"endpoints": {"socket": "wss://x"}}, "socket"),
        ({"colour": 1}, "colour"),
    ],
)
def test_params_say_what_is_wrong(change: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError) as error:
        BinanceFutures.Params.model_validate({"universe": ["BTCUSDT"], "interval": "1h"} | change)
    assert says in str(error.value)


def test_one_url_stands_for_all_four() -> None:
    params = BinanceFutures.Params.model_validate(
        {"universe": ["BTCUSDT"], "interval": "1h", "endpoints": "http://127.0.0.1:8080/"}
    )
    assert params.endpoints.model_dump() == {
        "ws": "ws://127.0.0.1:8080/market",
        "rest": "http://127.0.0.1:8080",
        "archive": "http://127.0.0.1:8080",
        "listing": "http://127.0.0.1:8080",
    }
    schema = BinanceFutures.Params.model_json_schema()["properties"]["endpoints"]
    assert {"type": "string"} in schema["anyOf"]


def test_examples_are_valid() -> None:
    for example in BinanceFutures.examples:
        BinanceFutures(BinanceFutures.Params.model_validate(example))


@pytest.mark.parametrize("module", ["binance_futures", "files"])
def test_looking_at_the_source_loads_nothing_heavy(module: str) -> None:
    heavy = ("numpy", "pandas", "pyarrow", "httpx", "websockets", "msgspec")
    code = (
        f"import sys, alpha_forge_plugins.market.{module}\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
