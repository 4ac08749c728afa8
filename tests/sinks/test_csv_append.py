"""What is stored is what was sent: every record, once, to the last bit."""

from __future__ import annotations

import csv
import math
import pickle
import struct
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from csv_support import HEADER, START, opened, prediction, read_back, records, sink, store
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from alpha_forge_plugins.sinks.csv_append import CSVAppendSink
from alpha_forge_sdk import PluginError, Prediction, Rejected

AWKWARD = [
    "BTC,USDT",
    'the "best"',
    "line\nbreak",
    "cr\rlf\r\n",
    "比特币",
    "🚀",
    " padded ",
    "",
    "'",
    "\t",
    "\x00",
    "nan",
]


def bits(value: float) -> bytes:
    return struct.pack("<d", value)


def test_the_file_is_readable_by_eye(tmp_path: Path) -> None:
    store(
        tmp_path / "out.csv", [prediction("BTCUSDT", 0, 0.1 + 0.2), prediction("ETHUSDT", 0, -1e-300, run=7)]
    )
    assert (tmp_path / "out.csv").read_text() == (
        f"{HEADER}\n"
        "2026-01-05T13:00:00Z,BTCUSDT,0.30000000000000004,ohlcv,model.prediction,minimal,{}\n"
        '2026-01-05T13:00:00Z,ETHUSDT,-1e-300,ohlcv,model.prediction,minimal,"{""run"":7}"\n'
    )


@pytest.mark.parametrize("count", [0, 1, 25, 26, 1000])
def test_batches_of_any_size_arrive_in_order(tmp_path: Path, count: int) -> None:
    sent = records(count, symbols=1)
    store(tmp_path / "out.csv", sent)
    assert read_back(tmp_path / "out.csv") == sent


def test_five_hundred_symbols_at_each_bar(tmp_path: Path) -> None:
    made = opened(tmp_path / "out.csv")
    sent = records(bars=6, symbols=500)
    for bar in range(6):
        made.emit_batch(sent[bar * 500 : (bar + 1) * 500])
        assert len(read_back(tmp_path / "out.csv")) == (bar + 1) * 500, "stored when emit_batch returns"
    made.close()
    assert read_back(tmp_path / "out.csv") == sent


@pytest.mark.parametrize(
    "value",
    [
        0.0,
        -0.0,
        5e-324,
        -2.2250738585072014e-308,
        1.7976931348623157e308,
        1 / 3,
        0.1,
        1e22,
        123456789.123456789,
    ],
)
def test_a_float_reads_back_to_the_same_bits(tmp_path: Path, value: float) -> None:
    store(tmp_path / "out.csv", [prediction("A", 0, value), prediction("B", 0, np.float64(value))])
    assert [bits(p.value) for p in read_back(tmp_path / "out.csv")] == [bits(value)] * 2


def test_what_is_not_finite_is_stored_as_such(tmp_path: Path) -> None:
    store(
        tmp_path / "out.csv",
        [prediction(s, 0, v) for s, v in zip("abc", (math.nan, math.inf, -math.inf), strict=True)],
    )
    got = [p.value for p in read_back(tmp_path / "out.csv")]
    assert math.isnan(got[0])
    assert got[1:] == [math.inf, -math.inf]


@pytest.mark.parametrize(
    ("ts", "text"),
    [
        (datetime(2026, 1, 5, 13, tzinfo=UTC), "2026-01-05T13:00:00Z"),
        (datetime(2026, 1, 5, 13, 0, 0, 1, tzinfo=UTC), "2026-01-05T13:00:00.000001Z"),
        (
            datetime(2026, 1, 5, 14, 30, tzinfo=timezone(timedelta(hours=5, minutes=30))),
            "2026-01-05T09:00:00Z",
        ),
        (datetime(1970, 1, 1, tzinfo=UTC), "1970-01-01T00:00:00Z"),
    ],
)
def test_ts_is_utc_to_the_microsecond(tmp_path: Path, ts: datetime, text: str) -> None:
    store(tmp_path / "out.csv", [Prediction("A", ts, 1.0)])
    assert (tmp_path / "out.csv").read_text().splitlines()[1].startswith(f"{text},A,")
    assert read_back(tmp_path / "out.csv")[0].ts == ts


@pytest.mark.parametrize("text", AWKWARD)
def test_awkward_text_survives_anywhere(tmp_path: Path, text: str) -> None:
    sent = [
        Prediction(
            text, START, 1.0, {"frame": text, "column": text, "dag_name": text, "note": text, text: 1}
        ),
        Prediction("next", START, 2.0, {}),
    ]
    store(tmp_path / "out.csv", sent)
    store(tmp_path / "out.csv", sent)  # the keys are found again when the file is read
    assert read_back(tmp_path / "out.csv") == sent


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
metadata = st.dictionaries(st.sampled_from(["frame", "column", "dag_name", "x", "", "y,"]), json_values)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.text(), st.floats(allow_nan=False), metadata), max_size=6))
def test_any_record_survives(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple[str, float, Any]]
) -> None:
    path = tmp_path_factory.mktemp("any") / "out.csv"
    sent = [
        Prediction(symbol, START + timedelta(microseconds=i), value, rest)
        for i, (symbol, value, rest) in enumerate(drawn)
    ]
    store(path, sent)
    store(path, sent)
    assert read_back(path) == sent


