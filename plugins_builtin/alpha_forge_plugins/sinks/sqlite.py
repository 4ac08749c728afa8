"""``sinks.sqlite``: predictions as rows of a table in a SQLite file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from alpha_forge_plugins.sinks.file_sink import LOCK_WAIT, FileParams, FileSink, RowKey
from alpha_forge_plugins.sinks.rows import holds_utf8, metadata_texts, utc_text
from alpha_forge_plugins.sinks.sqlite_table import PredictionTable, Row, check_database
from alpha_forge_sdk import Prediction


def _not_reserved(name: str) -> str:
    if name.lower().startswith("sqlite_"):
        raise ValueError("SQLite keeps names that begin with sqlite_ for itself")
    return name


class SQLiteSink(FileSink):
    """Stores predictions in a table of a SQLite file: one row a key, a transaction a batch, synced on commit.

    Columns: ``id`` (rising, in the order in which keys first came), ``ts`` (text in UTC, always with six digits of
    the second, so that it sorts: ``2026-01-05T13:00:00.000000Z``), ``symbol``, ``prediction`` (the float64 itself;
    NULL is NaN), ``frame``, ``column``, ``dag_name`` (empty where a record has none), and ``metadata``, a JSON
    object of everything else. Unique is ``dedup_key``: a record whose key is there replaces that row, and keeps
    its id. With ``column`` in the key, predictions of several columns may share a table.

    File and table are made where absent. A new file has a write-ahead log: people may read while a run writes,
    and ``-wal`` and ``-shm`` stand beside the file then. Move or copy it only while nobody writes. Several
    processes may write: each waits for the others.

    Raises AlphaForgeError: AF6003 directory, AF6004 file not writable, AF6010 a table with other columns or
    another key, AF6012 no database, or a damaged one; PluginError AF6011 outside open and close; RetryLater while
    the database is locked.
    """

    class Params(FileParams):
        """Where to, and what makes a row the same row."""

        path: str = Field(min_length=1, description="the database file; missing directories are made")
        table: Annotated[str, AfterValidator(_not_reserved)] = Field(
            "predictions",
            pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$",
            description="the table; made if it is absent",
        )
        dedup_key: RowKey = Field(
            ("ts", "symbol"), description="columns that together name a row: its unique key"
        )

    examples = (
        {"path": "outputs/predictions.db"},
        {"path": "outputs/predictions.db", "table": "all_models", "dedup_key": ["ts", "symbol", "column"]},
    )

    on_conflict = "replace"
    dsl_name = "sinks.sqlite"

    def preflight(self) -> None:
        """Raise what `open` would raise for this path, as far as it can be known without making anything."""
        check_database(Path(self.params.path))

    def _opened(self) -> PredictionTable:
        params = self.params
        return PredictionTable(Path(params.path), params.table, params.dedup_key, lock_wait=LOCK_WAIT)

    def _row(self, prediction: Prediction) -> Row:
        rest = metadata_texts(prediction)
        holds_utf8(prediction.symbol, *rest)
        ts = utc_text(prediction.ts, "microseconds")
        return ts, prediction.symbol, float(prediction.value), *rest
