"""A crash happens where it was asked for, and the parent learns all that was reported before it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from alpha_forge_sdk.testing.crash import At, CrashServer, CrashTimeout, crash_at

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs fork()")

HERE = Path(__file__).with_name("crash_targets.py")


@pytest.fixture(scope="module")
def server() -> Iterator[CrashServer]:
    with CrashServer() as made:
        yield made


def target(name: str) -> str:
    return f"crash_targets:{name}"


def test_runs_to_the_end_when_nothing_is_asked_for(server: CrashServer, tmp_path: Path) -> None:
    crash = server.run(target("write_rows"), str(tmp_path / "rows"), 3, file=str(HERE))
    assert not crash.killed
    assert crash.reports == ("0", "1", "2")
    assert (tmp_path / "rows").read_text() == "0\n1\n2\n"
    assert crash.events > 10
    assert any("after write at crash_targets.py" in place.where for place in crash.places)


@pytest.mark.parametrize(("call", "hits", "rows"), [("write", 2, 1), ("fsync", 2, 2), ("fileno", 1, 1)])
def test_kills_on_entry_of_the_nth_call(
    server: CrashServer, tmp_path: Path, call: str, hits: int, rows: int
) -> None:
    at = At(call=call, hits=hits)
    crash = server.run(target("write_rows"), str(tmp_path / "rows"), 9, at=at, file=str(HERE))
    assert crash.killed
    assert len((tmp_path / "rows").read_text().splitlines()) == rows


def test_kills_at_every_event(server: CrashServer, tmp_path: Path) -> None:
    path = str(tmp_path / "rows")
    whole = server.run(target("write_rows"), path, 2, file=str(HERE))
    seen = set()
    for event in range(1, whole.events + 1):
        crash = server.run(target("write_rows"), path, 2, at=At(event=event), file=str(HERE))
        assert crash.killed, event
        seen.add((Path(path).read_text() if event > 3 else "", crash.reports))
    assert ("0\n", ()) in seen, "between the write and the report"
    assert ("0\n1\n", ("0", "1")) in seen
    assert not server.run(target("write_rows"), path, 2, at=At(event=whole.events + 1), file=str(HERE)).killed


def test_kills_at_the_same_event_every_time(server: CrashServer, tmp_path: Path) -> None:
    runs = [server.run(target("write_rows"), str(tmp_path / f"{i}"), 5, file=str(HERE)) for i in range(3)]
    assert len({(run.events, run.places) for run in runs}) == 1


def test_kills_at_a_named_point(server: CrashServer) -> None:
    at = At(point="second", hits=2)
    crash = server.run(target("named"), "", at=at, file=str(HERE))
    assert crash.killed
    assert crash.reports == ("first", "second")


def test_kills_right_after_a_report(server: CrashServer, tmp_path: Path) -> None:
    crash = server.run(target("write_rows"), str(tmp_path / "rows"), 9, at=At(reports=4), file=str(HERE))
    assert crash.killed
    assert crash.reports == ("0", "1", "2", "3")


def test_counts_in_watched_blocks_only_when_asked_to(server: CrashServer, tmp_path: Path) -> None:
    path = str(tmp_path / "part")
    whole = server.run(target("in_part"), path, file=str(HERE))
    part = server.run(target("in_part"), path, at=At(watched=True), file=str(HERE))
    assert 0 < part.events < whole.events - 50
    crash = server.run(target("in_part"), path, at=At(watched=True, event=1), file=str(HERE))
    assert crash.killed
    assert len(crash.reports) == 50


def test_kills_after_a_time(server: CrashServer) -> None:
    assert server.run(target("hangs"), at=At(seconds=0.1), file=str(HERE)).killed


def test_tells_what_the_function_raised(server: CrashServer) -> None:
    crash = server.run(target("fails"), file=str(HERE))
    assert (crash.killed, crash.error) == (False, "ValueError: on purpose")


def test_tells_that_the_function_ended_the_process(server: CrashServer) -> None:
    crash = server.run(target("ends_itself"), file=str(HERE))
    assert (crash.killed, crash.error) == (False, "ended the process itself")


def test_a_function_that_is_not_there_is_an_error(server: CrashServer) -> None:
    with pytest.raises(RuntimeError, match="no_such_module"):
        server.run("no_such_module:function")
    with pytest.raises(RuntimeError, match="no_such_function"):
        server.run(target("no_such_function"), file=str(HERE))


def test_a_child_that_hangs_is_killed_and_told_of() -> None:
    with CrashServer() as made, pytest.raises(CrashTimeout, match="about to hang"):
        made.run(target("hangs"), timeout=1.5, file=str(HERE))


def test_in_one_call(tmp_path: Path) -> None:
    import crash_targets  # noqa: F401 - known to this process, by name or by file

    crash = crash_at(target("write_rows"), str(tmp_path / "rows"), 9, at=At(call="fsync", hits=3))
    assert crash.killed
    assert (tmp_path / "rows").read_text() == "0\n1\n2\n"


def test_what_a_whole_run_imported_is_there_for_the_next() -> None:
    with CrashServer() as made:
        cold, warm, again = (made.run(target("imports_late"), file=str(HERE)) for _ in range(3))
    assert warm.events < cold.events / 2
    assert again.events == warm.events
