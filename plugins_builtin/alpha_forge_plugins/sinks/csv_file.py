"""The file under ``sinks.csv_append``: locked, deduplicated, synced appends that survive being killed."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from alpha_forge_plugins.sinks.csv_index import KeyIndex, newest_second
from alpha_forge_plugins.sinks.csv_lock import exclusive
from alpha_forge_plugins.sinks.csv_rows import (
    HEADER,
    SECOND,
    decode,
    encode,
    holds_later_rows,
    is_whole_row,
    whole_length,
)
from alpha_forge_sdk import AlphaForgeError

_LOG = logging.getLogger(__name__)
_BLOCK = 4 << 20
_LONGEST_ROW = 8 << 20
"""Bytes; a field is bounded, so that more without a row's end means a stray quote."""


class PredictionFile:
    """Rows under one header, each key once, shared with other writers.

    Everything happens under the file's lock, in this order: look whether the path still names this file; read
    what others appended; mend what a killed writer left; append; sync. Nothing is remembered as stored before
    the sync returned, so that a failed append is simply made again.
    """

    def __init__(self, path: Path, new_index: Callable[[], KeyIndex], *, lock_wait: float) -> None:
        """Open the file, made with its header if it is absent, and read its keys. Raises AlphaForgeError."""
        self._path = path
        self._new_index = new_index
        self._lock_wait = lock_wait
        self._file = open_file(path)
        self._index = new_index()
        self._end = 0  # bytes that are read, whole and in the index
        try:
            with self._exclusive():
                pass
        except BaseException:
            self._file.close()
            raise

    def append(self, rows: Sequence[list[str]]) -> int:
        """Store the rows whose key the file doesn't hold, in order, and sync. → how many were new.

        Raises RetryLater while another process holds the lock, OSError if the disk refuses (nothing is stored
        then), AlphaForgeError AF6010 or AF6012 if others made the file unreadable.
        """
        with self._exclusive():
            new = self._not_stored(rows)
            payload = b"".join(map(encode, new))
            try:
                write_all(self._file, payload)
                # Also with nothing new: a writer that was killed may have left these very rows unsynced.
                os.fsync(self._file.fileno())
            except BaseException:
                # A half-written batch must not count as stored, neither here nor in another process.
                with contextlib.suppress(OSError):
                    self._file.truncate(self._end)
                raise
            self._end += len(payload)
            self._index.add(new)
            return len(new)

    def close(self) -> None:
        self._file.close()

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Hold the lock on the file that the path names now, with everything in it read and mended."""
        while True:
            with exclusive(self._file, self._lock_wait):
                if self._is_current():
                    self._catch_up()
                    yield
                    return
            # Renamed or deleted by somebody (a log rotation): rows written to the old file would be lost.
            stale, self._file = self._file, open_file(self._path)
            stale.close()
            self._forget()

    def _is_current(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._file.fileno()), os.stat(self._path))
        except FileNotFoundError:
            return False

    def _forget(self) -> None:
        self._index, self._end = self._new_index(), 0

    def _catch_up(self) -> None:
        size = os.fstat(self._file.fileno()).st_size
        if size < self._end:  # cut off by somebody: what is known of it is void
            self._forget()
        start = self._end or self._read_header(size)
        blocks, end = [], start
        for offset, data in self._blocks(start):
            blocks.append((offset, len(data)))
            end = offset + len(data)
        try:
            # Newest first: the index then knows early what is too old to keep.
            for offset, length in reversed(blocks):
                self._index.add_data(self._read(offset, length))
        except ValueError as error:
            raise self._foreign(str(error)) from error
        self._end = self._mend(end)

    def _read_header(self, size: int) -> int:
        head = self._read(0, len(HEADER))
        if head == HEADER:
            return len(HEADER)
        if size == len(head) and HEADER.startswith(head):  # new, or torn within the header
            self._file.truncate(0)
            write_all(self._file, HEADER)
            os.fsync(self._file.fileno())
            sync_directory(self._path.parent)
            return len(HEADER)
        raise other_header(self._path, head)

    def _mend(self, end: int) -> int:
        """Finish or cut off a last row without its end; only a killed writer or an editor leaves one."""
        rest = self._read(end, _LONGEST_ROW)
        if not rest:
            return end
        if is_whole_row(rest):
            write_all(self._file, b"\n")
            os.fsync(self._file.fileno())
            self._index.add(decode(rest + b"\n"))
            return end + len(rest) + 1
        if len(rest) == _LONGEST_ROW or holds_later_rows(rest):
            raise self._foreign(f"a quote is opened and never closed after byte {end}")
        _LOG.warning("%s: cut off %d bytes of a row that was never finished", self._path, len(rest))
        self._file.truncate(end)
        os.fsync(self._file.fileno())
        return end

    def _not_stored(self, rows: Sequence[list[str]]) -> list[list[str]]:
        index = self._index
        old = [row for row in rows if index.is_old(row)]
        stored = self._keys_among(old) if old else set()
        new = []
        for row in rows:
            key = index.key(row)
            if key in stored or (not index.is_old(row) and row in index):
                continue
            stored.add(key)
            new.append(row)
        return new

    def _keys_among(self, old: Sequence[list[str]]) -> set[object]:
        """Keys in the file of the seconds of `old`, read from the disk."""
        seconds = {row[0][:SECOND] for row in old}
        before_all = min(seconds)
        found: set[object] = set()
        for _, data in self._blocks(len(HEADER)):
            # A block whose newest row is older than all that is sought can't hold any of it.
            if newest_second(data) >= before_all.encode():
                found.update(self._index.key(row) for row in decode(data) if row[0][:SECOND] in seconds)
        return found

    def _blocks(self, start: int) -> Iterator[tuple[int, bytes]]:
        """Blocks of whole rows from `start` (a row's beginning) on, with their offsets."""
        rest = b""
        offset = start
        while chunk := self._read(offset + len(rest), _BLOCK):
            data = rest + chunk
            length = whole_length(data)
            if length:
                yield offset, data[:length]
            offset, rest = offset + length, data[length:]
            if len(rest) > _LONGEST_ROW:
                raise self._foreign(f"a quote is opened and never closed after byte {offset}")

    def _read(self, offset: int, length: int) -> bytes:
        self._file.seek(offset)
        parts = []
        while length and (part := self._file.read(length)):
            parts.append(part)
            length -= len(part)
        return b"".join(parts)

    def _foreign(self, what: str) -> AlphaForgeError:
        return AlphaForgeError(
            "AF6012",
            f"{self._path} holds something that this sink did not write: {what}",
            "move the file away, or mend the row; what it holds is left as it is",
        )


def open_file(path: Path) -> io.FileIO:
    """Open to read and append; directories and file are made. Raises AlphaForgeError AF6003, AF6004."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise no_directory(path.parent, error.strerror or str(error)) from error
    if path.exists() and not stat.S_ISREG(path.stat().st_mode):
        raise no_file(path, "it is not a regular file")
    try:
        return io.FileIO(path, "a+")
    except OSError as error:
        raise no_file(path, error.strerror or str(error)) from error


def check_path(path: Path) -> None:
    """Raise what `open_file` would raise, and AF6010 for another header, but make nothing."""
    if path.exists():
        if not stat.S_ISREG(path.stat().st_mode):
            raise no_file(path, "it is not a regular file")
        if not os.access(path, os.R_OK | os.W_OK):
            raise no_file(path, "this user may not read and write it")
        with path.open("rb") as file:
            head = file.read(len(HEADER))
        if not (head == HEADER or (HEADER.startswith(head) and path.stat().st_size == len(head))):
            raise other_header(path, head)
        return
    parent = path.parent.absolute()
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir():
        raise no_directory(path.parent, f"{parent} is not a directory")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise no_directory(path.parent, f"this user may not write to {parent}")


def write_all(file: io.FileIO, data: bytes) -> None:
    """Write everything: a raw file may take less than it is given."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) or 0 :]


def sync_directory(path: Path) -> None:
    """Make a new file's name durable, where the system can (Windows can't open directories)."""
    with contextlib.suppress(PermissionError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def no_directory(path: Path, why: str) -> AlphaForgeError:
    return AlphaForgeError(
        "AF6003",
        f"the output directory {path} can't be written: {why}",
        "give `path` a directory that this user can make and write to",
    )


def no_file(path: Path, why: str) -> AlphaForgeError:
    return AlphaForgeError(
        "AF6004",
        f"{path} can't be appended to: {why}",
        "give `path` a file that this user can read and write",
    )


def other_header(path: Path, head: bytes) -> AlphaForgeError:
    first = head.split(b"\n")[0].decode(errors="replace")
    return AlphaForgeError(
        "AF6010",
        f"{path} has another header than this sink writes: {first!r} instead of {HEADER.decode().strip()!r}",
        "move the file away, or give `path` another name; nothing was written to it",
    )
