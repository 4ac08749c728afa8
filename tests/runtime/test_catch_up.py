"""Bars that closed while no process ran are predicted at the next start, with the bits of a run that never stopped."""

from __future__ import annotations

import asyncio
import logging

import numpy as np
import pytest

from alpha_forge.runtime import catch_up as module
from alpha_forge.runtime.catch_up import CatchUp
from alpha_forge.runtime.delivery.outbox import Outbox
from alpha_forge.runtime.runner import RealTimeRunner
from alpha_forge.runtime.state import StateDirectory
from tests.fake_source import ScriptedSource, VirtualClock
from tests.market_truth import random_market
from tests.pipelines import FEATURES, arrivals_of, compiled, config, read_column
from tests.runtime.test_restart import RESAMPLE, punctured

HOUR = 3600 * 10**9
WARM = 700
COLUMNS = ["rsi_14", "mom_20", "macd_histogram"]


def run(text, market, arrivals, state, *, per_turn=1):
    """A run over `state` whose stream brings exactly `arrivals`; returns its summary."""
    document, dag = compiled(text)
    interval = dag.frames["ohlcv"].interval
    clock = VirtualClock(min(ts for ts, _ in arrivals) - interval.ns // 2)
    source = ScriptedSource(market, arrivals, clock, interval.ns, per_turn=per_turn)
    runner = RealTimeRunner(document, dag, sources={"ohlcv": source}, state_dir=state)
    return asyncio.run(asyncio.wait_for(runner.run(), 120))


def between(market, first, last):
    """Arrivals of the closes number `first` to `last` of the hours after the warm-up."""
    start = int(max(market.values(), key=len).index[0]) + WARM * HOUR
    return [(ts, s) for ts, s in arrivals_of(market, start + first * HOUR - 1) if ts <= start + last * HOUR]


def columns_of(folder, columns):
    return {c: read_column(folder / f"{c}.csv").sort_index() for c in columns}


def assert_same(ours, truth):
    for column, values in truth.items():
        assert list(ours[column].index) == list(values.index), column
        assert (ours[column].to_numpy().view(np.int64) == values.to_numpy().view(np.int64)).all(), column


@pytest.mark.parametrize(
    ("symbols", "stop", "again", "end"), [(1, 20, 34, 50), (5, 20, 34, 50), (500, 3, 8, 10)]
)
def test_a_restart_predicts_what_was_missed_with_the_same_bits(tmp_path, symbols, stop, again, end):
    columns = COLUMNS if symbols < 500 else COLUMNS[:1]
    market = punctured(random_market(symbols, WARM + end + 9, 21), seed=symbols, holes=9)
    (tmp_path / "truth").mkdir()
    (tmp_path / "ours").mkdir()
    whole = between(market, 1, end)
    truth = run(config(list(market), tmp_path / "truth", columns), market, whole, None, per_turn=symbols)
    text = config(list(market), tmp_path / "ours", columns)
    first = run(text, market, between(market, 1, stop), tmp_path / "state", per_turn=symbols)
    second = run(text, market, between(market, again, end), tmp_path / "state", per_turn=symbols)
    assert first.caught_up == 0
    missed = between(market, stop + 1, again - 1)
    assert second.caught_up == len(columns) * len(missed) > 0
    assert first.emitted + second.emitted == truth.emitted
    assert_same(columns_of(tmp_path / "ours", columns), columns_of(tmp_path / "truth", columns))


def test_with_none_what_was_missed_is_left_out_for_good(tmp_path):
    market = random_market(2, WARM + 60, 22)
    text = config(list(market), tmp_path, ["rsi_14"])
    left_out = text.replace("  mode: stream\n", "  mode: stream\n  catch_up: none\n")
    assert left_out != text
    run(left_out, market, between(market, 1, 10), tmp_path / "state")
    assert run(left_out, market, between(market, 15, 20), tmp_path / "state").caught_up == 0
    # A start that would catch up finds them counted as processed.
    assert run(text, market, between(market, 21, 25), tmp_path / "state").caught_up == 0
    hours = (read_column(tmp_path / "rsi_14.csv").index.get_level_values("ts").unique() - 1) // HOUR
    assert len(hours) == 10 + 6 + 5


def test_a_start_that_ended_before_its_first_prediction_was_the_first_all_the_same(tmp_path):
    market = random_market(2, WARM + 30, 23)
    text = config(list(market), tmp_path, ["rsi_14"])
    # Killed once warm: the log has its marks, and nothing else.
    log = Outbox(StateDirectory(tmp_path, "test_pipeline").path("outbox.db"), "test_pipeline")
    warm = between(market, 2, 2)[0][0]
    log.mark("ohlcv", "rsi_14", dict.fromkeys(market, warm))
    log.close()
    assert run(text, market, between(market, 6, 9), tmp_path).caught_up == 2 * 3
    assert len(read_column(tmp_path / "rsi_14.csv")) == 2 * 7
    # And a start leaves such marks: before any sink, and any bar, had its turn.
    _document, dag = compiled(text)
    other = Outbox(tmp_path / "other.outbox.db", dag.name)
    CatchUp(dag, other).mark({"ohlcv": warm})
    assert other.newest("ohlcv", "rsi_14") == dict.fromkeys(market, warm)
    other.close()


def test_what_is_too_much_to_catch_up_is_told_by_count(tmp_path, monkeypatch, caplog):
    market = random_market(2, WARM + 60, 24)
    text = config(list(market), tmp_path, ["rsi_14"])
    run(text, market, between(market, 1, 5), tmp_path / "state")
    monkeypatch.setattr(module, "MOST_CELLS", 14)
    with caplog.at_level(logging.WARNING):
        summary = run(text, market, between(market, 30, 33), tmp_path / "state")
    assert "24 closes were missed" in caplog.text
    assert "the newest 7 of them are predicted, 17 are not (34 for all symbols)" in caplog.text
    assert summary.caught_up >= 2 * 7


def test_resampled_frames_catch_up_too(tmp_path):
    quarter = 900 * 10**9
    market = random_market(2, 4 * 500 + 160, 25, step=quarter)
    first = int(next(iter(market.values())).index[0]) + 4 * 500 * quarter

    def part(start, end):
        return [a for a in arrivals_of(market, first + start * quarter) if a[0] <= first + end * quarter]

    options = {"steps": RESAMPLE + FEATURES, "frame": "longer", "interval": "15m"}
    for name in ("truth", "ours"):
        (tmp_path / name).mkdir()
    run(config(list(market), tmp_path / "truth", COLUMNS, **options), market, part(0, 120), None)
    text = config(list(market), tmp_path / "ours", COLUMNS, **options)
    for start, end in ((0, 42), (69, 80), (80, 81), (93, 120)):
        run(text, market, part(start, end), tmp_path / "state")
    assert_same(columns_of(tmp_path / "ours", COLUMNS), columns_of(tmp_path / "truth", COLUMNS))


def test_a_log_that_is_ahead_of_the_market_is_told(tmp_path, caplog):
    market = random_market(1, WARM + 30, 26)
    text = config(list(market), tmp_path, ["rsi_14"])
    run(text, market, between(market, 10, 12), tmp_path / "state")
    with caplog.at_level(logging.WARNING):
        assert run(text, market, between(market, 1, 3), tmp_path / "state").emitted == 0
    assert "later than the newest bar" in caplog.text


def test_a_symbol_without_bars_for_long_does_not_make_each_start_fetch_more(tmp_path):
    market = random_market(2, WARM + 60, 27)
    names = list(market)
    _document, dag = compiled(config(names, tmp_path, ["rsi_14"]))
    spec = dag.frames["ohlcv"]
    log = Outbox(tmp_path / "x.outbox.db", dag.name)
    newest = spec.interval.ts(10_000)
    log.mark("ohlcv", "rsi_14", {names[0]: newest, names[1]: newest - 9_000 * spec.interval.ns})
    catch_up = CatchUp(dag, log)
    assert catch_up.more_rows("ohlcv", 10_003) == module.MOST_LATE + 3
    log.close()
