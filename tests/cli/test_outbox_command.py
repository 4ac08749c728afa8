"""``alpha_forge outbox``: list, show, retry, drop, recover, over logs that runs left behind or still use."""

from __future__ import annotations

import json
import math
import sqlite3
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner

from alpha_forge.cli import main
from alpha_forge.runtime.delivery.outbox import Outbox
from alpha_forge.runtime.state import StateDirectory
from alpha_forge_sdk import Prediction

START = datetime(2026, 1, 5, tzinfo=UTC)
NS = 10**9
CONFIG = """name: desk
using: {capabilities: [shared]}
signal_generation:
  mode: stream
  warmup: {lookback_days: auto}
  on_prediction:
    - {using: sinks.csv_append, name: file, column: ohlcv.mom, params: {path: out.csv}}
    - {using: sinks.csv_append, name: other, column: ohlcv.mom, params: {path: other.csv}}
pipeline:
  - data: {using: data.files, outputs: {frame: ohlcv}, params: {}}
"""


def prediction(number: int, value: float | None = None, symbol: str = "A") -> Prediction:
    metadata = {"frame": "ohlcv", "column": "mom", "dag_name": "desk"}
    return Prediction(
        symbol, START + timedelta(hours=number), float(number) if value is None else value, metadata
    )


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A directory with a configuration and a log: 'file' took 3 of 10 and rejected 2, 'other' took none, 'gone' is of
    an older configuration."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(CONFIG, encoding="utf-8")
    (tmp_path / ".alpha_forge").mkdir()
    log = Outbox(path(tmp_path), "desk")
    for name in ("file", "other", "gone"):
        log.register(name, "ohlcv", "mom")
    log.append([prediction(n) for n in range(10)])
    log.append([prediction(3, -3.0)])
    log.settle("file", log.read("file", 5), {1: "one is odd", 3: "three too"}, at=int(START.timestamp()) * NS)
    log.note("other", circuit="open", may_duplicate=True, last_error="OSError: unreachable")
    log.close()
    return tmp_path


def path(folder):
    return StateDirectory(folder / ".alpha_forge", "desk").path("outbox.db")


def reopened(folder):
    log = Outbox(path(folder), "desk")
    for name in ("file", "other"):
        log.register(name, "ohlcv", "mom")
    return log


def call(*arguments: str, code: int = 0, **options):
    result = CliRunner().invoke(main, ["outbox", *arguments], **options)
    assert result.exit_code == code, result.output + result.stderr
    return result


def as_json(*arguments: str, code: int = 0):
    return json.loads(call(*arguments, "--format", "json", code=code).stdout)


def test_list_says_where_each_sink_is(desk):
    found = as_json("list", "config.yaml")
    assert found["running"] is None
    assert found["conflicts"] == 1
    sinks = {s["name"]: s for s in found["sinks"]}
    assert set(sinks) == {"file", "gone", "other"}
    wanted = {
        "delivered": 3,
        "backlog": 5,
        "oldest": "2026-01-05T05:00:00Z",
        "dead_letters": 2,
        "requeued": 0,
    }
    assert {key: sinks["file"][key] for key in wanted} == wanted
    assert (sinks["other"]["backlog"], sinks["other"]["circuit"], sinks["other"]["may_duplicate"]) == (
        10,
        "open",
        True,
    )
    assert [sinks[n]["configured"] for n in ("file", "other", "gone")] == [True, True, False]
    text = call("list", "config.yaml").stdout
    assert "OSError: unreachable" in text
    assert "circuit open, may duplicate" in text
    assert "removed" in text
    assert "1 record(s) came again with another value" in text
    assert [s["name"] for s in as_json("list", "config.yaml", "--sink", "other")["sinks"]] == ["other"]


def test_show_gives_values_and_reasons(desk):
    found = as_json("show", "config.yaml", "--sink", "file", "--limit", "3")
    assert [(r["symbol"], r["ts"], r["value"], r["reason"]) for r in found["dead_letters"]] == [
        ("A", "2026-01-05T01:00:00Z", 1.0, "one is odd"),
        ("A", "2026-01-05T03:00:00Z", 3.0, "three too"),
    ]
    assert [r["value"] for r in found["waiting"]] == [5.0, 6.0, 7.0]
    (conflict,) = as_json("show", "config.yaml")["conflicts"]
    assert (conflict["kept"], conflict["refused"], conflict["ts"]) == (3.0, -3.0, "2026-01-05T03:00:00Z")
    assert "one is odd" in call("show", "config.yaml").stdout


