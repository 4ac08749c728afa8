"""The rows of the prediction CSV: text of a record, and where whole rows end in bytes.

The dialect is RFC 4180 with ``\\n``: fields with a comma, a quote or a line break are quoted, quotes doubled.
The last field is a JSON object, never empty, so that a row cut short anywhere can be told from a whole one.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime

from alpha_forge_sdk import Prediction

COLUMNS = ("ts", "symbol", "prediction", "frame", "column", "dag_name", "metadata")
HEADER = (",".join(COLUMNS) + "\n").encode()
NAMED = ("frame", "column", "dag_name")
"""Metadata keys with a column of their own."""

SECOND = len("2026-01-05T13:00:00")
"""Length of a row's start that orders rows by time; fractions and the ``Z`` come after it."""

_NEEDS_QUOTES = re.compile('[",\r\n]')
_STARTS_A_ROW = re.compile(rb"\n\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")


def fields(prediction: Prediction) -> list[str]:
    """The record as text, in the order of `COLUMNS`. Raises ValueError or TypeError for what CSV can't hold.

    ``ts`` in UTC with ``Z``, microseconds only where there are some; ``prediction`` is the shortest text that
    reads back to the same float64 (``nan``, ``inf``). A metadata key of `NAMED` stands in its column if it is
    a non-empty text; all else is in the JSON object, so that reading back gives the same metadata.
    """
    rest = dict(prediction.metadata)
    named = [rest.pop(key) if _plain(rest.get(key)) else "" for key in NAMED]
    texts = [
        prediction.ts.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        prediction.symbol,
        repr(float(prediction.value)),
        *named,
        json.dumps(rest, ensure_ascii=False, separators=(",", ":")) if rest else "{}",
    ]
    limit = csv.field_size_limit()
    for name, text in zip(COLUMNS, texts, strict=True):
        if len(text) > limit:
            raise ValueError(f"{name} has {len(text)} characters; CSV readers take at most {limit}")
    return texts


def encode(row: list[str]) -> bytes:
    """One line of the file. Raises UnicodeEncodeError (a ValueError) for text that UTF-8 can't hold."""
    return (",".join(map(_quoted, row)) + "\n").encode()


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


def holds_later_rows(data: bytes) -> bool:
    """True if a row seems to start inside `data`: a stray quote swallowed rows then; it is no torn row."""
    return _STARTS_A_ROW.search(data) is not None


def _plain(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if _NEEDS_QUOTES.search(text) else text
