"""Made-up predictions: plain ones, whose every part survives any reasonable destination."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from alpha_forge.contracts.types import Prediction

START = datetime(2026, 1, 5, 13, tzinfo=UTC)
"""Bar close of the first made prediction."""

METADATA = {"frame": "ohlcv", "column": "model.prediction", "dag_name": "conformance"}
"""Metadata of made predictions: the three keys that every prediction has."""

SYMBOLS = ("SOLUSDT", "BTCUSDT", "ETHUSDT", "ADAUSDT", "XRPUSDT")
"""Not in alphabetical order, so that a destination that sorts is seen to sort."""


def made_predictions(count: int, first: int = 0) -> list[Prediction]:
    """`count` predictions from number `first` on, in the order of delivery; no two share (ts, symbol).

    Hourly bar closes, five symbols a bar, values that are exact in float32 and short in decimal: what a destination
    does to unusual values is another question than whether it keeps records.
    """
    return [
        Prediction(
            SYMBOLS[number % len(SYMBOLS)],
            START + timedelta(hours=number // len(SYMBOLS)),
            (number % 1000) / 8 - 50,
            METADATA,
        )
        for number in range(first, first + count)
    ]