def test_values_that_json_has_no_number_for_are_told_as_text(desk):
    log = reopened(desk)
    log.append([prediction(20, math.inf), prediction(21, -math.inf)])
    log.close()
    waiting = as_json("show", "config.yaml", "--sink", "file")["waiting"]
    assert [r["value"] for r in waiting[-2:]] == ["inf", "-inf"]


def test_retry_puts_dead_letters_back_in_order_before_what_waits(desk):
    assert as_json("retry", "config.yaml", "--sink", "file") == {"requeued": {"file": 2}}
    log = reopened(desk)
    batch = log.read("file", 100)
    assert [p.value for p in batch.predictions] == [1.0, 3.0]
    assert batch.predictions[0].metadata == prediction(1).metadata
    log.settle("file", batch, {0: "still odd"}, at=5 * NS)
    assert [p.value for p in log.read("file", 100).predictions] == [5.0, 6.0, 7.0, 8.0, 9.0]
    (letter,) = log.dead_letters("file")
    assert (letter.prediction.value, letter.reason, letter.at) == (1.0, "still odd", 5 * NS)
    log.close()


def test_retry_works_beside_a_process_that_has_the_log_open(desk):
    log = reopened(desk)
    assert [p.value for p in log.read("file", 2).predictions] == [5.0, 6.0]
    call("retry", "config.yaml")
    assert [p.value for p in log.read("file", 9).predictions] == [1.0, 3.0]
    log.append([prediction(30)])
    log.close()
    assert as_json("list", "config.yaml")["sinks"][0]["requeued"] == 2


def test_drop_removes_dead_letters_and_nothing_else(desk):
    call("drop", "config.yaml", "--sink", "file", input="n\n", code=130)
    assert as_json("drop", "config.yaml", "--sink", "file", "--yes") == {"dropped": {"file": 2}}
    sink = as_json("list", "config.yaml")["sinks"][0]
    assert (sink["dead_letters"], sink["backlog"]) == (0, 5)


def test_drop_forgets_a_sink_that_the_configuration_no_longer_has(desk):
    assert as_json("drop", "config.yaml", "--sink", "gone", "--yes") == {"dropped": {"gone": 0}}
    assert [s["name"] for s in as_json("list", "config.yaml")["sinks"]] == ["file", "other"]


def test_a_sink_that_a_running_process_delivers_to_is_not_forgotten(desk):
    with StateDirectory(desk / ".alpha_forge", "desk"):
        log = reopened(desk)
        log.register("gone", "ohlcv", "mom")
        assert as_json("list", "config.yaml")["running"].startswith("process ")
        found = as_json("drop", "config.yaml", "--sink", "gone", "--yes", code=2)
        assert found["errors"][0]["code"] == "AF6049"
        log.close()
    call("drop", "config.yaml", "--sink", "gone", "--yes")


def test_wrong_usage_is_told(desk):
    assert as_json("list", "config.yaml", "--sink", "fill", code=2)["errors"][0]["code"] == "AF6047"
    assert "did you mean 'file'" in call("retry", "config.yaml", "--sink", "fill", code=2).stderr
    assert "AF6045" in call("list", "config.yaml", "--state", "elsewhere", code=2).stderr
    assert not (desk / "elsewhere").exists()
    assert "AF6048" in call("recover", "config.yaml", code=2).stderr
    assert "AF1001" in call("list", "missing.yaml", code=2).stderr


def damage(file, first: int, last: int) -> None:
    """Overwrite pages of a file, from page `first` to `last`, counted from 0."""
    data = bytearray(file.read_bytes())
    data[first * 4096 : (last + 1) * 4096] = b"\xa5" * ((last + 1 - first) * 4096)
    file.write_bytes(data)


def fill(folder, count: int) -> None:
    log = reopened(folder)
    log.append([prediction(100 + n, symbol=f"S{n % 50}") for n in range(count)])
    log.close()


