"""Real runs over one state directory: killed, restarted, doubled, stopped twice; the file shows what happened."""

from __future__ import annotations

import fcntl
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from tests.runtime.test_shutdown import CONFIG, SYMBOLS, check_file, until

DEADLINE = 60.0


@pytest.fixture
def exchange() -> Iterator[str]:
    """The URL of a local exchange that outlives the runs; a minute takes a quarter of a second."""
    command = [
        sys.executable,
        "-m",
        "alpha_forge",
        "sandbox",
        "--format",
        "json",
        "--speed",
        "240",
        "--parent-watch",
    ]
    process = subprocess.Popen(
        [*command, "--symbols", ",".join(SYMBOLS)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["url"]
    finally:
        process.kill()
        process.communicate()


class Run:
    def __init__(self, folder: Path, url: str, *options: str) -> None:
        self.folder = folder
        self.log_path = folder / f"log-{len(list(folder.glob('log-*')))}"
        command = [sys.executable, "-m", "alpha_forge", "signal", "config.yaml", *options]
        command += ["--set", f"pipeline.0.data.params.endpoints={url}"]
        with self.log_path.open("w") as log:
            self.process = subprocess.Popen(
                command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True
            )

    @property
    def log(self) -> str:
        return self.log_path.read_text(encoding="utf-8")

    def rows(self) -> int:
        path = self.folder / "out.csv"
        return path.read_bytes().count(b"\n") - 1 if path.exists() else 0

    def end(self) -> tuple[int, str]:
        out, _ = self.process.communicate(timeout=DEADLINE)
        assert "Traceback" not in self.log, self.log
        return self.process.returncode, out

    def wait_rows(self, count: int) -> None:
        until(lambda: self.rows() >= count or self.process.poll() is not None, self.log)
        assert self.process.poll() is None, self.log


def hold(path: Path) -> BinaryIO:
    """Take the lock that the sink needs to write its file; it goes with the file that is returned."""
    file = path.open("a+b")
    fcntl.flock(file.fileno(), fcntl.LOCK_EX)
    return file


def cli(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "alpha_forge", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=DEADLINE, check=False)


def test_killed_and_started_again_the_file_has_every_close_once(tmp_path, exchange):
    (tmp_path / "config.yaml").write_text(CONFIG, encoding="utf-8")
    first = Run(tmp_path, exchange)
    try:
        first.wait_rows(9)
        # A second process on the same state is refused, and told by whom; the first one does not mind.
        second = Run(tmp_path, exchange)
        code, _ = second.end()
        assert code == 2
        assert (
            f"AF6040]: 'shutdown' already runs on the state directory .alpha_forge: process {first.process.pid} on"
            in (second.log)
        )
        first.wait_rows(12)
    finally:
        first.process.kill()
        first.process.communicate()
    listed = json.loads(cli(tmp_path, "outbox", "list", "config.yaml", "--format", "json").stdout)
    assert listed["running"] is None
    (sink,) = listed["sinks"]
    assert sink["name"] == "sinks.csv_append#1"
    rows = first.rows()
    # Killed, the lock is free; what closed meanwhile is predicted now.
    again = Run(tmp_path, exchange)
    try:
        again.wait_rows(rows + 30)
        again.process.send_signal(signal.SIGTERM)
        code, summary = again.end()
    finally:
        again.process.kill()
    assert code == 0, again.log
    assert re.search(r"[1-9]\d* of the predictions are of bars that closed before this start", summary)
    assert "Caught up: " in again.log
    check_file(tmp_path / "out.csv")
    listed = json.loads(cli(tmp_path, "outbox", "list", "config.yaml", "--format", "json").stdout)
    assert listed["sinks"][0]["backlog"] == 0
    assert listed["sinks"][0]["delivered"] >= again.rows()


def test_what_a_stopped_run_could_not_deliver_is_delivered_by_the_next(tmp_path, exchange):
    """Another process holds the first run's file; the run ends with exit code 3 and says how much waits."""
    (tmp_path / "config.yaml").write_text(
        CONFIG.replace("  mode: stream\n", "  mode: stream\n  delivery: {drain_seconds: 0.5}\n"),
        encoding="utf-8",
    )
    first = Run(tmp_path, exchange)
    try:
        held = hold(tmp_path / "out.csv")
        until(lambda: first.log.count("Received event") >= 4 or first.process.poll() is not None, first.log)
        first.process.send_signal(signal.SIGTERM)
        code, _ = first.end()
    finally:
        first.process.kill()
    assert code == 3
    waiting = re.search(r"(\d+) record\(s\) not delivered yet; they are kept for the next start", first.log)
    assert waiting, first.log
    assert int(waiting[1]) >= 12
    shown = json.loads(cli(tmp_path, "outbox", "list", "config.yaml", "--format", "json").stdout)["sinks"][0]
    assert shown["backlog"] == int(waiting[1])
    held.close()
    again = Run(tmp_path, exchange)
    try:
        again.wait_rows(int(waiting[1]) + 6)
        again.process.send_signal(signal.SIGTERM)
        code, _ = again.end()
    finally:
        again.process.kill()
    assert code == 0, again.log
    check_file(tmp_path / "out.csv")


def test_sigterm_twice_ends_at_once_and_loses_nothing(tmp_path, exchange):
    (tmp_path / "config.yaml").write_text(
        CONFIG.replace("  mode: stream\n", "  mode: stream\n  delivery: {drain_seconds: 3600}\n"),
        encoding="utf-8",
    )
    first = Run(tmp_path, exchange)
    try:
        held = hold(tmp_path / "out.csv")
        until(lambda: first.log.count("Received event") >= 4 or first.process.poll() is not None, first.log)
        first.process.send_signal(signal.SIGTERM)
        until(lambda: "Stopping on SIGTERM" in first.log, first.log)
        first.process.send_signal(signal.SIGTERM)
        code, _ = first.end()
    finally:
        first.process.kill()
    assert code == 130
    held.close()
    again = Run(tmp_path, exchange, "--bars", "4")
    try:
        code, _ = again.end()
    finally:
        again.process.kill()
    assert code == 0, again.log
    check_file(tmp_path / "out.csv")
    assert again.rows() >= 3 * 8
