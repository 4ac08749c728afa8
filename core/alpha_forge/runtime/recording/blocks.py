"""The form of a recording on disk: a magic line, then blocks, each with its length and checksum, compressed.

A block is whole or it is not there: a recording that a crash cut off ends with its last whole block.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np
import numpy.typing as npt

from alpha_forge.contracts.errors import UsageError
from alpha_forge.contracts.types import BarBatch
from alpha_forge.runtime.results import PredictedRow

MAGIC = b"alpha_forge recording 1\n"
FAMILY = b"alpha_forge recording "
_HEAD = struct.Struct("<II")
LONGEST = 1 << 30
"""Bytes of a block, compressed or not, beyond which a length is taken for damage."""

Item = tuple[str, BarBatch]


def encode(block: dict[str, Any]) -> bytes:
    """A block as bytes of the file."""
    payload = zlib.compress(msgspec.msgpack.encode(block), 1)
    return _HEAD.pack(len(payload), zlib.crc32(payload)) + payload


def decode(file: BinaryIO, path: Path) -> Iterator[dict[str, Any]]:
    """The whole blocks of a recording, in order.

    Raises UsageError: AF8110 if it is no recording, AF8111 for another version, AF8112 for a damaged block. A last
    block that was cut off is left out.
    """
    magic = file.read(len(MAGIC))
    if magic != MAGIC:
        if magic.startswith(FAMILY):
            version = magic[len(FAMILY) :].decode(errors="replace").strip()
            raise UsageError(
                "AF8111",
                f"{path} is a recording of version {version}, this program reads version 1",
                "verify it with the version of alpha-forge that recorded it",
            )
        raise UsageError(
            "AF8110", f"{path} is no recording", "give the FILE of 'alpha_forge signal --record FILE'"
        )
    while head := file.read(_HEAD.size):
        at = file.tell() - len(head)
        if len(head) < _HEAD.size:
            return
        length, checksum = _HEAD.unpack(head)
        payload = file.read(length) if length <= LONGEST else b""
        if len(payload) < length and length <= LONGEST and not file.read(1):
            return
        if len(payload) < length or zlib.crc32(payload) != checksum:
            raise UsageError(
                "AF8112",
                f"{path} is damaged at byte {at}",
                "restore it from a copy; what stands before can't be trusted to be the whole run",
            )
        yield _unpacked(payload)


def _unpacked(payload: bytes) -> dict[str, Any]:
    unzip = zlib.decompressobj()
    data = unzip.decompress(payload, LONGEST)
    block: dict[str, Any] = msgspec.msgpack.decode(data)
    return block


def pack_items(items: Sequence[Item]) -> list[list[Any]]:
    """Batches of bars as plain values."""
    return [
        [
            frame,
            batch.ts,
            batch.symbols.astype("<i4").tobytes(),
            np.ascontiguousarray(batch.values, dtype="<f8").tobytes(),
            batch.absent.astype("<i4").tobytes(),
            None if batch.origins is None else batch.origins.astype("u1").tobytes(),
        ]
        for frame, batch in items
    ]


def unpack_items(packed: Sequence[Sequence[Any]]) -> list[Item]:
    """The inverse of `pack_items`."""
    items = []
    for frame, ts, symbols, values, absent, origins in packed:
        places = _places(symbols)
        bars = np.frombuffer(values, dtype="<f8").reshape(5, len(places)).copy()
        codes = None if origins is None else np.frombuffer(origins, dtype="u1").copy()
        items.append((frame, BarBatch(ts, places, bars, _places(absent), codes)))
    return items


def pack_rows(rows: Sequence[PredictedRow]) -> list[list[Any]]:
    """Predicted values as plain values."""
    return [
        [r.frame, r.column, r.ts, r.symbols.astype("<i4").tobytes(), r.values.astype("<f8").tobytes()]
        for r in rows
    ]


def unpack_rows(packed: Sequence[Sequence[Any]]) -> list[PredictedRow]:
    """The inverse of `pack_rows`."""
    return [
        PredictedRow(frame, column, ts, _places(symbols), np.frombuffer(values, dtype="<f8").copy())
        for frame, column, ts, symbols, values in packed
    ]


def _places(data: bytes) -> npt.NDArray[np.int64]:
    return np.frombuffer(data, dtype="<i4").astype(np.int64)
