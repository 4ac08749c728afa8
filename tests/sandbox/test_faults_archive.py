"""Faults of the archive's files and of the market itself, each against the market without them."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import io
import json
import zipfile
import zlib
from collections import Counter
from typing import Any

import httpx
import numpy as np
import pytest
from sandbox_support import HOUR, SMALL, START, browser, exchange, receive_until, socket

from alpha_forge_sdk.sandbox import FaultScript, HostileFaults
from alpha_forge_sdk.sandbox.bars import CLOSE, HIGH, LOW, OPEN, OPEN_TIME, TRADES, VOLUME
from alpha_forge_sdk.sandbox.synthetic import SyntheticMarket

MINUTE = 60_000
DAY = 24 * HOUR
FOLDER = "data/futures/um/daily/klines/BTCUSDT/1h/"
KEY = f"{FOLDER}BTCUSDT-1h-2026-01-03.zip"
OTHER = f"{FOLDER}BTCUSDT-1h-2026-01-02.zip"
THE_DAY = START - START % DAY - 2 * DAY
MARKET = SyntheticMarket(0, SMALL)


def script(*rules: str, seed: int = 3) -> FaultScript:
    return FaultScript.parse(f"seed: {seed}\nfaults:\n" + "".join(f"- {{{rule}}}\n" for rule in rules))


def fetched(
    fault: FaultScript | None, *paths: str, **options: Any
) -> tuple[list[httpx.Response], Counter[str]]:
    async def run() -> tuple[list[httpx.Response], Counter[str]]:
        options.setdefault("hold", True)
        async with exchange(faults=fault, **options) as running, browser(running) as client:
            answers = [await client.get(f"/{path}") for path in paths]
            assert isinstance(running.faults, HostileFaults)
            return answers, running.faults.counts

    return asyncio.run(run())


def rows(body: bytes) -> list[list[str]]:
    with zipfile.ZipFile(io.BytesIO(body)) as opened:
        assert opened.testzip() is None
        (name,) = opened.namelist()
        return list(csv.reader(io.StringIO(opened.read(name).decode())))


def matches(body: bytes, checksum: bytes) -> bool:
    return hashlib.sha256(body).hexdigest() == checksum.decode().split()[0]


@pytest.fixture(scope="module")
def clean() -> list[list[str]]:
    (answer,), _ = fetched(None, KEY)
    return rows(answer.content)


def altered(rule: str) -> tuple[list[list[str]], Counter[str]]:
    """The rows under a rule; the checksum is right, and a second download is the same."""
    (body, checksum, again), counts = fetched(script(rule), KEY, f"{KEY}.CHECKSUM", KEY)
    assert matches(body.content, checksum.content)
    assert body.content == again.content
    return rows(body.content), counts


def test_a_checksum_may_be_wrong(clean: list[list[str]]) -> None:
    (body, checksum, other, others), counts = fetched(
        script("kind: wrong_checksum, times: 1"), KEY, f"{KEY}.CHECKSUM", OTHER, f"{OTHER}.CHECKSUM"
    )
    assert rows(body.content) == clean
    assert not matches(body.content, checksum.content)
    assert len(checksum.content.split()[0]) == 64
    assert checksum.content.split()[1].decode() == KEY.rsplit("/", 1)[1]
    assert matches(other.content, others.content)
    assert counts == Counter(wrong_checksum=1)


@pytest.mark.parametrize("listed", [True, False])
def test_a_file_may_be_missing(listed: bool) -> None:
    rule = f"kind: missing_file, times: 1, listed: {str(listed).lower()}"
    (body, checksum, other, listing), counts = fetched(
        script(rule), KEY, f"{KEY}.CHECKSUM", OTHER, f"?prefix={FOLDER}BTCUSDT-1h-2026&delimiter=/"
    )
    assert (body.status_code, other.status_code) == (404, 200)
    assert "NoSuchKey" in body.text
    assert (checksum.status_code == 200) == listed
    assert (f"{KEY}<" in listing.text) == listed
    assert counts["missing_file"] == 1


def test_a_checksum_may_be_missing() -> None:
    (body, checksum), _ = fetched(script("kind: missing_checksum"), KEY, f"{KEY}.CHECKSUM")
    assert (body.status_code, checksum.status_code) == (200, 404)


def test_a_file_may_be_uploaded_again_with_other_values(clean: list[list[str]]) -> None:
    found, counts = altered("kind: reuploaded, rows: 4")
    changed = [(before, after) for before, after in zip(clean, found, strict=True) if before != after]
    assert 1 <= len(changed) <= 4
    for before, after in changed:
        assert [place for place in range(12) if before[place] != after[place]] == [4, 5]
        assert float(after[3]) <= float(after[4]) <= float(after[2])
    assert counts["reuploaded"] == 2, "once a download"


def test_a_day_may_be_cut(clean: list[list[str]]) -> None:
    assert altered("kind: cut_day, share: 0.3")[0] == clean[:8]


def test_a_header_may_be_absent_or_present(clean: list[list[str]]) -> None:
    assert altered("kind: header")[0] == clean[1:]
    spot = KEY.replace("futures/um", "spot")
    (answer,), _ = fetched(script("kind: header"), spot, venue="spot")
    assert rows(answer.content)[0] == clean[0]


def test_times_may_be_microseconds_or_not(clean: list[list[str]]) -> None:
    found = altered("kind: microseconds")[0]
    assert [int(row[0]) for row in found[1:]] == [int(row[0]) * 1000 for row in clean[1:]]
    assert all(int(row[6]) == int(row[0]) + HOUR * 1000 - 1 for row in found[1:])
    spot = KEY.replace("futures/um", "spot")
    (answer,), _ = fetched(script("kind: microseconds"), spot, venue="spot")
    assert [row[0] for row in rows(answer.content)] == [row[0] for row in clean[1:]]


def test_rows_may_be_off_the_grid(clean: list[list[str]]) -> None:
    found = altered("kind: off_grid_rows, rows: 2")[0]
    off = [int(row[0]) % HOUR for row in found[1:] if int(row[0]) % HOUR]
    assert 1 <= len(off) <= 2
    assert len(found) == len(clean)


def test_rows_may_come_twice(clean: list[list[str]]) -> None:
    found = altered("kind: duplicate_rows, rows: 3")[0]
    assert len(clean) < len(found) <= len(clean) + 3
    assert [row for place, row in enumerate(found) if row not in found[:place]] == clean


def test_a_zip_may_be_damaged_with_a_checksum_that_is_right() -> None:
    (body, checksum), counts = fetched(script("kind: corrupt_zip"), KEY, f"{KEY}.CHECKSUM")
    assert matches(body.content, checksum.content)
    with zipfile.ZipFile(io.BytesIO(body.content)) as opened:
        (name,) = opened.namelist()
        with pytest.raises((zipfile.BadZipFile, zlib.error)):
            opened.read(name)
    assert counts["corrupt_zip"] == 1


def test_a_small_zip_unpacks_to_very_much() -> None:
    size = 3 << 20
    rule = f"kind: zip_bomb, bytes: {size + 7}"
    (body, checksum), _ = fetched(script(rule), KEY, f"{KEY}.CHECKSUM")
    assert matches(body.content, checksum.content)
    assert len(body.content) < 10_000
    with zipfile.ZipFile(io.BytesIO(body.content)) as opened:
        (member,) = opened.infolist()
        assert (member.filename, member.file_size) == (
            KEY.rsplit("/", 1)[1].replace(".zip", ".csv"),
            size + 7,
        )
        assert opened.read(member) == bytes(size + 7)
    (liar,), _ = fetched(script(f"{rule}, lies: true"), KEY)
    with zipfile.ZipFile(io.BytesIO(liar.content)) as opened:
        assert opened.infolist()[0].file_size == 1000


def test_a_listing_may_be_stale() -> None:
    def listed(*rules: str) -> list[str]:
        (answer,), _ = fetched(script(*rules), f"?prefix={FOLDER}BTCUSDT-1h-2026&delimiter=/")
        return [part.split("<")[0][-14:-4] for part in answer.text.split("<Key>")[1:] if ".zip<" in part]

    assert listed() == ["2026-01-01", "2026-01-02", "2026-01-03"]
    assert listed("kind: stale_listing, lag: 2d") == ["2026-01-01"]


def test_which_files_are_struck_depends_on_the_seed_alone() -> None:
    paths = [f"{FOLDER}BTCUSDT-1h-2025-12-{day:02d}.zip" for day in range(1, 31)]

    def struck(seed: int, order: list[str]) -> set[str]:
        answers, _ = fetched(script("kind: missing_file, rate: 0.4", seed=seed), *order)
        return {path for path, answer in zip(order, answers, strict=True) if answer.status_code == 404}

    assert struck(1, paths) == struck(1, paths[::-1])
    assert struck(1, paths) != struck(2, paths)
    assert 4 < len(struck(1, paths)) < 22


# Holes of the market.

OUTAGE = "kind: outage, from: 2026-01-03T10:20:00Z, until: 2026-01-03T12:30:00Z"
FROM, UNTIL = THE_DAY + 10 * HOUR + 20 * MINUTE, THE_DAY + 12 * HOUR + 30 * MINUTE


def test_an_outage_is_the_same_hole_in_rest_and_archive() -> None:
    query = f"symbol=BTCUSDT&startTime={THE_DAY}&endTime={THE_DAY + DAY - 1}&limit=1500"
    (minutes, hours, file, ether), counts = fetched(
        script(f"{OUTAGE}, symbols: [BTCUSDT]"),
        f"fapi/v1/klines?{query}&interval=1m",
        f"fapi/v1/klines?{query}&interval=1h",
        KEY,
        f"fapi/v1/klines?{query.replace('BTC', 'ETH')}&interval=1h",
    )
    opened = [row[0] for row in minutes.json()]
    expected = [at for at in range(THE_DAY, THE_DAY + DAY, MINUTE) if not FROM <= at < UNTIL]
    assert opened == expected
    assert [(row[0] - THE_DAY) // HOUR for row in hours.json()] == [*range(11), *range(12, 24)]
    archived = [[int(row[0]), *row[1:6]] for row in rows(file.content)[1:]]
    assert archived == [row[:6] for row in hours.json()]
    assert len(ether.json()) == 24
    assert counts["outage"] == 1


def test_a_bar_at_the_edge_of_an_outage_is_made_of_what_was_traded() -> None:
    query = f"symbol=BTCUSDT&interval=1h&startTime={THE_DAY + 10 * HOUR}&limit=2"
    (answer,), _ = fetched(script(OUTAGE), f"fapi/v1/klines?{query}")
    before, after = answer.json()
    for row, (start, end) in ((before, (THE_DAY + 10 * HOUR, FROM)), (after, (UNTIL, THE_DAY + 13 * HOUR))):
        part = MARKET.bars("BTCUSDT", "1m", start, end)
        scale = 10.0 ** -MARKET.instrument("BTCUSDT").price_decimals
        amount = 10.0 ** -MARKET.instrument("BTCUSDT").quantity_decimals
        assert float(row[1]) == pytest.approx(part[OPEN, 0] * scale)
        assert float(row[2]) == pytest.approx(part[HIGH].max() * scale)
        assert float(row[3]) == pytest.approx(part[LOW].min() * scale)
        assert float(row[4]) == pytest.approx(part[CLOSE, -1] * scale)
        assert float(row[5]) == pytest.approx(part[VOLUME].sum() * amount)
        assert row[8] == part[TRADES].sum()


def test_an_outage_is_a_hole_in_the_stream_too() -> None:
    rule = "kind: outage, after: 3m, until: 7m, symbols: [BTCUSDT]"

    async def run() -> list[dict[str, Any]]:
        path = "/market/stream?streams=btcusdt@kline_1m/ethusdt@kline_1m"
        async with exchange(faults=script(rule), speed=1800.0) as running, socket(running, path) as client:
            return await receive_until(
                client,
                lambda seen: sum(m["data"]["k"]["x"] and m["data"]["s"] == "BTCUSDT" for m in seen) >= 6,
            )

    messages = [m["data"] for m in asyncio.run(run())]
    closed = [(k["t"] - START) // MINUTE for m in messages if (k := m["k"])["x"] and k["s"] == "BTCUSDT"]
    assert closed == [0, 1, 2, 7, 8, 9]
    shown = {(m["k"]["t"] - START) // MINUTE for m in messages if m["s"] == "BTCUSDT"}
    assert not shown & {3, 4, 5, 6}


def test_a_symbol_may_be_listed_late_and_delisted_early() -> None:
    listed, delisted = THE_DAY + 6 * HOUR, THE_DAY + 18 * HOUR
    query = f"interval=1h&startTime={THE_DAY}&endTime={THE_DAY + DAY - 1}"
    fault = script(
        "kind: list, from: 2026-01-03T06:00:00Z, symbols: [BTCUSDT]",
        "kind: delist, from: 2026-01-03T18:00:00Z, symbols: [ETHUSDT]",
        "kind: list, from: 2026-01-06T00:00:00Z, symbols: [SOLUSDT]",
    )
    (late, early, never, info), _ = fetched(
        fault,
        *(f"fapi/v1/klines?symbol={symbol}&{query}" for symbol in SMALL),
        "fapi/v1/exchangeInfo",
    )
    assert [row[0] for row in late.json()] == list(range(listed, THE_DAY + DAY, HOUR))
    assert [row[0] for row in early.json()] == list(range(THE_DAY, delisted, HOUR))
    assert never.json() == []
    about = {each["symbol"]: each for each in info.json()["symbols"]}
    assert {name: about[name]["status"] for name in SMALL} == {
        "BTCUSDT": "TRADING",
        "ETHUSDT": "SETTLING",
        "SOLUSDT": "PENDING_TRADING",
    }
    assert about["BTCUSDT"]["onboardDate"] == listed


@pytest.mark.parametrize("at", [9.5, 10.25, 11.5, 12.25, 12.75, 14.0])
def test_the_bar_in_progress_knows_no_trades_of_an_outage(at: float) -> None:
    now = THE_DAY + int(at * HOUR)
    (answer,), _ = fetched(script(OUTAGE), "fapi/v1/klines?symbol=BTCUSDT&interval=1h&limit=1", start_ms=now)
    row = answer.json()[0]
    whole = MARKET.bars("BTCUSDT", "1m", THE_DAY, now)
    opened = now // HOUR * HOUR
    kept = whole[:, (whole[OPEN_TIME] >= opened) & ((whole[OPEN_TIME] < FROM) | (whole[OPEN_TIME] >= UNTIL))]
    if at in (11.5, 12.25):
        assert row[0] == THE_DAY + 10 * HOUR, (
            "no bar is in progress: the last one is that of the outage's beginning"
        )
        return
    running = 0 if FROM <= now < UNTIL else 1
    assert row[0] == opened
    trades = int(kept[TRADES].sum())
    assert (
        trades <= row[8] <= trades + running * int(MARKET.bars("BTCUSDT", "1m", now, now + 1)[TRADES].sum())
    )


def test_half_of_500_symbols_miss_an_hour() -> None:
    symbols = tuple(f"SYM{number:03d}USDT" for number in range(500))
    early = 1_704_153_600_000  # 2024-01-02, the second day of the synthetic history
    faults = HostileFaults(
        script("kind: outage, rate: 0.5, from: 2024-01-02T10:00:00Z, until: 2024-01-02T11:00:00Z")
    )

    async def run() -> list[int]:
        async with exchange(symbols=symbols, faults=faults, hold=True, start_ms=early + DAY) as running:
            return [running.market.bars(name, "1h", early, early + DAY).shape[1] for name in symbols]

    counts = np.array(asyncio.run(run()))
    assert set(counts.tolist()) == {23, 24}
    assert 200 < (counts == 23).sum() < 300
    assert faults.counts["outage"] == (counts == 23).sum()
    assert json.dumps(faults.counts)
