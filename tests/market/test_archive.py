"""The bulk archive: listings, checksums, zips with and without header, ms and µs; nothing damaged passes."""

from __future__ import annotations

import hashlib
import io
import tracemalloc
import zipfile
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpha_forge_plugins.market.binance import archive
from alpha_forge_plugins.market.binance.archive import ArchiveError, ArchiveFile, Bars
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


def read(content: bytes, limit: int = 10**6) -> Bars:
    return archive.parse_csv(archive.unzip(content, limit), HOUR)


@pytest.mark.parametrize("header", [False, True])
@pytest.mark.parametrize("unit", [1, 1000])
@pytest.mark.parametrize("rows", [1, 744])
def test_a_file_reads_the_same_with_or_without_header_in_ms_or_us(header: bool, unit: int, rows: int) -> None:
    ts, values = read(zipped(csv(rows, header=header, unit=unit)))
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
        read(whole[: min(cut, len(whole) - 1)])


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
        read(content)


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
    day = archive.day_file("data/futures/um", "BTCUSDT", "1h", date(2026, 9, 2))
    assert day.key == "data/futures/um/daily/klines/BTCUSDT/1h/BTCUSDT-1h-2026-09-02.zip"
    month = archive.month_file("data/spot", "BTCUSDT", "1h", date(2025, 12, 31))
    assert month.key == "data/spot/monthly/klines/BTCUSDT/1h/BTCUSDT-1h-2025-12.zip"
    assert np.datetime64(month.begin, "ns") == np.datetime64("2025-12-01")
    assert np.datetime64(month.end, "ns") == np.datetime64("2026-01-01")
    assert [file.period for file in month.days()] == [f"2025-12-{day:02d}" for day in range(1, 32)]
    strange = archive.day_file("data/spot", "币USDT", "1h", date(2026, 9, 2))
    assert strange.key == "data/spot/daily/klines/%E5%B8%81USDT/1h/%E5%B8%81USDT-1h-2026-09-02.zip"
    assert strange.key.endswith("/" + strange.name)


@pytest.mark.parametrize(
    ("file", "rows"),
    [
        (archive.day_file("data/spot", "A", "1h", date(2026, 2, 28)), 24),
        (archive.month_file("data/spot", "A", "1h", date(2026, 2, 28)), 28 * 24),
        (archive.day_file("data/spot", "A", "1s", date(2026, 2, 28)), 86_400),
        (archive.month_file("data/spot", "A", "1m", date(2026, 1, 28)), 44_640),
        (archive.month_file("data/spot", "A", "1w", date(2026, 6, 1)), 5),  # Mondays 1, 8, 15, 22, 29
    ],
)
def test_a_file_knows_how_many_bars_open_in_its_period(file: ArchiveFile, rows: int) -> None:
    interval = Interval.parse(file.interval)
    assert file.rows(interval) == rows
    assert 150 * rows < file.max_bytes(interval) < 1000 * rows + 20_000


def bomb(size: int, *, declared: int | None = None) -> bytes:
    """A zip of `size` zero bytes that says it holds `declared`."""
    content = bytearray(zipped(b"0" * size))
    if declared is not None:
        assert content.count(size.to_bytes(4, "little")) == 2, "in the member's header and in the directory"
        content = content.replace(size.to_bytes(4, "little"), declared.to_bytes(4, "little"))
    return bytes(content)


def test_a_zip_bomb_is_refused_by_what_it_says_and_by_what_comes_out() -> None:
    limit = 24 * 512
    with pytest.raises(ArchiveError, match="1000000 bytes inside"):
        archive.unzip(bomb(1_000_000), limit)
    liar = bomb(5_000_000, declared=1000)
    tracemalloc.start()
    with pytest.raises(ArchiveError):
        archive.unzip(liar, limit)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000, "what it hides is not unpacked"


def test_a_zip_of_thousands_of_members_is_refused_before_it_is_listed() -> None:
    many = zipped(b"", *(f"{k}.csv" for k in range(5000)))
    with pytest.raises(ArchiveError, match="bytes, of which at most"):
        archive.unzip(many, 24 * 512)


WHOLE = zipped(csv(100, header=True))


@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
def test_a_flipped_byte_is_refused_or_makes_no_difference(place: int, flip: int) -> None:
    content = bytearray(WHOLE)
    content[place] ^= flip
    try:
        text = archive.unzip(bytes(content), 10**6)
    except ArchiveError:
        return
    assert text == csv(100, header=True), (
        "only what says nothing of the content may change: times, attributes"
    )


def streamed(text: bytes) -> bytes:
    """A zip written without seeking back: sizes and CRC follow the data."""

    class Pipe(io.RawIOBase):
        written = b""

        def writable(self) -> bool:
            return True

        def write(self, data: bytes) -> int:  # type: ignore[override]
            self.written += bytes(data)
            return len(data)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as file:  # type: ignore[call-overload]
        file.writestr("a.csv", text)
    return pipe.written


def stored(text: bytes, comment: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as file:
        file.writestr("a.csv", text)
        file.comment = comment
    return buffer.getvalue()


@pytest.mark.parametrize(
    "make", [zipped, streamed, stored, lambda text: stored(text, b"made by hand" * 1000)]
)
@pytest.mark.parametrize("rows", [0, 1, 744])
def test_zips_of_every_making_are_read(make: Callable[[bytes], bytes], rows: int) -> None:
    text = csv(rows, header=True)
    assert archive.unzip(make(text), 10**6) == text


def test_an_encrypted_or_strangely_packed_member_is_refused() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_BZIP2) as file:
        file.writestr("a.csv", csv(10, header=True))
    with pytest.raises(ArchiveError, match="method 12"):
        archive.unzip(buffer.getvalue(), 10**6)
    locked = bytearray(zipped(csv(10, header=True)))
    locked[locked.index(b"PK\1\2") + 8] |= 1
    with pytest.raises(ArchiveError, match="encrypted"):
        archive.unzip(bytes(locked), 10**6)


@pytest.mark.parametrize("damaged", [None, 0, 2])
def test_files_read_together_are_as_each_alone(damaged: int | None) -> None:
    texts = [
        csv(24, header=True),
        csv(3, header=False, unit=1000),
        b"",
        csv(5, header=True)[:-1],  # no newline at its end
        HEADER.encode(),
        csv(2, header=False) + b"\n",
    ]
    if damaged is not None:
        texts[damaged] += b"1672538400000,1,x,1,1,1,1,1,1,1,1,0\n"
    for place, found in enumerate(archive.parse_all(texts, HOUR)):
        if place == damaged:
            assert isinstance(found, ArchiveError)
            continue
        assert isinstance(found, tuple)
        ts, values = archive.parse_csv(texts[place], HOUR)
        assert len(ts) == [24, 3, 0, 5, 0, 2][place]
        assert found[0].tolist() == ts.tolist()
        assert found[1].tolist() == values.tolist()
