"""YAML blocks of a page: whole configurations and parts of one, each compiled as the reader would use it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from alpha_forge.plan.compiler import Compiled, load

BASE = """\
name: page
using: {capabilities: [shared, middlefreq]}
signal_generation:
  mode: stream
  warmup: {lookback_days: auto}
  on_prediction:
    - using: sinks.csv_append
      column: ohlcv.mom_20
      params: {path: predictions.csv}
pipeline:
  - data:
      using: data.binance_futures
      outputs: {frame: ohlcv}
      params: {universe: [BTCUSDT, ETHUSDT], interval: 1h}
  - features:
      using: features.momentum
      inputs: {column: ohlcv.close}
      outputs: {columns: [mom_20]}
      params: {window: 20}
"""
_TRAINED = """\
features:
  using: features.rsi
  inputs: {column: ohlcv.close}
  outputs: {columns: [rsi_14]}
  params: {window: 14}
"""


class _Loader(yaml.SafeLoader):
    """PyYAML, but for its truth values, of which only true and false are some: ``on`` is a key of the DSL."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in rules if tag != "tag:yaml.org,2002:bool"]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"(?:true|false)$"), ["t", "f"])


def _read(text: str) -> Any:
    return yaml.load(text, _Loader)


def compiled(text: str, folder: Path) -> Compiled:
    """Compile `text`: a configuration, some of its top-level keys, or a list of steps or sinks. Raises ConfigError."""
    said = _read(text)
    whole = isinstance(said, dict) and "pipeline" in said and "signal_generation" in said
    data = said if whole else _completed(said)
    models = [step["model"] for step in data["pipeline"] if "model" in step]
    path = folder / "page.yaml"
    path.write_text(text if whole else yaml.safe_dump(data, sort_keys=False))
    return load(path, training=bool(models))


def _completed(said: Any) -> dict[str, Any]:
    data: dict[str, Any] = _read(BASE)
    if isinstance(said, list):
        if "using" in said[0]:
            data["signal_generation"]["on_prediction"] = said
        else:
            _add(data["pipeline"], said)
        return data
    pipeline = said.pop("pipeline", [])
    sinks = {"on_prediction": said.pop("on_prediction")} if "on_prediction" in said else {}
    for sink in sinks.get("on_prediction", ()):
        sink.setdefault("column", "ohlcv.mom_20")
    data["signal_generation"] |= said.pop("signal_generation", {}) | sinks
    _add(data["pipeline"], pipeline)
    return data | said


def _add(pipeline: list[Any], steps: list[Any]) -> None:
    made = {step["data"]["outputs"]["frame"] for step in steps if "data" in step}
    named = {f for step in steps for body in step.values() for f in _frames(body.get("inputs", {}))}
    outputs = {body.get("outputs", {}).get("frame") for step in (*pipeline, *steps) for body in step.values()}
    for missing in sorted(named - outputs):
        params = {"path": "klines", "universe": ["BTCUSDT", "ETHUSDT"], "interval": "1h"}
        pipeline.append({"data": {"using": "data.files", "outputs": {"frame": missing}, "params": params}})
    pipeline[:] = [s for s in pipeline if s.get("data", {}).get("outputs", {}).get("frame") not in made]
    if any("model" in step for step in steps):
        pipeline.append(_read(_TRAINED))
    pipeline[:] = sorted([*pipeline, *steps], key=lambda s: "data" not in s)


def _frames(inputs: dict[str, str]) -> set[str]:
    return {value.partition(".")[0] for key, value in inputs.items() if key != "model_ref"}
