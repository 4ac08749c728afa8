"""The compiled graph: look-backs along paths, order, flows, events; numbers worked out by hand."""

from __future__ import annotations

import json
import math

import pytest

from alpha_forge.dsl import parse
from alpha_forge.dsl.diagnostics import ConfigError
from alpha_forge.plan.compiler import compile_document
from alpha_forge.plan.render import as_json, as_text
from alpha_forge.registry import discover

HEAD = """
name: planned
using: {{capabilities: [shared, middlefreq]}}
signal_generation:
  mode: stream
  warmup: {{lookback_days: {days}, epsilon: {epsilon}}}
  on_prediction: [{{using: sinks.csv_append, column: {column}, params: {{path: out.csv}}}}]
pipeline:
- data: {{using: data.binance_futures, outputs: {{frame: base}}, params: {{universe: [BTCUSDT, ETHUSDT], interval: {interval}}}}}
"""


def plan(steps: str, *, column: str, days: object = "auto", epsilon: float = 1e-9, interval: str = "1h"):
    text = HEAD.format(days=days, epsilon=epsilon, column=column, interval=interval) + steps
    document, diagnostics = parse(text, "planned.yaml")
    diagnostics.raise_if_any()
    dag = compile_document(document, discover(capabilities=document.capabilities), diagnostics)
    diagnostics.raise_if_any()
    return dag


def feature(using: str, source: str, column: str, **params: object) -> str:
    given = ", ".join(f"{k}: {v}" for k, v in params.items())
    inputs = source if source.startswith("{") else f"{{column: {source}}}"
    return f"- features: {{using: features.{using}, inputs: {inputs}, outputs: {{columns: [{column}]}}, params: {{{given}}}}}\n"


RSI = feature("rsi", "base.close", "rsi_14", window=14)


@pytest.mark.parametrize("epsilon", [1e-3, 1e-6, 1e-9])
def test_a_recursive_step_needs_five_quarters_of_its_settling(epsilon):
    settle = math.ceil(math.log(epsilon) / math.log(13 / 14))
    dag = plan(RSI, column="rsi_14", epsilon=epsilon)
    assert dag.warmup["base"].need == settle + math.ceil(settle / 4)
    assert epsilon != 1e-9 or dag.warmup["base"].need == 350


def test_look_backs_add_up_along_a_path_minus_one_each():
    steps = (
        RSI
        + feature("sma", "base.rsi_14", "smooth", window=10)
        + feature("momentum", "base.smooth", "slope", window=5)
    )
    assert plan(steps, column="slope").warmup["base"].need == 350 + 10 - 1 + 6 - 1


def test_the_longest_path_decides_and_is_told_first():
    dag = plan(RSI + feature("sma", "base.close", "long", window=400), column="long")
    needs = dag.warmup["base"].needs
    assert [n.bars for n in needs] == [400, 350]
    assert "features.sma[base.long]" in needs[0].chain[0]


def test_a_resampled_frame_costs_its_ratio():
    steps = (
        "- transform: {using: transforms.resample, inputs: {frame: base}, outputs: {frame: slow}, params: {interval: 2h}}\n"
        + feature("sma", "slow.close", "mean", window=20)
    )
    dag = plan(steps, column="mean", interval="15m")
    assert dag.warmup["base"].need == 20 * 8
    assert dag.frames["slow"].warmup_bars == 20
    # One bucket more is always fetched: history seldom begins where one does.
    assert dag.warmup["base"].fetch >= 160 + 8


def test_transforms_chain():
    steps = (
        "- transform: {using: transforms.resample, inputs: {frame: hours}, outputs: {frame: days}, params: {interval: 1d}}\n"
        "- transform: {using: transforms.resample, inputs: {frame: base}, outputs: {frame: hours}, params: {interval: 1h}}\n"
        + feature("momentum", "days.close", "mom", window=3)
    )
    dag = plan(steps, column="mom", interval="15m")
    assert list(dag.frames) == ["base", "hours", "days"]
    assert dag.warmup["base"].need == 4 * 24 * 4


