"""A zip of one member, read within a limit.

The archive's zips hold one file each, and a warm-up reads ten thousand of them: Python's own reader takes several times
as long, most of it for what such a zip doesn't have.
"""

from __future__ import annotations

import struct
import zlib

_END = struct.Struct(
    "<4s4xHHIIH"
)  # entries here, entries in all, directory's size and offset, comment's length
_ENTRY = struct.Struct("<4s4xHHIIIIHHHHHII")
_LOCAL = struct.Struct("<4s22xHH")
_LONGEST_COMMENT = 65_535
_STORED, _DEFLATED = 0, 8
_ENCRYPTED = 0x1


class BadZip(ValueError):
    """A zip that is torn, damaged, or not of one plain member."""


def single_member(content: bytes, limit: int) -> tuple[str, bytes]:
    """(name, data) of the one member, which has at most `limit` bytes. Raises BadZip.

    Neither what the zip says of its size nor how much comes out of it passes the limit; size and CRC-32 are checked.
    """
    at = content.rfind(b"PK\5\6", max(0, len(content) - _END.size - _LONGEST_COMMENT))
    if at < 0:
        raise BadZip("no zip, or its end is missing")
    try:
        _, here, count, _, offset, _ = _END.unpack_from(content, at)
        if (here, count) != (1, 1):
            raise BadZip(f"{count} members, not one")
        entry = _ENTRY.unpack_from(content, offset)
        mark, flags, method, _, crc, packed, size, name_length, *_, where = entry
        local, local_name, local_extra = _LOCAL.unpack_from(content, where)
    except struct.error as error:
        raise BadZip(f"torn: {error}") from None
    if mark != b"PK\1\2" or local != b"PK\3\4":
        raise BadZip("damaged: its directory does not lead to its member")
    if flags & _ENCRYPTED or method not in (_STORED, _DEFLATED):
        raise BadZip(f"a member that is encrypted or packed by method {method}")
    if size > limit:
        raise BadZip(f"{size} bytes inside, of which at most {limit} are bars")
    name = content[offset + _ENTRY.size : offset + _ENTRY.size + name_length].decode("utf-8", "replace")
    start = where + _LOCAL.size + local_name + local_extra
    data = _inflated(content[start : start + packed], method, size)
    if len(data) != size or zlib.crc32(data) != crc:
        raise BadZip(f"damaged: {len(data)} bytes come out, {size} and another CRC-32 were promised")
    return name, data


def _inflated(packed: bytes, method: int, size: int) -> bytes:
    """At most one byte more than `size`: what a zip hides is never unpacked."""
    if method == _STORED:
        return packed
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, size + 1)
    except zlib.error as error:
        raise BadZip(f"damaged: {error}") from None
