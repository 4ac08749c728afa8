"""``plugins list`` and ``plugins show``: the keys outsiders rely on, and what must not be imported for a list."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from alpha_forge.cli import main
from alpha_forge.dsl import parse

BUILT_IN = {
    "data.binance_futures",
    "data.binance_spot",
    "data.files",
    "data.timer",
    "data.clickhouse_poll",
    *(
        f"features.{name}"
        for name in [
            "momentum",
            "rsi",
            "ema",
            "sma",
            "ma_rocp",
            "macd",
            "atr",
            "bollinger",
            "volatility",
            "zscore",
            "volume_ratio",
            "support_resistance",
            "cross_rank",
        ]
    ),
    "models.pytorch_bilstm_predictor",
    "sinks.csv_append",
    "sinks.webhook",
    "sinks.sqlite",
    "sinks.parquet",
    "sinks.jsonl",
    "sinks.dynamodb",
    "sinks.clickhouse",
    "transforms.align",
    "transforms.resample",
}
HEAVY = ("torch", "pandas", "numba", "boto3", "numpy", "pydantic", "pyarrow", "rich", "yaml", "jsonschema")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ("plugins", *arguments))


def shown(name: str) -> dict[str, Any]:
    result = run("show", name, "--format", "json")
    assert result.exit_code == 0, result.stderr
    described: dict[str, Any] = json.loads(result.stdout)
    return described


def test_the_list_names_every_built_in_and_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom alpha_forge.cli import main\n"
        "try:\n    main(['plugins', 'list', '--format', 'json'])\nexcept SystemExit as end:\n"
        "    assert end.code == 0\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    listed = json.loads(result.stdout)
    assert result.stderr.strip() == "[]", "heavy modules that a list has no need of"
    assert set(listed) == {"plugins", "packs"}
    for plugin in listed["plugins"]:
        assert list(plugin) == [
            "name",
            "kind",
            "pack",
            "distribution",
            "version",
            "status",
            "cause",
            "summary",
        ]
    for pack in listed["packs"]:
        assert list(pack) == ["name", "distribution", "version", "status", "cause"]
    ours = [plugin for plugin in listed["plugins"] if plugin["distribution"] == "alpha-forge"]
    assert {plugin["name"] for plugin in ours} == BUILT_IN
    assert {(plugin["status"], plugin["cause"]) for plugin in ours} == {("ok", "")}
    assert all(plugin["summary"] for plugin in ours)


def test_the_list_as_text_is_plain_when_not_on_a_terminal() -> None:
    result = run("list")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["NAME", "PACK", "DISTRIBUTION", "STATUS", "SUMMARY"]
    assert "\x1b" not in result.stdout
    assert {line.split()[0] for line in lines[1:]} >= BUILT_IN


def test_a_terminal_gets_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alpha_forge.cli.plugins.on_terminal", lambda: True)
    result = run("list", "--kind", "sinks")
    assert result.exit_code == 0
    assert "sinks.csv_append" in result.stdout


@pytest.mark.parametrize("kind", ["sinks", "sink", "SINKS"])
def test_a_kind_can_be_chosen(kind: str) -> None:
    listed = json.loads(run("list", "--kind", kind, "--format", "json").stdout)
    assert {plugin["kind"] for plugin in listed["plugins"]} == {"sinks"}
    assert {pack["name"] for pack in listed["packs"]} >= {"shared", "middlefreq"}


def test_an_unknown_kind_is_wrong_usage() -> None:
    result = run("list", "--kind", "tables")
    assert result.exit_code == 2
    assert "data, transforms, features, models, sinks" in result.stderr


def test_what_is_broken_is_said_below_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALPHA_FORGE_BLOCK", "shared")
    result = run("list")
    assert result.exit_code == 0
    assert "pack shared is blocked: named in ALPHA_FORGE_BLOCK" in result.stdout


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_every_built_in_can_be_shown_and_its_example_is_a_right_step(name: str) -> None:
    described = shown(name)
    assert described["name"] == name
    assert described["doc"].startswith(described["summary"])
    assert all(row["description"] for row in described["parameters"])
    assert not [value for value in described["guarantees"].values() if str(value).startswith("unknown")]
    step = yaml.safe_load(described["example"])
    base: dict[str, Any] = {
        "name": "a",
        "using": {"capabilities": ["shared", "middlefreq"]},
        "signal_generation": {
            "mode": "stream",
            "warmup": {"lookback_days": "auto"},
            "on_prediction": step["on_prediction"]
            if isinstance(step, dict)
            else [{"using": "sinks.csv_append"}],
        },
        "pipeline": step
        if isinstance(step, list)
        else [{"data": {"using": "data.files", "outputs": {"frame": "f"}}}],
    }
    _, diagnostics = parse(yaml.safe_dump(base), "example.yaml")
    assert not diagnostics, [found.render() for found in diagnostics]


def test_a_recursive_feature_says_what_it_promises() -> None:
    described = shown("features.rsi")
    guarantees = described["guarantees"]
    assert guarantees["scope"] == "symbol"
    assert guarantees["inputs"] == ["close"]
    assert guarantees["memory"] == "fading"
    assert guarantees["settle"] > 100
    window = next(row for row in described["parameters"] if row["name"] == "window")
    assert (window["type"], window["default"], window["required"]) == ("integer", 14, False)
    assert window["bounds"].startswith("at least 2")
    assert described["schema"]["properties"]["window"]["minimum"] == 2


def test_a_sink_says_what_it_promises() -> None:
    guarantees = shown("sinks.csv_append")["guarantees"]
    assert list(guarantees) == [
        "delivery", "idempotent_by", "on_conflict", "ordered", "max_batch", "timeout", "non_finite",
    ]  # fmt: skip


def test_show_as_text() -> None:
    result = run("show", "middlefreq:features.rsi")
    assert result.exit_code == 0
    for part in (
        "features.rsi  (pack middlefreq",
        "parameters:",
        "guarantees:",
        "example:",
        "using: features.rsi",
    ):
        assert part in result.stdout


def test_show_of_an_unknown_name() -> None:
    result = run("show", "features.rsj")
    assert result.exit_code == 2
    assert "error[AF3001]" in result.stderr
    assert "did you mean 'features.rsi'?" in result.stderr
    result = run("show", "features.rsj", "--format", "json")
    assert json.loads(result.stdout)["errors"][0]["code"] == "AF3001"
