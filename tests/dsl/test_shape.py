"""The shape of the DSL: what is read from a right configuration, and each mistake with its code and place."""

from __future__ import annotations

from pathlib import Path

import pytest
from dsl_support import RIGHT, brief, changed, mistakes, parsed

from alpha_forge.dsl import ConfigError, EnvRef, parse, parse_file
from alpha_forge.dsl.document import Scheduling, SinkConfig, Training, Warmup


def test_a_right_configuration_is_read_whole() -> None:
    document = parsed(RIGHT)
    assert (document.name, document.capabilities) == ("minimal", ("shared", "middlefreq"))
    signal = document.signal
    assert signal.mode == "stream"
    assert signal.warmup == Warmup(30.0)
    assert signal.scheduling == Scheduling("1h", 2.0)
    assert (signal.catch_up, signal.delivery) == ("all", {})
    path = ("signal_generation", "on_prediction", 0)
    assert signal.sinks == (
        SinkConfig("sinks.csv_append#1", "sinks.csv_append", {"path": "out.csv"}, None, {}, path),
    )
    assert document.training == Training()
    assert [step.kind for step in document.steps] == ["data", "features", "features", "model"]
    assert document.steps[0].outputs == {"frame": "ohlcv"}
    assert document.steps[-1].inputs == {"frame": "ohlcv", "model_ref": "my_model.unified"}
    assert document.steps[-1].path == ("pipeline", 2, "model")
    assert not document.partial


def test_every_option_is_read() -> None:
    text = RIGHT.replace(
        "{lookback_days: 30}", "{lookback_days: auto, epsilon: 1e-4, first_event_seconds: 5}"
    )
    text = text.replace(
        "  mode: stream\n",
        "  mode: stream\n  catch_up: none\n  delivery: {durability: memory, max_backlog: 5, on_backlog: drop_oldest, drain_seconds: 0}\n",
    )
    text = text.replace(
        "params: {path: out.csv}",
        "params: {path: out.csv}\n      name: main\n      column: ohlcv.rsi6\n"
        "      delivery: {timeout: 5, max_batch: 10, retries: 0}",
    )
    text = text.replace(
        "{column: ohlcv.close}", "{column: ohlcv.close}\n      on: [data.binance_1h]\n      emits: [x.y]"
    )
    text += (
        "training: {target: forward_return, horizon: 3, history_days: 60, validation_fraction: 0.25, epochs: 2,\n"
        "  patience: 1, seed: 7, options: {hidden: 8}}\nx-note: free\n"
    )
    document = parsed(text)
    signal = document.signal
    assert signal.warmup == Warmup(None, 1e-4, 5.0)
    assert signal.catch_up == "none"
    assert signal.delivery == {
        "durability": "memory", "max_backlog": 5, "on_backlog": "drop_oldest", "drain_seconds": 0.0,
    }  # fmt: skip
    sink = signal.sinks[0]
    assert (sink.name, sink.column) == ("main", "ohlcv.rsi6")
    assert sink.delivery == {"timeout": 5.0, "max_batch": 10, "retries": 0}
    assert (document.steps[1].on, document.steps[1].emits) == (("data.binance_1h",), ("x.y",))
    assert document.training == Training("forward_return", 3, 60.0, 0.25, 2, 1, 7, {"hidden": 8})


def test_sinks_are_numbered_by_use() -> None:
    sinks = "    - using: sinks.csv_append\n      params: {path: b.csv}\n    - using: sinks.jsonl\n"
    document = parsed(
        changed("pipeline:\n", "").replace(
            "params: {path: out.csv}\n", f"params: {{path: out.csv}}\n{sinks}pipeline:\n"
        )
    )
    names = [sink.name for sink in document.signal.sinks]
    assert names == ["sinks.csv_append#1", "sinks.csv_append#2", "sinks.jsonl#1"]


