"""``sinks.parquet``: predictions as a directory of Parquet files."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from alpha_forge_plugins.sinks.file_sink import LOCK_WAIT, FileParams, FileSink, RowKey
from alpha_forge_plugins.sinks.parquet_dataset import PredictionDataset, check_dataset
from alpha_forge_plugins.sinks.parquet_file import Row
from alpha_forge_plugins.sinks.rows import holds_utf8, metadata_texts
from alpha_forge_sdk import Prediction

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def _with_ts(names: tuple[str, ...]) -> tuple[str, ...]:
    if "ts" not in names:
        raise ValueError("ts must be part of the key: files are by day")
    return names


class ParquetSink(FileSink):
    """Stores predictions in a directory of Parquet files, by UTC day, each of them written whole and then renamed.

    Columns: ``ts`` (timestamp[us, UTC]), ``symbol``, ``prediction`` (double), ``frame``, ``column``, ``dag_name``
    (empty where a record has none), and ``metadata``, a JSON object of everything else. Files are named like
    ``2026-01-05-0000.parquet``. A batch goes into its day's last file, which is written anew beside the old one,
    synced, and put in its place by a rename, until it holds ``rows_per_file``; then the next one begins. A reader
    takes the directory (pandas, pyarrow) or ``DIRECTORY/*.parquet`` (DuckDB, Polars) at any time: no file is ever
    half there, and no record in two. A query that opens a file twice, as DuckDB's may, fails with an error if the
    file was replaced in between: repeat it. Within a file rows stand in the order in which their keys first came.

    A record whose key is there replaces that row. Several processes may write: a lock in the directory orders
    them. Rewriting makes this the sink for batches of many symbols, hourly or so; for small batches every second
    take another one.

    Raises AlphaForgeError: AF6003 directory, AF6004 file not writable, AF6010 other files or columns, AF6012 a
    damaged file; PluginError AF6011 outside open and close.
    """

    class Params(FileParams):
        """Where to, and what makes a row the same row."""

        path: str = Field(min_length=1, description="the directory, this sink's alone; made if it is absent")
        dedup_key: Annotated[RowKey, AfterValidator(_with_ts)] = Field(
            ("ts", "symbol"), description="columns that together name a row, ts among them"
        )
        rows_per_file: int = Field(
            20_000, ge=1, le=1_000_000, description="rows after which a day's next file is begun"
        )

    examples = (
        {"path": "outputs/predictions"},
        {"path": "outputs/predictions", "dedup_key": ["ts", "symbol", "column"], "rows_per_file": 50_000},
    )

    on_conflict = "replace"
    ordered = False
    max_batch = 10_000
    dsl_name = "sinks.parquet"

    def preflight(self) -> None:
        """Raise what `open` would raise for this path, as far as it can be known without making anything."""
        check_dataset(Path(self.params.path))

    def _opened(self) -> PredictionDataset:
        params = self.params
        return PredictionDataset(
            Path(params.path), params.dedup_key, params.rows_per_file, lock_wait=LOCK_WAIT
        )

    def _row(self, prediction: Prediction) -> Row:
        rest = metadata_texts(prediction)
        holds_utf8(prediction.symbol, *rest)
        return (prediction.ts - _EPOCH) // _MICROSECOND, prediction.symbol, float(prediction.value), *rest
