"""``data.timer``: schedules against the calendar, ticks on a virtual clock, and what steps make of them, live and replayed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from alpha_forge.dsl.diagnostics import ConfigError
from alpha_forge.runtime.emitter import create_emitter_from_dsl
from alpha_forge.runtime.replay.outputs import SinkOutput, column_pairs
from alpha_forge.runtime.replay.replayer import Replayer
from alpha_forge.runtime.runner import RealTimeRunner, RunSummary
from alpha_forge_plugins.conformance.timer import TimerConformance
from alpha_forge_plugins.market.timer import Timer
from alpha_forge_sdk import MarketEvent, SourceContext
from tests.fake_source import ScriptedSource, VirtualClock
from tests.market_truth import HOUR, random_market
from tests.pipelines import arrivals_of, compiled, delayed, read_column, shuffled

QUARTER = HOUR // 4
BOTH = ["AAAUSDT", "BBBUSDT"]


class TestTimer(TimerConformance):
    """One test for each check of the kit."""


def timer(**params: Any) -> Timer:
    return Timer(Timer.Params.model_validate({"universe": BOTH, **params}))


def ns(text: str) -> int:
    """An instant in UTC, ``2026-03-08T14:30``."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 10**9


def past(source: Timer, start: str, end: str) -> list[str]:
    """What history says, in UTC; the same for both symbols."""

    async def main() -> list[list[int]]:
        await source.open(SourceContext(VirtualClock(ns("2030-01-01T00:00")), Path("unused"), {}))
        return [block.ts.tolist() async for block in source.history(BOTH, ns(start), ns(end))]

    found = asyncio.run(main())
    assert all(times == found[0] for times in found)
    assert len(found) in (0, 2)
    return [datetime.fromtimestamp(t / 1e9, UTC).strftime("%m-%dT%H:%M") for t in found[0]] if found else []


def test_the_grid_of_an_interval() -> None:
    assert past(timer(interval="6h"), "2026-01-05T00:00", "2026-01-06T00:00") == [
        "01-05T06:00",
        "01-05T12:00",
        "01-05T18:00",
        "01-06T00:00",
    ]
    assert past(timer(interval="6h"), "2026-01-05T06:00", "2026-01-05T11:59") == []
    # Weeks begin on Monday, as those of the bars do.
    assert past(timer(interval="1w"), "2026-01-05T00:00", "2026-01-20T00:00") == [
        "01-12T00:00",
        "01-19T00:00",
    ]


def test_times_of_the_day_follow_the_clocks_of_their_zone() -> None:
    opening = timer(
        interval="30m", at=["09:30"], zone="America/New_York", days=["mon", "tue", "wed", "thu", "fri"]
    )
    # The clocks were put forward on Sunday, March 8, 2026, and back on November 1.
    assert past(opening, "2026-03-05T00:00", "2026-03-11T00:00") == [
        "03-05T14:30",
        "03-06T14:30",
        "03-09T13:30",
        "03-10T13:30",
    ]
    at_night = timer(interval="30m", at=["01:30", "02:30"], zone="America/New_York")
    assert past(at_night, "2026-03-07T12:00", "2026-03-09T12:00") == [
        "03-08T06:30",
        "03-09T05:30",
        "03-09T06:30",
    ]
    assert past(at_night, "2026-10-31T12:00", "2026-11-01T12:00") == ["11-01T05:30", "11-01T07:30"]


def test_days_alone_leave_out_the_others_in_their_zone() -> None:
    weekend = timer(interval="12h", days=["sat"], zone="Asia/Tokyo")
    # Saturday in Tokyo: from Friday 15:00 to Saturday 15:00 UTC.
    assert past(weekend, "2026-01-05T00:00", "2026-01-12T00:00") == ["01-10T00:00", "01-10T12:00"]


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"interval": "soon"}, "not an interval"),
        ({"interval": "1h", "at": ["09:30"]}, "2025-01-01T09:30:00 in UTC is not on the grid of 1h"),
        ({"interval": "1h", "at": ["09:00"], "zone": "Asia/Kolkata"}, "not on the grid of 1h"),
        ({"interval": "1w", "at": ["09:00"]}, "at most 1d"),
        ({"interval": "1h", "at": ["24:00"]}, "pattern"),
        ({"interval": "1h", "at": ["9:00"]}, "pattern"),
        ({"interval": "1h", "at": []}, "at least 1"),
        ({"interval": "1h", "at": ["09:00", "09:00"]}, "named twice"),
        ({"interval": "1h", "days": ["monday"]}, "Input should be"),
        ({"interval": "1h", "days": []}, "at least 1"),
        ({"interval": "1h", "zone": "Mars/Olympus"}, "is no time zone"),
    ],
)
def test_a_bad_schedule_is_an_error_of_the_configuration(
    tmp_path: Path, params: Mapping[str, Any], says: str
) -> None:
    with pytest.raises(ValidationError, match=says):
        timer(**params)
    text = config_of(BOTH, tmp_path, "data.timer_1h", json.dumps({"universe": BOTH, **params}))
    with pytest.raises(ConfigError) as caught:
        compiled(text)
    assert any(problem.path[:3] == ("pipeline", 1, "data") for problem in caught.value.diagnostics)


