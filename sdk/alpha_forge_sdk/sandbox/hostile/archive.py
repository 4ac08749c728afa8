"""Faults of the archive's files. An altered file depends on its key alone: downloaded twice, it is the same."""

from __future__ import annotations

import hashlib
import io
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from alpha_forge_sdk.sandbox.hostile.dice import Armed, Arsenal
from alpha_forge_sdk.sandbox.payloads import ARCHIVE_COLUMNS

_KEY = re.compile(r"data/.*/klines/([A-Z0-9]+)/(\w+)/[^/]+\.zip")
_HEADER: Final = ",".join(ARCHIVE_COLUMNS)
_MEBIBYTE: Final = 1 << 20

#: Off the grid by so many milliseconds: no interval is as short.
_OFF_GRID_MS: Final = 7


class ArchiveFaults:
    """Plays the rules that concern archive files. One thread only."""

    def __init__(self, arsenal: Arsenal) -> None:
        self._arsenal = arsenal
        self._edits: dict[str, Callable[[Armed, str, list[str]], list[str]]] = {
            "reuploaded": _reuploaded,
            "cut_day": _cut,
            "header": _toggle_header,
            "microseconds": _toggle_microseconds,
            "off_grid_rows": _off_grid,
            "duplicate_rows": _repeat_rows,
        }

    def content(self, key: str, body: bytes, now_ms: float) -> bytes | None:
        """The zip that stands in the archive under `key` in place of `body`; None for none."""
        if any(not armed.rule.option("listed") for armed in self._struck("missing_file", key, now_ms)):
            self._arsenal.count_once("missing_file", key)
            return None
        for armed in self._struck("zip_bomb", key, now_ms):
            return zip_bomb(key, armed.rule.option("bytes"), armed.rule.option("lies"))
        body = self._edited(key, body, now_ms)
        for armed in self._struck("corrupt_zip", key, now_ms):
            body = _damaged(body, armed.draw("where", key))
        return body

    def archived(self, key: str, body: bytes, now_ms: float) -> bytes | None:
        """What is served in place of the object `body`: a zip that `content` made, or a checksum."""
        name = key.removesuffix(".CHECKSUM")
        if key != name:
            if self._counted("missing_checksum", name, now_ms):
                return None
            if self._counted("wrong_checksum", name, now_ms):
                return hashlib.sha256(body).hexdigest().encode() + body[64:]
            return body
        if self._counted("missing_file", name, now_ms):
            return None
        for kind in (*self._edits, "corrupt_zip", "zip_bomb"):
            self._counted(kind, name, now_ms)
        return body

    def _counted(self, kind: str, key: str, now_ms: float) -> bool:
        struck = bool(self._struck(kind, key, now_ms))
        if struck:
            self._arsenal.count(kind)
        return struck

    def _edited(self, key: str, body: bytes, now_ms: float) -> bytes:
        edits = [
            (edit, armed) for kind, edit in self._edits.items() for armed in self._struck(kind, key, now_ms)
        ]
        if not edits:
            return body
        with zipfile.ZipFile(io.BytesIO(body)) as opened:
            member = opened.infolist()[0]
            lines = opened.read(member).decode().splitlines()
        for edit, armed in edits:
            lines = edit(armed, key, lines)
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as made:
            made.writestr(member, "\n".join(lines) + "\n", zipfile.ZIP_DEFLATED)
        return buffer.getvalue()

    def _struck(self, kind: str, key: str, now_ms: float) -> list[Armed]:
        """The first rule of the kind that strikes this file, in a list."""
        rules = self._arsenal.of(kind)
        match = _KEY.fullmatch(key) if rules else None
        if match is None:
            return []
        interval = "1M" if match[2] == "1mo" else match[2]
        for armed in rules:
            if armed.concerns(match[1], interval, f"/{key}") and armed.strikes(now_ms, key):
                return [armed]
        return []


def _split(lines: list[str]) -> tuple[list[str], list[str]]:
    """The header (or nothing) and the rows."""
    return (lines[:1], lines[1:]) if lines and not lines[0][:1].isdigit() else ([], lines)


