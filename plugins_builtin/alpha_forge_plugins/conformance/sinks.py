"""How the built-in sinks are proved."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from alpha_forge_plugins.sinks.csv_rows import COLUMNS, NAMED
from alpha_forge_sdk import Prediction
from alpha_forge_sdk.conformance import SinkConformance
from alpha_forge_sdk.testing.predictions import METADATA, START


class CSVAppendConformance(SinkConformance):
    """Reads the file with the standard library alone; anything but whole rows under one header raises ValueError."""

    plugin = "sinks.csv_append"

    def params(self, tmp_path: Path) -> Mapping[str, Any]:
        return {"path": str(tmp_path / "predictions.csv")}

    def read_back(self, params: Mapping[str, Any]) -> Iterator[Prediction]:
        with open(params["path"], encoding="utf-8", newline="") as file:
            header, *rows = list(csv.reader(file, strict=True)) or [[]]
        if tuple(header) != COLUMNS:
            raise ValueError(f"the file begins with {header}")
        for row in rows:
            ts, symbol, value, *named, metadata = row
            kept = {name: text for name, text in zip(NAMED, named, strict=True) if text}
            everything = {**kept, **json.loads(metadata)}
            yield Prediction(symbol, datetime.fromisoformat(ts), float(value), everything)

    def culprit(self) -> Prediction:
        """Half of a surrogate pair: no UTF-8 file can hold it."""
        return Prediction("\ud83d", START, 0.5, METADATA)
