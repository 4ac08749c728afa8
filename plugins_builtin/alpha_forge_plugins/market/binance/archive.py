"""The bulk archive without I/O: keys, listings, checksums, and the CSV inside the zip."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import quote
from xml.etree import ElementTree

from alpha_forge_plugins.market.binance.zips import BadZip, single_member
from alpha_forge_sdk import Interval

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Bars: TypeAlias = "tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]"
"""Closes (bars,) in ns, and values (5, bars) open to volume."""

MS = 1_000_000
DAY = 86_400_000_000_000
_MICROSECONDS = 10**15  # 16 digits; 13 are ms
_COLUMNS = ("open_time", "open", "high", "low", "close", "volume")
_ROW = 512  # bytes; a row has about 150
_SLACK = 16_384  # a header, an archive's directory


class ArchiveError(ValueError):
    """A file of the archive that can't be trusted: wrong checksum, torn zip, unreadable rows."""


@dataclass(frozen=True, slots=True)
class ArchiveFile:
    """One object: the bars of `symbol` that OPEN in [begin, end), ns; a whole UTC day or calendar month.

    ``folder`` is that of the market, ``data/futures/um``.
    """

    folder: str
    symbol: str
    interval: str
    period: str
    begin: int
    end: int

    @property
    def monthly(self) -> bool:
        return len(self.period) == 7

    @property
    def name(self) -> str:
        return quote(f"{self.symbol}-{self.interval}-{self.period}.zip")

    @property
    def key(self) -> str:
        """Its object key, percent-encoded where a symbol isn't ASCII."""
        return quote(prefix(self.folder, self.symbol, self.interval, self.monthly)) + self.name

    def rows(self, interval: Interval) -> int:
        """Bars that open in its period."""
        return interval.row(self.end - 1) - interval.row(self.begin - 1)

    def days(self) -> list[ArchiveFile]:
        """The daily files of its period."""
        count = (self.end - self.begin) // DAY
        dates = [utc_date(self.begin + k * DAY) for k in range(count)]
        return [day_file(self.folder, self.symbol, self.interval, day) for day in dates]

    def max_bytes(self, interval: Interval) -> int:
        """What it may hold at most, packed or unpacked: several times what its rows need."""
        return self.rows(interval) * _ROW + _SLACK


def prefix(folder: str, symbol: str, interval: str, monthly: bool) -> str:
    """The folder of a symbol's files."""
    return f"{folder}/{'monthly' if monthly else 'daily'}/klines/{symbol}/{interval}/"


def day_file(folder: str, symbol: str, interval: str, day: date) -> ArchiveFile:
    begin = _ns(day)
    return ArchiveFile(folder, symbol, interval, day.isoformat(), begin, begin + DAY)


def month_file(folder: str, symbol: str, interval: str, day: date) -> ArchiveFile:
    """The file of the month that `day` lies in."""
    first = day.replace(day=1)
    return ArchiveFile(folder, symbol, interval, f"{first:%Y-%m}", _ns(first), _ns(next_month(first)))


def next_month(day: date) -> date:
    return (day.replace(day=1) + timedelta(days=32)).replace(day=1)


