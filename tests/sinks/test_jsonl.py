"""The file of JSON lines: what it looks like, torn ends, and lines of others."""

from __future__ import annotations

import functools
import math
import time
from pathlib import Path
from typing import Any

import pytest
from csv_support import prediction, records
from file_support import opened, read, sink, store, stored

from alpha_forge_plugins.sinks import append_file
from alpha_forge_plugins.sinks.key_index import KeyIndex
from alpha_forge_sdk import AlphaForgeError, Prediction, Rejected

LINE = (
    '{"ts":"2026-01-05T13:00:00Z","symbol":"BTCUSDT","prediction":0.30000000000000004,"frame":"ohlcv",'
    '"column":"model.prediction","dag_name":"minimal","metadata":{}}\n'
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


def refused(code: str, path: Path) -> AlphaForgeError:
    before = path.read_bytes()
    with pytest.raises(AlphaForgeError) as caught:
        opened("jsonl", path)
    assert caught.value.code == code, caught.value
    assert str(path) in caught.value.message
    assert path.read_bytes() == before, "left as it is"
    return caught.value


def test_the_file_is_readable_by_eye(path: Path) -> None:
    sent = [
        prediction("BTCUSDT", 0, 0.1 + 0.2),
        Prediction('"比"\n', prediction("", 0).ts, -1e-300, {"run": 7, "frame": None}),
    ]
    store("jsonl", path, sent)
    assert path.read_text("utf-8") == LINE + (
        '{"ts":"2026-01-05T13:00:00Z","symbol":"\\"比\\"\\n","prediction":-1e-300,'
        '"metadata":{"run":7,"frame":null}}\n'
    )


def test_duckdb_and_pandas_read_it(path: Path) -> None:
    import duckdb
    import pandas as pd

    sent = records(bars=20, symbols=3)
    store("jsonl", path, sent)
    frame = pd.read_json(path, lines=True, precise_float=True)
    assert frame["prediction"].tolist() == [p.value for p in sent]
    assert pd.to_datetime(frame["ts"], utc=True).tolist() == [p.ts for p in sent]
    rows = duckdb.sql(f"SELECT symbol, prediction::DOUBLE FROM read_json('{path}')").fetchall()
    assert rows == [(p.symbol, p.value) for p in sent]


def test_cut_off_at_any_byte_the_batch_is_whole_after_redelivery(tmp_path: Path) -> None:
    before = records(bars=1, symbols=2)
    batch = [
        prediction("PLAIN", 1, 1 / 3),
        prediction('"x"\n{', 1, -2.5, note="}\n,"),
        prediction("Ü", 1, 7.0),
    ]
    store("jsonl", tmp_path / "whole", before)
    kept = (tmp_path / "whole").stat().st_size
    store("jsonl", tmp_path / "whole", batch)
    whole = (tmp_path / "whole").read_bytes()
    path = tmp_path / "cut"
    for zeros in (b"", b"\0" * 5):  # a crash of the system may leave zeros where data was not yet written
        for cut in range(kept, len(whole), 7 if zeros else 1):
            torn = whole[:cut]
            path.write_bytes(torn if torn.endswith(b"\n") else torn + zeros)
            made = opened("jsonl", path)
            there = read("jsonl", path)
            assert there == list(map(stored, before + batch))[: len(there)], cut
            made.emit_batch(batch)
            made.close()
            assert path.read_bytes() == whole, cut


@pytest.mark.parametrize("cut", [0, 1, 6, 7, 30])
def test_a_first_line_that_was_cut_off_is_begun_anew(path: Path, cut: int) -> None:
    path.write_text(LINE[:cut])
    sink("jsonl", path).preflight()
    store("jsonl", path, records(1))
    assert read("jsonl", path) == list(map(stored, records(1)))


@pytest.mark.parametrize(
    "content", ["hello\n", "hello", "[]\n", '{"time": 1}\n', " " + LINE, "\ufeff" + LINE, "\n"]
)
def test_a_file_that_begins_otherwise_is_refused(path: Path, content: str) -> None:
    path.write_text(content, "utf-8")
    assert '{"ts":"' in refused("AF6010", path).message
    with pytest.raises(AlphaForgeError, match="AF6010"):
        sink("jsonl", path).preflight()


@pytest.mark.parametrize(
    "line",
    [
        "hello\n",
        "hello",
        "[1]\n",
        LINE.replace('"ts"', '"at"'),
        LINE.replace("{}", "[]"),
        LINE.replace('"BTCUSDT"', "7"),
        LINE.replace("0.30000000000000004", '"0.3"'),
        LINE.replace("0.30000000000000004", "true"),
        LINE.replace('"metadata":{}', '"meta":{}'),
        LINE.replace("}}", "}"),
        LINE[:-2] + "\n",
        LINE[:50] + LINE,
        '{"ts":"yesterday',
        b"\xff\xfe\n",
    ],
)
def test_lines_of_others_are_refused(path: Path, line: str | bytes) -> None:
    path.write_bytes(LINE.encode() + (line if isinstance(line, bytes) else line.encode()))
    refused("AF6012", path)


def test_blank_lines_are_nobodys(path: Path) -> None:
    store("jsonl", path, records(1))
    path.write_bytes(path.read_bytes() + b"\n\n")
    store("jsonl", path, records(2))
    path.write_bytes(path.read_bytes().replace(b"\n\n\n", b"\n"))
    assert read("jsonl", path) == list(map(stored, records(2)))


@pytest.mark.parametrize("value", [math.nan, math.inf, [1, -math.inf], {"deep": math.nan}])
def test_metadata_that_json_lacks_is_rejected(path: Path, value: Any) -> None:
    made = opened("jsonl", path)
    with pytest.raises(Rejected, match="JSON"):
        made.emit_batch([prediction("A", 0, 1.0, note=value), prediction("B", 0, 1.0)])
    made.close()
    assert [symbol for symbol, *_ in read("jsonl", path)] == ["B"]


def test_keys_older_than_memory_are_found_in_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(append_file, "KeyIndex", functools.partial(KeyIndex, limit=10))
    monkeypatch.setattr(append_file, "_BLOCK", 700)
    sent = [p for i, p in enumerate(records(40)) if i != 5]
    made = opened("jsonl", path)
    for at in range(0, len(sent), 7):
        made.emit_batch(sent[at : at + 7])
        made.emit_batch(sent[: at + 7])
    made.close()
    store("jsonl", path, records(40), records(40))
    assert read("jsonl", path) == [*map(stored, sent), stored(records(40)[5])]


def test_a_million_lines_are_opened_within_two_seconds(path: Path) -> None:
    head, tail = LINE.split("2026-01-05T13:00:00Z")
    with path.open("w") as file:
        for minute in range(250_000):
            day, rest = divmod(minute, 1440)
            ts = f"{2000 + day // 28}-01-{day % 28 + 1:02}T{rest // 60:02}:{rest % 60:02}:00Z"
            file.write("".join(f'{head}{ts}","symbol":"S{n}{tail[19:]}' for n in range(4)))
        last = file.tell()
        file.write(LINE)
    assert last > 100_000_000
    begun = time.process_time()
    made = opened("jsonl", path)
    seconds = time.process_time() - begun
    made.close()
    assert seconds < 2.0
