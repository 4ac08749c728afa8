"""``sinks.csv_append``: predictions as rows of one CSV file."""

from __future__ import annotations

from pathlib import Path

from alpha_forge_plugins.sinks import csv_rows
from alpha_forge_plugins.sinks.append_file import AppendedFile, Line, check_appended
from alpha_forge_plugins.sinks.file_sink import LOCK_WAIT, FileSink
from alpha_forge_plugins.sinks.rows import fields
from alpha_forge_sdk import Prediction


class CSVAppendSink(FileSink):
    """Appends predictions to a CSV file: one header, each key once, synced before it returns.

    Columns: ``ts`` (UTC, ISO 8601 with ``Z``), ``symbol``, ``prediction`` (the shortest text that reads back
    to the same float64; ``nan``, ``inf``), ``frame``, ``column``, ``dag_name``, and ``metadata``, a JSON
    object of everything else (``{}`` when there is nothing). UTF-8, quoted by CSV's rules.

    Several processes may append to one file: a lock on it orders them, and each reads what the others wrote
    before it writes. A row whose key is in the file already is not written again, whatever its value (an
    appended row can't be replaced). A last row that was cut off by a crash is removed when the file is next
    opened; the record comes again, since `emit_batch` never returned for it.

    Raises AlphaForgeError: AF6003 directory, AF6004 file not writable, AF6010 another header, AF6012 rows
    that aren't this sink's; PluginError AF6011 outside open and close. Rejected are text that UTF-8 can't
    encode, metadata that JSON can't, and fields beyond the limit of CSV readers.
    """

    examples = (
        {"path": "outputs/predictions/minimal_predictions.csv", "dedup_key": ["ts", "symbol"]},
        {"path": "outputs/predictions/all.csv", "dedup_key": ["ts", "symbol", "column"]},
    )

    on_conflict = "keep"
    dsl_name = "sinks.csv_append"

    def preflight(self) -> None:
        """Raise what `open` would raise for this path, as far as it can be known without making anything."""
        check_appended(Path(self.params.path), csv_rows)

    def _opened(self) -> AppendedFile:
        return AppendedFile(Path(self.params.path), csv_rows, self.params.dedup_key, lock_wait=LOCK_WAIT)

    def _row(self, prediction: Prediction) -> Line:
        row = fields(prediction)
        return row, csv_rows.encode(row)
