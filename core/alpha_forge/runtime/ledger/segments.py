"""Segments: the files of a ledger. Appended to, never rewritten; a torn end is where reading stops.

A segment is ``AFLEDGER``, a version, and records: type, length, CRC-32, payload. The first record is a snapshot of
the state before it, so that each segment can be read alone, and old ones can go.
"""

from __future__ import annotations

import json
import logging
import os
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from alpha_forge.contracts.errors import UsageError

log = logging.getLogger("alpha_forge.ledger")

MAGIC = b"AFLEDGER"
VERSION = 1
_HEADER = struct.Struct("<8sH")
_RECORD = struct.Struct("<BII")
SUFFIX = ".ledger"

SNAPSHOT, ROWS, REVISION, ORIGINS = 1, 2, 3, 4

BAR = np.dtype([("ts", "<i8"), ("hash", "<u8"), ("symbol", "<u2"), ("origin", "u1"), ("again", "u1")])
"""A bar: its close (ns), its content hash, the number of its symbol, the code of its origin. ``again`` is 1 for a bar
that was here already and has another content since a restart."""
HOLE = np.dtype(
    [("first", "<i8"), ("last", "<i8"), ("proof", "<i8"), ("symbol", "<u2"), ("code", "u1"), ("x", "u1")]
)
"""Closes ``first … last`` (ns) of a symbol that have no bar; ``code`` says why, ``proof`` since when that is known."""

Records = npt.NDArray[Any]

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)

PENDING_LIMIT = 8 * 2**20
"""Bytes that wait for a disk that takes nothing; beyond it records are lost, and that is recorded."""


def rows_payload(bars: Records, holes: Records) -> bytes:
    """A `ROWS` record."""
    return struct.pack("<I", len(bars)) + bars.tobytes() + holes.tobytes()


def rows_of(payload: bytes) -> tuple[Records, Records]:
    """(bars, holes) of a `ROWS` record."""
    (count,) = struct.unpack_from("<I", payload)
    split = 4 + count * BAR.itemsize
    return np.frombuffer(payload[4:split], dtype=BAR), np.frombuffer(payload[split:], dtype=HOLE)


def json_payload(value: Any) -> bytes:
    """A record of JSON: `REVISION` and `ORIGINS`; a `SNAPSHOT` is compressed."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


@dataclass(frozen=True, slots=True)
class Segment:
    """What can be read of one file."""

    path: Path
    snapshot: Mapping[str, Any]
    records: list[tuple[int, bytes, int]]
    """(type, payload, offset behind it) of everything after the snapshot."""
    start: int
    """Offset behind the snapshot."""
    torn: bool
    """True if the end of the file is no whole record: a crash while it was written."""

    @property
    def number(self) -> int:
        return int(self.path.stem)


def damaged(path: Path, cause: str) -> UsageError:
    """The error for a file that is no readable segment."""
    return UsageError(
        "AF5062",
        f"{path} can't be read as a segment of a ledger: {cause}",
        "restore it from a copy, or move it away: the ledger then begins behind it",
    )


def read_segment(path: Path) -> Segment:
    """Everything in a segment up to its end or to where it is torn.

    Raises UsageError AF5061 if a newer version wrote it, AF5062 if not even its snapshot can be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise damaged(path, error.strerror or str(error)) from error
    if len(data) < _HEADER.size or data[: len(MAGIC)] != MAGIC:
        raise damaged(path, "it does not begin as one")
    version = _HEADER.unpack_from(data)[1]
    if version != VERSION:
        raise UsageError(
            "AF5061",
            f"{path} is a ledger of version {version}; this is Alpha Forge for version {VERSION}",
            "use the version of Alpha Forge that wrote it, or a newer one",
        )
    records, torn = _records(data)
    if not records or records[0][0] != SNAPSHOT:
        raise damaged(path, "its snapshot is torn or missing")
    try:
        snapshot = json.loads(zlib.decompress(records[0][1]))
    except (ValueError, zlib.error) as error:
        raise damaged(path, f"its snapshot is no JSON: {error}") from error
    return Segment(path, snapshot, records[1:], records[0][2], torn)


