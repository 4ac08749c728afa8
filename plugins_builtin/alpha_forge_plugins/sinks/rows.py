"""A record as a row of text: the columns that every file destination has, and which of them may name a record."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal

from alpha_forge_sdk import Prediction

COLUMNS = ("ts", "symbol", "prediction", "frame", "column", "dag_name", "metadata")
NAMED = ("frame", "column", "dag_name")
"""Metadata keys with a column of their own."""

SECOND = len("2026-01-05T13:00:00")
"""Length of a ts' text that orders rows by time; fractions and the ``Z`` come after it."""

KeyColumn = Literal["ts", "symbol", "prediction", "frame", "column", "dag_name"]


def fields(prediction: Prediction, *, allow_nan: bool = True) -> list[str]:
    """The record as text, in the order of `COLUMNS`. Raises ValueError or TypeError for what no text file can hold.

    ``ts`` in UTC with ``Z``, microseconds only where there are some; ``prediction`` is the shortest text that
    reads back to the same float64 (``nan``, ``inf``). A metadata key of `NAMED` stands in its column if it is
    a non-empty text; all else is in the JSON object, so that reading back gives the same metadata. ``allow_nan``
    lets that object hold NaN and infinities, which JSON lacks and most readers take.
    """
    frame, column, dag_name, rest = metadata_texts(prediction, allow_nan=allow_nan)
    value = repr(float(prediction.value))
    return [utc_text(prediction.ts), prediction.symbol, value, frame, column, dag_name, rest]


def metadata_texts(prediction: Prediction, *, allow_nan: bool = True) -> tuple[str, str, str, str]:
    """The last four of `COLUMNS`, as `fields` has them. Raises ValueError or TypeError for what JSON can't hold."""
    metadata = prediction.metadata
    frame, column, dag_name = [text if isinstance(text := metadata.get(k), str) else "" for k in NAMED]
    if len(metadata) == len(NAMED) and frame and column and dag_name:  # as it comes from a run
        return frame, column, dag_name, "{}"
    rest = {k: v for k, v in metadata.items() if not (k in NAMED and isinstance(v, str) and v)}
    text = json.dumps(rest, ensure_ascii=False, separators=(",", ":"), allow_nan=allow_nan)
    return frame, column, dag_name, text


@lru_cache(maxsize=64)  # the bars of all symbols close at the same instants
def utc_text(ts: datetime, timespec: str = "auto") -> str:
    """An instant as ISO 8601 in UTC, with ``Z``."""
    return ts.astimezone(UTC).isoformat(timespec=timespec).replace("+00:00", "Z")


def holds_utf8(*texts: str) -> None:
    """Raise UnicodeEncodeError (a ValueError) for text that UTF-8 can't hold: half of a surrogate pair."""
    "".join(texts).encode()


def begins_like_ts(text: bytes) -> bool:
    """True if `text` may be the beginning of a row that begins with its ts, however short it was cut off."""
    return all(
        chr(byte).isdigit() if wanted == "0" else chr(byte) == wanted
        for byte, wanted in zip(text, "0000-00-00T00:00:00", strict=False)
    )
