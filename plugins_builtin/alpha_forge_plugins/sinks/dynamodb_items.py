"""A record as an item of a DynamoDB table, and back to what names it. Nothing in here talks to anybody.

Items are in DynamoDB's own form, ``{"symbol": {"S": "BTCUSDT"}, …}``: a number is the text that was written, and no
decimal context comes between.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from alpha_forge_plugins.sinks.rows import NAMED, holds_utf8, metadata_texts, utc_text
from alpha_forge_sdk import Prediction

Item = dict[str, dict[str, Any]]
Key = tuple[str, str]

SeriesPart = Literal["symbol", "frame", "column", "dag_name"]

RANGE = "ts"
"""Name of the sort key: ISO 8601 in UTC with six decimals, so that texts sort as the instants do."""

EXPIRES = "expires_at"
"""Name of the attribute for DynamoDB's TTL: seconds since the epoch."""

_SMALLEST, _BEYOND = 1e-130, 1e126
_LARGEST_ITEM = 400 * 1024
_LARGEST_KEY = 2048
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = 86_400.0


def hash_attribute(series: Sequence[SeriesPart]) -> str:
    """Name of the partition key: ``symbol`` where that alone names a series, else ``series``."""
    return "symbol" if tuple(series) == ("symbol",) else "series"


def item_of(prediction: Prediction, series: Sequence[SeriesPart], ttl_days: float | None) -> Item:
    """The record as an item. Raises ValueError or TypeError for what no item can hold.

    ``prediction`` is a number with all the digits of the float64; DynamoDB drops the sign of zero, so that a negative
    zero carries ``negative_zero: true``. Empty texts and an empty ``metadata`` are left out. ``expires_at`` follows
    from the record's ts: the same record always gives the same item.
    """
    *named, metadata = metadata_texts(prediction)
    texts = {"symbol": prediction.symbol, **dict(zip(NAMED, named, strict=True))}
    holds_utf8(*texts.values(), metadata)
    value = float(prediction.value)
    item: Item = {
        RANGE: {"S": utc_text(prediction.ts, "microseconds")},
        "prediction": {"N": number(value)},
        **{name: {"S": text} for name, text in texts.items() if text},
    }
    if value == 0 and math.copysign(1, value) < 0:
        item["negative_zero"] = {"BOOL": True}
    if metadata != "{}":
        item["metadata"] = {"S": metadata}
    name = hash_attribute(series)
    if name == "series":
        item[name] = {"S": "#".join(_part(texts, part) for part in series)}
    if ttl_days is not None:
        expires = math.ceil((prediction.ts - _EPOCH).total_seconds() + ttl_days * _DAY)
        item[EXPIRES] = {"N": str(expires)}
    _judge_sizes(item, name)
    return item


def key_of(item: Item, hash_name: str) -> Key:
    """What names the item in its table: the values of the partition key and of the sort key."""
    return item[hash_name]["S"], item[RANGE]["S"]


def number(value: float) -> str:
    """The shortest text that reads back to the same float64. Raises ValueError for what DynamoDB has no number for."""
    if not math.isfinite(value):
        raise ValueError(f"{value!r} is no number in DynamoDB")
    if value and not _SMALLEST <= abs(value) < _BEYOND:
        raise ValueError(f"{value!r} is beyond DynamoDB's numbers (1E-130 to 9.99…E+125)")
    return repr(value) if value else "0"


def _judge_sizes(item: Item, hash_name: str) -> None:
    """Raise ValueError for what DynamoDB has no room for, by the sizes that its documentation gives."""
    key = _size(item.get(hash_name, {"S": ""}))
    if not 0 < key <= _LARGEST_KEY:
        raise ValueError(f"'{hash_name}' has {key} bytes; a partition key has 1 to {_LARGEST_KEY}")
    size = sum(len(name) + _size(value) for name, value in item.items())
    if size > _LARGEST_ITEM:
        raise ValueError(f"the item has {size} bytes; DynamoDB takes at most {_LARGEST_ITEM}")


def _size(value: dict[str, Any]) -> int:
    ((kind, held),) = value.items()
    if kind == "N":
        return 1 + (len(held.partition("e")[0].strip("-0.").replace(".", "")) + 1) // 2  # two digits a byte
    return len(held.encode()) if kind == "S" else 1


def _part(texts: dict[str, str], name: str) -> str:
    if not texts[name]:
        raise ValueError(f"the record has no '{name}', which is part of its key")
    # '#' joins the parts: within one it is written so that no two series share a key.
    return texts[name].replace("%", "%25").replace("#", "%23")