def test_metadata_that_is_missing_differs_from_metadata_that_is_empty(tmp_path: Path) -> None:
    sent = [Prediction("A", START, 1.0, {"frame": ""}), Prediction("B", START, 1.0, {"frame": None})]
    store(tmp_path / "out.csv", [*sent, Prediction("C", START, 1.0, {})])
    assert [dict(p.metadata) for p in read_back(tmp_path / "out.csv")] == [{"frame": ""}, {"frame": None}, {}]


def test_only_the_culprits_are_rejected(tmp_path: Path) -> None:
    sent = records(bars=2)
    sent[1] = prediction("lone \ud800 surrogate", 0)
    sent[3] = prediction("A", 0, tool=object())
    sent[4] = prediction("B" * (csv.field_size_limit() + 1), 0)
    made = opened(tmp_path / "out.csv")
    with pytest.raises(Rejected) as caught:
        made.emit_batch(sent)
    made.close()
    assert sorted(caught.value.reasons) == [1, 3, 4]
    assert "object" in caught.value.reasons[3]
    assert read_back(tmp_path / "out.csv") == [sent[0], sent[2], sent[5]]


def test_a_key_is_stored_once_whatever_comes_again(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    sent = records(bars=4)
    made = opened(path)
    made.emit_batch(sent[:6])
    made.emit_batch(sent[:6])
    made.emit_batch(sent[3:9] + sent[3:9])
    made.close()
    store(path, sent)
    assert read_back(path) == sent


def test_the_same_key_with_another_value_keeps_the_first(tmp_path: Path) -> None:
    assert CSVAppendSink.on_conflict == "keep"
    path = tmp_path / "out.csv"
    store(path, [prediction("A", 0, 1.0), prediction("A", 0, 2.0)])
    store(path, [prediction("A", 0, 3.0), prediction("B", 0, 4.0)])
    assert [(p.symbol, p.value) for p in read_back(path)] == [("A", 1.0), ("B", 4.0)]


def test_the_dedup_key_is_what_the_config_says(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    both = [Prediction("A", START, float(i), {"column": name}) for i, name in enumerate(["up", "down"])]
    made = opened(path, dedup_key=["ts", "symbol", "column"])
    assert made.idempotent_by == ("ts", "symbol", "column")
    assert sink(path).idempotent_by == CSVAppendSink.idempotent_by == ("ts", "symbol")
    made.emit_batch(both + both)
    made.close()
    assert read_back(path) == both
    store(path, [prediction("A", 5), prediction("B", 5)], dedup_key=["symbol"])
    assert [p.symbol for p in read_back(path)] == ["A", "A", "B"]


@pytest.mark.parametrize("key", [[], ["ts", "ts"], ["when"], "ts", ["metadata"]])
def test_a_dedup_key_that_is_none_is_refused(tmp_path: Path, key: Any) -> None:
    with pytest.raises(ValidationError, match="dedup_key"):
        sink(tmp_path / "out.csv", dedup_key=key)


def test_construction_touches_nothing(tmp_path: Path) -> None:
    sink(tmp_path / "new" / "out.csv")
    assert not list(tmp_path.iterdir())


def test_an_unopened_sink_travels_to_a_worker(tmp_path: Path) -> None:
    there = pickle.loads(pickle.dumps(sink(tmp_path / "out.csv")))  # noqa: S301
    there.open()
    there.emit_batch(records(1))
    there.close()
    assert read_back(tmp_path / "out.csv") == records(1)


def test_opening_and_closing_is_idempotent_and_outside_it_nothing_is_taken(tmp_path: Path) -> None:
    made = sink(tmp_path / "out.csv")
    made.close()
    with pytest.raises(PluginError, match="outside open") as caught:
        made.emit_batch(records(1))
    assert caught.value.code == "AF6011"
    made.open()
    made.open()
    made.emit_batch(records(1))
    made.close()
    made.close()
    with pytest.raises(PluginError, match="outside open"):
        made.emit_batch(records(2))
    assert read_back(tmp_path / "out.csv") == records(1)


def test_importing_the_sink_pulls_in_nothing_heavy() -> None:
    code = (
        "import sys, alpha_forge_plugins.sinks.csv_append\n"
        "print(sorted({'numpy', 'pandas', 'pyarrow', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_the_examples_are_valid_and_every_field_is_described() -> None:
    for example in CSVAppendSink.examples:
        CSVAppendSink(CSVAppendSink.Params(**example))
    assert all(field.description for field in CSVAppendSink.Params.model_fields.values())
