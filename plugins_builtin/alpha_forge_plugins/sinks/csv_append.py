"""``sinks.csv_append``: predictions as rows of one CSV file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from alpha_forge_plugins.sinks.csv_file import PredictionFile, check_path
from alpha_forge_plugins.sinks.csv_index import KeyIndex
from alpha_forge_plugins.sinks.csv_rows import encode, fields
from alpha_forge_sdk import Params as BaseParams
from alpha_forge_sdk import PluginError, Prediction, Rejected, Sink

_LOCK_WAIT = 20.0
"""Seconds to wait for another writer: less than ``timeout``, so that the wait ends by itself."""

KeyColumn = Literal["ts", "symbol", "prediction", "frame", "column", "dag_name"]


def _once_each(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) != len(names):
        raise ValueError(f"a column is named twice in {list(names)}")
    return names


class CSVAppendSink(Sink):
    """Appends predictions to a CSV file: one header, each key once, synced before it returns.

    Columns: ``ts`` (UTC, ISO 8601 with ``Z``), ``symbol``, ``prediction`` (the shortest text that reads back
    to the same float64; ``nan``, ``inf``), ``frame``, ``column``, ``dag_name``, and ``metadata``, a JSON
    object of everything else (``{}`` when there is nothing). UTF-8, quoted by CSV's rules.

    Several processes may append to one file: a lock on it orders them, and each reads what the others wrote
    before it writes. A row whose key is in the file already is not written again, whatever its value (an
    appended row can't be replaced). A last row that was cut off by a crash is removed when the file is next
    opened; the record comes again, since `emit_batch` never returned for it.

    Raises AlphaForgeError: AF6003 directory, AF6004 file not writable, AF6010 another header, AF6012 rows
    that aren't this sink's; PluginError AF6011 outside open and close.
    """

    class Params(BaseParams):
        """Where to, and what makes a row the same row."""

        path: str = Field(min_length=1, description="the CSV file; missing directories are made")
        dedup_key: Annotated[tuple[KeyColumn, ...], Field(min_length=1), AfterValidator(_once_each)] = Field(
            ("ts", "symbol"), description="columns that together name a row: the same key is stored once"
        )

    examples = (
        {"path": "outputs/predictions/minimal_predictions.csv", "dedup_key": ["ts", "symbol"]},
        {"path": "outputs/predictions/all.csv", "dedup_key": ["ts", "symbol", "column"]},
    )

    delivery = "effectively_once"
    idempotent_by: ClassVar[tuple[str, ...]] = ("ts", "symbol")
    on_conflict = "keep"

    def __init__(self, params: Params) -> None:
        super().__init__(params)
        # The declaration of the class is that of the default key; another key declares itself.
        self.idempotent_by = params.dedup_key  # type: ignore[misc]
        self._file: PredictionFile | None = None

    def preflight(self) -> None:
        """Raise what `open` would raise for this path, as far as it can be known without making anything."""
        check_path(Path(self.params.path))

    def open(self) -> None:
        """Make directories, file and header where absent; read the keys of what is there."""
        if self._file is None:
            dedup_key = self.params.dedup_key
            self._file = PredictionFile(
                Path(self.params.path), lambda: KeyIndex(dedup_key), lock_wait=_LOCK_WAIT
            )

    def emit_batch(self, predictions: Sequence[Prediction]) -> None:
        """Store what is new of the batch, in order, and sync; see the class.

        Raises Rejected for records that CSV can't hold (text that UTF-8 can't encode, metadata that JSON
        can't, a field beyond the limit of CSV readers), RetryLater while another process holds the lock.
        """
        if self._file is None:
            raise PluginError(
                "AF6011", "sinks.csv_append got records outside open and close", "call open() first"
            )
        rows, reasons = [], {}
        for index, prediction in enumerate(predictions):
            try:
                row = fields(prediction)
                encode(row)
            except (TypeError, ValueError, RecursionError) as error:
                reasons[index] = f"{type(error).__name__}: {error}"
            else:
                rows.append(row)
        if rows:
            self._file.append(rows)
        if reasons:
            raise Rejected(reasons)

    def close(self) -> None:
        """Release the file. Idempotent."""
        if self._file is not None:
            self._file.close()
            self._file = None
