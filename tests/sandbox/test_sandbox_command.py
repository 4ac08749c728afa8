"""`alpha_forge sandbox` as a child process: its ready line, its ends, its refusals."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sandbox_support import DEADLINE, START

COMMAND = [sys.executable, "-c", "from alpha_forge.cli.sandbox import sandbox; sandbox()"]


@contextmanager
def child(*options: str, stdin: int | None = subprocess.DEVNULL) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*COMMAND, *options], stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_says_that_it_is_ready_and_ends_on_signals(number: signal.Signals, code: int) -> None:
    with child("--format", "json", "--hold", "--speed", "60", "--symbols", "btcusdt,ETHUSDT") as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert (ready["speed"], ready["symbols"]) == (60.0, ["BTCUSDT", "ETHUSDT"])
        assert ready["clock"] == "2026-01-05T00:30:00.000Z"
        with urllib.request.urlopen(ready["url"] + "/sandbox/clock", timeout=DEADLINE) as response:
            assert json.load(response) == {"epoch_ms": START, "speed": 60.0, "held": True}
        process.send_signal(number)
        assert process.wait(DEADLINE) == code
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_plays_the_faults_of_a_script(tmp_path: Path) -> None:
    script = tmp_path / "faults.yaml"
    script.write_text("faults:\n- {kind: http_5xx, status: 502, paths: [/api/v3/ping]}\n")
    with child("--format", "json", "--venue", "spot", "--faults", str(script)) as process:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["url"]
        with pytest.raises(urllib.error.HTTPError, match="502"):
            urllib.request.urlopen(url + "/api/v3/ping", timeout=DEADLINE)
        with urllib.request.urlopen(url + "/api/v3/time", timeout=DEADLINE) as response:
            assert response.status == 200


def test_the_text_line() -> None:
    with child("--hold", "--start", "2025-06-01T00:00:00") as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("sandbox exchange at http://127.0.0.1:")
        assert line.endswith("(speed 1, clock 2025-06-01T00:00:00.000Z, 524 symbols)\n")


def test_ends_with_its_parent() -> None:
    with child("--parent-watch", stdin=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.readline()
        process.stdin.close()
        assert process.wait(DEADLINE) == 0
        process.stdin = None


def _refused(*options: str) -> str:
    done = subprocess.run([*COMMAND, *options], capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    return done.stderr


def test_bad_input_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("faults:\n- kind: stal\n")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for options, text in (
            (("--data", str(tmp_path / "absent")), "no such folder"),
            (("--data", str(tmp_path)), "no kline files"),
            (("--start", "yesterday"), "ISO 8601"),
            (("--start", "1999-01-01"), "before"),
            (("--faults", str(bad)), "bad.yaml:2: kind: no kind 'stal'; did you mean 'stall'?"),
            (("--faults", str(tmp_path / "absent.yaml")), "can't be read"),
            (("--symbols", "?"), "symbol"),
            (("--symbols", ","), "--symbols is empty"),
            (("--port", port), "choose another --host or --port"),
        ):
            message = _refused(*options)
            assert text in message
            assert message.count("\n") == 1
    assert "--speed" in _refused("--speed", "0")
