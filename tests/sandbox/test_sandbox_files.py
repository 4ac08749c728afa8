"""Recorded klines as a market: exact values, honest holes, a sensible start, clear refusals."""

from __future__ import annotations

import asyncio
import datetime as dt
import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pytest
from sandbox_support import HOUR, browser, exchange, receive_until, socket

from alpha_forge_sdk.sandbox import ManualTime, SandboxConfig, SandboxDataError, SandboxExchange
from alpha_forge_sdk.sandbox import bars as tables
from alpha_forge_sdk.sandbox.bars import CLOSE, OPEN_TIME, TRADES, VOLUME
from alpha_forge_sdk.sandbox.files import FileMarket
from alpha_forge_sdk.sandbox.recordings import parse_name

DAY = 24 * HOUR
MINUTE = 60_000
T0 = 1_735_689_600_000  # 2025-01-01


def rows_of(start: int, length: int, count: int, skip: tuple[int, ...] = ()) -> list[tuple[float, ...]]:
    """Bars (time, open, high, low, close, volume) that count upward, without those at the skipped indices."""
    return [
        (start + length * index, 100 + index, 101.5 + index, 99.25 + index, 100.5 + index, 2000 + index)
        for index in range(count)
        if index not in skip
    ]


def write_csv(
    path: Path, rows: list[tuple[float, ...]], header: str = "timestamp,open,high,low,close,volume"
) -> None:
    text = "\n".join(
        [header, *(",".join(map(str, row)) for row in rows)]
        if header
        else [",".join(map(str, row)) for row in rows]
    )
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("BTC_USDT_USDT-1h-futures.feather", ("BTCUSDT", "1h")),
        ("ETH_USDT-15m.feather", ("ETHUSDT", "15m")),
        ("BTC_USDT_1h.csv.gz", ("BTCUSDT", "1h")),
        ("BTCUSDT-1h-2023-01.csv", ("BTCUSDT", "1h")),
        ("BTCUSDT-1mo-2023-01.csv", ("BTCUSDT", "1M")),
        ("BTCUSDT-1d-2023-01-05.csv", ("BTCUSDT", "1d")),
        ("columns.txt", None),
        ("notes.csv", None),
        ("BTC_USDT_7m.csv", None),
    ],
)
def test_names(name: str, expected: tuple[str, str] | None) -> None:
    assert parse_name(name) == expected


def test_every_way_of_writing_gives_the_same_bars(tmp_path: Path) -> None:
    rows = rows_of(T0, HOUR, 5)
    columns = dict(
        zip(("date", "open", "high", "low", "close", "volume"), zip(*rows, strict=True), strict=True)
    )
    times = (
        pa.array(columns.pop("date"), pa.int64())
        .cast(pa.timestamp("ms", tz="UTC"))
        .cast(pa.timestamp("ns", tz="UTC"))
    )
    floats = {name: pa.array([float(value) for value in values]) for name, values in columns.items()}
    arrow = pa.table({"date": times, **floats})
    micro = [(row[0] * 1000, *row[1:]) for row in rows]
    header = "open_time,open,high,low,close,volume"
    writers = {
        "feather": lambda folder: feather.write_feather(arrow, folder / "BTC_USDT_USDT-1h-futures.feather"),
        "csv": lambda folder: write_csv(folder / "BTC_USDT_1h.csv", rows),
        "csv.gz": lambda folder: write_csv(folder / "BTC_USDT_1h.csv.gz", rows),
        "microseconds": lambda folder: write_csv(folder / "BTC_USDT_1h.csv", micro),
        "months": lambda folder: [
            write_csv(folder / "BTCUSDT-1h-2025-01.csv", rows[:3], header),
            write_csv(folder / "BTCUSDT-1h-2025-02.csv", rows[2:], header),
        ],
    }
    read = {}
    for name, write in writers.items():
        (tmp_path / name).mkdir()
        write(tmp_path / name)
        read[name] = FileMarket(tmp_path / name).bars("BTCUSDT", "1h", 0, T0 + DAY)
    assert read["csv"].shape[1] == 5
    for name, bars in read.items():
        np.testing.assert_array_equal(bars, read["csv"], err_msg=name)


