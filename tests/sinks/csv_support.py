"""Predictions, and reading a prediction CSV back with the standard library alone."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from alpha_forge_plugins.sinks.csv_append import CSVAppendSink
from alpha_forge_sdk import Prediction

HEADER = "ts,symbol,prediction,frame,column,dag_name,metadata"
START = datetime(2026, 1, 5, 13, tzinfo=UTC)
NAMED = {"frame": "ohlcv", "column": "model.prediction", "dag_name": "minimal"}


def prediction(symbol: str, bar: int, value: float = 0.25, **extra: Any) -> Prediction:
    return Prediction(symbol, START + timedelta(hours=bar), value, {**NAMED, **extra})


def records(bars: int, symbols: int = 3, first: int = 0) -> list[Prediction]:
    """Every symbol's prediction at every bar, in the order of delivery; no two values alike."""
    return [
        prediction(f"S{symbol}USDT", bar, (bar * 1000 + symbol) / 7.0)
        for bar in range(first, first + bars)
        for symbol in range(symbols)
    ]


def sink(path: Path, **others: Any) -> CSVAppendSink:
    return CSVAppendSink(CSVAppendSink.Params(path=str(path), **others))


def opened(path: Path, **others: Any) -> CSVAppendSink:
    made = sink(path, **others)
    made.open()
    return made


def store(path: Path, predictions: list[Prediction], **others: Any) -> None:
    """One life of a sink: open, emit, close."""
    made = opened(path, **others)
    try:
        made.emit_batch(predictions)
    finally:
        made.close()


def read_back(path: Path) -> list[Prediction]:
    """What the file holds, as records. Fails on anything that isn't a whole row under the one header."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, strict=True))
    assert ",".join(rows[0]) == HEADER
    found = []
    for row in rows[1:]:
        ts, symbol, value, *named, metadata = row
        kept = {key: text for key, text in zip(NAMED, named, strict=True) if text}
        found.append(
            Prediction(symbol, datetime.fromisoformat(ts), float(value), {**kept, **json.loads(metadata)})
        )
    return found
