"""`--faults` of the commands that run a graph against the local exchange."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

DEADLINE = 120.0

CONFIG = """\
name: faults
using: {capabilities: [shared, middlefreq]}
signal_generation:
  mode: stream
  warmup: {lookback_days: auto}
  on_prediction:
    - {using: sinks.csv_append, column: ohlcv.mom, params: {path: predictions.csv}}
pipeline:
  - data:
      using: data.binance_futures
      outputs: {frame: ohlcv}
      params: {universe: [BTCUSDT, ETHUSDT], interval: 1m}
  - features:
      using: features.momentum
      inputs: {column: ohlcv.close}
      outputs: {columns: [mom]}
      params: {window: 3}
"""


def run(folder: Path, script: str, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "faults.yaml").write_text(script)
    command = [
        sys.executable,
        "-m",
        "alpha_forge",
        "signal",
        "config.yaml",
        "--faults",
        "faults.yaml",
        "--quiet",
    ]
    return subprocess.run(
        [*command, *options], cwd=folder, capture_output=True, text=True, timeout=DEADLINE, check=False
    )


def test_a_run_survives_the_faults_that_its_script_plays(tmp_path: Path) -> None:
    script = """\
faults:
- {kind: missing_close, rate: 0.5}
- {kind: duplicate_close}
- {kind: outage, after: 2m, until: 3m, symbols: [ETHUSDT]}
"""
    done = run(tmp_path, script, "--sandbox", "--speed", "600", "--bars", "6")
    assert done.returncode == 0, done.stderr
    with (tmp_path / "predictions.csv").open() as file:
        times = [row["ts"] for row in csv.DictReader(file) if row["symbol"] == "ETHUSDT"]
    assert len(times) == len(set(times)) >= 5
    assert "1 absent" in done.stdout, "the hole is one of the exchange's own"


def test_a_bad_script_is_the_callers_mistake(tmp_path: Path) -> None:
    done = run(tmp_path, "faults:\n- kind: stal\n", "--sandbox")
    assert done.returncode == 2
    assert "faults.yaml:2: kind: no kind 'stal'; did you mean 'stall'?" in done.stderr
    assert "error[AF5034]" in done.stderr


def test_faults_without_an_exchange_are_a_mistake_too(tmp_path: Path) -> None:
    done = run(tmp_path, "faults: []\n")
    assert done.returncode == 2
    assert "--faults needs --sandbox" in done.stderr