def test_an_archive_file_without_header_keeps_its_own_counts(tmp_path: Path) -> None:
    row = (T0, "100.0", "101.0", "99.5", "100.5", "2.5", T0 + HOUR - 1, "250.25", 17, "1.5", "150.15", 0)
    write_csv(tmp_path / "BTCUSDT-1h-2025-01.csv", [row], "")  # type: ignore[list-item]
    bars = FileMarket(tmp_path).bars("BTCUSDT", "1h", 0, T0 + DAY)
    assert bars[: tables.TAKER_QUOTE + 1, 0].tolist() == [T0, 1000, 1010, 995, 1005, 25, 25025, 17, 15, 15015]


def test_holes_stay_holes_in_every_view(tmp_path: Path) -> None:
    write_csv(tmp_path / "BTC_USDT_1h.csv", rows_of(T0, HOUR, 24, skip=(5, 6, 7, 8)))
    market = FileMarket(tmp_path)
    opens = (market.bars("BTCUSDT", "1h", 0, T0 + DAY)[OPEN_TIME] - T0) // HOUR
    assert opens.tolist() == [0, 1, 2, 3, 4, *range(9, 24)]
    assert market.progress("BTCUSDT", "1h", T0 + 6 * HOUR + 5) is None
    assert market.progress("BTCUSDT", "2h", T0 + 6 * HOUR + 5) is None, "the whole of it is missing"
    assert ((market.bars("BTCUSDT", "2h", 0, T0 + DAY)[OPEN_TIME] - T0) // HOUR).tolist() == [
        0,
        2,
        4,
        *range(8, 24, 2),
    ]

    async def run() -> list[int]:
        source = ManualTime()
        config = {"data": tmp_path, "symbols": None, "start_ms": T0 + 3 * HOUR, "speed": 3600.0}
        async with (
            exchange(source=source, **config) as running,
            socket(running, "/market/ws/btcusdt@kline_1h") as client,
        ):
            source.advance(8.5)
            messages = await receive_until(
                client, lambda seen: any(m["k"]["x"] and m["k"]["t"] == T0 + 10 * HOUR for m in seen)
            )
            async with browser(running) as web:
                rows = (
                    await web.get(f"/fapi/v1/klines?symbol=BTCUSDT&interval=1h&startTime={T0 + 4 * HOUR}")
                ).json()
                assert [(row[0] - T0) // HOUR for row in rows] == [4, 9, 10, 11]
                rows = (await web.get("/fapi/v1/klines?symbol=BTCUSDT&interval=1h&limit=4")).json()
                assert [(row[0] - T0) // HOUR for row in rows] == [4, 9, 10, 11]
            return [(message["k"]["t"] - T0) // HOUR for message in messages if message["k"]["x"]]

    assert asyncio.run(run()) == [3, 4, 9, 10]


def test_an_interval_shorter_than_all_files_has_no_bars(tmp_path: Path) -> None:
    write_csv(tmp_path / "BTC_USDT_1h.csv", rows_of(T0, HOUR, 24))
    market = FileMarket(tmp_path)
    assert market.bars("BTCUSDT", "15m", 0, T0 + DAY).shape[1] == 0
    assert market.progress("BTCUSDT", "15m", T0 + 1) is None


def test_the_bar_in_progress_is_told_by_the_finest_files_that_cover_it(tmp_path: Path) -> None:
    write_csv(tmp_path / "BTC_USDT_15m.csv", rows_of(T0, 15 * MINUTE, 8))
    write_csv(tmp_path / "BTC_USDT_1h.csv", rows_of(T0, HOUR, 24))
    market = FileMarket(tmp_path)
    inside = market.progress("BTCUSDT", "1h", T0 + 30 * MINUTE - 1)
    fine = market.bars("BTCUSDT", "15m", T0, T0 + 30 * MINUTE)
    assert inside is not None
    assert inside[CLOSE, 0] == fine[CLOSE, -1]
    alone = market.progress("BTCUSDT", "1h", T0 + 5 * HOUR + 30 * MINUTE)
    whole = market.bars("BTCUSDT", "1h", T0 + 5 * HOUR, T0 + 6 * HOUR)
    assert alone is not None
    assert 0 < alone[VOLUME, 0] < whole[VOLUME, 0]


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ((T0, 100, 101, 99, "", 1), "missing or not finite"),
        ((T0, 100, 99, 98, 100, 1), "not the extreme"),
        ((T0 + 1, 100, 101, 99, 100, 1), "off the 1h grid"),
        ((T0, 0, 101, 0, 100, 1), "not above 0"),
        ((T0, "a", 101, 99, 100, 1), "not numeric"),
    ],
)
def test_rows_no_exchange_makes_are_refused(tmp_path: Path, row: tuple[float, ...], text: str) -> None:
    write_csv(tmp_path / "BTC_USDT_1h.csv", [row])
    with pytest.raises(SandboxDataError, match=text) as caught:
        FileMarket(tmp_path)
    assert "BTC_USDT_1h.csv" in str(caught.value)


def test_what_cannot_be_played_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(SandboxDataError, match="no such folder"):
        FileMarket(tmp_path / "absent")
    with pytest.raises(SandboxDataError, match="no kline files"):
        FileMarket(tmp_path)
    (tmp_path / "BTC_USDT-1h.feather").write_bytes(b"this is no feather file")
    with pytest.raises(SandboxDataError, match=r"BTC_USDT-1h\.feather: can't be read"):
        FileMarket(tmp_path)
    (tmp_path / "BTC_USDT-1h.feather").unlink()
    write_csv(tmp_path / "BTC_USDT_1h.csv", [(T0, 1, 1)], "timestamp,open,close")
    with pytest.raises(SandboxDataError, match="no column high, low, volume"):
        FileMarket(tmp_path)
    write_csv(tmp_path / "BTC_USDT_1h.csv", rows_of(T0, HOUR, 2))
    with pytest.raises(SandboxDataError, match="no klines of FOOUSDT; it has BTCUSDT"):
        SandboxExchange(SandboxConfig(data=tmp_path, symbols=("FOOUSDT",)))


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    write_csv(tmp_path / "BTC_USDT_1h.csv", [])
    with pytest.raises(SandboxDataError, match=r"BTC_USDT_1h\.csv"):
        FileMarket(tmp_path)


@pytest.mark.real_data
def test_the_recorded_futures(shared_data: Path) -> None:
    folder = shared_data / "klines" / "usdm_2025"
    market = FileMarket(folder)
    start = market.default_start_ms()
    assert dt.datetime.fromtimestamp(start / 1000, tz=dt.UTC).date() == dt.date(2025, 4, 2)
    for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT"):
        history = market.bars(symbol, "15m", 0, start)
        assert start - int(history[OPEN_TIME, 0]) > 26.5 * DAY
        assert int(market.bars(symbol, "15m", start, start + 10 * DAY)[OPEN_TIME, -1]) > start + 2.9 * DAY
        recorded = feather.read_table(folder / f"{symbol[:3]}_USDT_USDT-15m-futures.feather")
        decimals = market.instrument(symbol).price_decimals
        whole = market.bars(symbol, "15m", 0, start + 100 * DAY)
        np.testing.assert_array_equal(whole[CLOSE] / 10.0**decimals, np.asarray(recorded["close"]))
        hours = market.bars(symbol, "1h", 0, start)
        sums = tables.aggregate(
            market.bars(symbol, "15m", int(hours[OPEN_TIME, 0]), start // HOUR * HOUR), "1h"
        )
        np.testing.assert_array_equal(hours[: CLOSE + 1, : sums.shape[1]], sums[: CLOSE + 1])


@pytest.mark.real_data
def test_the_outage_of_march_2023_is_a_hole(shared_data: Path) -> None:
    market = FileMarket(shared_data / "klines" / "spot_1h_4y")
    noon = 1_679_659_200_000  # 2023-03-24T12:00Z
    for symbol in market.symbols:
        bars = market.bars(symbol, "1h", noon - HOUR, noon + 3 * HOUR)
        assert bars[OPEN_TIME].tolist() == [noon - HOUR, noon, noon + 2 * HOUR]
        assert bars[[VOLUME, TRADES], 1].tolist() == [0, 0]
        assert market.progress(symbol, "1h", noon + HOUR + 1) is None
