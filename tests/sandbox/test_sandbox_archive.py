"""The archive: what exists when, whole objects that match their checksums, listings page by page."""

from __future__ import annotations

import asyncio
import csv
import datetime as dt
import hashlib
import io
import zipfile
from xml.etree import ElementTree

import pytest
from sandbox_support import HOUR, SMALL, START, browser, exchange

from alpha_forge_sdk.sandbox import Faults, ManualTime
from alpha_forge_sdk.sandbox.archive import Archive
from alpha_forge_sdk.sandbox.http import Response
from alpha_forge_sdk.sandbox.intervals import INTERVALS
from alpha_forge_sdk.sandbox.payloads import ARCHIVE_COLUMNS, csv_text
from alpha_forge_sdk.sandbox.synthetic import SyntheticMarket

DAY = 24 * HOUR
BASE = "data/futures/um"
SPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"


@pytest.fixture(scope="module")
def market() -> SyntheticMarket:
    return SyntheticMarket(1, SMALL)


@pytest.fixture(scope="module")
def archive(market: SyntheticMarket) -> Archive:
    return Archive(market)


def at(text: str) -> int:
    return int(dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC).timestamp() * 1000)


def daily(day: str, interval: str = "1h") -> str:
    return f"{BASE}/daily/klines/BTCUSDT/{interval}/BTCUSDT-{interval}-{day}.zip"


def monthly(month: str, interval: str = "1h") -> str:
    return f"{BASE}/monthly/klines/BTCUSDT/{interval}/BTCUSDT-{interval}-{month}.zip"


def test_an_object_matches_its_checksum_and_holds_the_bars(archive: Archive, market: SyntheticMarket) -> None:
    key = daily("2026-01-03", "15m")
    body, checksum = archive.fetch(key, START), archive.fetch(key + ".CHECKSUM", START)
    assert body is not None
    assert checksum is not None
    name = key.rsplit("/", 1)[1]
    assert checksum.decode() == f"{hashlib.sha256(body).hexdigest()}  {name}\n"
    with zipfile.ZipFile(io.BytesIO(body)) as opened:
        assert opened.namelist() == [name.replace(".zip", ".csv")]
        text = opened.read(opened.namelist()[0]).decode()
    rows = list(csv.reader(io.StringIO(text)))
    assert tuple(rows[0]) == ARCHIVE_COLUMNS
    assert len(rows) == 1 + 96
    start = at("2026-01-03")
    assert [int(row[0]) for row in rows[1:]] == [start + 900_000 * index for index in range(96)]
    assert text == csv_text(
        market.instrument("BTCUSDT"), "15m", market.bars("BTCUSDT", "15m", start, start + DAY)
    )


def test_the_bytes_are_always_the_same(archive: Archive) -> None:
    other = Archive(SyntheticMarket(1, ("BTCUSDT",)))
    assert archive.fetch(monthly("2025-12"), START + 30 * DAY) == other.fetch(monthly("2025-12"), START + DAY)


def test_a_month_is_its_days(archive: Archive) -> None:
    def lines(key: str) -> list[bytes]:
        body = archive.fetch(key, START + 30 * DAY)
        assert body is not None
        with zipfile.ZipFile(io.BytesIO(body)) as opened:
            return opened.read(opened.namelist()[0]).splitlines()[1:]

    days = [line for day in range(1, 32) for line in lines(daily(f"2025-12-{day:02d}"))]
    assert lines(monthly("2025-12")) == days


@pytest.mark.parametrize(
    ("key", "appears"),
    [
        (daily("2026-01-04"), "2026-01-05T08:00"),
        (monthly("2025-12"), "2026-01-05T08:00"),  # 5 January is the first Monday
        (monthly("2025-11"), "2025-12-01T08:00"),  # 1 December is a Monday itself
        (monthly("2025-12", "1mo"), "2026-01-05T08:00"),
    ],
)
def test_objects_appear_with_the_clock(archive: Archive, key: str, appears: str) -> None:
    for name in (key, key + ".CHECKSUM"):
        assert archive.fetch(name, at(appears) - 1) is None
        assert archive.fetch(name, at(appears)) is not None


@pytest.mark.parametrize(
    "key",
    [
        daily("2023-12-31"),
        daily("2026-13-01"),
        daily("2025-12-01", "1w"),
        daily("2025-12-01", "3d"),
        monthly("2025-11", "1M"),
        monthly("2025-11", "7m"),
        monthly("2025-11").replace("BTCUSDT", "NOPE"),
        monthly("2025-11").replace("futures/um", "spot"),
        daily("2025-11"),
        "",
        "data/",
    ],
)
def test_what_is_not_there_is_missing(archive: Archive, key: str) -> None:
    assert archive.fetch(key, START) is None


