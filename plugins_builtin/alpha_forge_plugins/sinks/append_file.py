"""A file that is only ever appended to: locked, deduplicated, synced appends that survive being killed."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from alpha_forge_plugins.sinks.file_lock import exclusive
from alpha_forge_plugins.sinks.key_index import KeyIndex, Lines
from alpha_forge_plugins.sinks.paths import (
    check_file,
    foreign,
    is_at,
    named_faults,
    open_file,
    other_form,
    sync_directory,
    write_all,
)
from alpha_forge_plugins.sinks.rows import SECOND
from alpha_forge_sdk import AlphaForgeError

_LOG = logging.getLogger(__name__)
_BLOCK = 4 << 20
_LONGEST_ROW = 8 << 20
"""Bytes; a field is bounded, so that more without a row's end means a stray quote."""


Line = tuple[list[str], bytes]
"""A row, and how it stands in the file: encoded once, when it is judged."""


class Format(Lines, Protocol):
    """How rows stand in a file; a module of functions is one. A file begins with ``HEADER``, each row with its ts."""

    @property
    def HEADER(self) -> bytes: ...

    @property
    def encode(self) -> Callable[[list[str]], bytes]: ...

    @property
    def whole_length(self) -> Callable[[bytes], int]: ...

    @property
    def is_whole_row(self) -> Callable[[bytes], bool]: ...

    @property
    def is_torn_row(self) -> Callable[[bytes], bool]: ...


class AppendedFile:
    """Rows under one header, each key once, shared with other writers.

    Everything happens under the file's lock, in this order: look whether the path still names this file; read
    what others appended; mend what a killed writer left; append; sync. Nothing is remembered as stored before
    the sync returned, so that a failed append is simply made again.
    """

    def __init__(self, path: Path, rows: Format, dedup_key: Sequence[str], *, lock_wait: float) -> None:
        """Open the file, made with its header if it is absent, and read its keys. Raises AlphaForgeError."""
        self._path = path
        self._format = rows
        self._dedup_key = dedup_key
        self._lock_wait = lock_wait
        self._file = open_file(path)
        self._index = KeyIndex(dedup_key, rows)
        self._end = 0  # bytes that are read, whole and in the index
        try:
            with self._exclusive():
                pass
        except BaseException:
            self._file.close()
            raise

    def put(self, rows: Sequence[Line]) -> int:
        """Store the rows whose key the file doesn't hold, in order, and sync. → how many were new.

        Raises RetryLater while another process holds the lock, OSError if the disk refuses (nothing is stored
        then), AlphaForgeError AF6010 or AF6012 if others made the file unreadable.
        """
        with self._exclusive():
            new = self._not_stored(rows)
            payload = b"".join([line for _, line in new])
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
            self._index.add([row for row, _ in new])
            return len(new)

    def close(self) -> None:
        self._file.close()

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Hold the lock on the file that the path names now, with everything in it read and mended."""
        while True:
            with exclusive(self._file, self._lock_wait):
                if is_at(self._path, os.fstat(self._file.fileno())):
                    with named_faults(self._path):
                        self._catch_up()
                        yield
                    return
            # Renamed or deleted by somebody (a log rotation): rows written to the old file would be lost.
            stale, self._file = self._file, open_file(self._path)
            stale.close()
            self._forget()

    def _forget(self) -> None:
        self._index, self._end = KeyIndex(self._dedup_key, self._format), 0

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
            raise foreign(self._path, str(error)) from error
        self._end = self._mend(end)

    def _read_header(self, size: int) -> int:
        header = self._format.HEADER
        beginning = _beginning(self._format)
        head = self._read(0, len(beginning))
        if head == beginning:
            return len(header)
        if size == len(head) and _is_torn(head, beginning):
            self._file.truncate(0)
            write_all(self._file, header)
            os.fsync(self._file.fileno())
            sync_directory(self._path.parent)
            return len(header)
        raise _other_beginning(self._path, head, beginning)

    def _mend(self, end: int) -> int:
        """Finish or cut off a last row without its end; only a killed writer or an editor leaves one."""
        rest = self._read(end, _LONGEST_ROW)
        if not rest:
            return end
        if self._format.is_whole_row(rest):
            write_all(self._file, b"\n")
            os.fsync(self._file.fileno())
            self._index.add(self._format.decode(rest + b"\n"))
            return end + len(rest) + 1
        if len(rest) == _LONGEST_ROW or not self._format.is_torn_row(rest):
            raise self._endless(end)
        _LOG.warning("%s: cut off %d bytes of a row that was never finished", self._path, len(rest))
        self._file.truncate(end)
        os.fsync(self._file.fileno())
        return end

    def _not_stored(self, rows: Sequence[Line]) -> list[Line]:
        index = self._index
        old = [row for row, _ in rows if index.is_old(row)]
        stored = self._keys_among(old) if old else set()
        new = []
        for line in rows:
            row = line[0]
            key = index.key(row)
            if key in stored or (row in index and not index.is_old(row)):
                continue
            stored.add(key)
            new.append(line)
        return new

    def _keys_among(self, old: Sequence[list[str]]) -> set[object]:
        """Keys in the file of the seconds of `old`, read from the disk."""
        seconds = {row[0][:SECOND] for row in old}
        before_all = min(seconds)
        found: set[object] = set()
        for _, data in self._blocks(len(self._format.HEADER)):
            # A block whose newest row is older than all that is sought can't hold any of it.
            if self._index.newest_second(data) >= before_all.encode():
                found.update(
                    self._index.key(row) for row in self._format.decode(data) if row[0][:SECOND] in seconds
                )
        return found

    def _blocks(self, start: int) -> Iterator[tuple[int, bytes]]:
        """Blocks of whole rows from `start` (a row's beginning) on, with their offsets."""
        rest = b""
        offset = start
        while chunk := self._read(offset + len(rest), _BLOCK):
            data = rest + chunk
            length = self._format.whole_length(data)
            if length:
                yield offset, data[:length]
            offset, rest = offset + length, data[length:]
            if len(rest) > _LONGEST_ROW:
                raise self._endless(offset)

    def _read(self, offset: int, length: int) -> bytes:
        self._file.seek(offset)
        parts = []
        while length and (part := self._file.read(length)):
            parts.append(part)
            length -= len(part)
        return b"".join(parts)

    def _endless(self, offset: int) -> AlphaForgeError:
        return foreign(self._path, f"what stands after byte {offset} is no row, and no row that was cut off")


def check_appended(path: Path, rows: Format) -> None:
    """Raise what `AppendedFile` would raise for the path and the file's beginning, but make nothing."""
    if check_file(path):
        beginning = _beginning(rows)
        with path.open("rb") as file:
            head = file.read(len(beginning))
        if not (head == beginning or (_is_torn(head, beginning) and path.stat().st_size == len(head))):
            raise _other_beginning(path, head, beginning)


def _beginning(rows: Format) -> bytes:
    """What a file begins with that is neither empty nor torn."""
    return rows.HEADER or rows.LINE_START


def _is_torn(head: bytes, beginning: bytes) -> bool:
    """True for a file that is new, or whose first bytes were never all written; see `is_torn_row` for the zeros."""
    return beginning.startswith(head.rstrip(b"\0"))


def _other_beginning(path: Path, head: bytes, beginning: bytes) -> AlphaForgeError:
    first, wanted = (text.split(b"\n")[0].decode(errors="replace") for text in (head, beginning))
    return other_form(path, f"the beginning {first!r}", f"this sink's, {wanted!r}")
