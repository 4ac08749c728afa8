"""An explanation shows the values that the stream had, node by node, and says why there is no prediction."""

from __future__ import annotations

import json

import numpy as np
import pytest
import talib
from click.testing import CliRunner

from alpha_forge.cli import main
from alpha_forge.contracts.errors import UsageError
from alpha_forge.contracts.interval import Interval
from alpha_forge.runtime.explain import Explainer, as_json, as_text
from alpha_forge.runtime.warmup import History
from tests.pipelines import compiled, config
from tests.replay.test_whole_arrays import FIRST, FRAMES, market

HOUR = Interval.parse("1h")
SYMBOLS = ["S000USDT", "S001USDT", "S002USDT"]


def explained(tmp_path, bars, row: int, symbol: str = SYMBOLS[1], steps: str = FRAMES, frame: str = "both"):
    columns = ["m", "e", "r"] if steps is FRAMES else ["mom"]
    dag = compiled(config(SYMBOLS, tmp_path, columns, steps=steps, frame=frame))[1]
    histories = {"ohlcv": History(FIRST, bars[:, : row + 1])}
    return Explainer(dag, symbol, HOUR.ts(FIRST + row)).explain(histories)


STEPS = "- features: {using: features.momentum, inputs: {column: F.close}, outputs: {columns: [mom]}, params: {window: 5}}\n"


def test_values_are_those_of_talib(tmp_path):
    bars = market(60, 3, 0.0)
    (found,) = explained(tmp_path, bars, 50, steps=STEPS, frame="ohlcv")
    close = bars[3, :51, 1]
    assert found.value == pytest.approx(talib.ROCP(np.ascontiguousarray(close), 5)[-1], rel=1e-12)
    step = found.nodes[-1]
    assert step.using == "features.momentum"
    assert step.inputs[0].values == tuple(close[-6:])
    assert step.inputs[0].ts == tuple(HOUR.ts(FIRST + k) for k in range(45, 51))
    assert step.outputs[0].values == (found.value,)


def test_nodes_come_in_order_across_frames_and_hidden_ones_stay_out(tmp_path):
    found = {e.column: e for e in explained(tmp_path, market(600, 3, 0.0), 559)}
    # The momentum of the joined close needs no RSI of its own; but the join carries it.
    assert [n.using for n in found["m"].nodes][-1] == "features.momentum"
    names = [n.node for n in found["r"].nodes]
    assert names.index("features.rsi[four.rsi4]") < names.index("transforms.align[both]")
    assert "features.sma[four.v4]" not in names
    four = next(n for n in found["r"].nodes if n.node == "features.rsi[four.rsi4]")
    assert (four.outputs[0].ts[0] // HOUR.ns) % 4 == 0
    text = as_text(found["r"])
    assert text.startswith(f"both.r of {SYMBOLS[1]} at ")
    assert json.loads(json.dumps(as_json(found["r"])))["value"] == found["r"].value


def test_what_is_missing_is_said(tmp_path):
    bars = market(60, 3, 0.0)
    bars[:, 50, 1] = np.nan
    (absent,) = explained(tmp_path, bars, 50, steps=STEPS, frame="ohlcv")
    assert absent.value is None
    assert "has no bar in ohlcv" in absent.missing[0]
    (early,) = explained(tmp_path, bars, 3, steps=STEPS, frame="ohlcv")
    assert early.value is None
    assert early.missing == ["ohlcv.mom (features.momentum) is not ready"]
    assert "no value" in as_text(early)
    with pytest.raises(UsageError, match="no frame has the symbol"):
        explained(tmp_path, bars, 50, symbol="S001USD")


def test_the_command_agrees_with_the_replay(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(config(["BTCUSDT", "ETHUSDT"], tmp_path, ["mom"], steps=STEPS))
    shared = [str(path), "--sandbox", "--cache", str(tmp_path / "cache")]
    said = CliRunner().invoke(
        main, ["explain", *shared, "--symbol", "ETHUSDT", "--ts", "2026-01-04T13:00Z", "--format", "json"]
    )
    assert said.exit_code == 0, said.output
    value = json.loads(said.stdout)["explanations"][0]["value"]
    span = [
        "--start",
        "2026-01-04T12:00",
        "--end",
        "2026-01-04T13:00",
        "--out",
        str(tmp_path / "p.csv"),
        "--quiet",
    ]
    assert CliRunner().invoke(main, ["replay", *shared, *span]).exit_code == 0
    row = next(line for line in (tmp_path / "p.csv").read_text().splitlines() if "ETHUSDT" in line)
    assert float(row.split(",")[2]) == value
    none = CliRunner().invoke(main, ["explain", *shared, "--symbol", "ETHUSDT", "--ts", "2026-01-04T13:30Z"])
    assert none.exit_code == 1
    assert "has no bar" in none.output
    future = CliRunner().invoke(main, ["explain", *shared, "--symbol", "ETHUSDT", "--ts", "2030-01-01"])
    assert future.exit_code == 2
