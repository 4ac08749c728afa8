"""How the conformance kit gets at the sink's destination."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from alpha_forge_sdk import Prediction
from alpha_forge_sdk.conformance import SinkConformance


class SinkCase(SinkConformance):
    """Proves that the sink keeps what it declares."""

    plugin = "sinks.{{ cookiecutter.name }}"

    def params(self, tmp_path: Path) -> Mapping[str, Any]:
        return {"path": str(tmp_path / "predictions.sqlite")}

    def read_back(self, params: Mapping[str, Any]) -> Iterable[Prediction]:
        """Everything in the file, read without the sink's own code."""
        with closing(sqlite3.connect(params["path"])) as db:
            if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'predictions'").fetchall():
                return []
            rows = db.execute("SELECT ts, symbol, value, metadata FROM predictions ORDER BY rowid").fetchall()
        return [
            Prediction(
                symbol,
                datetime.fromisoformat(ts),
                math.nan if value is None else value,
                json.loads(metadata),
            )
            for ts, symbol, value, metadata in rows
        ]

    def culprit(self) -> Prediction:
        """A record that the destination can't hold: half of a surrogate pair is no character."""
        return Prediction("\ud800", datetime(2026, 1, 5, tzinfo=UTC), 0.5, {})
