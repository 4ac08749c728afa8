"""``sinks.jsonl``: predictions as JSON objects, one a line."""

from __future__ import annotations

import math
from pathlib import Path

from alpha_forge_plugins.sinks import jsonl_rows
from alpha_forge_plugins.sinks.append_file import AppendedFile, Line, check_appended
from alpha_forge_plugins.sinks.file_sink import LOCK_WAIT, FileSink
from alpha_forge_plugins.sinks.rows import fields
from alpha_forge_sdk import Prediction


class JSONLinesSink(FileSink):
    """Appends predictions to a file of JSON lines: each key once, synced before it returns.

    A line is ``{"ts":"2026-01-05T13:00:00Z","symbol":"BTCUSDT","prediction":0.25,"frame":"ohlcv",
    "column":"model.prediction","dag_name":"minimal","metadata":{}}``: strict JSON in UTF-8. ``ts`` is UTC,
    ``prediction`` the shortest number that reads back to the same float64, ``metadata`` everything else that came
    with the record; of ``frame``, ``column`` and ``dag_name`` those stand there that it has.

    JSON has no NaN and no infinities: such a record is rejected, in the prediction and in metadata. Several
    processes may append to one file, a key that is there is not written again, and a line that was cut off by a
    crash is removed, all as ``sinks.csv_append`` does it.

    Raises AlphaForgeError: AF6003 directory, AF6004 file not writable, AF6010 a file that begins otherwise,
    AF6012 lines that aren't this sink's; PluginError AF6011 outside open and close.
    """

    examples = (
        {"path": "outputs/predictions.jsonl"},
        {"path": "outputs/predictions.jsonl", "dedup_key": ["ts", "symbol", "column"]},
    )

    on_conflict = "keep"
    non_finite = "reject"
    dsl_name = "sinks.jsonl"

    def preflight(self) -> None:
        """Raise what `open` would raise for this path, as far as it can be known without making anything."""
        check_appended(Path(self.params.path), jsonl_rows)

    def _opened(self) -> AppendedFile:
        return AppendedFile(Path(self.params.path), jsonl_rows, self.params.dedup_key, lock_wait=LOCK_WAIT)

    def _row(self, prediction: Prediction) -> Line:
        if not math.isfinite(prediction.value):
            raise ValueError(f"JSON has no number {float(prediction.value)!r}")
        row = fields(prediction, allow_nan=False)
        return row, jsonl_rows.encode(row)
