"""The state directory: one process at a time, names that fit a file system, and clear words where it can't be used."""

from __future__ import annotations

import subprocess
import sys

import pytest

from alpha_forge.contracts.errors import UsageError
from alpha_forge.runtime.state import StateDirectory, file_stem

HOLD = """
import sys, time
from pathlib import Path
from alpha_forge.runtime.state import StateDirectory
with StateDirectory(Path(sys.argv[1]), "desk"):
    print("held", flush=True)
    time.sleep(600)
"""


def test_the_lock_names_who_holds_it_and_goes_with_a_killed_process(tmp_path):
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        mine = StateDirectory(tmp_path, "desk")
        with pytest.raises(
            UsageError, match=rf"process {other.pid} on .*, running since 20.*Z, holds desk.lock"
        ) as e:
            mine.__enter__()
        assert (e.value.code, e.value.exit_code) == ("AF6040", 2)
        assert f"process {other.pid} " in (mine.holder() or "")
        with StateDirectory(tmp_path, "another"):
            pass
    finally:
        other.kill()
        other.communicate()
    with mine:
        assert mine.holder() is not None
    assert mine.holder() is None


def test_looking_who_holds_it_does_not_take_it(tmp_path):
    state = StateDirectory(tmp_path, "desk")
    assert state.holder() is None
    assert list(tmp_path.iterdir()) == []
    with state:
        assert "running since" in (StateDirectory(tmp_path, "desk").holder() or "")
        with pytest.raises(UsageError), StateDirectory(tmp_path, "desk"):
            pass


@pytest.mark.parametrize("text", ["", "not json", "[]", '{"pid": "x"}', "\x00\xff"])
def test_a_lock_file_that_says_nothing_still_locks(tmp_path, text):
    state = StateDirectory(tmp_path, "desk")
    with state:
        state.path("lock").write_text(text, encoding="utf-8")
        with pytest.raises(UsageError, match="another process, holds"), StateDirectory(tmp_path, "desk"):
            pass


def test_a_directory_that_can_not_be_made_is_told(tmp_path):
    (tmp_path / "taken").write_text("", encoding="utf-8")
    for directory in (tmp_path / "taken", tmp_path / "taken" / "below"):
        with pytest.raises(UsageError, match="can't be used") as error, StateDirectory(directory, "desk"):
            pass
        assert error.value.code == "AF6041"


def test_names_become_files_that_no_other_name_has(tmp_path):
    names = [
        "desk",
        "Desk 1",
        "Desk_1",
        "a/b",
        "a_b",
        "..",
        ".",
        "../x",
        "ü",
        "x" * 300,
        "x" * 301,
        "a\nb",
        ".hidden",
    ]
    stems = [file_stem(name) for name in names]
    assert len(set(stems)) == len(names)
    for stem in stems:
        assert stem
        assert not stem.startswith(".")
        assert "/" not in stem
        assert len(stem) <= 100
        (tmp_path / f"{stem}.outbox.db-journal").touch()
    assert file_stem("minimal_signal_generation") == "minimal_signal_generation"