def _records(data: bytes) -> tuple[list[tuple[int, bytes, int]], bool]:
    found = []
    at = _HEADER.size
    while at + _RECORD.size <= len(data):
        kind, length, crc = _RECORD.unpack_from(data, at)
        end = at + _RECORD.size + length
        payload = data[at + _RECORD.size : end]
        # A machine that lost power may leave zeros at the end; their checksum would be right.
        if kind == 0 or end > len(data) or _crc(kind, payload) != crc:
            break
        found.append((kind, payload, end))
        at = end
    return found, at != len(data)


def _crc(kind: int, payload: bytes) -> int:
    return zlib.crc32(payload, kind)


def segment_paths(directory: Path) -> list[Path]:
    """The segments of a directory, oldest first."""
    return sorted(path for path in directory.glob(f"*{SUFFIX}") if path.stem.isdigit())


class SegmentWriter:
    """Appends to the newest segment. A disk that takes nothing is waited for, within `PENDING_LIMIT`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._dropped = 0
        self._file: int | None = None
        self._path: Path | None = None
        self._size = 0
        self._pending = bytearray()
        self._waiting = 0
        self._failing = False

    @property
    def position(self) -> tuple[int, int]:
        """(number of the segment, offset behind the last whole record in it)."""
        return (int(self._path.stem) if self._path is not None else 0), self._size

    @property
    def complete(self) -> bool:
        """True if everything since the segment's begin is in the file."""
        return self._file is not None and not self.missing

    @property
    def overflowed(self) -> bool:
        """True if this segment lacks records for good: only a new one, with its snapshot, tells the truth again."""
        return self._dropped > 0

    @property
    def missing(self) -> int:
        """Records that this segment lacks, those that still wait included."""
        return self._dropped + self._waiting

    def begin(self, snapshot: Mapping[str, Any]) -> bool:
        """Start a new segment with a snapshot of everything that was ever appended; False, and the old one stays, if
        the disk refuses."""
        data = _HEADER.pack(MAGIC, VERSION) + _record(SNAPSHOT, zlib.compress(json_payload(snapshot)))
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            paths = segment_paths(self.directory)
            number = int(paths[-1].stem) + 1 if paths else 1
            path = self.directory / f"{number:08d}{SUFFIX}"
            file = os.open(path, _NEW, 0o644)
            try:
                _write_all(file, data)
            except OSError:
                os.close(file)
                path.unlink(missing_ok=True)
                raise
        except OSError as error:
            self._fail(error)
            return False
        self.close()
        self._file, self._path, self._size = file, path, len(data)
        self._pending.clear()
        self._waiting = self._dropped = 0
        self._failing = False
        return True

    def append(self, kind: int, payload: bytes) -> None:
        """Add a record with one write. What can't be written now is tried again with the next one."""
        self._pending += _record(kind, payload)
        self._waiting += 1
        if self._file is not None:
            try:
                _write_all(self._file, bytes(self._pending))
            except OSError as error:
                self._fail(error)
                self._cut_back()
            else:
                self._size += len(self._pending)
                self._pending.clear()
                self._waiting, self._failing = 0, False
        if len(self._pending) > PENDING_LIMIT:
            self._dropped += self._waiting
            self._pending.clear()
            self._waiting = 0

    def _fail(self, error: OSError) -> None:
        if not self._failing:
            log.error("the ledger %s can't be written: %s; the run goes on", self.directory, error)
        self._failing = True

    def _cut_back(self) -> None:
        """Take half a record off the end, so that later ones can be read."""
        assert self._file is not None
        try:
            os.ftruncate(self._file, self._size)
            os.lseek(self._file, self._size, os.SEEK_SET)
        except OSError as error:
            self._fail(error)

    def sync(self) -> None:
        """Have everything on the disk itself. A disk that refuses is logged."""
        if self._file is not None:
            try:
                os.fsync(self._file)
            except OSError as error:
                self._fail(error)

    def close(self) -> None:
        """Idempotent."""
        if self._file is not None:
            self.sync()
            os.close(self._file)
            self._file = None


def _record(kind: int, payload: bytes) -> bytes:
    return _RECORD.pack(kind, len(payload), _crc(kind, payload)) + payload


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
