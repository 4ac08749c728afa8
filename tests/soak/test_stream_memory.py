"""One million streamed bars with reconnects: every bar once, and no byte kept of them."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def streamed(symbols: int, bars: int, cut: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.soak.stream_memory", str(symbols), str(bars), str(cut)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def check(told: dict[str, Any], bars: int, reconnects: int) -> None:
    assert told["bars"] == bars
    assert told["wrong"] == told["refused"] == 0
    assert told["reconnected"] >= reconnects


def test_a_stream_that_is_cut_delivers_every_bar_once() -> None:
    check(streamed(50, 100, 20), 5_000, 5)


@pytest.mark.soak
def test_memory_is_flat_over_a_million_bars_with_reconnects() -> None:
    told = streamed(500, 2000, 50)
    check(told, 1_000_000, 39)
    resident = [bytes_ for _, bytes_ in told["samples"]]
    # The ring of the frames and the caches of Python are full after a tenth of the way.
    early, late = statistics.median(resident[10:25]), statistics.median(resident[-15:])
    assert late <= early * 1.02, f"grew from {early / 2**20:.1f} to {late / 2**20:.1f} MiB: {told['samples']}"
