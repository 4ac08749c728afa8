"""A right configuration, and its parts made wrong."""

from __future__ import annotations

from alpha_forge.dsl import Diagnostics, Document, parse

RIGHT = """\
name: minimal
using:
  capabilities: [shared, middlefreq]
expand:
  windows: [6, 12]
  modes: [fast, slow]
signal_generation:
  mode: stream
  warmup: {lookback_days: 30}
  scheduling: {interval: 1h, buffer_minutes: 2}
  on_prediction:
    - using: sinks.csv_append
      params: {path: out.csv}
pipeline:
  - data:
      using: data.binance_futures
      outputs: {frame: ohlcv}
      params: {universe: [BTCUSDT], interval: 1h}
  - features:
      using: features.rsi
      inputs: {column: ohlcv.close}
      outputs: {columns: ["rsi{window}"]}
      params:
        window: ${expand.windows}
  - model:
      using: models.pytorch_bilstm_predictor
      inputs: {frame: ohlcv, model_ref: my_model.unified}
      outputs: {columns: [model.prediction]}
      params: {window_size: 30}
"""


def parsed(text: str, *overrides: str) -> Document:
    """The document of a text that has no mistakes."""
    document, diagnostics = parse(text, "f.yaml", overrides)
    assert not diagnostics, [d.render() for d in diagnostics]
    assert document is not None
    return document


def changed(old: str, new: str) -> str:
    """The right configuration with the first `old` replaced."""
    assert old in RIGHT
    return RIGHT.replace(old, new, 1)


def mistakes(text: str, *overrides: str) -> Diagnostics:
    return parse(text, "f.yaml", overrides)[1]


def brief(diagnostics: Diagnostics) -> list[tuple[str, int, int]]:
    """(code, line, column) of each mistake, in order of place."""
    return sorted((d.code, d.line, d.column) for d in diagnostics)
