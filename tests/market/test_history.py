"""History out of archive, cache and REST, against an exchange of formulas: every bar once, its origin told, faults bridged."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alpha_forge_plugins.market.binance import archive_client, cache
from alpha_forge_plugins.market.binance.archive_client import ArchiveClient
from alpha_forge_plugins.market.binance.budget import WeightBudget
from alpha_forge_plugins.market.binance.cache import FileCache
from alpha_forge_plugins.market.binance.history import History
from alpha_forge_plugins.market.binance.planner import Costs
from alpha_forge_plugins.market.binance.rest_client import RestClient
from alpha_forge_plugins.market.binance.venue import SPOT, USDM, Venue
from alpha_forge_sdk import BarBlock, Interval

from .paper_exchange import (
    HOUR_MS,
    MS,
    Clock,
    Endless,
    Paper,
    at_ms,
    bar,
    checksum_of,
    csv_of,
    zip_of,
)
from .support import soon

NOW = at_ms("2026-01-20T10:30:20")
HOUR = HOUR_MS * MS
DAY = 24 * HOUR
BTC = "BTCUSDT"
KEY = f"data/futures/um/daily/klines/{BTC}/1h/{BTC}-1h-2026-01-"


@pytest.fixture(autouse=True)
def archive_at_any_price(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are always cheaper here, so that a plan has as many as there can be; and faults are not waited for."""
    monkeypatch.setattr(Costs.__init__, "__defaults__", (1.0, 0.0, 1.0, 0.0, 0.0))
    monkeypatch.setattr(archive_client, "backoff", lambda *_, **__: 0.0)


@asynccontextmanager
async def made(
    paper: Paper, folder: Path, interval: str = "1h", venue: Venue = USDM, **options: Any
) -> AsyncIterator[tuple[History, ArchiveClient]]:
    transport = options.pop("transport", None) or paper.transport()
    async with httpx.AsyncClient(transport=transport) as http:
        rest = RestClient(http, "http://exchange", venue, Clock(paper.now_ms), WeightBudget(100_000))
        archive = ArchiveClient(http, "http://archive", "http://listing", venue, FileCache(folder), **options)
        yield History(rest, archive, Interval.parse(interval), 4), archive


async def fetched(
    history: History, symbols: Sequence[str], start: int, end: int
) -> dict[str, list[BarBlock]]:
    found: dict[str, list[BarBlock]] = {symbol: [] for symbol in symbols}
    async for block in history.blocks(symbols, start, end):
        found[block.symbol].append(block)
    return found


def bars_of(blocks: Sequence[BarBlock]) -> dict[int, list[float]]:
    """Close → values, having seen that closes ascend."""
    rows = [
        (int(b.ts[k]), [float(column[k]) for column in (b.open, b.high, b.low, b.close, b.volume)])
        for b in blocks
        for k in range(len(b))
    ]
    closes = [ts for ts, _ in rows]
    assert closes == sorted(set(closes)), "each once, in order"
    return dict(rows)


def origin_of(blocks: Sequence[BarBlock], ts: int) -> str:
    (origin,) = [b.origin for b in blocks if ts in b.ts]
    return origin


