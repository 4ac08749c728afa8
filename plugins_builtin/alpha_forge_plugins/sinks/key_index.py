"""Which keys a file of predictions already holds, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Protocol

from alpha_forge_plugins.sinks.rows import COLUMNS, SECOND


class Lines(Protocol):
    """What the index knows of a file's format. ``LINE_START`` are the bytes of every line before its ts."""

    @property
    def LINE_START(self) -> bytes: ...

    @property
    def decode(self) -> Callable[[bytes], Iterator[list[str]]]: ...


class KeyIndex:
    """The keys of the newest rows, exactly; of older ones only how far they reach.

    Rows are kept by the second of their ts. Beyond twice ``limit`` keys the oldest seconds are forgotten: a
    row newer than those can be judged from memory, and an older one, which is rare, by reading the file
    again. A key without ``ts`` has no age, and is never forgotten.
    """

    def __init__(self, dedup_key: Sequence[str], lines: Lines, limit: int = 65_536) -> None:
        self._key = itemgetter(*(COLUMNS.index(name) for name in dedup_key))
        self._lines = lines
        self._timed = "ts" in dedup_key
        self._limit = limit
        self._seconds: dict[str, set[Hashable]] = {}
        self._count = 0
        self._forgotten = ""

    def key(self, row: Sequence[str]) -> Hashable:
        """What tells this row from others."""
        key: Hashable = self._key(row)
        return key

    def is_old(self, row: Sequence[str]) -> bool:
        """True if the index can't judge this row, since it forgot rows as old."""
        return self._timed and row[0][:SECOND] <= self._forgotten

    def __contains__(self, row: Sequence[str]) -> bool:
        """True if the row's key is in the file. Only for rows that aren't `is_old`."""
        return self._key(row) in self._seconds.get(self._second(row), ())

    def add(self, rows: Iterable[Sequence[str]]) -> None:
        """Note rows that the file holds, in any order."""
        key, seconds, timed = self._key, self._seconds, self._timed
        for row in rows:
            second = row[0][:SECOND] if timed else ""
            if timed and second <= self._forgotten:
                continue
            keys = seconds.get(second)
            if keys is None:
                keys = seconds[second] = set()
            before = len(keys)
            keys.add(key(row))
            self._count += len(keys) - before
            if self._count > 2 * self._limit:
                self._forget()

    def add_data(self, data: bytes) -> None:
        """Note the rows of a block of whole lines. Raises ValueError if they aren't rows of this file."""
        # Blocks come newest first when a file is opened: most of a long file is passed over here, unparsed.
        if not self._timed or self.newest_second(data) > self._forgotten.encode():
            self.add(self._lines.decode(data))

    def newest_second(self, data: bytes) -> bytes:
        """The newest second of the rows in `data`, or something later.

        Lines are compared without parsing, so that the inside of a quoted field may be taken for a row.
        """
        start = self._lines.LINE_START
        newest = max(data.split(b"\n"))
        if not newest.startswith(start):  # somebody else's line: to be looked at
            return b"\xff"
        return newest[len(start) : len(start) + SECOND]

    def _second(self, row: Sequence[str]) -> str:
        return row[0][:SECOND] if self._timed else ""

    def _forget(self) -> None:
        for second in sorted(self._seconds)[:-1]:
            if self._count <= self._limit:
                break
            self._count -= len(self._seconds.pop(second))
            self._forgotten = second
