"""Recorded files: read as pyarrow and pandas read them, split into history and stream, bad ones named."""

from __future__ import annotations

import asyncio
import gzip
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from alpha_forge_plugins.market.files import EventClock, Files
from alpha_forge_plugins.market.recorded import spelt
from alpha_forge_sdk import Clock, Interval, MarketEvent, SourceContext, SourceError, SystemClock

from .support import exact, history, joined

FOUR = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT")
HOUR = 3600 * 10**9
T0 = 1_767_571_200_000  # 2026-01-05T00:00Z, ms
COLUMNS = ["open", "high", "low", "close", "volume"]


def source(
    path: object, universe: tuple[str, ...] = ("BTCUSDT",), interval: str = "1h", **params: Any
) -> Files:
    return Files(Files.Params(path=str(path), universe=universe, interval=interval, **params))


async def everything(files: Files) -> tuple[dict[str, Any], list[MarketEvent], Clock]:
    """(history, stream, clock) of a source, all of it."""
    clock = await files.find_clock()
    assert clock is not None
    await files.open(SourceContext(clock, Path(), {}))
    before = {s: joined(b) for s, b in (await history(files, files.params.universe, 0, 2**62)).items()}
    events = [event async for event in files.stream()]
    await files.close()
    return before, events, clock


def whole(before: dict[str, Any], events: list[MarketEvent], symbol: str) -> tuple[Any, Any]:
    """History and stream of one symbol, put together."""
    ts, values = before.get(symbol, (np.empty(0, np.int64), np.empty((5, 0))))
    bars = [event.bar for event in events if event.symbol == symbol and event.bar is not None]
    tail = np.array([bar[1:] for bar in bars]).reshape(-1, 5).T
    return np.concatenate([ts, np.array([b.ts for b in bars], np.int64)]), np.concatenate(
        [values, tail], axis=1
    )


def same(found: tuple[Any, Any], table: pd.DataFrame, opens: Any, step: int = HOUR) -> None:
    assert (found[0] == np.asarray(opens) + step).all()
    assert (found[1] == table[COLUMNS].to_numpy(np.float64).T).all()


