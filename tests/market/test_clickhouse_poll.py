"""``data.clickhouse_poll`` against a real server: the kit's checks, late and flawed rows, other people's tables, outages."""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import contextmanager
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alpha_forge.runtime.runner import RealTimeRunner
from alpha_forge_plugins.conformance.clickhouse import ClickHousePollConformance, table_of
from alpha_forge_plugins.market.clickhouse_poll import ClickHousePoll
from alpha_forge_sdk import Bar, MarketEvent, SourceContext, SourceError
from alpha_forge_sdk.testing.clock import VirtualClock
from alpha_forge_sdk.testing.engines.clickhouse import (
    READER,
    ClickHouse,
    connection_params,
    running_clickhouse,
    shared_clickhouse,
)
from tests.market_truth import HOUR, features, random_market, worst
from tests.pipelines import compiled, read_column

FIRST = 1_767_571_200_000_000_000  # 2026-01-05T00:00Z
FLOATS = "open Float64, high Float64, low Float64, close Float64, volume Float64"
PLAIN = f"symbol String, open_time DateTime('UTC'), {FLOATS}"
MERGE_TREE = "ENGINE = MergeTree ORDER BY (symbol, open_time)"
BOTH = ["AAAUSDT", "BBBUSDT"]


class TestClickHousePoll(ClickHousePollConformance):
    """One test for each check of the kit."""


class PollClock(VirtualClock):
    """Knows when somebody sleeps on it: then what was begun has been done."""

    def __init__(self, now: int) -> None:
        super().__init__(now)
        self.naps = 0

    async def sleep(self, seconds: float) -> None:
        self.naps += 1
        await super().sleep(seconds)


def bar(k: int, price: float = 100.0) -> Bar:
    """The k-th hourly bar after `FIRST`."""
    return Bar(FIRST + k * HOUR, price, price + 1, price - 1, price + k / 7, float(k))


