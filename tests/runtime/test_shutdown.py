"""Signals to a real run: a clean end, a whole file, no child left; a second signal ends at once."""

from __future__ import annotations

import contextlib
import csv
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from alpha_forge.runtime.event_loop import EventLoopManager
from alpha_forge.runtime.interrupts import Interrupts

DEADLINE = 60.0
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")

CONFIG = f"""name: shutdown
using: {{capabilities: [shared, middlefreq, CAPABILITY]}}
signal_generation:
  mode: stream
  warmup: {{lookback_days: auto}}
  on_prediction:
    - {{using: sinks.csv_append, column: ohlcv.mom_20, params: {{path: out.csv}}}}
pipeline:
  - data:
      using: data.binance_futures
      outputs: {{frame: ohlcv}}
      params: {{universe: [{", ".join(SYMBOLS)}], interval: 1m}}
  - features:
      using: features.momentum
      inputs: {{column: ohlcv.close}}
      outputs: {{columns: [mom_20]}}
      params: {{window: 20}}
""".replace(", CAPABILITY", "")

HANGING = '''
import time
from pathlib import Path
from alpha_forge_sdk import Sink


class Hanging(Sink):
    """Never gives a batch back."""

    def emit_batch(self, predictions):
        Path("hanging").touch()
        time.sleep(3600)
'''


def until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, what
        threading.Event().wait(0.01)


class Run:
    """``alpha_forge signal … --sandbox`` as a child, its log read as it comes."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.lines: list[str] = []
        environment = {**os.environ, "PYTHONPATH": str(folder / "site"), "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            (
                sys.executable,
                "-m",
                "alpha_forge",
                "signal",
                "config.yaml",
                "--sandbox",
                "--speed",
                "240",
                *options,
            ),
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)

    @property
    def log(self) -> str:
        return "".join(self.lines)

    def saw(self, text: str) -> bool:
        assert self.process.poll() is None or text in self.log, self.log
        return text in self.log

    def children(self) -> list[int]:
        """Processes that it started."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rsplit(")", 1)[1].split()
            except (OSError, IndexError):
                continue
            if int(fields[1]) == self.process.pid:
                found.append(int(stat.parent.name))
        return found

    def rows(self) -> list[dict[str, str]]:
        path = self.folder / "out.csv"
        if not path.exists():
            return []
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def end(self) -> int:
        code = self.process.wait(DEADLINE)
        self._reader.join(DEADLINE)
        assert "Traceback" not in self.log
        return code


@contextmanager
def running(folder: Path, *options: str, config: str = CONFIG) -> Iterator[Run]:
    (folder / "config.yaml").write_text(config, encoding="utf-8")
    run = Run(folder, *options)
    children: list[int] = []
    try:
        until(lambda: bool(run.children()), "the exchange never started")
        children = run.children()
        yield run
    finally:
        if run.process.poll() is None:
            run.process.kill()
        run.process.communicate()
        until(lambda: not any(alive(child) for child in children), "a child is left")


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def check_file(path: Path) -> None:
    """Whole lines only, no key twice, of each symbol every close without a gap."""
    text = path.read_bytes()
    assert text.endswith(b"\n")
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    header, *records = rows
    assert all(len(record) == len(header) for record in records)
    keys = [(r[header.index("ts")], r[header.index("symbol")]) for r in records]
    assert len(set(keys)) == len(keys)
    closes = sorted({ts for ts, _ in keys})
    minutes = [int(ts[14:16]) for ts in closes]
    assert all((b - a) % 60 == 1 for a, b in itertools.pairwise(minutes))
    assert {symbol for _, symbol in keys} == set(SYMBOLS)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_signal_ends_the_run_cleanly(tmp_path, number, code):
    with running(tmp_path) as run:
        children = run.children()
        until(lambda: run.saw("Starting real-time signal generation (Ctrl+C to stop)"), "it never streamed")
        until(lambda: len(run.rows()) >= 9, "nothing was delivered")
        run.process.send_signal(number)
        assert run.end() == code
        assert "Signal generation completed" in run.log
        assert "Received event: market.bar_close @ " in run.log
        assert run.process.stdout is not None
        summary = run.process.stdout.read()
        assert f"delivered {len(run.rows())} to sinks.csv_append#1" in summary
        check_file(tmp_path / "out.csv")
        # The exchange was ended by the run itself, not by what waits for it here.
        assert not any(alive(child) for child in children)


def test_a_signal_during_start_up_ends_it_too(tmp_path):
    with running(tmp_path) as run:
        run.process.send_signal(signal.SIGINT)
        assert run.end() == 130


def test_an_interrupt_that_a_callback_swallowed_is_not_forgotten():
    """Raised where Python only prints it: before the loop runs it is looked up again."""

    class Runner:
        async def run(self) -> None:
            raise AssertionError("the run began all the same")

    before = signal.getsignal(signal.SIGINT)
    with Interrupts() as interrupts:
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            EventLoopManager(Runner(), interrupts).run()  # type: ignore[arg-type]
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_at_once(tmp_path, number):
    """A sink that hangs would hold the first end up for an hour."""
    package = tmp_path / "site" / "hanging_pack"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        "from alpha_forge_sdk import hookimpl\n\n@hookimpl\ndef alpha_forge_sinks():\n"
        '    return {"hanging": "hanging_pack.sink:Hanging"}\n',
        encoding="utf-8",
    )
    (package / "sink.py").write_text(HANGING, encoding="utf-8")
    info = tmp_path / "site" / "hanging-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hanging\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[alpha_forge]\nhanging = hanging_pack\n", encoding="utf-8")
    config = CONFIG.replace("middlefreq]", "middlefreq, hanging]").replace(
        "  on_prediction:\n",
        "  delivery: {drain_seconds: 3600}\n  on_prediction:\n    - {using: sinks.hanging, column: ohlcv.mom_20}\n",
    )
    with running(tmp_path, config=config) as run:
        until(lambda: (tmp_path / "hanging").exists() and len(run.rows()) >= 3, "nothing was delivered")
        run.process.send_signal(number)
        # The other sink is drained, closed and its lock let go; the one that hangs is waited for.
        until(lambda: run.saw("Stopping on SIG"), "the first signal was not noticed")
        run.process.send_signal(number)
        assert run.end() == 130
        check_file(tmp_path / "out.csv")