@pytest.mark.parametrize(
    ("old", "new", "code", "line", "column", "text", "help"),
    [
        ("name: minimal\n", "", "AF2002", 1, 1, "'name' is missing", "add name"),
        ("name: minimal", "name:", "AF2002", 1, 1, "'name' is missing", "add name"),
        ("name: minimal", "name: true", "AF2003", 1, 7, "'name' must be a text, not true", 'quote it: "True"'),
        ("name: minimal", "nam: minimal", "AF2001", 1, 1, "unknown key 'nam'", "did you mean 'name'?"),
        ("name: minimal", "name: ${env:X}", "AF2009", 1, 7, "params only", ""),
        ("  capabilities: [shared, middlefreq]", "  capabilities: shared", "AF2003", 3, 17, "must be a list", "[shared"),
        ("[shared, middlefreq]", "[]", "AF2007", 3, 17, "'capabilities' is empty", ""),
        ("[shared, middlefreq]", "[shared, shared]", "AF2004", 3, 26, "stands twice", ""),
        ("[shared, middlefreq]", "[shared, 5]", "AF2003", 3, 26, "must be a text, not the number 5", '"5"'),
        ("  capabilities:", "  capability:", "AF2001", 3, 3, "unknown key 'capability' in 'using'", "did you mean"),
        ("mode: stream", "mode: batch", "AF2004", 8, 9, "'mode' must be stream, not the text 'batch'", "stream"),
        ("  mode: stream\n", "", "AF2002", 7, 1, "'mode' is missing in 'signal_generation'", "add mode: stream"),
        ("  warmup: {lookback_days: 30}\n", "", "AF2002", 7, 1, "'warmup' is missing", "lookback_days: auto"),
        ("{lookback_days: 30}", "{}", "AF2002", 9, 3, "'lookback_days' is missing in 'warmup'", "auto"),
        ("{lookback_days: 30}", "{lookback_days: 0}", "AF2004", 9, 27, "greater than 0, not the number 0", ""),
        ("{lookback_days: 30}", "{lookback_days: .inf}", "AF2004", 9, 27, "greater than 0", ""),
        ("{lookback_days: 30}", "{lookback_days: .nan}", "AF2004", 9, 27, "greater than 0", ""),
        ("{lookback_days: 30}", "{lookback_days: Auto}", "AF2003", 9, 27, "a number of days or auto", "did you mean 'auto'"),
        ("{lookback_days: 30}", "{lookback_days: [1]}", "AF2003", 9, 27, "a number, not a list", ""),
        ("lookback_days: 30", "lookback_days: 30, epsilon: 1", "AF2004", 9, 40, "greater than 0 and less than 1", ""),
        ("lookback_days: 30", "lookbak_days: 30", "AF2001", 9, 12, "unknown key 'lookbak_days'", "lookback_days"),
        ("interval: 1h,", "interval: 1y,", "AF2004", 10, 26, "'1y' is not an interval", ""),
        ("interval: 1h,", "interval: 60,", "AF2003", 10, 26, "must be a text, not the number 60", ""),
        ("buffer_minutes: 2", "buffer_minutes: '2'", "AF2003", 10, 46, "must be a number", "without quotes"),
        ("buffer_minutes: 2", "buffer_minutes: -1", "AF2004", 10, 46, "at least 0", ""),
        ("{interval: 1h, buffer_minutes: 2}", "1h", "AF2003", 10, 15, "'scheduling' must be a mapping", ""),
        ("    - using: sinks.csv_append\n      params: {path: out.csv}\n", "    []\n", "AF2007", 12, 5, "is empty", "using"),
        ("using: sinks.csv_append", "using: csv_append", "AF2006", 12, 14, "'csv_append' is no plugin's name", "write sinks.csv_append"),
        ("using: sinks.csv_append", "using: features.rsi", "AF2006", 12, 14, "'on_prediction' takes sinks.*", "features:"),
        ("- using: sinks.csv_append", "- sinks.csv_append\n    - using: sinks.csv_append", "AF2003", 12, 7, "must be a mapping", "- using"),
        ("{path: out.csv}", "{path: '${expand.windows}'}", "AF2009", 13, 22, "params of pipeline steps only", ""),
        ("  - data:\n", "  - datas:\n", "AF2005", 15, 5, "'datas' is no kind of step", "did you mean 'data'?"),
        ("  - data:\n", "  - data:\n    params: {}\n  - data:\n", "AF2005", 15, 5, "this has data, params", "indent"),
        ("using: data.binance_futures", "using: sinks.csv_append", "AF2006", 16, 14, "'data' takes data.*", "on_prediction"),
        ("using: data.binance_futures", "using: 5", "AF2003", 16, 14, "must be a text", ""),
        ("      using: data.binance_futures\n", "", "AF2002", 15, 5, "'using' is missing in 'data'", "using: data.…"),
        ("outputs: {frame: ohlcv}", "outputs: {frame: oh.lcv}", "AF2004", 17, 24, "no name for a frame", "the dot divides"),
        ("outputs: {frame: ohlcv}", "outputs: {columns: [a]}", "AF2001", 17, 17, "unknown key 'columns' in 'outputs'", "frame"),
        ("outputs: {frame: ohlcv}", "inputs: {frame: x}\n      outputs: {frame: ohlcv}", "AF2001", 17, 7, "unknown key 'inputs' in 'data'", ""),
        ("      inputs: {column: ohlcv.close}\n", "", "AF2002", 19, 5, "'inputs' is missing in 'features'", "column"),
        ("{column: ohlcv.close}", "{column: 5}", "AF2003", 21, 24, "'inputs.column' must be the name", ""),
        ('["rsi{window}"]', "[{window}]", "AF2003", 22, 27, "must be a text, not a mapping", 'quote it: "{window}"'),
        ('["rsi{window}"]', "rsi", "AF2003", 22, 26, "'columns' must be a list", "columns: [NAME]"),
        ('["rsi{window}"]', "['${expand.windows}']", "AF2009", 22, 27, "params only", "write {param}"),
        ("{column: ohlcv.close}", "{column: ohlcv.close}\n      on: bar", "AF2003", 22, 11, "'on' must be a list", "on: [EVENT]"),
        ("${expand.windows}", "${expand.window}", "AF2008", 24, 17, "no list 'window' under 'expand'", "did you mean 'windows'?"),
        ("${expand.windows}", "${windows}", "AF2009", 24, 17, "'${windows}' is no reference", "did you mean '${expand.windows}'?"),
        ("${expand.windows}", "${env.HOME}", "AF2009", 24, 17, "'${env.HOME}' is no reference", "${env:NAME}"),
        ("${expand.windows}", "${expand.windows", "AF2009", 24, 17, "'${' is no reference", "close it"),
        ("        window: ${expand.windows}", "        ${x}: 5", "AF2009", 24, 9, "can't stand in a key", ""),
        ("windows: [6, 12]", "windows: [6, [1]]", "AF2003", 5, 16, "a single value", ""),
        ("windows: [6, 12]", "windows: []", "AF2007", 5, 12, "'windows' is empty", ""),
        ("windows: [6, 12]", "windows: 6", "AF2003", 5, 12, "must be a list", ""),
        ("modes: [fast, slow]", "modes: ['${env:A}', slow]", "AF2009", 6, 11, "params only", ""),
    ],
)  # fmt: skip
def test_each_mistake_has_its_code_and_place(
    old: str, new: str, code: str, line: int, column: int, text: str, help: str
) -> None:
    found = mistakes(changed(old, new)).found
    assert [(d.code, d.line, d.column) for d in found][:1] == [(code, line, column)], [
        d.render() for d in found
    ]
    assert text in found[0].message
    assert help in found[0].help
    assert found[0].source_line == changed(old, new).splitlines()[line - 1]


