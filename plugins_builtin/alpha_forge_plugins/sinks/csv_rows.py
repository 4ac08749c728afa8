"""Rows of the prediction CSV: a `Format` of `AppendedFile`.

The dialect is RFC 4180 with ``\\n``: fields with a comma, a quote or a line break are quoted, quotes doubled.
The last field is a JSON object, never empty, so that a row cut short anywhere can be told from a whole one.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from datetime import datetime

from alpha_forge_plugins.sinks.rows import COLUMNS, begins_like_ts

HEADER = (",".join(COLUMNS) + "\n").encode()
LINE_START = b""

_QUOTED = re.compile('["\r\n]')
_NEEDS_QUOTES = re.compile('[",\r\n]')
_STARTS_A_ROW = re.compile(rb"\n\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")


def encode(row: list[str]) -> bytes:
    """One line of the file. Raises ValueError for text that UTF-8 can't hold, or that CSV readers don't take."""
    line = ",".join(row)
    if line.count(",") >= len(COLUMNS) or _QUOTED.search(line):
        line = ",".join(map(_quoted, row))
    limit = csv.field_size_limit()
    if len(line) > limit and (long := [n for n, text in zip(COLUMNS, row, strict=True) if len(text) > limit]):
        raise ValueError(f"{long[0]} has more than the {limit} characters that CSV readers take")
    return f"{line}\n".encode()


def decode(data: bytes) -> Iterator[list[str]]:
    """The rows of whole lines, blank ones left out. Raises ValueError for bytes that aren't such rows."""
    try:
        for row in csv.reader(io.StringIO(data.decode(), newline=""), strict=True):
            if len(row) == len(COLUMNS):
                yield row
            elif row:
                raise ValueError(
                    f"a row has {len(row)} fields instead of {len(COLUMNS)}: {','.join(row)[:80]}"
                )
    except csv.Error as error:
        raise ValueError(f"a row is not CSV: {error}") from error


def whole_length(data: bytes) -> int:
    """How many bytes of `data`, which begins at a row, are whole rows.

    A line break ends a row only where the quotes before it are even; within quotes it is part of a field.
    """
    end = data.rfind(b"\n") + 1
    if b'"' not in data:
        return end
    while end and data.count(b'"', 0, end) % 2:
        end = data.rfind(b"\n", 0, end - 1) + 1
    return end


def is_whole_row(data: bytes) -> bool:
    """True if `data` is one row that lacks nothing but its line break."""
    try:
        (row,) = decode(data + b"\n")
        float(row[2])
        datetime.fromisoformat(row[0])
        return isinstance(json.loads(row[-1]), dict)
    except (ValueError, RecursionError):
        return False


def is_torn_row(data: bytes) -> bool:
    """True if `data` may be the beginning of one row; a crash of the system may have left zeros in its place.

    A stray quote swallows rows that were whole: that is none.
    """
    return begins_like_ts(data.rstrip(b"\0")) and _STARTS_A_ROW.search(data) is None


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if _NEEDS_QUOTES.search(text) else text
