"""Where a replay's values go: a table in a file, or the configuration's sinks; and their digest."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from alpha_forge.contracts.errors import SinkEmitError, UsageError
from alpha_forge.contracts.interval import Interval, to_datetime
from alpha_forge.plan.graph import EventFlowDAG
from alpha_forge.runtime.emitter import PredictionEmitter, SignalEmitter
from alpha_forge.runtime.replay.whole import FrameChunk
from alpha_forge.runtime.results import PredictedRow

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

FORMATS = (".parquet", ".csv")
BACKLOG = 100_000
"""Predictions that may wait for a sink before the replay does."""


class Output(Protocol):
    """Receives chunks in order of time, of each frame."""

    def write(self, chunk: FrameChunk, kept: Int) -> None:
        """Take the rows at the places `kept` of a chunk."""

    def close(self) -> None:
        """Finish: everything is where it belongs when this returns."""

    def abandon(self) -> None:
        """The replay failed: leave nothing half-made behind."""


class Nowhere:
    """Only the digest is wanted."""

    def write(self, chunk: FrameChunk, kept: Int) -> None:
        pass

    def close(self) -> None:
        pass

    def abandon(self) -> None:
        pass


class Digest:
    """SHA-256 of all records, column by column: ts, place of the symbol, and the value's bits, by ts, then by symbol.

    What arrived together makes no difference. Of a value that isn't there (NaN) nothing is taken.
    """

    _RECORD = np.dtype([("ts", "<i8"), ("symbol", "<i4"), ("value", "<f8")])

    def __init__(self) -> None:
        self._hashes: dict[tuple[str, str], Any] = {}
        self._begun: tuple[Int, Int, npt.NDArray[np.void]] | None = None
        self.counts: dict[tuple[str, str], int] = {}

    def add(self, frame: str, column: str, ts: Int, symbols: Int, values: Float) -> None:
        """Records of one column, in order; those after it come later."""
        key = (frame, column)
        records = self._keyed(ts, symbols)
        records["value"] = values
        there = ~np.isnan(values)
        if not there.all():
            records = records[there]
        self._hashes.setdefault(key, hashlib.sha256()).update(records.view(np.uint8))
        self.counts[key] = self.counts.get(key, 0) + len(records)

    def _keyed(self, ts: Int, symbols: Int) -> npt.NDArray[np.void]:
        """Records without their values: made once where columns come with the same arrays of keys."""
        if self._begun is None or self._begun[0] is not ts or self._begun[1] is not symbols:
            records = np.empty(len(ts), dtype=self._RECORD)
            records["ts"], records["symbol"] = ts, symbols
            self._begun = ts, symbols, records
        return self._begun[2]

    def columns(self) -> dict[str, str]:
        """``frame.column`` → hexadecimal digest."""
        return {f"{f}.{c}": h.hexdigest() for (f, c), h in sorted(self._hashes.items())}

    def total(self) -> str:
        """One digest of all columns with their names."""
        lines = "".join(f"{name} {digest}\n" for name, digest in self.columns().items())
        return hashlib.sha256(lines.encode()).hexdigest()


class TableFile:
    """A Parquet or CSV file, by its name's ending; it gets its name when it is whole.

    With ``wide`` a row is a bar with all columns of its frame; without, a row is a prediction: ts, symbol, prediction,
    frame, column. Several frames with ``wide`` make several files, the frame's name before the ending.
    """

    def __init__(self, path: Path, dag: EventFlowDAG, *, wide: bool, frames: int) -> None:
        self._path = path
        self._dag = dag
        self._wide = wide
        self._several = wide and frames > 1
        self._writers: dict[str, tuple[Any, Path, Path]] = {}
        self._times: dict[str, dict[int, str]] = {}

    @property
    def paths(self) -> list[Path]:
        return [path for _, _, path in self._writers.values()]

    def write(self, chunk: FrameChunk, kept: Int) -> None:
        import pyarrow as pa

        for arrays in self._tables(chunk, kept):
            table = pa.table(arrays)
            self._writer(chunk.frame, table.schema).write_table(table)

    def _tables(self, chunk: FrameChunk, kept: Int) -> list[dict[str, Any]]:
        import pyarrow as pa

        names = pa.array(self._dag.frames[chunk.frame].symbols)
        ts, places, columns = flattened(chunk, kept)
        if self._wide:
            symbols = pa.DictionaryArray.from_arrays(pa.array(places.astype(np.int32)), names)
            return [{"ts": self._ts(ts), "symbol": self._plain(symbols), **columns}]
        tables = []
        for column, values in columns.items():
            there = ~np.isnan(values)
            symbols = pa.DictionaryArray.from_arrays(pa.array(places[there].astype(np.int32)), names)
            n = int(there.sum())
            tables.append(
                {
                    "ts": self._ts(ts[there]),
                    "symbol": self._plain(symbols),
                    "prediction": values[there],
                    "frame": pa.array([chunk.frame] * n, pa.string()),
                    "column": pa.array([column] * n, pa.string()),
                }
            )
        return tables

    def _ts(self, ts: Int) -> Any:
        import pyarrow as pa

        if self._path.suffix == ".csv":
            found, back = np.unique(ts, return_inverse=True)
            texts = pa.array([to_datetime(int(t)).isoformat() for t in found], pa.string())
            return texts.take(pa.array(back))
        return pa.array(ts // 1000).cast(pa.timestamp("us", tz="UTC"))

    def _plain(self, symbols: Any) -> Any:
        return symbols.cast(symbols.type.value_type)

    def _writer(self, frame: str, schema: Any) -> Any:
        key = frame if self._several else ""
        if key not in self._writers:
            path = (
                self._path.with_name(f"{self._path.stem}.{frame}{self._path.suffix}") if key else self._path
            )
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f".{path.name}.part")
            if path.suffix == ".csv":
                from pyarrow.csv import CSVWriter, WriteOptions

                made: Any = CSVWriter(str(part), schema, write_options=WriteOptions(quoting_style="needed"))
            else:
                import pyarrow as pa
                from pyarrow.parquet import ParquetWriter

                # A dictionary of floats, which hardly repeat, costs time and saves no room.
                repeated = [field.name for field in schema if not pa.types.is_floating(field.type)]
                made = ParquetWriter(str(part), schema, use_dictionary=repeated)
            self._writers[key] = (made, part, path)
        return self._writers[key][0]

    def close(self) -> None:
        for writer, part, path in self._writers.values():
            writer.close()
            part.replace(path)

    def abandon(self) -> None:
        for writer, part, _ in self._writers.values():
            writer.close()
            part.unlink(missing_ok=True)


class SinkOutput:
    """The configuration's sinks, through the log in memory: each gets its column in order of ts."""

    def __init__(self, dag: EventFlowDAG, emitter: SignalEmitter, patience: float = 30.0) -> None:
        """``patience``: real seconds without any progress after which what the sinks have not taken is given up."""
        self._emitter = emitter
        self._predictions = PredictionEmitter(dag, emitter)
        self._patience = patience
        emitter.start()

    def write(self, chunk: FrameChunk, kept: Int) -> None:
        for row in kept.tolist():
            symbols = np.flatnonzero(chunk.present[row])
            ts = int(chunk.ts[row])
            rows = [
                PredictedRow(chunk.frame, column, ts, symbols, values[row, symbols])
                for column, values in chunk.columns.items()
            ]
            self._predictions.emit_if_ready(rows)
            if row % 64 == 0:
                self._wait(BACKLOG)
        self._wait(BACKLOG)

    def _wait(self, most: int) -> None:
        """Until at most `most` records wait for any sink: nothing is to be computed while none would take it."""
        left, since = self._backlog(), time.monotonic()
        while left > most and time.monotonic() - since < self._patience:
            time.sleep(0.01)
            now = self._backlog()
            if now < left:
                left, since = now, time.monotonic()
        if left > max(most, BACKLOG):
            self._emitter.close()

    def _backlog(self) -> int:
        return max(sink.backlog for sink in self._emitter.report().sinks.values())

    def close(self) -> None:
        """Raises SinkEmitError for what the sinks did not take."""
        self._wait(0)
        self._emitter.close()

    def abandon(self) -> None:
        with contextlib.suppress(SinkEmitError):
            self._emitter.close()


