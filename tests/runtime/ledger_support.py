"""What a ledger and a certificate should say, computed by loops over dictionaries. Imports nothing of the product."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

HOUR = 3600 * 10**9


def iso(ts: int) -> str:
    return datetime.fromtimestamp(ts // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def bar_hash(ts: int, values: Sequence[float]) -> int:
    data = struct.pack("<q5d", ts, *values)
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def rolling(parts: Iterable[Iterable[tuple[int, Sequence[float]]]]) -> str:
    """The digest over the segments' bars, each a list of (close, values)."""
    digest = bytes(32)
    for bars in parts:
        told = b"".join(struct.pack("<qQ", ts, bar_hash(ts, values)) for ts, values in bars)
        if told:
            digest = hashlib.sha256(digest + told).digest()
    return digest.hex()


def stretches(said: Mapping[int, str]) -> list[tuple[int, int, str]]:
    """(first, last, word) of rows, run-length encoded."""
    found: list[tuple[int, int, str]] = []
    for row in sorted(said):
        if found and found[-1][1] == row - 1 and found[-1][2] == said[row]:
            found[-1] = (found[-1][0], row, said[row])
        else:
            found.append((row, row, said[row]))
    return found


def as_said(section: Mapping[str, Any], step: int = HOUR) -> list[tuple[int, int, str]]:
    """A certificate's symbol as `stretches` would have it: ``hole`` for holes, else the origin."""
    pieces = [(p["from"], p["to"], p["origin"]) for p in section["runs"]]
    pieces += [(p["from"], p["to"], "hole") for p in section["holes"]]
    rows = [(row_of(a, step), row_of(b, step), word) for a, b, word in pieces]
    return sorted(rows)


def row_of(text: str, step: int = HOUR) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * 10**9 // step


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content with the digest that it should have."""
    bare = {k: v for k, v in content.items() if k != "sha256"}
    text = json.dumps(bare, sort_keys=True, separators=(",", ":"))
    return {**bare, "sha256": hashlib.sha256(text.encode()).hexdigest()}