def pages_of(file, table: str) -> list[int]:
    """Numbers from 0 of the leaf pages that hold a table's rows, by SQLite's own account."""
    db = sqlite3.connect(file)
    try:
        rows = db.execute(
            "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf' ORDER BY path", (table,)
        )
        return [n - 1 for (n,) in rows]
    except sqlite3.OperationalError:
        pytest.skip("this SQLite was built without dbstat")
    finally:
        db.close()


def test_a_damaged_log_is_never_made_anew_and_gives_back_what_is_readable(desk):
    fill(desk, 3000)
    file = path(desk)
    leaves = pages_of(file, "records")
    assert len(leaves) > 10
    damage(file, leaves[4], leaves[4])
    before = file.read_bytes()
    for attempt in (lambda: Outbox(file, "desk"), lambda: Outbox(file, "desk")):
        with pytest.raises(Exception, match="is damaged") as error:
            attempt()
        assert error.value.code == "AF6042"
        assert "outbox recover" in error.value.help
    assert file.read_bytes() == before
    assert "AF6042" in call("list", "config.yaml", code=3).stderr
    done = as_json("recover", "config.yaml")
    assert 2500 < done["records"] < 3010
    assert done["records"] + done["missing"] == 3010
    assert (done["sinks"], done["dead_letters"]) == (3, 2)
    with open(done["aside"], "rb") as aside:
        assert aside.read() == before
    log = reopened(desk)
    values = [p.value for p in log.read("file", 10**6).predictions]
    assert values == sorted(values)
    assert len(values) >= done["records"] - 10
    assert log.newest("ohlcv", "mom")["S49"] == int((START + timedelta(hours=3099)).timestamp()) * NS
    log.close()


def test_a_recovery_that_was_killed_goes_on_where_it_was(desk):
    """Killed between taking the damaged file away and putting the saved one in its place."""
    file = path(desk)
    file.rename(file.with_name(file.name + ".recovered"))
    with pytest.raises(Exception, match="the file itself is missing"):
        Outbox(file, "desk")
    assert "AF6042" in call("list", "config.yaml", code=3).stderr
    assert as_json("recover", "config.yaml")["records"] == 10
    log = reopened(desk)
    assert (log.backlog("file"), log.backlog("other")) == (5, 10)
    log.close()


def test_where_nothing_is_readable_recover_says_so_and_begins_anew(desk):
    file = path(desk)
    file.write_bytes(b"not a database at all" * 500)
    done = as_json("recover", "config.yaml")
    assert (done["records"], done["sinks"]) == (0, 0)
    log = reopened(desk)
    log.append([prediction(1)])
    assert log.backlog("file") == 1
    log.close()


def test_lost_cursors_start_at_the_beginning_of_what_is_left(desk):
    file = path(desk)
    (leaf,) = pages_of(file, "sinks") or [None]
    if leaf is None:
        pytest.skip("the table has no page of its own")
    damage(file, leaf, leaf)
    assert as_json("recover", "config.yaml")["sinks"] == 0
    log = reopened(desk)
    assert [p.value for p in log.read("file", 100).predictions][-5:] == [5.0, 6.0, 7.0, 8.0, 9.0]
    log.close()
    assert reopened(desk).backlog("file") == 10


@pytest.mark.parametrize("content", [b"", b"\0" * 4096])
def test_an_empty_file_is_no_log(desk, content):
    path(desk).write_bytes(content)
    assert "AF6042" in call("list", "config.yaml", code=3).stderr


def test_a_missing_file_with_a_journal_left_is_not_made_anew(desk):
    path(desk).rename(desk / "away")
    wal = path(desk).with_name(path(desk).name + "-wal")
    wal.write_bytes(b"x" * 100)
    with pytest.raises(Exception, match="the file itself is missing"):
        Outbox(path(desk), "desk")
    call("recover", "config.yaml")
    Outbox(path(desk), "desk").close()


def test_another_programs_file_and_a_newer_log_are_told(desk):
    db = sqlite3.connect(path(desk))
    db.execute("PRAGMA user_version = 2")
    db.close()
    found = as_json("list", "config.yaml", code=2)["errors"][0]
    assert found["code"] == "AF6043"
    assert "version 2 of the log; this one knows 1" in found["message"]
    path(desk).unlink()
    db = sqlite3.connect(path(desk))
    db.execute("CREATE TABLE t (x)")
    db.close()
    assert "another program's SQLite file" in call("list", "config.yaml", code=3).stderr