def kept_rows(chunk: FrameChunk, start: int, grid: Interval | None) -> Int:
    """Places of the rows after `start`, and on the schedule if there is one."""
    wanted: Bool = chunk.ts > start
    if grid is not None:
        wanted &= (chunk.ts - grid.offset) % grid.ns == 0
    return np.flatnonzero(wanted).astype(np.int64)


def flattened(chunk: FrameChunk, kept: Int) -> tuple[Int, Int, dict[str, Float]]:
    """Bars that are there, of the rows at the places `kept`: ts, places of the symbols, and columns, all (bars,).

    By ts, then by symbol.
    """
    # Most often one stretch: then nothing is copied.
    stretch = len(kept) > 0 and int(kept[-1]) - int(kept[0]) + 1 == len(kept)
    taken = slice(int(kept[0]), int(kept[-1]) + 1) if stretch else kept
    present = chunk.present[taken]
    rows, places = np.nonzero(present)
    every = bool(present.all())
    columns = {c: v[taken].ravel() if every else v[taken][rows, places] for c, v in chunk.columns.items()}
    return chunk.ts[taken][rows], places, columns


def table_path(path: Path) -> Path:
    """`path`, if its ending says which kind of table it is to be. Raises UsageError AF8101 otherwise."""
    if path.suffix not in FORMATS:
        help = f"end it in {' or '.join(FORMATS)}"
        raise UsageError("AF8101", f"{path}: the ending says no kind of table", help)
    return path


def column_pairs(dag: EventFlowDAG, *, features: bool) -> list[tuple[str, str]]:
    """What a replay computes: the delivered columns, or every column that feature steps make."""
    if not features:
        return sorted(dag.sink_columns())
    return [(n.frame, c) for n in dag.nodes.values() if n.kind == "features" for c in n.outputs]


def as_mapping(digest: Digest) -> Mapping[str, Any]:
    """For reports: records and digest of each column."""
    return {
        f"{f}.{c}": {"records": digest.counts[(f, c)], "sha256": digest.columns()[f"{f}.{c}"]}
        for f, c in sorted(digest.counts)
    }
