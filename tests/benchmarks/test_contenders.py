"""The ways that benchmarks compare are F12, each by itself, against TA-Lib over the whole history."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from benchmarks.feature_peers import CLOSE, HIGH, LOW, truth
from benchmarks.history import _truth
from benchmarks.limit import RESEED, Fused
from benchmarks.market import random_bars
from benchmarks.running import RunningF12

from benchmarks import history_ours, history_peers

ROOT = Path(__file__).resolve().parents[2]
SYMBOLS, ROWS = 3, 2 * RESEED + 300


def worst(got: np.ndarray, want: np.ndarray, axis: int) -> np.ndarray:
    """Largest relative difference of each of the fourteen columns, as the benchmarks judge it."""
    floor = 1e-3 * np.nanstd(want, axis=axis, keepdims=True)
    return np.nanmax(np.abs(got - want) / np.maximum(np.abs(want), floor), axis=(1, 2))


def test_the_fused_loop_is_f12_whatever_the_pieces():
    bars = random_bars(SYMBOLS, ROWS, seed=3)
    columns = [bars.of_symbol(k) for k in (HIGH, LOW, CLOSE)]
    want = truth(bars, range(SYMBOLS))
    whole = Fused(*columns).advance(0, ROWS)
    pieces, cuts = Fused(*columns), [0, 1, 7, 60, 61, 500, RESEED, ROWS]
    joined = np.concatenate([pieces.advance(a, b) for a, b in itertools.pairwise(cuts)], axis=2)
    np.testing.assert_array_equal(joined, whole)
    np.testing.assert_array_equal(np.isnan(whole.transpose(0, 2, 1)), np.isnan(want))
    assert worst(whole.transpose(0, 2, 1), want, 1).max() < 1e-9


def test_plain_running_state_is_f12():
    bars = random_bars(SYMBOLS, 700, seed=4)
    high, low, close = (bars.of_symbol(k) for k in (HIGH, LOW, CLOSE))
    states = [RunningF12() for _ in range(SYMBOLS)]
    got = np.array(
        [
            [state.update(close[s, t], high[s, t], low[s, t]) for s, state in enumerate(states)]
            for t in range(700)
        ]
    )
    want = truth(bars, range(SYMBOLS))
    assert worst(got.transpose(2, 0, 1)[:, 61:], want[:, 61:], 1).max() < 1e-9


@pytest.fixture(scope="module")
def history(tmp_path_factory):
    """A file of bars, and what TA-Lib has at the sampled rows."""
    path = tmp_path_factory.mktemp("history") / "bars.npy"
    bars = random_bars(SYMBOLS, 6000, seed=5)
    np.save(path, bars.values)
    return path, _truth(*(bars.of_symbol(k) for k in (HIGH, LOW, CLOSE)))


@pytest.mark.parametrize("way", [history_ours.by_graph, history_ours.by_replay])
def test_whole_arrays_and_all_of_replay_are_f12(way, history):
    path, want = history
    seconds, peak, found = way(str(path), path.parent)
    assert seconds > 0
    assert peak > 10**7
    off = worst(found, want, 1)
    assert np.delete(off, (2, 3, 4)).max() < 1e-9
    assert off[2:5].max() < 1e-7


@pytest.mark.parametrize("way", [w for w in history_peers.WAYS if w not in history_peers.OUTSIDE])
def test_others_over_the_same_history_are_f12(way, history):
    path, want = history
    found = path.parent / "found.npy"
    command = [sys.executable, "-m", "benchmarks.history_peers", way, str(path), str(found)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHONPATH": ""}
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["seconds"] > 0
    assert told["peak"] > 10**7
    assert worst(np.load(found), want, 1).max() < 1e-6


def test_the_last_row_is_among_the_samples():
    for rows in (50, 3000, 20_000):
        sampled = history_peers.samples(rows)
        assert sampled[-1] == rows - 1
        assert len(np.unique(sampled)) == len(sampled)
