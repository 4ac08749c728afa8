"""One Parquet file of predictions: its schema, its rows by key, and how it is written without ever being half there."""

from __future__ import annotations

import contextlib
import io
import os
import struct
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from alpha_forge_plugins.sinks.paths import foreign, named_faults, no_file, other_form, write_all
from alpha_forge_plugins.sinks.rows import COLUMNS

if TYPE_CHECKING:
    import pyarrow as pa

Row = tuple[int, str, float, str, str, str, str]
"""In the order of `COLUMNS`; ts in microseconds since the epoch."""

Version = tuple[int, int, int]
"""Inode, time of change and size: another writer's rename makes another one."""


_NEVER = -(1 << 63)

UNFINISHED = ".new"
"""How the name of a file ends that is being written; it also begins with a dot: no reader takes it for data."""


def schema() -> pa.Schema:
    """Columns and types of every file: ts in microseconds of UTC, the value as float64, all else text."""
    import pyarrow as pa

    types: dict[str, Any] = {"ts": pa.timestamp("us", tz="UTC"), "prediction": pa.float64()}
    return pa.schema([pa.field(n, types.get(n, pa.string()), nullable=False) for n in COLUMNS])


def version_of(path: Path) -> Version:
    """Which version of the file is there. Raises FileNotFoundError."""
    found = os.stat(path)
    return found.st_ino, found.st_mtime_ns, found.st_size


class PartFile:
    """A file of the dataset: how many rows, from which ts to which; the rows themselves only while they are needed.

    Rows are changed in memory, and the file is replaced by `write`. What isn't written is forgotten with `forget`.
    """

    __slots__ = ("_columns", "_key", "_places", "_table", "count", "first", "last", "path", "version")

    def __init__(self, path: Path, version: Version | None, key: Sequence[int]) -> None:
        """What the file's footer says; a file with no `version` is new, and empty. `key`: places in a row
        that name it, together a tuple, alone the value.

        Raises AlphaForgeError AF6004, AF6010 for other columns, AF6012 for what is no whole Parquet file.
        """
        self.path = path
        self.version = version
        self.count, self.first, self.last = 0, 0, _NEVER
        self._key = key
        self._columns: list[list[Any]] = [[] for _ in COLUMNS]
        self._places: dict[Hashable, int] | None = {} if version is None else None
        self._table: pa.Table | None = None  # what was written last, as long as no row of it has changed
        if version is not None:
            self._read_footer()

    @property
    def in_memory(self) -> bool:
        return self._places is not None

    def get(self, key: Hashable, ts: int) -> Row | None:
        """The row with this key, or None. Reads the file only if it has rows around `ts`, microseconds."""
        if not self.first <= ts <= self.last:
            return None
        places = self._places
        place = (self._loaded() if places is None else places).get(key)
        return None if place is None else cast(Row, tuple(column[place] for column in self._columns))

    def set(self, key: Hashable, row: Row) -> None:
        """Add the row, or put it in the place of the one with its key; in memory."""
        places = self._places
        if places is None:
            places = self._loaded()
        count = self.count
        place = places.setdefault(key, count)
        if place < count:
            self._table = None
            for column, value in zip(self._columns, row, strict=True):
                column[place] = value
            return
        for column, value in zip(self._columns, row, strict=True):
            column.append(value)
        ts = row[0]
        if not count or ts < self.first:
            self.first = ts
        if ts > self.last:
            self.last = ts
        self.count = count + 1

    def forget(self) -> None:
        """Release the rows."""
        self._places, self._columns, self._table = None, [], None

    def write(self) -> None:
        """Replace the file by the rows in memory: written aside, synced, renamed. Raises OSError; nothing changed then.

        The rename is durable once the directory is synced too.
        """
        import pyarrow as pa
        from pyarrow import parquet

        form, old = schema(), self._table
        columns = self._columns if old is None else [column[old.num_rows :] for column in self._columns]
        table = pa.table([pa.array(c, f.type) for c, f in zip(columns, form, strict=True)], form)
        self._table = table = table if old is None else pa.concat_tables([old, table]).combine_chunks()
        stream = pa.BufferOutputStream()
        # Hardly two predictions are alike: a dictionary of them only costs.
        dictionary = [name for name in COLUMNS if name != "prediction"]
        parquet.write_table(table, stream, compression="zstd", use_dictionary=dictionary)
        aside = self.path.with_name(f".{self.path.name}{UNFINISHED}")
        try:
            with named_faults(aside), io.FileIO(aside, "w") as file:
                write_all(file, stream.getvalue())
                os.fsync(file.fileno())
            os.replace(aside, self.path)
        except BaseException:
            with contextlib.suppress(OSError):
                aside.unlink()
            raise
        self.version = version_of(self.path)

    def _read_footer(self) -> None:
        with self._parquet() as file:
            found, wanted = _columns(file.schema_arrow), _columns(schema())
            if found != wanted:
                raise other_form(self.path, f"the columns {found}", wanted)
            self.count = file.metadata.num_rows
            groups = [
                file.metadata.row_group(n).column(0).statistics for n in range(file.metadata.num_row_groups)
            ]
            known = all(group is not None and group.has_min_max for group in groups)
            # A file that others have rewritten may not say: it is looked into whatever is sought then.
            self.first = min((g.min_raw for g in groups), default=0) if known else -(1 << 63)
            self.last = max((g.max_raw for g in groups), default=_NEVER) if known else 1 << 63

    def _loaded(self) -> dict[Hashable, int]:
        """Where the row of each key stands in the columns."""
        if self._places is None:
            import pyarrow as pa

            with self._parquet() as file:
                table = file.read(use_threads=False)
            ts = table.column("ts").cast(pa.int64()).to_pylist()
            self._columns = [ts, *(table.column(name).to_pylist() for name in COLUMNS[1:])]
            named = [self._columns[place] for place in self._key]
            keys = zip(*named, strict=True) if len(named) > 1 else named[0]
            self._places = {key: place for place, key in enumerate(keys)}
            if len(self._places) != self.count:
                self.forget()
                raise foreign(self.path, "two rows with the same dedup_key")
        return self._places

    @contextlib.contextmanager
    def _parquet(self) -> Any:
        import pyarrow as pa
        from pyarrow import parquet

        try:
            with parquet.ParquetFile(self.path) as file:
                yield file
        except PermissionError as error:
            raise no_file(self.path, error.strerror or str(error)) from error
        except (pa.ArrowException, OSError) as error:
            raise foreign(self.path, str(error).splitlines()[0]) from error


def _columns(form: pa.Schema) -> str:
    """Names and types. A text is a text, however long it may be: pandas writes long ones."""
    return ", ".join(f"{column.name} {str(column.type).removeprefix('large_')}" for column in form)


def same_bits(one: Row, other: Row) -> bool:
    """True if two rows are the same to the last bit: NaN equals NaN here, and -0.0 is not 0.0."""
    return (*one[:2], *one[3:], struct.pack("<d", one[2])) == (
        *other[:2],
        *other[3:],
        struct.pack("<d", other[2]),
    )