def run_once(
    paper: Paper, folder: Path, *, bars: int = 500, symbols: Sequence[str] = (BTC,), **options: Any
) -> tuple[dict[str, list[BarBlock]], Any]:
    """The newest `bars` hours of each symbol, seen to be the truth; and the counts of history and archive."""
    end = paper.now_ms * MS
    start = end - bars * HOUR

    async def run() -> tuple[dict[str, list[BarBlock]], Any]:
        async with made(paper, folder, **options) as (history, _):
            return await fetched(history, symbols, start, end), history.totals

    found, counts = asyncio.run(soon(run()))
    for symbol in symbols:
        assert bars_of(found[symbol]) == paper.truth(symbol, "1h", start // HOUR * HOUR, end)
    return found, counts


def downloads(paper: Paper) -> int:
    return sum(count for key, count in paper.asked.items() if key.endswith(".zip"))


def test_archive_then_rest_each_bar_once_with_its_origin(tmp_path: Path) -> None:
    paper = Paper(NOW)
    found, counts = run_once(paper, tmp_path, symbols=(BTC, "ETHUSDT"), bars=1188)
    for blocks in found.values():
        assert [b.origin for b in blocks] == ["archive", "rest"]
        # The last daily file is that of the 19th; its last bar closes as the 20th begins.
        assert blocks[0].ts[-1] == at_ms("2026-01-20") * MS
    assert counts["files_downloaded"] == 2 * (1 + 19)
    assert counts["bars_over_rest"] == 2 * 10
    assert paper.asked["listing"] == 2


@pytest.mark.parametrize("header", [False, True])
def test_spot_files_have_other_keys_no_header_and_microseconds(tmp_path: Path, header: bool) -> None:
    paper = Paper(NOW, folder="data/spot", header=header, unit=1000)
    found, _ = run_once(paper, tmp_path, venue=SPOT)
    assert found[BTC][0].origin == "archive"


def test_a_second_run_takes_everything_from_disk(tmp_path: Path) -> None:
    run_once(Paper(NOW), tmp_path, symbols=(BTC, "币安USDT"))
    paper = Paper(NOW)
    _, counts = run_once(paper, tmp_path, symbols=(BTC, "币安USDT"))
    assert counts["files_from_disk"] == 40
    assert not [key for key in paper.asked if key.startswith("data/")], "not even a checksum is asked for"


def test_an_archive_whose_data_may_change_is_asked_for_each_checksum(tmp_path: Path) -> None:
    run_once(Paper(NOW), tmp_path)
    paper = Paper(NOW, lost={(BTC, at_ms("2026-01-12T05:00"))})
    found, counts = run_once(paper, tmp_path, ask=True)
    assert downloads(paper) == 1, "one file is another one now"
    assert counts["files_uploaded_again"] == 1
    assert origin_of(found[BTC], at_ms("2026-01-12T06:00") * MS) == "rest"


def spoiling(day: int, spoiler: Any) -> Any:
    """Applies to one day's objects."""

    def spoil(key: str, seen: int, body: bytes) -> Any:
        return spoiler(key, seen, body) if key.startswith(f"{KEY}{day:02d}") else body

    return spoil


def zips_only(change: Any) -> Any:
    """Changes the zip and makes the checksum fit."""

    def spoil(key: str, seen: int, body: bytes) -> Any:
        if not key.endswith(".CHECKSUM"):
            return change(body)
        name = key.rsplit("/", 1)[1].removesuffix(".CHECKSUM")
        return checksum_of(change(None), name)

    return spoil


def day_zip(day: int, hours: Sequence[float], extra: bytes = b"") -> Any:
    """A day's file of other rows: opens at these hours of the day."""
    begin = at_ms(f"2026-01-{day:02d}")
    text = csv_of(BTC, [begin + int(hour * HOUR_MS) for hour in hours], HOUR_MS) + extra
    return lambda _: zip_of(text)


BOMB = zip_of(b"0" * 3_000_000)


@pytest.mark.parametrize(
    ("spoiler", "counted"),
    [
        (lambda key, seen, body: None, "files_missing"),
        (lambda key, seen, body: httpx.Response(403), "files_missing"),
        (lambda key, seen, body: None if key.endswith("M") else body, "files_missing"),
        (lambda key, seen, body: httpx.Response(500), "files_missing"),
        (lambda key, seen, body: httpx.ReadError("reset"), "files_missing"),
        (lambda key, seen, body: b"0" * 64 if key.endswith("M") else body, "files_damaged"),
        (lambda key, seen, body: body if key.endswith("M") else body[:-5], "files_damaged"),
        (zips_only(lambda _: b"no zip at all"), "files_damaged"),
        (zips_only(lambda _: BOMB), "files_damaged"),
        (zips_only(lambda _: zip_of(b"a,b,c\n1,2,3\n")), "files_damaged"),
        (zips_only(day_zip(12, range(24), b"1,x,y,z,1,1,1,1,1,1,1,1\n")), "files_damaged"),
        (zips_only(day_zip(12, [h + 0.5 for h in range(24)])), "rows_refused"),
        (zips_only(day_zip(12, range(-24, 0))), "rows_refused"),
        (zips_only(day_zip(12, range(8))), "bars_lacking"),
    ],
)
def test_a_day_that_can_not_be_had_comes_over_rest_and_is_counted(
    tmp_path: Path, spoiler: Any, counted: str, caplog: pytest.LogCaptureFixture
) -> None:
    paper = Paper(NOW, spoil=spoiling(12, spoiler))
    with caplog.at_level(logging.WARNING):
        found, counts = run_once(paper, tmp_path)
    assert counts[counted] > 0
    assert origin_of(found[BTC], at_ms("2026-01-12T12:00") * MS) == "rest"
    assert origin_of(found[BTC], at_ms("2026-01-11T12:00") * MS) == "archive"
    assert origin_of(found[BTC], at_ms("2026-01-13T12:00") * MS) == "archive"
    if counted != "bars_lacking":
        assert "2026-01-12" in caplog.text or "row(s)" in caplog.text


def test_rows_that_come_twice_are_one_bar(tmp_path: Path) -> None:
    twice = zips_only(day_zip(12, [*range(24), *range(24)]))
    _, counts = run_once(Paper(NOW, spoil=spoiling(12, twice)), tmp_path)
    assert counts["rows_repeated"] == 24


def test_file_and_checksum_of_two_versions_are_asked_for_once_more(tmp_path: Path) -> None:
    def late(key: str, seen: int, body: bytes) -> bytes:
        return b"0" * 64 if key.endswith("M") and seen == 0 else body

    found, counts = run_once(Paper(NOW, spoil=spoiling(12, late)), tmp_path)
    assert counts["files_damaged"] == 0
    assert origin_of(found[BTC], at_ms("2026-01-12T12:00") * MS) == "archive"


def test_a_body_that_never_ends_is_cut_at_what_its_bars_could_need(tmp_path: Path) -> None:
    body = Endless()

    def endless(key: str, seen: int, true: bytes) -> Any:
        return true if key.endswith("M") else httpx.Response(200, stream=body)

    _, counts = run_once(Paper(NOW, spoil=spoiling(12, endless)), tmp_path)
    assert counts["files_missing"] == 1
    assert body.sent <= 65_536


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "checksum", "no checksum"])
def test_a_file_damaged_on_disk_is_fetched_anew(tmp_path: Path, damage: str) -> None:
    run_once(Paper(NOW), tmp_path)
    (path,) = tmp_path.rglob("*2026-01-12.zip")
    beside = path.with_name(path.name + ".CHECKSUM")
    content = path.read_bytes()
    if damage == "flip":
        path.write_bytes(content[:50] + bytes([content[50] ^ 1]) + content[51:])
    elif damage in ("cut", "empty"):
        path.write_bytes(content[:100] if damage == "cut" else b"")
    elif damage == "checksum":
        beside.write_text("nonsense")
    else:
        beside.unlink()
    paper = Paper(NOW)
    run_once(paper, tmp_path)
    assert downloads(paper) == 1
    assert path.read_bytes() == content
    quiet = Paper(NOW)
    run_once(quiet, tmp_path)
    assert downloads(quiet) == 0


