"""The bulk archive: listings, checksums, zips with and without header, ms and µs; nothing damaged passes."""

from __future__ import annotations

import hashlib
import io
import zipfile
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpha_forge_plugins.market.binance import archive
from alpha_forge_plugins.market.binance.archive import ArchiveError
from alpha_forge_sdk import Interval

from .support import exact

HOUR = Interval.parse("1h")
OPEN = 1_672_531_200_000  # 2023-01-01T00:00Z
HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,"
    "taker_buy_quote_volume,ignore\n"
)


def csv(rows: int, *, header: bool, unit: int = 1) -> bytes:
    """`rows` hourly bars; `unit` 1 for ms, 1000 for µs."""
    lines = [
        f"{(OPEN + k * 3_600_000) * unit},{k}.5,{k}.75,{k}.25,{k}.6,1{k},"
        f"{(OPEN + (k + 1) * 3_600_000) * unit - 1},1,2,3,4,0\n"
        for k in range(rows)
    ]
    return ((HEADER if header else "") + "".join(lines)).encode()


def zipped(text: bytes, *names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name in names or ("BTCUSDT-1h-2023-01.csv",):
            file.writestr(name, text)
    return buffer.getvalue()


@pytest.mark.parametrize("header", [False, True])
@pytest.mark.parametrize("unit", [1, 1000])
@pytest.mark.parametrize("rows", [1, 744])
def test_a_file_reads_the_same_with_or_without_header_in_ms_or_us(header: bool, unit: int, rows: int) -> None:
    ts, values = archive.parse_zip(zipped(csv(rows, header=header, unit=unit)), HOUR)
    assert ts.tolist() == [(OPEN + (k + 1) * 3_600_000) * 10**6 for k in range(rows)]
    assert values[0].tolist() == [k + 0.5 for k in range(rows)]
    assert values[4].tolist() == [float(f"1{k}") for k in range(rows)]


def test_a_recorded_month_reads_as_pandas_reads_it(shared_data: Path) -> None:
    for path in sorted((shared_data / "klines" / "spot_btc_12col_2023").glob("*.csv")):
        ts, values = archive.parse_csv(path.read_bytes(), HOUR)
        table = exact(path)
        assert (ts == (table["open_time"].to_numpy() + 3_600_000) * 10**6).all()
        for row, name in zip(values, ("open", "high", "low", "close", "volume"), strict=True):
            assert (row == table[name].to_numpy()).all()


def test_an_empty_file_has_no_bars() -> None:
    assert len(archive.parse_csv(b"", HOUR)[0]) == 0
    assert len(archive.parse_csv(HEADER.encode(), HOUR)[0]) == 0


@given(st.integers(0, 700))
def test_a_torn_zip_is_refused(cut: int) -> None:
    whole = zipped(csv(100, header=True))
    with pytest.raises(ArchiveError):
        archive.parse_zip(whole[: min(cut, len(whole) - 1)], HOUR)


@pytest.mark.parametrize(
    "content",
    [
        b"<html>",
        zipped(b"a,b,c,d,e,f\nx,y,z,1,2,3\n"),
        zipped(csv(2, header=True) + b"1672538400000,1,,1,1,1,1,1,1,1,1,0\n"),
        zipped(csv(2, header=True) + b"1672538400000,1,2\n"),
        zipped(csv(1, header=False), "a.csv", "b.csv"),
        zipped(csv(1, header=False), "a.exe"),
    ],
)
def test_what_is_no_file_of_klines_is_refused(content: bytes) -> None:
    with pytest.raises(ArchiveError):
        archive.parse_zip(content, HOUR)


def test_a_checksum_must_be_that_of_the_bytes() -> None:
    content = zipped(csv(3, header=True))
    good = f"{hashlib.sha256(content).hexdigest()}  BTCUSDT-1h-2023-01.zip\n".encode()
    archive.verify(content, good)
    for bad in (b"", b"\xff\xfe", good.replace(good[:4], b"0000"), b"<html>"):
        with pytest.raises(ArchiveError):
            archive.verify(content, bad)
    with pytest.raises(ArchiveError):
        archive.verify(content[:-1], good)


def listing(inner: str, *, namespace: bool = True, truncated: bool = False) -> bytes:
    space = ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"' if namespace else ""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult{space}><Name>data.binance.vision</Name>'
        f"<Prefix>data/p/</Prefix><Marker></Marker><MaxKeys>1000</MaxKeys><Delimiter>/</Delimiter>"
        f"<IsTruncated>{str(truncated).lower()}</IsTruncated>{inner}</ListBucketResult>"
    ).encode()


CONTENTS = (
    "<Contents><Key>data/p/a.zip</Key><Size>1</Size></Contents><Contents><Key>data/p/b.zip</Key></Contents>"
)
FOLDERS = "<CommonPrefixes><Prefix>data/p/BTCUSDT/</Prefix></CommonPrefixes>"


@pytest.mark.parametrize("namespace", [False, True])
def test_a_listing_has_keys_and_folders_and_no_echo(namespace: bool) -> None:
    page = archive.parse_listing(listing(CONTENTS + FOLDERS, namespace=namespace))
    assert page.keys == ("data/p/a.zip", "data/p/b.zip")
    assert page.folders == ("data/p/BTCUSDT/",)
    assert page.marker is None


def test_a_truncated_listing_goes_on_from_its_marker_or_its_last_key() -> None:
    marked = listing("<NextMarker>data/p/z</NextMarker>" + CONTENTS, truncated=True)
    assert archive.parse_listing(marked).marker == "data/p/z"
    assert archive.parse_listing(listing(CONTENTS, truncated=True)).marker == "data/p/b.zip"
    with pytest.raises(ArchiveError):
        archive.parse_listing(listing("", truncated=True))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html></html>",
        b"<!DOCTYPE html><html>",
        listing(CONTENTS)[:-9],
        b'<?xml version="1.0"?><Error/>',
    ],
)
def test_another_page_is_no_listing(body: bytes) -> None:
    with pytest.raises(ArchiveError):
        archive.parse_listing(body)


def test_keys() -> None:
    day = archive.day_file("BTCUSDT", "1h", date(2026, 9, 2))
    assert day.key == "data/futures/um/daily/klines/BTCUSDT/1h/BTCUSDT-1h-2026-09-02.zip"
    month = archive.month_file("BTCUSDT", "1h", date(2025, 12, 31))
    assert month.key == "data/futures/um/monthly/klines/BTCUSDT/1h/BTCUSDT-1h-2025-12.zip"
    assert np.datetime64(month.begin, "ns") == np.datetime64("2025-12-01")
    assert np.datetime64(month.end, "ns") == np.datetime64("2026-01-01")
    assert "%" in archive.day_file("币USDT", "1h", date(2026, 9, 2)).key