def listed(
    archive: Archive, now: float = START, **query: str
) -> tuple[list[str], list[str], ElementTree.Element]:
    """Keys, common prefixes and the root of a listing."""
    query = {name.replace("_", "-"): value for name, value in query.items()}
    root = ElementTree.fromstring(archive.listing(query, now).body)
    keys = [item.findtext(f"{SPACE}Key", "") for item in root.iter(f"{SPACE}Contents")]
    prefixes = [item.findtext(f"{SPACE}Prefix", "") for item in root.iter(f"{SPACE}CommonPrefixes")]
    return keys, prefixes, root


def test_folders_are_common_prefixes(archive: Archive) -> None:
    assert listed(archive, delimiter="/")[1] == ["data/"]
    assert listed(archive, prefix=f"{BASE}/", delimiter="/")[1] == [f"{BASE}/daily/", f"{BASE}/monthly/"]
    symbols = listed(archive, prefix=f"{BASE}/daily/klines/", delimiter="/")[1]
    assert symbols == [f"{BASE}/daily/klines/{symbol}/" for symbol in sorted(SMALL)]
    for kind, count in (("daily", INTERVALS.index("1d") + 1), ("monthly", len(INTERVALS))):
        folders = listed(archive, prefix=f"{BASE}/{kind}/klines/BTCUSDT/", delimiter="/")[1]
        assert len(folders) == count
        assert folders == sorted(folders)
    assert any(folder.endswith("/1mo/") for folder in folders)
    assert not any(folder.endswith("/1M/") for folder in folders)


def test_a_listing_shows_sizes_tags_and_its_own_prefix(archive: Archive) -> None:
    prefix = f"{BASE}/daily/klines/BTCUSDT/1h/"
    _, _, root = listed(archive, prefix=prefix + "BTCUSDT-1h-2026-01", delimiter="/")
    assert root.findtext(f"{SPACE}Prefix") == prefix + "BTCUSDT-1h-2026-01"
    assert root.findtext(f"{SPACE}IsTruncated") == "false"
    entries = list(root.iter(f"{SPACE}Contents"))
    assert len(entries) == 2 * 3  # three days of January are out, each with its checksum
    for entry in entries:
        body = archive.fetch(entry.findtext(f"{SPACE}Key", ""), START)
        assert body is not None
        assert entry.findtext(f"{SPACE}Size") == str(len(body))
        assert entry.findtext(f"{SPACE}ETag") == f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'


@pytest.mark.parametrize("delimiter", ["/", ""])
def test_pages_meet_without_gap_or_overlap(archive: Archive, delimiter: str) -> None:
    prefix = f"{BASE}/monthly/klines/BTCUSDT/1d/"
    whole, _, _ = listed(archive, prefix=prefix)
    assert len(whole) == 2 * 23
    assert whole == sorted(whole)
    seen: list[str] = []
    marker = ""
    while True:
        keys, _, root = listed(archive, prefix=prefix, marker=marker, delimiter=delimiter, max_keys="7")
        seen += keys
        if root.findtext(f"{SPACE}IsTruncated") == "false":
            break
        assert root.findtext(f"{SPACE}NextMarker") == (keys[-1] if delimiter else None)
        marker = keys[-1]
    assert seen == whole


def test_common_prefixes_are_paged_too(archive: Archive) -> None:
    prefix, seen, marker = f"{BASE}/daily/klines/", [], ""
    for _ in range(3):
        _, prefixes, root = listed(archive, prefix=prefix, delimiter="/", max_keys="1", marker=marker)
        seen += prefixes
        marker = root.findtext(f"{SPACE}NextMarker") or ""
    assert seen == [f"{prefix}{symbol}/" for symbol in sorted(SMALL)]
    assert marker == ""


class _Corrupt(Faults):
    def archived(self, key: str, body: bytes, now_ms: float) -> bytes | None:
        return None if key.endswith("2026-01-02.zip") else body[:-1]


def test_over_the_wire() -> None:
    async def run() -> None:
        async with exchange(source=ManualTime()) as running, browser(running) as client:
            for path in ("/", "/data.binance.vision"):
                response = await client.get(path, params={"prefix": f"{BASE}/daily/", "delimiter": "/"})
                assert response.headers["content-type"] == "application/xml"
                assert f"<Prefix>{BASE}/daily/klines/</Prefix>" in response.text
            response = await client.get("/" + daily("2026-01-02"))
            checksum = (await client.get("/" + daily("2026-01-02") + ".CHECKSUM")).text
            assert checksum.split()[0] == hashlib.sha256(response.content).hexdigest()
            response = await client.get("/" + daily("2026-01-05"))
            assert (response.status_code, "NoSuchKey" in response.text) == (404, True)
        async with exchange(source=ManualTime(), faults=_Corrupt()) as running, browser(running) as client:
            assert (await client.get("/" + daily("2026-01-02"))).status_code == 404
            response = await client.get("/" + daily("2026-01-03"))
            checksum = (await client.get("/" + daily("2026-01-03") + ".CHECKSUM")).text
            assert checksum.split()[0] != hashlib.sha256(response.content).hexdigest()

    asyncio.run(run())


def test_bad_listing_parameters_are_refused(archive: Archive) -> None:
    response: Response = archive.listing({"max-keys": "many"}, START)
    assert response.status == 400