def test_a_day_cut_short_is_asked_about_once_a_day_and_replaced_when_it_is_whole(tmp_path: Path) -> None:
    short = zips_only(day_zip(12, range(8)))
    run_once(Paper(NOW, spoil=spoiling(12, short)), tmp_path)
    again = Paper(NOW, spoil=spoiling(12, short))
    run_once(again, tmp_path)
    assert not [key for key in again.asked if key.startswith("data/")], "it was asked for a moment ago"
    (beside,) = tmp_path.rglob("*2026-01-12.zip.CHECKSUM")
    os.utime(beside, (0, 0))
    same = Paper(NOW, spoil=spoiling(12, short))
    run_once(same, tmp_path)
    assert (downloads(same), sum(key.endswith("M") for key in same.asked)) == (0, 1)
    os.utime(beside, (0, 0))
    whole = Paper(NOW)
    found, counts = run_once(whole, tmp_path)
    assert (downloads(whole), counts["files_uploaded_again"]) == (1, 1)
    assert origin_of(found[BTC], at_ms("2026-01-12T12:00") * MS) == "archive"


def test_a_hole_of_the_exchange_stays_one(tmp_path: Path) -> None:
    holes = {(BTC, at_ms("2026-01-12T12:00")), (BTC, at_ms("2026-01-20T03:00"))}
    paper = Paper(NOW, holes=holes)
    _, counts = run_once(paper, tmp_path)
    assert counts["bars_lacking"] == 1
    assert counts["bars_over_rest"] == 9