class Table:
    """A table of bars, filled as somebody else would."""

    def __init__(self, server: ClickHouse, name: str, columns: str = PLAIN, engine: str = MERGE_TREE) -> None:
        self.server, self.name = server, name
        server.query(f"CREATE TABLE {name} ({columns}) {engine}")

    def insert(self, *rows: tuple[str, Bar]) -> None:
        lines = (json.dumps([symbol, (bar.ts - HOUR) // 10**9, *bar[1:]]) for symbol, bar in rows)
        query = f"INSERT INTO {self.name} (symbol, open_time, open, high, low, close, volume) FORMAT JSONCompactEachRow"
        self.server.query(query, data="\n".join(lines).encode())

    def params(self, **others: Any) -> dict[str, Any]:
        return params_of(self.server, self.name, **others)


def params_of(server: ClickHouse, name: str, **others: Any) -> dict[str, Any]:
    where = {**connection_params(server), "table_name": name}
    return {**where, "universe": BOTH, "interval": "1h", "patience": 0, **others}


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(shared_clickhouse(), table_of("poll", tmp_path))


class Run:
    """An opened source with a stream that is taken from, on a clock that the test moves."""

    def __init__(self, params: Mapping[str, Any], now: int) -> None:
        self.clock = PollClock(now)
        self.source = ClickHousePoll(ClickHousePoll.Params.model_validate(dict(params)))
        self.events: list[MarketEvent] = []

    async def __aenter__(self) -> Run:
        await self.source.open(SourceContext(self.clock, Path("unused"), {}))
        self.task = asyncio.create_task(self._take())
        await self.until(lambda: self.clock.naps == 1)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await self.source.close()

    async def _take(self) -> None:
        async for event in self.source.stream():
            self.events.append(event)

    async def until(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while not done():
            if self.task.done():
                self.task.result()
            assert time.monotonic() < deadline, f"still waiting; {len(self.events)} events"
            await asyncio.sleep(0.002)

    async def look(self, to: int | None = None) -> list[MarketEvent]:
        """Move on (to an instant), let it look once; → what that brought."""
        before, naps = len(self.events), self.clock.naps
        self.clock.advance(max(to or 0, self.clock.now() + 40 * 10**9))
        await self.until(lambda: self.clock.naps > naps)
        return self.events[before:]

    async def past(self, start: int, end: int) -> dict[str, list[Bar]]:
        found: dict[str, list[Bar]] = {}
        async for block in self.source.history(BOTH, start, end):
            columns = (block.ts, block.open, block.high, block.low, block.close, block.volume)
            rows = zip(*(c.tolist() for c in columns), strict=True)
            found[block.symbol] = [Bar(*row) for row in rows]
        return found


def during(
    params: Mapping[str, Any], body: Callable[[Run], Awaitable[None]], now: int = FIRST + 10 * HOUR
) -> None:
    async def main() -> None:
        async with Run(params, now) as run:
            await body(run)

    asyncio.run(asyncio.wait_for(main(), 60))


def seen(events: Iterable[MarketEvent]) -> list[tuple[str | None, int]]:
    """Closed bars as (symbol, number)."""
    return [(e.symbol, (e.ts - FIRST) // HOUR) for e in events if e.closed]


def both(*numbers: int) -> list[tuple[str, Bar]]:
    return [(symbol, bar(k)) for k in numbers for symbol in BOTH]


def test_the_stream_begins_after_what_is_there_and_brings_each_later_row_once(table: Table) -> None:
    table.insert(*both(*range(1, 11)))

    async def body(run: Run) -> None:
        (first,) = run.events
        assert (first.closed, first.ts) == (False, FIRST + 11 * HOUR)
        assert await run.look() == []
        table.insert(*both(11))
        assert await run.look(FIRST + 11 * HOUR - 1) == [], "a row counts from its close on"
        got = await run.look(FIRST + 11 * HOUR)
        assert [(e.symbol, e.bar) for e in got] == both(11)
        assert await run.look() == []
        history = await run.past(FIRST + 8 * HOUR, FIRST + 20 * HOUR)
        assert history == {s: [bar(9), bar(10), bar(11)] for s in BOTH}

    during(table.params(), body)


def test_late_rows_are_found_once_and_those_beyond_the_overlap_not(table: Table) -> None:
    table.insert(*both(1, 2))

    async def body(run: Run) -> None:
        table.insert(("AAAUSDT", bar(6)), ("AAAUSDT", bar(4)))
        assert seen(await run.look()) == [("AAAUSDT", 4), ("AAAUSDT", 6)]
        # Later, and older than what is seen; of another symbol, and of the same.
        table.insert(("BBBUSDT", bar(6)), ("AAAUSDT", bar(5)), ("BBBUSDT", bar(3)))
        assert seen(await run.look()) == [("AAAUSDT", 5), ("BBBUSDT", 6)], "three hours back is beyond two"
        assert await run.look() == []
        table.insert(("BBBUSDT", bar(5)))
        assert seen(await run.look()) == [("BBBUSDT", 5)]
        # What the stream left out is in the history, where a repair asks for it.
        assert (await run.past(FIRST, FIRST + 10 * HOUR))["BBBUSDT"] == [bar(k) for k in (1, 2, 3, 5, 6)]

    during(table.params(overlap=2 * 3600), body)


def test_a_changed_row_comes_again_as_it_is_now(tmp_path: Path) -> None:
    name = table_of("replaced", tmp_path)
    engine = "ENGINE = ReplacingMergeTree ORDER BY (symbol, open_time)"
    table = Table(shared_clickhouse(), name, engine=engine)
    table.server.query(f"SYSTEM STOP MERGES {name}")
    table.insert(*both(1))

    async def body(run: Run) -> None:
        table.insert(*both(2))
        assert seen(await run.look()) == [("AAAUSDT", 2), ("BBBUSDT", 2)]
        table.insert(("BBBUSDT", bar(2, price=200.0)), ("AAAUSDT", bar(2)))
        (revised,) = await run.look()
        assert (revised.symbol, revised.bar) == ("BBBUSDT", bar(2, price=200.0))
        assert await run.look() == []
        assert (await run.past(FIRST, FIRST + 5 * HOUR))["BBBUSDT"] == [bar(1), bar(2, price=200.0)]

    during(table.params(), body)


def test_rows_that_are_no_bars_are_left_out_of_the_stream_and_refused_as_history(
    table: Table, caplog: pytest.LogCaptureFixture
) -> None:
    table.insert(*both(1))

    async def body(run: Run) -> None:
        table.insert(
            ("AAAUSDT", bar(2)),
            ("BBBUSDT", bar(2)._replace(ts=FIRST + 2 * HOUR + 60 * 10**9)),
            ("AAAUSDT", bar(3)),
            ("AAAUSDT", bar(3, price=7.0)),
            ("BBBUSDT", bar(3)),
            ("BBBUSDT", bar(3)),  # twice the same is once
        )
        table.server.query(
            f"INSERT INTO {table.name} VALUES ('BBBUSDT', {FIRST // 10**9 + 3 * 3600}, nan, 1, 1, 1, 1)"
        )
        assert seen(await run.look()) == [("AAAUSDT", 2), ("BBBUSDT", 3)]
        assert await run.look() == []
        with pytest.raises(SourceError) as caught:
            await run.past(FIRST, FIRST + 9 * HOUR)
        assert caught.value.code == "AF5073"
        for word in ("4 row(s)", "off the grid of 1h", "is there twice, with different values"):
            assert word in caught.value.message, caught.value.message
        assert await run.past(FIRST, FIRST + HOUR) == {s: [bar(1)] for s in BOTH}, "other ranges are whole"

    during(table.params(), body)
    (line,) = [r.getMessage() for r in caplog.records if "left out" in r.getMessage()]
    assert "4 row(s) left out" in line


def test_a_bar_in_progress_is_taken_when_it_is_final(tmp_path: Path) -> None:
    name = table_of("growing", tmp_path)
    table = Table(
        shared_clickhouse(), name, engine="ENGINE = ReplacingMergeTree ORDER BY (symbol, open_time)"
    )
    table.insert(*both(*range(1, 10)), ("AAAUSDT", bar(11, price=50.0)))

    async def body(run: Run) -> None:
        close = FIRST + 11 * HOUR
        assert await run.look(close + 4 * 10**9) == []
        table.insert(("AAAUSDT", bar(11)))
        (event,) = await run.look(close + 5 * 10**9)
        assert event.bar == bar(11)
        assert await run.source.passed(close, close + 30 * 10**9) == close - 30 * 10**9

    during(table.params(final_after=5.0, lateness=60.0), body)
    with pytest.raises(ValueError, match="lateness must not be less than final_after"):
        ClickHousePoll.Params.model_validate(table.params(final_after=90.0))


def test_other_names_types_zones_and_a_table_of_several_markets(tmp_path: Path) -> None:
    name = table_of("others", tmp_path)
    server = shared_clickhouse()
    server.query(
        f"CREATE TABLE {name} (pair LowCardinality(String), closed_at DateTime64(3, 'Asia/Tokyo'), market String, "
        "o Decimal(18, 8), h Decimal(9, 2), l Float32, c Float64, v UInt32) ENGINE = MergeTree ORDER BY closed_at"
    )
    exact = ("1234567890.12345678", "9876543.21", "0.25", "0.1", "7")
    server.query(
        f"INSERT INTO {name} SELECT pair, fromUnixTimestamp64Milli(toInt64({FIRST // 10**6 + 3_600_000})), market, "
        f"toDecimal64('{exact[0]}', 8), toDecimal32('{exact[1]}', 2), {exact[2]}, {exact[3]}, {exact[4]} "
        "FROM (SELECT arrayJoin(['AAAUSDT', 'BBBUSDT']) AS pair, arrayJoin(['spot', 'it''s \\\\ futures']) AS market)"
    )
    params = params_of(
        server,
        name,
        columns={
            "symbol": "pair",
            "time": "closed_at",
            "open": "o",
            "high": "h",
            "low": "l",
            "close": "c",
            "volume": "v",
        },
        time_is="close",
    )
    wanted = Bar(FIRST + HOUR, *(float(Fraction(text)) for text in exact))

    async def body(run: Run) -> None:
        assert await run.past(FIRST, FIRST + 9 * HOUR) == {"AAAUSDT": [wanted], "BBBUSDT": [wanted]}
        (first,) = run.events
        assert first.ts == FIRST + 2 * HOUR

    during({**params, "filters": {"market": "it's \\ futures"}}, body)
    during(params, body)  # the same rows of two markets are one bar; others would be refused


def opening(params: Mapping[str, Any]) -> SourceError:
    """What open raises."""

    async def main() -> None:
        source = ClickHousePoll(ClickHousePoll.Params.model_validate(dict(params)))
        try:
            await source.open(SourceContext(PollClock(FIRST + 10 * HOUR), Path("unused"), {}))
        finally:
            await source.close()

    with pytest.raises(SourceError) as caught:
        asyncio.run(asyncio.wait_for(main(), 30))
    return caught.value


@pytest.mark.parametrize(
    ("columns", "seen"),
    [
        (PLAIN.replace(", volume Float64", ""), "lacks the column volume; it has close, high"),
        (PLAIN.replace("DateTime('UTC')", "UInt64"), "open_time is UInt64 instead of a DateTime"),
        (
            PLAIN.replace("high Float64", "high Nullable(Float64)"),
            "high is Nullable(Float64) instead of Float64",
        ),
        (PLAIN.replace("high Float64", "high Decimal(38, 8)"), "high is Decimal(38, 8)"),
        (PLAIN.replace("high Float64", "high String"), "high is String"),
        (PLAIN.replace("symbol String", "symbol UInt32"), "symbol is UInt32 instead of a String"),
        (PLAIN.replace("symbol String", "symbol FixedString(9)"), "symbol is FixedString(9)"),
        (PLAIN.replace("symbol String", "symbol Array(String)"), "symbol is Array(String)"),
    ],
)
def test_a_table_without_the_columns_is_refused_at_open(tmp_path: Path, columns: str, seen: str) -> None:
    table = Table(shared_clickhouse(), table_of("wrong", tmp_path), columns)
    error = opening(table.params())
    assert (error.code, seen in error.message) == ("AF5072", True), error.message


def test_what_else_is_wrong_is_told_at_open(table: Table) -> None:
    table.insert(("AAAUSDT", bar(1)), ("BBBUSDT", bar(20)))
    cases: list[tuple[str, str, Mapping[str, Any]]] = [
        ("AF5003", "BBBUSDT", {}),  # it has a row, but of a time to come
        ("AF5003", "AAAUSDT", {"filters": {"symbol": "none"}}),
        ("AF5070", READER.name, {"user": READER.name, "password": "not-the-password"}),
        ("AF5071", "nobodys_table", {"table_name": "nobodys_table"}),
        ("AF5071", "nobodys", {"database": "nobodys"}),
        ("AF5072", "lacks the column market of `filters`", {"filters": {"market": "spot"}}),
        ("AF5001", "ConnectError", {"port": 1}),
        ("AF5074", "no TLS", {"secure": True}),
        ("AF5074", "ca_cert", {"secure": True, "ca_cert": "nowhere.pem"}),
    ]
    for code, word, changed in cases:
        error = opening(table.params(**changed))
        assert (error.code, word in error.message) == (code, True), (changed, str(error))
        assert "not-the-password" not in str(error)
    with stranger() as port:
        assert opening(table.params(port=port)).code == "AF5074"


@contextmanager
def stranger():
    """Something that is no ClickHouse."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_user_who_may_only_read_is_enough(table: Table) -> None:
    table.insert(*both(1))

    async def body(run: Run) -> None:
        table.insert(*both(2))
        assert seen(await run.look()) == [("AAAUSDT", 2), ("BBBUSDT", 2)]
        assert await run.past(FIRST, FIRST + 9 * HOUR) == {s: [bar(1), bar(2)] for s in BOTH}

    during(table.params(user=READER.name, password=READER.password), body)


def test_a_server_that_dies_and_comes_back_costs_no_bar(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with running_clickhouse(tmp_path / "server") as server:
        if not server.own:
            pytest.skip("the server of AF_CLICKHOUSE_URL can't be killed by a test")
        table = Table(server, "bars")
        table.insert(*both(1))

        async def body(run: Run) -> None:
            table.insert(*both(2))
            assert seen(await run.look()) == [("AAAUSDT", 2), ("BBBUSDT", 2)]
            server.kill()
            assert await run.look() == await run.look() == []
            with pytest.raises(SourceError) as caught:
                await run.past(FIRST, FIRST + 9 * HOUR)
            assert caught.value.code == "AF5001"
            server.restart()
            table.insert(*both(3))
            got = await run.look()
            assert got[0].type == "source.reconnected"
            assert seen(got) == [("AAAUSDT", 3), ("BBBUSDT", 3)]
            server.query("RENAME TABLE bars TO away")  # as who swaps tables does
            assert await run.look() == []
            server.query("RENAME TABLE away TO bars")
            assert [e.type for e in await run.look()] == ["source.reconnected"]

        during(table.params(), body)
    told = [r.getMessage() for r in caplog.records if "interrupted" in r.getMessage()]
    assert len(told) == 2, "an outage is told once"


WARM, LIVE = 60, 8


@pytest.mark.parametrize("symbols", [3, 500])
def test_a_run_over_a_table_that_is_filled_in_any_order_loses_nothing(tmp_path: Path, symbols: int) -> None:
    """Rows of a close come shuffled; one symbol's each a close late, which lateness allows; one bar never comes."""
    market = random_market(symbols, WARM + LIVE, 11)
    names = list(market)
    hole = int(market[names[-1]].index[WARM + 2])
    market[names[-1]] = market[names[-1]].drop(hole)
    table = Table(shared_clickhouse(), table_of("run", tmp_path))
    closes = sorted({int(ts) for bars in market.values() for ts in bars.index})
    anchor = closes[WARM - 1]

    def rows(ts: int, which: Iterable[str]) -> list[tuple[str, Bar]]:
        return [(s, Bar(ts, *market[s].loc[ts].tolist())) for s in which if ts in market[s].index]

    table.insert(*(row for ts in closes[:WARM] for row in rows(ts, names)))
    params = {**table.params(), "universe": names, "lateness": 5400.0, "poll_seconds": 10.0, "patience": 60.0}
    text = f"""name: polled
using: {{capabilities: [shared, middlefreq]}}
signal_generation:
  mode: stream
  warmup: {{lookback_days: auto}}
  on_prediction:
    - {{using: sinks.csv_append, column: ohlcv.mom, params: {{path: {tmp_path / "mom.csv"}}}}}
pipeline:
- data: {{using: data.clickhouse_poll, outputs: {{frame: ohlcv}}, params: {json.dumps(params)}}}
- features: {{using: features.momentum, inputs: {{column: ohlcv.close}}, outputs: {{columns: [mom]}}, params: {{window: 20}}}}
"""
    document, dag = compiled(text)
    clock = PollClock(anchor + HOUR // 2)
    runner = RealTimeRunner(document, dag, clock=clock)
    shuffler = random.Random(5)

    async def drive() -> None:
        running = asyncio.create_task(runner.run())
        owed: list[tuple[str, Bar]] = []
        expected = 0

        async def until(count: int) -> None:
            deadline = time.monotonic() + 60
            while runner.summary.warmup is None or runner.summary.bars < count:
                if running.done():
                    running.result()
                assert time.monotonic() < deadline, f"{runner.summary.bars} of {count} bars"
                clock.advance_by(10)
                await asyncio.sleep(0.01)

        await until(0)
        for ts in closes[WARM:]:
            late = rows(ts, names[:1])
            fresh = rows(ts, names[1:]) + owed
            shuffler.shuffle(fresh)
            clock.advance(ts)
            # In several INSERTs, with looks between them.
            for part in np.array_split(np.arange(len(fresh)), 3):
                table.insert(*(fresh[i] for i in part))
                clock.advance_by(10)
                await asyncio.sleep(0.01)
            # What stands behind the hole waits until it is certain that the bar does not exist.
            expected += len([s for s, b in fresh if not (s == names[-1] and hole <= b.ts <= hole + HOUR)])
            if ts == hole + 2 * HOUR:
                expected += 1
            await until(expected)
            owed = late
        table.insert(*owed)
        await until(expected + len(owed))
        runner.stop()
        await running

    asyncio.run(asyncio.wait_for(drive(), 120))
    got = read_column(tmp_path / "mom.csv")
    for name, bars in market.items():
        live = bars[bars.index > anchor]
        want = features(bars)["mom_20"].loc[live.index].to_numpy()
        assert list(got[name].index) == list(live.index), name
        assert worst(got[name].to_numpy(), want) <= 1e-9
    assert runner.summary.absent == 1