def test_a_join_needs_what_either_side_needs():
    steps = (
        "- transform: {using: transforms.resample, inputs: {frame: base}, outputs: {frame: slow}, params: {interval: 4h}}\n"
        + feature("sma", "slow.close", "mean", window=30)
        + "- transform: {using: transforms.align, inputs: {left: base, right: slow}, outputs: {frame: both}, params: {columns: [mean]}}\n"
        + feature("momentum", "both.mean", "slope", window=7)
    )
    need = plan(steps, column="slope").warmup["base"].need
    # Eight rows of 1h reach over two or three rows of 4h, each a mean of 30.
    assert 4 * (30 + 1) <= need <= 4 * (30 + 4)


def test_a_look_back_too_short_is_refused_with_the_number():
    with pytest.raises(ConfigError) as caught:
        plan(RSI, column="rsi_14", days=14)
    (found,) = caught.value.diagnostics
    assert found.code == "AF4008"
    assert "336 bars" in found.message
    assert "350" in found.message
    assert found.help == "set lookback_days to 15 or more, or to auto"
    assert plan(RSI, column="rsi_14", days=15).warmup["base"].fetch == 360


def test_steps_run_after_what_they_read_whatever_their_order_in_the_file():
    steps = feature("sma", "base.rsi_14", "smooth", window=3) + RSI
    (flow,) = plan(steps, column="smooth").flows
    assert flow.nodes == ("features.rsi[base.rsi_14]", "features.sma[base.smooth]")
    assert (flow.name, flow.event, flow.panel) == ("flow_bar_1h_base", "data.binance_1h", False)


def test_a_flow_with_a_panel_step_waits_for_the_row():
    (flow,) = plan(RSI + feature("cross_rank", "base.rsi_14", "rank"), column="rank").flows
    assert flow.panel


def test_text_and_json_tell_the_same():
    dag = plan(RSI, column="rsi_14")
    histories = {"base": ("REST: 350 bars in one request", "because it is quicker")}
    told = json.loads(json.dumps(as_json(dag, histories)))
    assert told["warmup"][0]["history"] == list(histories["base"])
    assert json.loads(json.dumps(as_json(dag)))["warmup"][0]["history"] == []
    assert told["warmup"][0]["need"] == 350
    assert told["warmup"][0]["paths"][0]["chain"][-1] == "350 bars of base"
    assert "fetched now" not in as_text(dag)
    text = as_text(dag, histories)
    for part in (
        "fetched now:\n      REST: 350 bars in one request\n      because it is quicker\n",
        "flow_bar_1h_base",
        "350 bars of 1h needed",
        "sinks.csv_append#1",
        "features.rsi(close) → rsi_14",
    ):
        assert part in text


LATE = """
- transform: {using: transforms.resample, inputs: {frame: base}, outputs: {frame: four}, params: {interval: 4h}}
- features: {using: features.sma, inputs: {column: base.close}, outputs: {columns: [mean]}, params: {window: 3}, on: [ON], emits: [made]}
- features: {using: features.sma, inputs: {column: base.mean}, outputs: {columns: [mean_of]}, params: {window: 3}, on: [made]}
- transform: {using: transforms.align, inputs: {left: four, right: base}, outputs: {frame: both}, params: {columns: [COLUMN], suffix: _1h}}
- features: {using: features.sma, inputs: {column: both.close}, outputs: {columns: [last]}, params: {window: 2}}
"""


@pytest.mark.parametrize("column", ["mean", "mean_of"])
def test_a_transform_reads_no_column_that_comes_after_its_rows_bars(column):
    steps = LATE.replace("COLUMN", column)
    with pytest.raises(ConfigError) as caught:
        plan(steps.replace("ON", "frame.four"), column="both.last")
    assert [found.code for found in caught.value.diagnostics] == ["AF4022"]
    assert f"reads base.{column}, which comes to its row by frame.four" in str(caught.value)
    # The same columns made by the frame's own bars are there in time.
    assert plan(steps.replace("ON", "data.binance_1h"), column="both.last").frames["both"]