@pytest.mark.parametrize("fault", [httpx.ConnectError("refused"), httpx.Response(503)])
def test_an_archive_that_is_gone_is_given_up_and_rest_serves_all(tmp_path: Path, fault: Any) -> None:
    paper = Paper(NOW, spoil=lambda key, seen, body: fault)
    found, counts = run_once(paper, tmp_path, bars=1188)
    assert {b.origin for b in found[BTC]} == {"rest"}
    tried = sum(count for key, count in paper.asked.items() if key.startswith("data/"))
    assert tried <= 3 * (archive_client._GIVEN_UP + 8), "not three attempts for each of twenty files"
    assert counts["files_missing"] == 20


def test_a_cache_that_can_not_be_written_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(self: Path, data: bytes) -> int:
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with caplog.at_level(logging.WARNING):
        _, counts = run_once(Paper(NOW), tmp_path)
    assert counts["files_downloaded"] == 20
    assert [r.message for r in caplog.records if "cache" in r.message] == [
        r.message for r in caplog.records if "No space left" in r.message
    ]
    assert caplog.text.count("No space left on device") == 1
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [], "no half of a file is left"


def test_a_cache_folder_that_is_a_file_is_no_reason_to_stop(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("not a folder")
    _, counts = run_once(Paper(NOW), tmp_path / "cache")
    assert counts["files_downloaded"] == 20


def test_two_runs_at_once_download_each_file_once(tmp_path: Path) -> None:
    paper = Paper(NOW)

    async def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith(".zip"):
            await asyncio.sleep(0.005)
        return await paper.answer(request)

    async def run() -> None:
        end = NOW * MS // HOUR * HOUR
        async with (
            made(paper, tmp_path, transport=httpx.MockTransport(answer)) as (first, _),
            made(paper, tmp_path, transport=httpx.MockTransport(answer)) as (second, _),
        ):
            found = await asyncio.gather(
                *(fetched(each, (BTC,), end - 500 * HOUR, end) for each in (first, second))
            )
            assert (
                bars_of(found[0][BTC])
                == bars_of(found[1][BTC])
                == paper.truth(BTC, "1h", end - 500 * HOUR, end)
            )

    asyncio.run(soon(run()))
    assert downloads(paper) == 20
    left = [path.name for path in tmp_path.rglob("*") if path.name.startswith(".")]
    assert left == [], "neither locks nor parts are left behind"


def test_a_lock_of_a_process_that_died_holds_nobody_up(tmp_path: Path) -> None:
    folder = tmp_path / KEY.rsplit("/", 1)[0]
    folder.mkdir(parents=True)
    (folder / f".{BTC}-1h-2026-01-12.zip.lock").touch()
    _, counts = run_once(Paper(NOW), tmp_path)
    assert counts["files_downloaded"] == 20


def test_who_waits_too_long_for_another_process_goes_on_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_PATIENCE", 0.1)

    async def run() -> None:
        mine, theirs = FileCache(tmp_path), FileCache(tmp_path)
        async with theirs.claim("a/b.zip"):
            async with mine.claim("a/b.zip"):
                mine.write("a/b.zip", b"x", checksum_of(b"x", "b.zip"))
            assert theirs.read("a/b.zip") == b"x"

    asyncio.run(soon(run()))


@pytest.mark.parametrize("max_keys", [1000, 7])
def test_the_listing_says_what_is_there_page_by_page(tmp_path: Path, max_keys: int) -> None:
    # By the calendar the 19th should be there; the archive is two days late, as it is now and then.
    late = ("2026-01-18", "2026-01-19")
    paper = Paper(NOW, max_keys=max_keys)
    body = paper.body
    paper.body = lambda key: None if any(day in key for day in late) else body(key)  # type: ignore[method-assign]
    found, counts = run_once(paper, tmp_path)
    assert counts["files_missing"] == 0, "they are not even asked for"
    assert found[BTC][0].ts[-1] == at_ms("2026-01-18") * MS
    assert paper.asked["listing"] == (2 if max_keys == 1000 else 4)


@pytest.mark.parametrize("page", [b"<html>", b"", b"<!DOCTYPE html>"])
def test_without_a_listing_the_calendar_is_gone_by(tmp_path: Path, page: bytes) -> None:
    paper = Paper(NOW)
    paper._listing = lambda query: page  # type: ignore[method-assign]
    _, counts = run_once(paper, tmp_path)
    assert counts["files_downloaded"] == 20


def test_a_month_that_is_missing_comes_by_its_days(tmp_path: Path) -> None:
    paper = Paper(NOW, spoil=lambda key, seen, body: None if "/monthly/" in key else body)
    end = at_ms("2026-01-03") * MS
    start = at_ms("2025-12-01") * MS

    async def run() -> None:
        async with made(paper, tmp_path, "1m") as (history, archive):
            found = await fetched(history, (BTC,), start, end)
            assert bars_of(found[BTC]) == paper.truth(BTC, "1m", start, end)
            assert {b.origin for b in found[BTC]} == {"archive"}
            assert archive.counts["files_downloaded"] == 33

    asyncio.run(soon(run()))


def test_years_before_a_symbol_was_listed_cost_next_to_nothing(tmp_path: Path) -> None:
    paper = Paper(NOW, listed={BTC: at_ms("2026-01-15T07:00")})
    found, _ = run_once(paper, tmp_path, bars=24 * 365)
    assert found[BTC][0].ts[0] == at_ms("2026-01-15T08:00") * MS
    assert len(paper.pages) < 20
    assert len([key for key in paper.asked if key.startswith("data/")]) < 100


def test_what_is_held_is_bounded_however_long_the_range_is(tmp_path: Path) -> None:
    """A consumer that stops after the first block: no more is fetched than the parts that run side by side."""
    paper = Paper(NOW)

    async def run() -> None:
        async with made(paper, tmp_path, "1m") as (history, _):
            blocks = history.blocks((BTC,), at_ms("2023-01-01") * MS, NOW * MS)
            first = await anext(blocks)
            await asyncio.sleep(0.2)
            assert first.ts[0] == at_ms("2023-01-01T00:01") * MS
            assert len(first) <= 50_000
            count = downloads(paper)
            await blocks.aclose()
            assert 1 <= count <= 4, "one file a part, four parts"

    asyncio.run(soon(run()))


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_holes_in_the_archive_are_filled_and_any_of_the_exchange_stay(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    first = at_ms("2025-12-20")
    hours = st.sets(st.integers(0, 31 * 24), max_size=60)
    lost = {(BTC, first + h * HOUR_MS) for h in data.draw(hours)}
    holes = {(BTC, first + h * HOUR_MS) for h in data.draw(hours)}
    paper = Paper(NOW, lost=lost, holes=holes)
    bars = data.draw(st.integers(1, 900))
    found, _ = run_once(paper, tmp_path_factory.mktemp("cache"), bars=bars)
    for block in found[BTC]:
        for ts in block.ts.tolist():
            if (BTC, ts // MS - HOUR_MS) in lost:
                assert block.origin == "rest"


def test_the_formula_is_no_constant() -> None:
    values = {tuple(bar(BTC, first * HOUR_MS, HOUR_MS)) for first in range(1000)}
    assert len(values) == 1000