def test_what_the_machine_slept_through_is_made_up_in_order() -> None:
    async def main() -> list[MarketEvent]:
        clock = VirtualClock(ns("2026-01-05T00:10"))
        source = timer(interval="1h")
        await source.open(SourceContext(clock, Path("unused"), {}))
        events: list[MarketEvent] = []

        async def take() -> None:
            async for event in source.stream():
                events.append(event)

        task = asyncio.create_task(take())
        for to in ("2026-01-05T00:59", "2026-01-05T01:00", "2026-01-05T04:30"):
            await asyncio.sleep(0)
            clock.advance(ns(to))
        for _ in range(5):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await source.close()
        return events

    first, *rest = asyncio.run(main())
    assert (first.closed, first.ts) == (False, ns("2026-01-05T01:00"))
    hours = [ns(f"2026-01-05T0{hour}:00") for hour in (1, 2, 3, 4)]
    assert [(e.ts, e.symbol, e.closed) for e in rest] == [(ts, s, True) for ts in hours for s in BOTH]


def config_of(symbols: Sequence[str], out: Path, on: str, schedule: str, *, scope: str = "symbol") -> str:
    """Quarter-hours, and a step that a timer triggers."""
    panel = f"""
- features: {{using: features.cross_rank, inputs: {{column: ohlcv.close}}, outputs: {{columns: [rank]}}, on: [{on}]}}"""
    ranked = f"""
    - {{using: sinks.csv_append, name: rank, column: ohlcv.rank, params: {{path: {out / "rank.csv"}}}}}"""
    return f"""name: ticking
using: {{capabilities: [shared, middlefreq]}}
signal_generation:
  mode: stream
  warmup: {{lookback_days: auto}}
  scheduling: {{buffer_minutes: 2}}
  on_prediction:
    - {{using: sinks.csv_append, name: mean, column: ohlcv.mean, params: {{path: {out / "mean.csv"}}}}}
    - {{using: sinks.csv_append, name: all, column: ohlcv.all, params: {{path: {out / "all.csv"}}}}}{ranked * (scope == "panel")}
pipeline:
- data: {{using: data.binance_futures, outputs: {{frame: ohlcv}}, params: {{universe: [{", ".join(symbols)}], interval: 15m}}}}
- data: {{using: data.timer, outputs: {{frame: ticks}}, params: {schedule}}}
- features: {{using: features.sma, inputs: {{column: ohlcv.close}}, outputs: {{columns: [mean]}}, params: {{window: 5}}, on: [{on}]}}
- features: {{using: features.sma, inputs: {{column: ohlcv.close}}, outputs: {{columns: [all]}}, params: {{window: 5}}}}{panel * (scope == "panel")}
"""


WARM, LIVE = 24, 40


def market_of(symbols: int) -> tuple[dict[str, pd.DataFrame], int]:
    """Quarter-hours; the last symbol lacks bars, among them the closes of whole hours."""
    market = random_market(symbols, WARM + LIVE, 17, step=QUARTER)
    name = list(market)[-1]
    index = market[name].index
    hours = [ts for ts in index[WARM:] if ts % HOUR == 0]
    gone = {hours[2], hours[4], hours[4] - QUARTER, hours[5]}
    market[name] = market[name][[ts not in gone for ts in index]]
    return market, int(index[WARM - 1])


def due(market: Mapping[str, pd.DataFrame], ticks: Sequence[int], anchor: int) -> dict[str, list[int]]:
    """By symbol: the newest bar at each tick, once, of those after the anchor."""
    found = {}
    for name, bars in market.items():
        newest = {max((int(ts) for ts in bars.index if ts <= t), default=0) for t in ticks}
        found[name] = sorted(ts for ts in newest if ts > anchor)
    return found


