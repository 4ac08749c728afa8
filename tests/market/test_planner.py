"""Plans: every bar once, files that exist by then, and never dearer than either source alone."""

from __future__ import annotations

from datetime import UTC, date, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpha_forge_plugins.market.binance.planner import (
    Costs,
    Published,
    Range,
    choose,
    explain,
    plan,
)
from alpha_forge_plugins.market.binance.rest import page_sizes
from alpha_forge_plugins.market.binance.rows import Rows, blocks, clean, missing
from alpha_forge_plugins.market.binance.venue import SPOT, USDM
from alpha_forge_plugins.market.binance_futures import BinanceFutures
from alpha_forge_sdk import Interval

DAY = 86_400 * 10**9
NAMES = ("1m", "5m", "1h", "4h", "1d", "3d", "1w")


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 10**9


@given(
    st.sampled_from(NAMES),
    st.integers(at("2023-01-01") // 60 // 10**9, at("2026-06-01") // 60 // 10**9),
    st.integers(0, 3000),
    st.integers(0, 200 * 86_400),
    st.sampled_from([0.0, 0.025, 1.0]),
)
def test_files_and_pages_cover_the_range_once(
    name: str, minute: int, bars: int, back: int, weight: float
) -> None:
    interval = Interval.parse(name)
    end = interval.floor(minute * 60 * 10**9)
    start = end - bars * interval.ns
    published = Published.by_calendar(end + back * 10**9)
    its = plan("BTCUSDT", interval, USDM, start, end, published, Costs(weight=weight))
    assert start == its.start <= its.cut <= its.end == end
    for first, second in pairwise(its.files):
        assert first.end == second.begin, "no hole between files, and no bar in two of them"
    if its.files:
        assert its.files[0].begin <= start, "the first bar opens at `start`"
        assert its.files[-1].end >= its.cut
        assert its.files[-1].begin < its.cut
    else:
        assert its.cut == start
    for file in its.files:
        assert file.end <= end + back * 10**9, "a file of a period that is not over can't be there"
        assert file.monthly or name not in ("3d", "1w")
    sizes = page_sizes((end - its.cut) // interval.ns, USDM)
    assert its.weight == sum(USDM.klines_weight(size) for size in sizes)


def test_the_dearer_the_weight_the_less_of_it() -> None:
    interval = Interval.parse("1h")
    end = at("2026-01-20T05:00")
    published = Published.by_calendar(end)
    weights = [
        plan("A", interval, USDM, end - 1188 * interval.ns, end, published, Costs(weight=price)).weight
        for price in (0.0, 0.025, 0.5, 10.0)
    ]
    assert weights == sorted(weights, reverse=True)
    assert weights[-1] < weights[0]


def test_few_bars_come_over_rest_and_many_from_the_archive() -> None:
    minute = Interval.parse("1m")
    end = at("2026-01-20T05:00")
    published = Published.by_calendar(end)
    assert plan("A", minute, USDM, end - 60 * minute.ns, end, published, Costs(weight=0.025)).files == ()
    many = plan("A", minute, USDM, end - 90 * DAY, end, published, Costs(weight=0.025))
    assert [file.period for file in many.files[:3]] == ["2025-10", "2025-11", "2025-12"]
    assert many.end - many.cut < 2 * DAY


def test_files_on_disk_are_preferred() -> None:
    interval = Interval.parse("1h")
    end = at("2026-01-20T05:00")
    published = Published.by_calendar(end)
    start = end - 1188 * interval.ns
    kept = plan("A", interval, USDM, start, end, published, Costs(weight=0.025), cached=lambda _: True)
    new = plan("A", interval, USDM, start, end, published, Costs(weight=0.025))
    assert kept.weight < new.weight
    assert len(kept.files) > len(new.files)


@pytest.mark.parametrize(
    ("now", "month", "day"),
    [
        ("2026-01-20T12:00", date(2025, 12, 1), date(2026, 1, 19)),
        ("2026-01-20T05:00", date(2025, 12, 1), date(2026, 1, 18)),
        ("2026-01-02T12:00", date(2025, 11, 1), date(2026, 1, 1)),
        ("2026-01-05T12:00", date(2025, 11, 1), date(2026, 1, 4)),  # the first Monday itself: maybe not yet
        ("2026-01-06T12:00", date(2025, 12, 1), date(2026, 1, 5)),
    ],
)
def test_what_is_published_by_the_calendar(now: str, month: date, day: date) -> None:
    assert Published.by_calendar(at(now)) == Published(month, day)


HOUR = Interval.parse("1h")


def rows(numbers: list[int], origin: str = "archive", value: float = 1.0) -> Rows:
    ts = np.array([HOUR.ts(n) for n in numbers], np.int64)
    return Rows(ts, np.full((5, len(numbers)), value), origin)


@given(st.sets(st.integers(1, 300)), st.integers(1, 120))
def test_holes_are_exactly_what_is_not_there(present: set[int], bridge: int) -> None:
    holes = missing(rows(sorted(present)), HOUR, HOUR.ts(0), HOUR.ts(300), bridge)
    asked = {n for begin, end in holes for n in range(HOUR.row(begin) + 1, HOUR.row(end) + 1)}
    assert set(range(1, 301)) - present <= asked
    assert sum(HOUR.row(end) - HOUR.row(begin) for begin, end in holes) == len(asked), "no bar twice"
    for begin, end in holes:
        assert HOUR.row(begin) + 1 not in present
        assert HOUR.row(end) not in present
        if HOUR.row(end) - HOUR.row(begin) > bridge:
            assert not any(HOUR.row(begin) < n <= HOUR.row(end) for n in present)


@given(st.lists(st.sets(st.integers(1, 60)), max_size=4))
def test_blocks_hold_every_bar_once_in_order_and_the_first_part_wins(parts: list[set[int]]) -> None:
    given_parts = [rows(sorted(part), f"part{i}", float(i)) for i, part in enumerate(parts)]
    found = blocks("A", given_parts)
    expected = {n: next(i for i, part in enumerate(parts) if n in part) for n in set().union(*parts)}
    seen = [
        (HOUR.row(ts), value, b.origin)
        for b in found
        for ts, value in zip(b.ts.tolist(), b.close, strict=True)
    ]
    assert seen == [(n, float(i), f"part{i}") for n, i in sorted(expected.items())]
    for before, after in pairwise(found):
        assert before.origin != after.origin


def test_rows_off_the_grid_or_not_finite_are_refused_and_the_last_of_equals_stands() -> None:
    ts = np.array([HOUR.ts(3), HOUR.ts(1), HOUR.ts(2) + 1, HOUR.ts(4), HOUR.ts(3), HOUR.ts(9)], np.int64)
    values = np.arange(30, dtype=np.float64).reshape(5, 6)
    values[2, 3] = np.nan
    cleaned = clean(ts, values, HOUR, HOUR.ts(0), HOUR.ts(5), "rest", "test")
    assert cleaned.ts.tolist() == [HOUR.ts(1), HOUR.ts(3)]
    assert cleaned.values[0].tolist() == [1.0, 4.0]


@given(
    st.sampled_from(("1m", "1h", "1d", "1w")),
    st.integers(1, 200_000),
    st.integers(100, 50_000),
    st.sampled_from([0.0, 1.0]),
)
def test_the_parts_of_a_plan_are_the_plan(name: str, bars: int, rows: int, weight: float) -> None:
    interval = Interval.parse(name)
    end = interval.floor(at("2026-01-20T05:00"))
    start = max(end - bars * interval.ns, interval.floor(at("2017-01-01")))
    its = plan("A", interval, USDM, start, end, Published.by_calendar(end), Costs(weight=weight))
    parts = list(its.parts(interval, rows))
    assert (parts[0].start, parts[-1].end) == (its.start, its.end)
    assert all(before.end == after.start for before, after in pairwise(parts))
    assert tuple(file for part in parts for file in part.files) == its.files
    for part in parts:
        assert part.start <= part.cut <= part.end
        if part.files:
            assert part.files[0].begin <= part.start
            assert part.files[-1].end >= part.cut
            assert part.files[-1].begin < part.cut
            largest = max(file.rows(interval) for file in part.files)
            assert (part.cut - part.start) // interval.ns <= max(rows, largest)
        else:
            assert part.cut == part.start
        assert (part.end - part.cut) // interval.ns <= rows
    assert sum(part.end - part.cut for part in parts) == its.end - its.cut


def test_a_month_of_seconds_is_read_by_the_day() -> None:
    second = Interval.parse("1s")
    end = at("2026-01-20T05:00")
    its = plan("A", second, SPOT, end - 60 * DAY, end, Published.by_calendar(end), Costs())
    assert not any(file.monthly for file in its.files)
    assert all(len(part.files) <= 1 for part in its.parts(second))


def wanted(bars: int, left: int = 2160, interval: Interval = HOUR) -> Range:
    end = interval.floor(at("2026-01-20T12:00"))
    start = end - bars * interval.ns
    return Range(interval, USDM, start, end, Published.by_calendar(end), left, 2160)


def names_of(symbol: str, *periods: str) -> set[str]:
    return {f"{symbol}-1h-{period}.zip" for period in periods}


def test_a_plan_for_many_is_the_plan_of_each() -> None:
    """What is on disk of one symbol is no argument for another."""
    here = [f"2026-01-{day:02d}" for day in range(1, 20)]
    kept = {"AUSDT": names_of("AUSDT", "2025-12", *here), "BUSDT": names_of("BUSDT"), "CUSDT": set[str]()}
    choice = choose(("AUSDT", "BUSDT", "CUSDT"), wanted(1188), kept)
    assert {file.symbol for its in choice.plans.values() for file in its.files} <= {"AUSDT", "BUSDT", "CUSDT"}
    assert all(file.symbol == symbol for symbol, its in choice.plans.items() for file in its.files)
    assert len(choice.plans["AUSDT"].files) == 20
    assert len(choice.plans["BUSDT"].files) < 20
    assert [f.period for f in choice.plans["BUSDT"].files] == [f.period for f in choice.plans["CUSDT"].files]


def test_the_plan_says_why() -> None:
    many = [f"S{k:03d}USDT" for k in range(500)]
    cheap = explain(choose(["AUSDT"], wanted(60), {}), wanted(60), {})
    assert cheap == [
        "REST: 60 bars a symbol in 1 request(s) of weight 1; 1 for 1 symbol(s), 2,160 a minute may be spent",
        "because REST alone is quicker: 1 of weight fit into a minute",
    ]
    little = wanted(1188, left=1000)
    scarce = explain(choose(many, little, {}), little, {})
    assert scarce[0].startswith("archive: ")
    assert "0 of all" in scarce[0]
    assert "REST alone would weigh 3,000, more than the 800 that may be spent at once" in scarce[2]
    here = ["2025-12", *(f"2026-01-{day:02d}" for day in range(1, 20))]
    kept = {name: names_of(name, *here) for name in many}
    full = explain(choose(many, wanted(1188), kept), wanted(1188), kept)
    assert "in 1 monthly and 19 daily file(s); 10,000 of all 10,000 are on disk" in full[0]
    assert full[1].startswith("REST: 12 bars a symbol in 1 request(s) of weight 1; 500 for 500 symbol(s)")
    assert "newest file is expected to be 2026-01-19" in full[2]
    assert explain(choose([], wanted(60), {}), wanted(60), {}) == []


def test_explaining_touches_neither_network_nor_disk_but_for_the_cache(tmp_path: Path) -> None:
    params = BinanceFutures.Params.model_validate({"universe": ["BTCUSDT"], "interval": "1h"})
    source = BinanceFutures(params)
    now = at("2026-01-20T12:00")
    start = now - 400 * DAY
    lines = source.explain_history(start, now, now, tmp_path)
    assert lines[0].startswith("archive: ")
    assert " 0 of all " in lines[0]
    folder = tmp_path / "binance/data.binance.vision/data/futures/um/monthly/klines/BTCUSDT/1h"
    folder.mkdir(parents=True)
    (folder / "BTCUSDT-1h-2025-06.zip").touch()
    assert " 1 of all " in source.explain_history(start, now, now, tmp_path)[0]
