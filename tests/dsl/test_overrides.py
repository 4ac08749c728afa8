"""``--set KEY=VALUE``: where a key leads, what a value is, and where its mistakes are shown."""

from __future__ import annotations

import pytest
from dsl_support import RIGHT, changed, mistakes, parsed

from alpha_forge.contracts.errors import UsageError


def test_a_whole_path_sets_one_value() -> None:
    document = parsed(RIGHT, "pipeline.0.data.params.universe=[ETHUSDT, XRPUSDT]", "name=other")
    assert document.steps[0].params["universe"] == ["ETHUSDT", "XRPUSDT"]
    assert document.name == "other"
    assert parsed(RIGHT, "pipeline[0].data.params.interval=4h").steps[0].params["interval"] == "4h"


def test_the_end_of_a_path_is_enough_where_it_is_clear() -> None:
    document = parsed(
        RIGHT,
        "lookback_days=20",
        "warmup.epsilon=1e-4",
        "data.params.endpoints=http://127.0.0.1:8080",
        "on_prediction.0.params.path=other.csv",
        "windows=[5]",
    )
    assert document.signal.warmup.lookback_days == 20
    assert document.signal.warmup.epsilon == 1e-4
    assert document.steps[0].params["endpoints"] == "http://127.0.0.1:8080"
    assert document.signal.sinks[0].params == {"path": "other.csv"}
    assert [step.params["window"] for step in document.steps if step.kind == "features"] == [5]


def test_a_section_that_is_absent_is_made() -> None:
    document = parsed(RIGHT, "training.epochs=3", "signal_generation.delivery.drain_seconds=1")
    assert document.training.epochs == 3
    assert document.signal.delivery == {"drain_seconds": 1.0}


def test_the_last_of_several_wins_and_may_replace_what_is_above() -> None:
    assert parsed(RIGHT, "lookback_days=20", "lookback_days=21").signal.warmup.lookback_days == 21
    warmup = parsed(RIGHT, "warmup.epsilon=0.5", "signal_generation.warmup={lookback_days: 3}").signal.warmup
    assert (warmup.lookback_days, warmup.epsilon) == (3, 1e-9)


def test_one_use_of_an_anchor_can_be_changed_alone() -> None:
    text = changed("inputs: {column: ohlcv.close}", "inputs: &in {column: ohlcv.close}")
    text = text.replace("inputs: {frame: ohlcv, model_ref: my_model.unified}", "inputs: *in")
    document = parsed(text, "model.inputs.column=ohlcv.open")
    assert document.steps[1].inputs == {"column": "ohlcv.close"}
    assert document.steps[-1].inputs == {"column": "ohlcv.open"}


@pytest.mark.parametrize(
    ("option", "code", "help"),
    [
        ("lookback_days", "AF1011", "for example"),
        ("=5", "AF1011", "for example"),
        ("lokback_days=5", "AF1012", "did you mean 'lookback_days'?"),
        ("pipeline.9.data.params.interval=1h", "AF1012", "positions go from 0 to 2"),
        ("pipeline.data.params.interval=1h", "AF1012", "positions go from 0 to 2"),
        ("name.first=a", "AF1012", ""),
        ("interval=4h", "AF1013", "signal_generation.scheduling.interval, pipeline.0.data.params.interval"),
        ("params.stride=4", "AF1013", "pipeline.1.features.params"),
    ],
)
def test_a_key_that_leads_nowhere_or_to_several_places(option: str, code: str, help: str) -> None:
    with pytest.raises(UsageError) as caught:
        mistakes(RIGHT, option)
    assert (caught.value.code, caught.value.exit_code) == (code, 2)
    assert help in caught.value.help


@pytest.mark.parametrize(
    ("option", "code", "file", "column"),
    [
        ("lookback_days=-1", "AF2004", "--set lookback_days", 15),
        ("warmup.epsiln=1", "AF2001", "--set warmup.epsiln", 1),
        ("using.capabilities=[shared, 5]", "AF2003", "--set using.capabilities", 29),
        ("signal_generation.warmup={lookback_days: 3, epsiln: 1}", "AF2001", "--set signal_generation.warmup", 45),
        ("signal_generation.warmup={epsilon: 0.1}", "AF2002", "--set signal_generation.warmup", 1),
        ("name={", "AF1003", "--set name", 7),
        ("name=a: b: c", "AF1003", "--set name", 10),
        ("name=", "AF2002", "--set name", 1),
    ],
)  # fmt: skip
def test_mistakes_in_a_value_are_shown_in_the_option(
    option: str, code: str, file: str, column: int | None
) -> None:
    found = mistakes(RIGHT, option).found[0]
    assert (found.code, found.file, found.line) == (code, file, 1)
    assert column in (None, found.column)
    assert found.source_line == option


def test_secrets_in_an_option_are_masked() -> None:
    found = mistakes(RIGHT, "on_prediction.0.params.password=${nope} hunter2").found[0]
    assert found.code == "AF2009"
    rendered = mistakes(RIGHT, "on_prediction.0.params={password: hunter2, x: '${nope}'}").found[0].render()
    assert "hunter2" not in rendered
