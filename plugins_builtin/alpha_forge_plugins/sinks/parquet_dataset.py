"""The directory under ``sinks.parquet``: files by day, each key in one of them, shared with other writers."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from datetime import date
from operator import itemgetter
from pathlib import Path

from alpha_forge_plugins.sinks.file_lock import exclusive
from alpha_forge_plugins.sinks.parquet_file import UNFINISHED, PartFile, Row, same_bits, version_of
from alpha_forge_plugins.sinks.paths import (
    check_directory,
    is_at,
    named_faults,
    no_directory,
    open_file,
    other_form,
    sync_directory,
)
from alpha_forge_plugins.sinks.rows import COLUMNS

_LOCK = ".lock"
_NAME = re.compile(r"(\d{4}-\d\d-\d\d)-(\d{4,})\.parquet")
_DAY = 86_400_000_000
_EPOCH = date(1970, 1, 1).toordinal()
_KEPT = 4
"""Files whose rows stay in memory: the next batch most likely goes where the last ones went."""


class PredictionDataset:
    """Rows in files named by the UTC day of their ts and a number: ``2026-01-05-0000.parquet``.

    New rows go into the day's last file, which is rewritten, until it holds ``rows_per_file``; then the next one is
    begun. So files are few, none is ever half written, and at no moment is a row in two of them: a reader needs no
    more than the directory. All of it happens under a lock between processes, and what others have written is
    looked at before.
    """

    def __init__(self, path: Path, dedup_key: Sequence[str], rows_per_file: int, *, lock_wait: float) -> None:
        """Make the directory if it is absent; look at the names in it, and into its newest file.

        ``ts`` must be in `dedup_key`. Raises AlphaForgeError, RetryLater while another process holds the lock.
        """
        import pyarrow.parquet  # noqa: F401 - now, so that the first batch is as quick as the others

        self._path = path
        self._key = [COLUMNS.index(name) for name in dedup_key]
        self._key_of = itemgetter(*self._key)
        self._limit = rows_per_file
        self._lock_wait = lock_wait
        self._parts: dict[str, PartFile] = {}  # in the order in which they were last used
        # The lock's length counts the batches of all writers: inodes, times and sizes of their files may be alike.
        self._lock = open_file(path / _LOCK)
        self._batches = 0
        try:
            with self._exclusive():
                self._remove_unfinished()
                names = part_names(path)
                if names:
                    self._part(names[-1])
        except BaseException:
            self._lock.close()
            raise

    def put(self, rows: Sequence[Row]) -> None:
        """Store the rows; each replaces one with its key. Synced on return.

        Raises RetryLater while another process holds the lock, OSError if the disk refuses, AlphaForgeError AF6010 or
        AF6012 if others have changed what is there. Some of the rows may be stored then.
        """
        days: dict[int, list[Row]] = {}
        for row in rows:
            days.setdefault(row[0] // _DAY, []).append(row)
        with self._exclusive():
            self._batches += 1
            self._lock.truncate(self._batches)
            names = part_names(self._path)
            for day, of_day in days.items():
                self._merge(date.fromordinal(_EPOCH + day).isoformat(), names, of_day)
            # Also with nothing new: a writer that was killed may have renamed these very files, and not synced.
            with named_faults(self._path):
                sync_directory(self._path)
            self._forget_old()

    def close(self) -> None:
        self._lock.close()

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Hold the lock of the directory that the path names now."""
        while True:
            with exclusive(self._lock, self._lock_wait):
                lock = os.fstat(self._lock.fileno())
                if is_at(self._path / _LOCK, lock):
                    if lock.st_size != self._batches:  # another writer was here
                        self._parts.clear()
                        self._batches = lock.st_size
                    yield
                    return
            # The directory was moved or deleted by somebody.
            stale, self._lock = self._lock, open_file(self._path / _LOCK)
            stale.close()
            self._parts.clear()

    def _merge(self, day: str, names: Sequence[str], rows: Sequence[Row]) -> None:
        parts = [self._part(name) for name in names if name.startswith(day)]
        changed: dict[str, PartFile] = {}
        try:
            for row in rows:
                part = self._place(day, parts, row)
                if part is not None:
                    changed[part.path.name] = part
            for part in changed.values():
                part.write()
                self._use(part)
        except BaseException:
            # What is in memory may be in no file: the next batch reads it anew.
            for name in changed:
                self._parts.pop(name, None)
            raise

    def _place(self, day: str, parts: list[PartFile], row: Row) -> PartFile | None:
        """Put the row where it belongs, a new file if need be, which `parts` then has. → the file, if it changed."""
        key = self._key_of(row)
        for part in reversed(parts):
            there = part.get(key, row[0])
            if there is not None:
                if same_bits(there, row):
                    return None
                break
        else:
            if not parts or parts[-1].count >= self._limit:
                number = int(_number(parts[-1].path.name)) + 1 if parts else 0
                parts.append(PartFile(self._path / f"{day}-{number:04}.parquet", None, self._key))
            part = parts[-1]
        part.set(key, row)
        return part

    def _part(self, name: str) -> PartFile:
        """The file as it is now; known already if nobody has replaced it."""
        version = version_of(self._path / name)
        part = self._parts.get(name)
        if part is None or part.version != version:
            part = PartFile(self._path / name, version, self._key)
        self._use(part)
        return part

    def _use(self, part: PartFile) -> None:
        self._parts.pop(part.path.name, None)
        self._parts[part.path.name] = part

    def _forget_old(self) -> None:
        loaded = [part for part in self._parts.values() if part.in_memory]
        for part in loaded[:-_KEPT]:
            part.forget()

    def _remove_unfinished(self) -> None:
        """Files that a killed writer left beside those it was about to replace; whoever has the lock may."""
        for entry in os.scandir(self._path):
            name = entry.name.removesuffix(UNFINISHED)
            if name != entry.name and _NAME.fullmatch(name.removeprefix(".")):
                os.unlink(entry.path)


def part_names(path: Path) -> list[str]:
    """The files of the dataset, by day and number. Raises AlphaForgeError AF6010 if readers would find others."""
    names = []
    for entry in os.scandir(path):
        if entry.name.startswith((".", "_")):  # readers pass over these
            continue
        if not (_NAME.fullmatch(entry.name) and entry.is_file()):
            raise other_form(
                path, f"{entry.name!r} in it", "files of this sink alone: it is read as one dataset"
            )
        names.append(entry.name)
    return sorted(names, key=lambda name: (name[:10], int(_number(name))))


def check_dataset(path: Path) -> None:
    """Raise what `PredictionDataset` would raise for the directory and the names in it, but make nothing."""
    check_directory(path)
    if path.exists():
        try:
            part_names(path)
        except PermissionError as error:
            raise no_directory(path, error.strerror or str(error)) from error


def _number(name: str) -> str:
    return name[11 : -len(".parquet")]