def ran(
    text: str,
    market: Mapping[str, pd.DataFrame],
    arrivals: Sequence[tuple[int, str]],
    *,
    bars: int | None = None,
) -> RunSummary:
    document, dag = compiled(text)
    clock = VirtualClock(min(ts for ts, _ in arrivals) - QUARTER // 2)
    scripted = ScriptedSource(market, arrivals, clock, QUARTER)
    sources = {"ohlcv": scripted, "ticks": dag.make(next(n for n in dag.data_nodes() if n.frame == "ticks"))}
    runner = RealTimeRunner(document, dag, sources=sources, bars=bars)
    return asyncio.run(asyncio.wait_for(runner.run(), 120))


def check(path: Path, market: Mapping[str, pd.DataFrame], wanted: Mapping[str, Sequence[int]]) -> pd.Series:
    """The file holds the mean of five closes at exactly these bars."""
    got = read_column(path)
    for name, bars in market.items():
        mean = bars["close"].rolling(5).mean()
        mine = got[name].sort_index() if name in got.index.get_level_values(0) else pd.Series(dtype=float)
        assert list(mine.index) == list(wanted[name]), name
        assert np.abs(mine.to_numpy() / mean.loc[list(wanted[name])].to_numpy() - 1).max(initial=0) < 1e-12
    return got.sort_index()


def replayed(
    text: str, market: Mapping[str, pd.DataFrame], start: int, end: int, *, rows: int | None
) -> None:
    document, dag = compiled(text)
    clock = VirtualClock(end + QUARTER // 2)
    sources = {
        "ohlcv": ScriptedSource(market, [], clock, QUARTER),
        "ticks": dag.make(next(n for n in dag.data_nodes() if n.frame == "ticks")),
    }
    output = SinkOutput(dag, create_emitter_from_dsl(document, dag))
    pairs = column_pairs(dag, features=False)
    replayer = Replayer(dag, start, end, pairs, scheduled=True, sources=sources, clock=clock, rows=rows)
    asyncio.run(asyncio.wait_for(replayer.run(output), 120))


HALF_PAST = {"interval": "30m", "at": [f"{hour:02}:30" for hour in range(1, 24, 2)]}


@pytest.mark.parametrize(
    ("symbols", "on", "schedule", "step", "phase"),
    [
        (3, "data.timer_1h", {"interval": "1h"}, HOUR, 0),
        (3, "data.timer_10m", {"interval": "10m"}, HOUR // 6, 0),
        (3, "data.timer_30m", HALF_PAST, 2 * HOUR, 3 * HOUR // 2),
        (500, "data.timer_1h", {"interval": "1h"}, HOUR, 0),
    ],
)
def test_a_step_runs_at_ticks_on_each_newest_bar_whatever_the_arrival_and_as_a_replay_does(
    tmp_path: Path, symbols: int, on: str, schedule: Mapping[str, Any], step: int, phase: int
) -> None:
    market, anchor = market_of(symbols)
    names = list(market)
    end = max(int(bars.index[-1]) for bars in market.values())
    ticks = list(range((anchor - phase) // step * step + phase, end + 1, step))
    wanted = due(market, ticks, anchor)
    params = json.dumps({"universe": names, **schedule})
    arrivals = arrivals_of(market, anchor)
    ways = {"any_order": shuffled(arrivals, 3, 2 * symbols + 1)}
    if symbols == 3:
        ways["in_order"] = arrivals
        ways["one_late"] = delayed(arrivals, names[1], 4 * symbols)
    results = []
    for way, arrived in ways.items():
        ran(config_of(names, tmp_path / way, on, params), market, arrived)
        results.append(check(tmp_path / way / "mean.csv", market, wanted))
        every = {name: [int(ts) for ts in bars.index if ts > anchor] for name, bars in market.items()}
        check(tmp_path / way / "all.csv", market, every)
    for rows in (None, 7) if symbols == 3 else (None,):
        out = tmp_path / f"replayed{rows}"
        replayed(config_of(names, out, on, params), market, anchor, end, rows=rows)
        results.append(check(out / "mean.csv", market, wanted))
        check(out / "all.csv", market, every)
    for result in results[1:]:
        pd.testing.assert_series_equal(results[0], result, check_exact=True)


def test_a_step_across_symbols_waits_at_a_tick_for_all_of_them(tmp_path: Path) -> None:
    market, anchor = market_of(5)
    names = list(market)
    end = max(int(bars.index[-1]) for bars in market.values())
    ticks = list(range(anchor // HOUR * HOUR, end + 1, HOUR))
    wanted = due(market, ticks, anchor)
    closes = pd.DataFrame({name: bars["close"] for name, bars in market.items()})
    results = []
    arrivals = arrivals_of(market, anchor)
    for way, arrived in {"in_order": arrivals, "one_late": delayed(arrivals, names[0], 12)}.items():
        params = json.dumps({"universe": names, "interval": "1h"})
        ran(config_of(names, tmp_path / way, "data.timer_1h", params, scope="panel"), market, arrived)
        got = read_column(tmp_path / way / "rank.csv").sort_index()
        assert set(got.index) == {(name, ts) for name, times in wanted.items() for ts in times}
        for (name, ts), value in got.items():
            row = closes.loc[ts].dropna()
            assert (row < row[name]).sum() == round(value * (len(row) - 1)), (
                "its rank among all that have a bar there"
            )
        results.append(got)
    pd.testing.assert_series_equal(*results, check_exact=True)


def test_a_run_that_is_limited_to_some_bars_ends_with_their_last_tick(tmp_path: Path) -> None:
    market, anchor = market_of(2)
    names = list(market)[:1]
    market = {name: market[name] for name in names}
    params = json.dumps({"universe": names, "interval": "1h"})
    ran(config_of(names, tmp_path, "data.timer_1h", params), market, arrivals_of(market, anchor), bars=9)
    ticks = list(range(anchor // HOUR * HOUR, anchor + 9 * QUARTER + 1, HOUR))
    check(tmp_path / "mean.csv", market, due(market, ticks, anchor))
