"""A run that is what its bars make it holds; each planted difference is found, and its maker named."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from alpha_forge.contracts.errors import UsageError
from alpha_forge.contracts.plugin import Feature, Sink
from alpha_forge.registry import discover
from alpha_forge.runtime.recording.blocks import MAGIC
from alpha_forge.runtime.recording.identity import differences, identity
from alpha_forge.runtime.recording.reader import read
from alpha_forge.runtime.recording.recorder import Recorder, segments
from alpha_forge.runtime.runner import RealTimeRunner
from alpha_forge.runtime.verify.delivered import check_sink
from alpha_forge.runtime.verify.findings import Verdict
from alpha_forge.runtime.verify.recorded import verify_segment
from tests.fake_source import ScriptedSource, VirtualClock
from tests.market_truth import HOUR, random_market
from tests.pipelines import COLUMNS, FEATURES, arrivals_of, compiled, config, delayed, shuffled

LIGHT = """
- features: {using: features.momentum, inputs: {column: F.close}, outputs: {columns: [mom]}, params: {window: 20}}
- features: {using: features.sma, inputs: {column: F.mom}, outputs: {columns: [mean]}, params: {window: 60}}
"""


class Planted(Feature):
    """What the planted features share: parameters and look-back of the mean that they stand for."""

    def lookback(self) -> int:
        return int(self.params.window)


class Peeks(Planted):
    """Reads one bar of the future, where there is one."""

    def compute(self, close: Any) -> Any:
        return np.vstack([close[1:], close[-1:]])


class Drifts(Planted):
    """A sum that goes on from call to call: its last bits know since when."""

    total = 0.0

    def compute(self, close: Any) -> Any:
        self.total = self.total * 0.999 + float(np.nansum(close[-1]))
        out = np.full(close.shape, np.nan)
        if len(close) >= self.lookback():
            out[-1] = self.total
        return out


class Wavers(Planted):
    """Two answers to one question."""

    calls = itertools.count()

    def compute(self, close: Any) -> Any:
        return close + next(self.calls) * 1e-12


class Remembers(Planted):
    """Reads ten bars more than it says."""

    def compute(self, close: Any) -> Any:
        out = np.full(close.shape, np.nan)
        for t in range(len(close)):
            out[t] = np.nansum(close[max(0, t - self.lookback() - 9) : t + 1], axis=0)
        return out


class Rounds(Sink):
    """Keeps six digits."""

    idempotent_by = ("ts", "symbol")
    held: ClassVar[dict[Any, Any]] = {}

    def emit_batch(self, predictions: Any) -> None:
        for p in predictions:
            self.held[(p.symbol, p.ts)] = dataclasses.replace(p, value=round(p.value, 6))


def run(
    dag, document, path: Path, *, symbols: int = 3, bars: int = 260, how: str = "shuffled", **limits: int
):
    market = random_market(symbols, bars, seed=6)
    closes = [int(t) for t in next(iter(market.values())).index]
    arrivals = arrivals_of(market, closes[-40 if symbols < 100 else -6])
    gone = [(closes[-20], list(market)[1])] if symbols < 100 else []
    arrivals = [a for a in arrivals if a not in gone]
    if how == "shuffled":
        arrivals = shuffled(arrivals, seed=2, block=symbols * 4)
    else:
        arrivals = delayed(arrivals, next(iter(market)), symbols * 5)
    clock = VirtualClock(min(ts for ts, _ in arrivals) - HOUR // 2)
    source = ScriptedSource(market, arrivals, clock, HOUR)
    recorder = Recorder(path, dag, {"name": dag.name}, **limits)
    runner = RealTimeRunner(document, dag, sources={"ohlcv": source}, journal=recorder)
    asyncio.run(asyncio.wait_for(runner.run(), 120))
    recorder.close()
    return list(read(path))


def planted(
    tmp_path: Path, plugin: type | None = None, columns=("mean",), steps: str = LIGHT, symbols: int = 3
):
    """(document, graph) with `plugin` in the place of the mean."""
    names = [f"S{k:03d}USDT" for k in range(symbols)]
    document, dag = compiled(config(names, tmp_path / "out", list(columns), steps=steps))
    if plugin is not None:
        plugin.Params = next(n for n in dag.nodes.values() if n.using == "features.sma").plugin.Params
        nodes = {
            key: dataclasses.replace(node, plugin=plugin) if node.using == "features.sma" else node
            for key, node in dag.nodes.items()
        }
        dag = dataclasses.replace(dag, nodes=nodes)
    return document, dag


@pytest.mark.parametrize("how", ["shuffled", "one late"])
def test_a_true_run_holds(how, tmp_path):
    document, dag = planted(tmp_path, columns=COLUMNS, steps=FEATURES)
    (segment,) = run(dag, document, tmp_path / "run", bars=600, how=how)
    verdict = verify_segment(dag, segment)
    assert verdict.findings == []
    assert verdict.predictions >= 110 * len(COLUMNS)
    assert len(verdict.checks) >= 3


def test_five_hundred_symbols_hold(tmp_path):
    document, dag = planted(tmp_path, symbols=500)
    (segment,) = run(dag, document, tmp_path / "run", symbols=500, bars=120)
    verdict = verify_segment(dag, segment)
    assert verdict.findings == []
    assert verdict.predictions == 500 * 5


@pytest.mark.parametrize(
    ("plugin", "check"),
    [(Peeks, "computed in order"), (Drifts, "computed"), (Wavers, "computed again"), (Remembers, "computed")],
)
def test_a_planted_difference_is_found_and_named(plugin, check, tmp_path):
    document, dag = planted(tmp_path, plugin)
    (segment,) = run(dag, document, tmp_path / "run")
    verdict = verify_segment(dag, segment)
    assert not verdict.holds
    (finding,) = verdict.findings
    assert finding.check.startswith(check)
    node = next(n for n in dag.nodes.values() if n.plugin is plugin)
    assert finding.node == node.id
    assert (finding.difference.frame, finding.difference.column) == ("ohlcv", "mean")
    assert finding.symbol in dag.frames["ohlcv"].symbols
    assert finding.difference.expected != finding.difference.got
    if plugin is Wavers:
        assert "not deterministic" in finding.said


def test_a_sink_that_rounds_is_found(tmp_path):
    document, dag = planted(tmp_path)
    Rounds.Params = dag.sinks[0].plugin.Params
    Rounds.held = {}
    dag = dataclasses.replace(dag, sinks=(dataclasses.replace(dag.sinks[0], plugin=Rounds),))
    (segment,) = run(dag, document, tmp_path / "run")
    verdict = Verdict()
    check_sink(dag, dag.sinks[0], segment.predicted(), lambda params: list(Rounds.held.values()), verdict)
    (finding,) = verdict.findings
    assert finding.node == "sink mean (sinks.csv_append)"
    assert round(finding.difference.expected, 6) == finding.difference.got


def test_what_a_sink_lacks_or_invents_is_found(tmp_path):
    document, dag = planted(tmp_path)
    (segment,) = run(dag, document, tmp_path / "run")
    spec, rows = dag.sinks[0], segment.predicted()
    case = discover().conformance["sinks.csv_append"]
    assert case
    from alpha_forge.runtime.verify.delivered import reader_of

    reader = reader_of(spec, discover())
    whole = Verdict()
    check_sink(dag, spec, rows, reader, whole)
    assert whole.holds
    assert whole.checks == ["delivered to mean"]
    path = tmp_path / "out" / "mean.csv"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:40] + lines[41:]))
    lost = Verdict()
    check_sink(dag, spec, rows, reader, lost)
    assert lost.findings[0].difference.got is None
    path.write_text("".join([*lines[:41], lines[40], *lines[41:]]))
    doubled = Verdict()
    check_sink(dag, spec, rows, reader, doubled)
    assert not doubled.holds


def test_segments_turn_and_each_holds(tmp_path):
    document, dag = planted(tmp_path)
    parts = run(dag, document, tmp_path / "run", segment=3_000)
    assert len(parts) >= 3
    assert all(part.ended for part in parts)
    for part in parts:
        assert verify_segment(dag, part).findings == []
    predicted = [(row.ts, int(s)) for part in parts for row in part.predicted() for s in row.symbols]
    assert len(predicted) == len(set(predicted)) == 3 * 39
    # A limit drops the oldest.
    few = run(dag, document, tmp_path / "few", segment=3_000, limit=1)
    assert len(few) == 1 < len(parts)
    assert all(verify_segment(dag, part).holds for part in few)


def test_a_recording_that_was_cut_off_is_verified_as_far_as_it_goes(tmp_path):
    document, dag = planted(tmp_path)
    path = tmp_path / "run"
    (whole,) = run(dag, document, path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) - 100])
    (part,) = read(path)
    verdict = verify_segment(dag, part)
    assert verdict.holds
    assert not part.ended
    assert any("cut off" in note for note in verdict.notes)
    assert 0 < verdict.predictions <= verify_segment(dag, whole).predictions


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda data: b"name,value\n" + data, "AF8110"),
        (lambda data: data.replace(MAGIC, b"alpha_forge recording 9\n"), "AF8111"),
        (lambda data: data[:3000] + bytes([data[3000] ^ 1]) + data[3001:], "AF8112"),
        (lambda data: data[: len(MAGIC) + 4], "AF8113"),
    ],
)
def test_what_is_no_recording_is_told(change, code, tmp_path):
    document, dag = planted(tmp_path)
    path = tmp_path / "run"
    run(dag, document, path)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(UsageError) as caught:
        list(read(path))
    assert caught.value.code == code


def test_a_full_disk_ends_the_recording_and_not_the_run(tmp_path, monkeypatch, caplog):
    document, dag = planted(tmp_path)
    written = itertools.count()

    def full(self: Recorder, data: bytes) -> None:
        if next(written) > 3:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(Recorder, "_put", full)
    run_ended = []
    with pytest.raises(UsageError):  # nothing was written: the reader says so
        run(dag, document, tmp_path / "run")
    run_ended.append((tmp_path / "out" / "mean.csv").read_text().count("\n"))
    assert run_ended == [3 * 39 + 1]
    assert "the run goes on" in caplog.text


def test_other_versions_are_named(tmp_path):
    _, dag = planted(tmp_path)
    head = identity(dag, discover(), tmp_path / "c.yaml", ("training.seed=1",))
    assert head["overrides"] == ["training.seed"]
    assert differences(head, identity(dag, discover(), tmp_path / "d.yaml", ())) == []
    older = {**head, "plugins": {**head["plugins"]}, "libraries": {**head["libraries"], "numpy": "1.0"}}
    older["plugins"]["features.sma"] = {**head["plugins"]["features.sma"], "version": "0.0.1"}
    said = differences(older, head)
    assert len(said) == 2
    assert "features.sma: recorded with alpha-forge 0.0.1" in said[0]
    assert "numpy: recorded with 1.0" in said[1]
    other = compiled(config(["S000USDT"], tmp_path, ["mean"], steps=LIGHT))[1]
    assert "the plan" in differences(head, identity(other, discover(), tmp_path / "c.yaml", ()))[0]


def test_segments_are_found_by_their_number(tmp_path):
    for name in ("run", "run.000001", "run.000002", "run.txt", "other.000001"):
        (tmp_path / name).write_bytes(b"")
    assert [p.name for p in segments(tmp_path / "run")] == ["run.000001", "run.000002", "run"]
