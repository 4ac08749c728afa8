"""Rows as JSON objects, one a line: a `Format` of `AppendedFile`.

Strict JSON (RFC 8259) in UTF-8, keys in the order of `COLUMNS`, so that a line begins with its ts. Line breaks
within text are escaped: a line without its end is a torn one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from alpha_forge_plugins.sinks.rows import COLUMNS, NAMED, begins_like_ts

HEADER = b""
LINE_START = b'{"ts":"'

_text = json.JSONEncoder(ensure_ascii=False).encode


def encode(row: list[str]) -> bytes:
    """One line of the file. Raises UnicodeEncodeError (a ValueError) for text that UTF-8 can't hold.

    ``prediction`` is a number, written as its text is: finite. Of frame, column and dag_name only those stand
    there that have a text.
    """
    ts, symbol, value, *named, metadata = row
    kept = "".join([f'"{n}":{_text(t)},' for n, t in zip(NAMED, named, strict=True) if t])
    line = f'{{"ts":"{ts}","symbol":{_text(symbol)},"prediction":{value},{kept}"metadata":{metadata}}}\n'
    return line.encode()


def decode(data: bytes) -> Iterator[list[str]]:
    """The texts of each row that may name it, blank lines left out. Raises ValueError for what isn't such a row."""
    for line in data.split(b"\n"):
        if line.strip():
            said = _object(line)
            yield [
                said["ts"],
                said["symbol"],
                repr(float(said["prediction"])),
                *(said.get(name, "") for name in NAMED),
            ]


def whole_length(data: bytes) -> int:
    """How many bytes of `data`, which begins at a row, are whole rows."""
    return data.rfind(b"\n") + 1


def is_whole_row(data: bytes) -> bool:
    """True if `data` is one row that lacks nothing but its line break."""
    try:
        datetime.fromisoformat(_object(data)["ts"])
        return True
    except ValueError:
        return False


def is_torn_row(data: bytes) -> bool:
    """True if `data` may be the beginning of one row; a crash of the system may have left zeros in its place."""
    text = data.rstrip(b"\0")
    if len(text) < len(LINE_START):
        return LINE_START.startswith(text)
    return text.startswith(LINE_START) and begins_like_ts(text[len(LINE_START) :])


def _object(line: bytes) -> dict[str, Any]:
    try:
        said = json.loads(line.decode())  # of bytes, json would guess the encoding
    except (ValueError, RecursionError) as error:
        raise ValueError(f"a line is not JSON: {line[:80].decode(errors='replace')}") from error
    if not (isinstance(said, dict) and line.startswith(LINE_START) and said.keys() <= set(COLUMNS)):
        raise ValueError(f"a line has other keys than a prediction: {line[:80].decode(errors='replace')}")
    texts = [said.get(name, "") for name in ("ts", "symbol", *NAMED)]
    number = said.get("prediction")
    if (
        not ("symbol" in said and isinstance(said.get("metadata"), dict))
        or not all(isinstance(text, str) for text in texts)
        or not isinstance(number, float | int)
        or isinstance(number, bool)
    ):
        raise ValueError(f"a line is no prediction: {line[:80].decode(errors='replace')}")
    return said