@pytest.mark.parametrize(("interval", "step"), [("1h", HOUR), ("15m", HOUR // 4), ("1m", HOUR // 60)])
def test_recorded_feather_files_read_as_pandas_reads_them(
    shared_data: Path, interval: str, step: int
) -> None:
    folder = shared_data / "klines" / "usdm_2025"
    before, events, _ = asyncio.run(everything(source(folder, FOUR, interval)))
    for symbol in FOUR:
        table = pd.read_feather(folder / f"{symbol[:3]}_USDT_USDT-{interval}-futures.feather")
        same(
            whole(before, events, symbol),
            table,
            table["date"].astype("datetime64[ns, UTC]").astype("int64"),
            step,
        )


def test_recorded_gzipped_csv_reads_as_pandas_reads_it(shared_data: Path) -> None:
    folder = shared_data / "klines" / "spot_1h_4y"
    before, events, _ = asyncio.run(everything(source(folder, FOUR)))
    for symbol in FOUR:
        table = exact(folder / f"{symbol[:3]}_USDT_1h.csv.gz")
        same(whole(before, events, symbol), table, table["timestamp"] * 10**6)
        gap = pd.Timestamp("2023-03-24T14:00Z").value  # the 13:00 bar that the exchange never made
        assert gap not in whole(before, events, symbol)[0]
        assert gap - HOUR in whole(before, events, symbol)[0]


def test_dated_files_are_read_one_after_the_other(shared_data: Path) -> None:
    folder = shared_data / "klines" / "spot_btc_12col_2023"
    for path in (folder, f"{folder}/{{symbol}}-{{interval}}-*.csv"):
        before, events, _ = asyncio.run(everything(source(path)))
        tables = [exact(file) for file in sorted(folder.glob("*.csv"))]
        table = pd.concat(tables)
        same(whole(before, events, "BTCUSDT"), table, table["open_time"] * 10**6)


def table(bars: int = 20, start: int = T0, step: int = 3_600_000) -> pd.DataFrame:
    close = np.arange(bars) + 100.0
    values = {"open": close, "high": close + 1, "low": close - 1, "close": close + 0.5, "volume": close * 2}
    return pd.DataFrame({"open_time": start + step * np.arange(bars), **values})


def write(folder: Path, name: str, data: pd.DataFrame | None = None) -> Path:
    data = table() if data is None else data
    path = folder / name
    if name.endswith(".feather"):
        data.to_feather(path)
    elif name.endswith(".parquet"):
        data.to_parquet(path)
    elif name.endswith(".gz"):
        path.write_bytes(gzip.compress(data.to_csv(index=False).encode()))
    else:
        data.to_csv(path, index=False)
    return path


@pytest.mark.parametrize(
    "name",
    [
        "BTCUSDT-1h.feather",
        "BTC_USDT_1h.parquet",
        "BTC-USDT-1h.csv",
        "btcusdt_1h_spot.csv.gz",
        "BTC_USDT_USDT-1h-futures.feather",
        "BTCUSDT-1h-2026-01.csv",
    ],
)
def test_every_form_of_name_and_every_format(tmp_path: Path, name: str) -> None:
    write(tmp_path, name)
    write(tmp_path, "BTCUSDT-15m.csv")
    write(tmp_path, "ETHBTC-1h.csv")
    before, events, _ = asyncio.run(everything(source(tmp_path)))
    same(whole(before, events, "BTCUSDT"), table(), table()["open_time"] * 10**6)


@pytest.mark.parametrize("unit", [1e-3, 1, 1000, 1_000_000])
@pytest.mark.parametrize("column", ["open_time", "timestamp", "date"])
def test_times_in_any_unit_under_any_known_name(tmp_path: Path, unit: float, column: str) -> None:
    data = table().rename(columns={"open_time": column})
    data[column] = (data[column] * unit).astype("int64")
    write(tmp_path, "BTCUSDT-1h.csv", data)
    before, events, _ = asyncio.run(everything(source(tmp_path)))
    same(whole(before, events, "BTCUSDT"), table(), table()["open_time"] * 10**6)


def test_a_csv_without_header_is_the_archive_s_twelve_columns(tmp_path: Path) -> None:
    data = table()
    for name in ("close_time", "quote_volume", "count", "taker", "taker_quote", "ignore"):
        data[name] = 0
    data.to_csv(tmp_path / "BTCUSDT-1h-2026-01.csv", index=False, header=False)
    before, events, _ = asyncio.run(everything(source(tmp_path)))
    same(whole(before, events, "BTCUSDT"), table(), table()["open_time"] * 10**6)


def test_the_last_tenth_of_the_common_range_streams_and_the_clock_follows(tmp_path: Path) -> None:
    write(tmp_path, "BTCUSDT-1h.csv", table(101))
    write(tmp_path, "ETHUSDT-1h.csv", table(110, T0))
    files = source(tmp_path, ("ETHUSDT", "BTCUSDT"))

    async def run() -> None:
        clock = await files.find_clock()
        assert clock is not None
        await files.open(SourceContext(clock, tmp_path, {}))
        boundary = T0 * 10**6 + 91 * HOUR
        assert clock.now() == boundary
        order = []
        async for event in files.stream():
            assert clock.now() == event.ts
            assert event.closed
            assert event.origin == "file"
            order.append((event.ts, event.symbol))
            known = await history(files, ["BTCUSDT"], event.ts - 1, 2**62)
            assert all(block.ts.max() <= event.ts for blocks in known.values() for block in blocks)
        both = [(boundary + k * HOUR, s) for k in range(1, 11) for s in ("ETHUSDT", "BTCUSDT")]
        assert order == both + [(boundary + k * HOUR, "ETHUSDT") for k in range(11, 20)]
        await files.close()

    asyncio.run(run())


def test_stream_from_says_where_the_stream_begins(tmp_path: Path) -> None:
    write(tmp_path, "BTCUSDT-1h.csv")
    before, events, _ = asyncio.run(everything(source(tmp_path, stream_from="2026-01-05T05:30:00Z")))
    assert len(before["BTCUSDT"][0]) == 5
    assert len(events) == 15
    with pytest.raises(ValueError, match="time zone"):
        source(tmp_path, stream_from="2026-01-05T05:30:00")


def test_a_sleeper_wakes_in_event_time_and_when_the_recording_is_over() -> None:
    async def run() -> None:
        clock = EventClock()
        clock.advance(10 * HOUR)
        woken: list[str] = []

        async def nap(name: str, seconds: float) -> None:
            await clock.sleep(seconds)
            woken.append(name)

        naps = [
            asyncio.create_task(nap(n, s)) for n, s in (("b", 7200), ("a", 3600), ("c", 10**9), ("now", 0))
        ]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert woken == ["now"]
        assert not clock.advance(10 * HOUR + 1)
        assert clock.advance(12 * HOUR)
        await asyncio.sleep(0)
        assert sorted(woken) == ["a", "b", "now"]
        clock.release()
        await asyncio.gather(*naps)

    asyncio.run(run())


def bad(column: str, row: int, value: Any) -> pd.DataFrame:
    data = table().astype({column: object})
    data.loc[row, column] = value
    return data


@pytest.mark.parametrize(
    ("data", "code", "says"),
    [
        (table().drop(columns=["volume"]), "AF5013", "volume"),
        (table().rename(columns={"open_time": "close_time"}), "AF5013", "time column"),
        (bad("open_time", 4, T0 + 4 * 3_600_000 + 1), "AF5014", "row 5"),
        (table().iloc[[0, 2, 1, 3]], "AF5015", "row 3"),
        (table().iloc[[0, 1, 1, 2]], "AF5015", "row 3: repeats"),
        (bad("close", 6, None), "AF5016", "row 7"),
        (bad("close", 6, "n/a?"), "AF5016", "close"),
        (bad("open_time", 6, "yesterday"), "AF5016", "open_time"),
        (bad("open_time", 6, None), "AF5016", "open_time"),
        (table(0), "AF5017", "no bar"),
    ],
)
def test_bad_content_is_named_with_file_row_and_cure(
    tmp_path: Path, data: pd.DataFrame, code: str, says: str
) -> None:
    write(tmp_path, "BTCUSDT-1h.csv", data)
    with pytest.raises(SourceError) as error:
        asyncio.run(everything(source(tmp_path)))
    assert (error.value.code, error.value.exit_code) == (code, 3)
    assert says in error.value.message
    assert str(tmp_path) in error.value.message
    assert error.value.help


@pytest.mark.parametrize(
    "name", ["BTCUSDT-1h.feather", "BTCUSDT-1h.parquet", "BTCUSDT-1h.csv.gz", "BTCUSDT-1h.csv"]
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, name)
    path.write_bytes(b"" if name.endswith(".csv") else path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(SourceError) as error:
        asyncio.run(everything(source(tmp_path)))
    assert error.value.code == "AF5012"
    assert name in error.value.message


def test_a_missing_file_says_what_there_is(tmp_path: Path) -> None:
    write(tmp_path, "ETHUSDT-1h.csv")
    for path in (
        tmp_path,
        tmp_path / "{symbol}-1h.csv",
        tmp_path / "nowhere",
        tmp_path / "nowhere" / "{symbol}.csv",
    ):
        with pytest.raises(SourceError) as error:
            asyncio.run(everything(source(path)))
        assert error.value.code == "AF5010"


@pytest.mark.parametrize(
    "names",
    [
        ("BTCUSDT-1h.csv", "BTCUSDT-1h.feather"),
        ("BTCUSDT-1h-futures.csv", "BTCUSDT-1h-mark.csv"),
        ("BTCUSDT-1h.csv", "BTCUSDT-1h-2026-01.csv"),
        ("BTCUSDT-1h-2026-01.csv", "BTC_USDT-1h-2026-01.csv"),
    ],
)
def test_two_files_that_could_be_meant_are_never_a_choice(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        write(tmp_path, name)
    with pytest.raises(SourceError) as error:
        asyncio.run(everything(source(tmp_path)))
    assert error.value.code == "AF5011"
    assert all(name in error.value.message for name in names)


def test_dated_files_that_overlap_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "BTCUSDT-1h-2026-01.csv")
    write(tmp_path, "BTCUSDT-1h-2026-02.csv", table(5, T0 + 19 * 3_600_000))
    with pytest.raises(SourceError) as error:
        asyncio.run(everything(source(tmp_path)))
    assert error.value.code == "AF5015"


@pytest.mark.parametrize(
    ("text", "symbol", "fits"),
    [
        ("BTC_USDT_USDT", "BTCUSDT", True),
        ("btc-usdt", "BTCUSDT", True),
        ("BTCUSDT_261225", "BTCUSDT_261225", True),
        ("BTC_USDT_BTC", "BTCUSDT", False),
        ("BTCUSDTUSDT", "BTCUSDT", False),
        ("1000BTCUSDT", "BTCUSDT", False),
    ],
)
def test_spellings(text: str, symbol: str, fits: bool) -> None:
    assert spelt(text, symbol) is fits


def test_a_source_that_is_not_open_says_so(tmp_path: Path) -> None:
    files = source(tmp_path)

    async def run() -> None:
        async for _ in files.stream():
            pass

    with pytest.raises(SourceError) as error:
        asyncio.run(run())
    assert error.value.code == "AF5008"


def test_unopened_sources_travel_to_workers(tmp_path: Path) -> None:
    files = source(tmp_path)
    assert pickle.loads(pickle.dumps(files)).params == files.params  # noqa: S301 - made right here


def test_the_clock_is_one_of_the_contract() -> None:
    assert isinstance(EventClock(), Clock)
    assert isinstance(SystemClock(), Clock)
    assert Interval.parse("1h").ns == HOUR