def utc_date(ts: int) -> date:
    """The UTC day that the instant `ts` (ns) lies in."""
    return datetime.fromtimestamp(ts // 1_000_000_000, UTC).date()


def _ns(day: date) -> int:
    return (day - date(1970, 1, 1)).days * DAY


@dataclass(frozen=True, slots=True)
class Listing:
    """One page of an S3 listing. ``marker`` asks for the next one; None if this was the last."""

    keys: tuple[str, ...]
    folders: tuple[str, ...]
    marker: str | None


def listing_query(folder: str, marker: str = "") -> dict[str, str]:
    """The query of a listing request (S3 ListObjects v1)."""
    return {"prefix": folder, "delimiter": "/", "marker": marker, "max-keys": "1000"}


def parse_listing(body: bytes) -> Listing:
    """Raises ArchiveError for a body that is no listing. The root's own Prefix is an echo, not a folder."""
    if b"<!DOCTYPE" in body[:1024]:
        raise ArchiveError("a listing has no document type: this is another page")
    try:
        root = ElementTree.fromstring(body)
    except ElementTree.ParseError as error:
        raise ArchiveError(f"not a listing: {error}") from None
    space = root.tag[: root.tag.find("}") + 1]
    if root.tag != f"{space}ListBucketResult":
        raise ArchiveError(f"not a listing: its root is {root.tag[:60]!r}")
    keys = tuple(node.text or "" for node in root.findall(f"{space}Contents/{space}Key"))
    folders = tuple(node.text or "" for node in root.findall(f"{space}CommonPrefixes/{space}Prefix"))
    if root.findtext(f"{space}IsTruncated", "false").strip().lower() != "true":
        return Listing(keys, folders, None)
    # S3 names the next marker only where a delimiter was given; otherwise it is the last key.
    marker = root.findtext(f"{space}NextMarker") or max((*keys, *folders), default="")
    if not marker:
        raise ArchiveError("a truncated listing without a key to go on from")
    return Listing(keys, folders, marker)


def verify(content: bytes, checksum: bytes) -> None:
    """Raises ArchiveError unless the SHA-256 of `content` is the one in the ``.CHECKSUM`` file's text."""
    expected = checksum.decode("ascii", "replace").split()[:1]
    actual = hashlib.sha256(content).hexdigest()
    if not expected or expected[0].lower() != actual:
        raise ArchiveError(f"checksum is {actual}, the archive says {expected[0] if expected else 'nothing'}")


def unzip(content: bytes, limit: int) -> bytes:
    """The one CSV inside a klines zip, of at most `limit` bytes. Raises ArchiveError for anything else.

    Neither what the zip says of its size nor how much comes out of it passes the limit.
    """
    if len(content) > limit:
        raise ArchiveError(f"{len(content)} bytes, of which at most {limit} are bars")
    try:
        name, text = single_member(content, limit)
    except BadZip as error:
        raise ArchiveError(f"not a zip of klines: {error}") from None
    if not name.endswith(".csv"):
        raise ArchiveError(f"not a CSV inside but {name[:60]!r}")
    return text


def parse_csv(text: bytes, interval: Interval) -> Bars:
    """The CSV of a klines file → closes (bars,) in ns and values (5, bars) as they stand in it, in its order.

    Detects whether it has a header, and of each row whether its time is ms or µs. Raises ArchiveError.
    """
    import numpy as np
    import pyarrow as pa
    from pyarrow import csv

    if not text.strip():
        return np.empty(0, np.int64), np.empty((5, 0))
    header = not text[:1].isdigit()
    width = text.split(b"\n", 1)[0].count(b",") + 1
    names = [*_COLUMNS, *(f"unread_{i}" for i in range(width - len(_COLUMNS)))]
    try:
        table = csv.read_csv(
            pa.BufferReader(text),
            # One thread: files are small, and the caller reads many at a time.
            read_options=csv.ReadOptions(column_names=names, skip_rows=int(header), use_threads=False),
            convert_options=csv.ConvertOptions(
                include_columns=list(_COLUMNS),
                column_types={name: pa.int64() if name == "open_time" else pa.float64() for name in _COLUMNS},
            ),
        )
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        raise ArchiveError(f"unreadable rows: {error}") from None
    if any(table[name].null_count for name in _COLUMNS):
        raise ArchiveError("rows with empty fields")
    opens = table["open_time"].to_numpy()
    ts = opens * np.where(opens >= _MICROSECONDS, 1000, MS) + interval.ns
    return ts, np.vstack([table[name].to_numpy() for name in _COLUMNS[1:]])


def parse_all(texts: Sequence[bytes], interval: Interval) -> list[Bars | ArchiveError]:
    """`parse_csv` of each text, or why it can't be read.

    They are read as one where that goes well: starting a reader costs more than the rows of ten days.
    """
    import numpy as np

    bodies = [_body(text) for text in texts]
    counts = [body.count(b"\n") for body in bodies]
    try:
        ts, values = parse_csv(b"".join(bodies), interval)
    except ArchiveError:
        ts, values = np.empty(0, np.int64), np.empty((5, 0))
    if len(ts) == sum(counts):
        edges = np.cumsum([0, *counts])
        return [(ts[a:b], values[:, a:b]) for a, b in itertools.pairwise(edges.tolist())]
    return [_parsed(text, interval) for text in texts]


def _body(text: bytes) -> bytes:
    """Its rows alone, each with its line's end."""
    if text and not text[:1].isdigit():
        text = text[text.find(b"\n") + 1 :] if b"\n" in text else b""
    return text if not text or text.endswith(b"\n") else text + b"\n"


def _parsed(text: bytes, interval: Interval) -> Bars | ArchiveError:
    try:
        return parse_csv(text, interval)
    except ArchiveError as error:
        return error