def test_all_mistakes_come_at_once() -> None:
    text = RIGHT.replace("mode: stream", "mode: batch").replace("- data:", "- dta:")
    text = text.replace("{path: out.csv}", "{path: '${nope}'}").replace("[shared, middlefreq]", "[]")
    assert brief(mistakes(text)) == [
        ("AF2004", 8, 9), ("AF2005", 15, 5), ("AF2007", 3, 17), ("AF2009", 13, 22),
    ]  # fmt: skip


def test_what_is_right_is_kept_beside_what_is_not() -> None:
    document, diagnostics = parse(changed("- data:", "- dta:"), "f.yaml")
    assert document is not None
    assert document.partial
    assert diagnostics
    assert [step.kind for step in document.steps] == ["features", "features", "model"]


def test_two_sinks_of_one_name() -> None:
    two = "name: a\n    - using: sinks.jsonl\n      name: a\n"
    found = mistakes(changed("params: {path: out.csv}\n", two)).found
    assert [(d.code, d.line, d.column) for d in found] == [("AF2011", 15, 13)]


@pytest.mark.parametrize(
    ("text", "message"), [("", "empty"), ("- a\n", "not a list"), ("5\n", "not the number 5")]
)
def test_a_configuration_is_a_mapping(text: str, message: str) -> None:
    document, diagnostics = parse(text, "f.yaml")
    assert document is None
    assert [(d.code, d.line, d.column) for d in diagnostics] == [("AF2003", 1, 1)]
    assert message in diagnostics.found[0].message


def test_a_file_that_can_not_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.yaml", tmp_path, "nul\0l.yaml"):
        document, diagnostics = parse_file(path)
        assert document is None
        assert [d.code for d in diagnostics] == ["AF1001"]
        assert diagnostics.found[0].file == str(path)
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("name: a\nx: \xe4\n".encode("latin-1"))
    _, diagnostics = parse_file(latin)
    assert brief(diagnostics) == [("AF1002", 2, 4)]


def test_a_file_may_begin_with_a_byte_order_mark_and_end_lines_as_windows_does(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + RIGHT.replace("\n", "\r\n").encode())
    document, diagnostics = parse_file(file)
    assert not diagnostics
    assert document is not None
    assert document.name == "minimal"


def test_mistakes_become_an_error_with_their_json_form() -> None:
    with pytest.raises(ConfigError) as caught:
        mistakes(changed("mode: stream", "mode: batch")).raise_if_any()
    assert caught.value.exit_code == 2
    assert caught.value.diagnostics[0].as_json() == {
        "code": "AF2004",
        "message": "'mode' must be stream, not the text 'batch'",
        "path": "signal_generation.mode",
        "file": "f.yaml",
        "line": 8,
        "column": 9,
        "help": "stream",
    }


def test_a_path_of_what_is_missing_names_it() -> None:
    found = mistakes(changed("{lookback_days: 30}", "{}")).found
    assert found[0].as_json()["path"] == "signal_generation.warmup.lookback_days"


def test_secrets_stay_references() -> None:
    document = parsed(changed("{path: out.csv}", "{path: '${env:ROOT}/x', key: '$${env:A}'}"))
    params = document.signal.sinks[0].params
    assert params == {"path": EnvRef("ROOT", "", "/x"), "key": "${env:A}"}