def _chosen(armed: Armed, key: str, rows: list[str]) -> list[int]:
    """Places of the rows concerned."""
    count = min(armed.rule.option("rows"), len(rows))
    return sorted({int(armed.draw("row", key, number) * len(rows)) for number in range(count)})


def _reuploaded(armed: Armed, key: str, lines: list[str]) -> list[str]:
    """Some closes moved to the bar's open, high or low, and more volume: bars that are valid, but others."""
    head, rows = _split(lines)
    for place in _chosen(armed, key, rows):
        cells = rows[place].split(",")
        cells[4] = next((cells[column] for column in (1, 2, 3) if cells[column] != cells[4]), cells[4])
        cells[5] = f"1{cells[5]}"
        rows[place] = ",".join(cells)
    return head + rows


def _cut(armed: Armed, key: str, lines: list[str]) -> list[str]:
    head, rows = _split(lines)
    return head + rows[: max(1, int(len(rows) * armed.rule.option("share")))]


def _toggle_header(armed: Armed, key: str, lines: list[str]) -> list[str]:
    head, rows = _split(lines)
    return rows if head else [_HEADER, *rows]


def _toggle_microseconds(armed: Armed, key: str, lines: list[str]) -> list[str]:
    head, rows = _split(lines)
    return head + [",".join(_rescaled(row.split(","))) for row in rows]


def _rescaled(cells: list[str]) -> list[str]:
    opened, ended = int(cells[0]), int(cells[6]) + 1
    fine = opened >= 10**15
    cells[0] = str(opened // 1000 if fine else opened * 1000)
    cells[6] = str((ended // 1000 if fine else ended * 1000) - 1)
    return cells


def _off_grid(armed: Armed, key: str, lines: list[str]) -> list[str]:
    head, rows = _split(lines)
    for place in _chosen(armed, key, rows):
        cells = rows[place].split(",")
        shift = _OFF_GRID_MS * (1000 if int(cells[0]) >= 10**15 else 1)
        cells[0] = str(int(cells[0]) + shift)
        rows[place] = ",".join(cells)
    return head + rows


def _repeat_rows(armed: Armed, key: str, lines: list[str]) -> list[str]:
    head, rows = _split(lines)
    for place in reversed(_chosen(armed, key, rows)):
        rows.insert(place, rows[place])
    return head + rows


def _damaged(body: bytes, where: float) -> bytes:
    """The zip with sixteen bytes of its compressed data flipped; its directory stays whole."""
    start = 30 + struct.unpack_from("<H", body, 26)[0]
    size = struct.unpack_from("<I", body, 18)[0] or max(16, len(body) - start - 100)
    first = start + int(where * max(1, size - 16))
    return body[:first] + bytes(byte ^ 0xA5 for byte in body[first : first + 16]) + body[first + 16 :]


@lru_cache(maxsize=4)
def _zeros(size: int) -> tuple[bytes, int]:
    """A deflate stream of `size` zero bytes, made of one block repeated, and their CRC."""
    block = bytes(_MEBIBYTE)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    count, rest = divmod(size, _MEBIBYTE)
    last = zlib.compressobj(9, zlib.DEFLATED, -15)
    tail = last.compress(bytes(rest)) + last.flush(zlib.Z_FINISH)
    checksum = 0
    for _ in range(count):
        checksum = zlib.crc32(block, checksum)
    return packed * count + tail, zlib.crc32(bytes(rest), checksum)


def zip_bomb(key: str, size: int, lies: bool) -> bytes:
    """A zip whose one member unpacks to `size` zero bytes; with `lies` it says it were a thousand."""
    name = key.rsplit("/", 1)[-1].removesuffix(".zip").encode() + b".csv"
    packed, checksum = _zeros(size)
    told = 1000 if lies else size
    common = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 0x21, checksum, len(packed), told, len(name), 0)
    local = b"PK\x03\x04" + common + name
    central = b"PK\x01\x02" + struct.pack("<H", 20) + common + struct.pack("<HHHII", 0, 0, 0, 0, 0) + name
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 1, 1, len(central), len(local) + len(packed), 0)
    return local + packed + central + end
