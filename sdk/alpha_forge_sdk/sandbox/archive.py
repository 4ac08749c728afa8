"""The bulk archive: S3 listings and zipped csv files with their checksums, as far as the exchange clock has
come.

An object's bytes depend on the market and its key alone, so a file downloaded twice is the same file. Not
safe for use from two threads at once: the server gives it a thread and a market of its own.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import re
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

from alpha_forge_sdk.sandbox.bars import OPEN_TIME, BarTable
from alpha_forge_sdk.sandbox.faults import Faults
from alpha_forge_sdk.sandbox.http import Response
from alpha_forge_sdk.sandbox.intervals import DAY, FIXED, HOUR, floor_ms, next_ms
from alpha_forge_sdk.sandbox.market import Market
from alpha_forge_sdk.sandbox.payloads import csv_text
from alpha_forge_sdk.sandbox.venue import USDM, Venue

#: Files appear at this time of the day: of the next day, or of the next month's first Monday.
PUBLISHED_AT: Final = 8 * HOUR

#: The largest interval of daily files; longer ones come by the month only.
_LONGEST_DAILY: Final = DAY
_KEPT_OBJECTS: Final = 64
_KEY = re.compile(
    r"(daily|monthly)/klines/([A-Z0-9]+)/(\w+)/\2-\3-(\d{4}-\d{2}(?:-\d{2})?)\.zip(\.CHECKSUM)?"
)


@dataclass(frozen=True, slots=True)
class _Period:
    """The time one file covers, `[start_ms, end_ms)`, its label in the name, and when it appears."""

    label: str
    start_ms: int
    end_ms: int
    published_ms: int


@dataclass(frozen=True, slots=True)
class _Listed:
    """An object as a listing shows it; a common prefix if `published_ms` is None."""

    key: str
    published_ms: int | None = None


def _day(start_ms: int) -> _Period:
    end = start_ms + DAY
    return _Period(_stamp(start_ms, "%Y-%m-%d"), start_ms, end, end + PUBLISHED_AT)


def _month(start_ms: int) -> _Period:
    end = next_ms(start_ms, "1M")
    monday = floor_ms(end + 6 * DAY, "1w")
    return _Period(_stamp(start_ms, "%Y-%m"), start_ms, end, monday + PUBLISHED_AT)


def _stamp(at_ms: int, form: str) -> str:
    return dt.datetime.fromtimestamp(at_ms / 1000, tz=dt.UTC).strftime(form)


class Archive:
    """Listings and objects of `market`, which the exchange clock makes available."""

    def __init__(self, market: Market, venue: Venue = USDM, faults: Faults | None = None) -> None:
        self._faults = faults or Faults()
        self._market = market
        self._venue = venue
        self._root = [f"{part}/" for part in venue.archive.split("/")[:-1]]
        self._known = set(market.symbols)
        self._objects: OrderedDict[str, bytes | None] = OrderedDict()
        self._sizes: dict[str, tuple[int, str] | None] = {}

    def fetch(self, key: str, now_ms: float) -> bytes | None:
        """The object `key` as of `now_ms`; None if there is none, or not yet."""
        match = _KEY.fullmatch(key.removeprefix(self._venue.archive))
        if match is None or not key.startswith(self._venue.archive):
            return None
        kind, symbol, folder, label, checksum = match.groups()
        interval = self._interval_of(folder)
        period = _parse_period(kind, label)
        if symbol not in self._known or interval is None or period is None or period.published_ms > now_ms:
            return None
        if kind == "daily" and _is_monthly_only(interval):
            return None
        stem = f"{symbol}-{folder}-{label}"
        name = key.removesuffix(".CHECKSUM")
        body = self._build(symbol, interval, period, stem, name)
        if body is not None:
            body = self._faults.content(name, body, now_ms)
        if body is None or not checksum:
            return body
        return f"{hashlib.sha256(body).hexdigest()}  {stem}.zip\n".encode()

    def listing(self, query: dict[str, str], now_ms: float) -> Response:
        """An S3 ListObjects (version 1) answer to the parameters prefix, marker, delimiter and max-keys."""
        prefix, marker = query.get("prefix", ""), query.get("marker", "")
        delimiter = query.get("delimiter", "")
        asked = query.get("max-keys", "1000")
        if not asked.isdigit() or delimiter not in ("", "/"):
            return _error(400, "InvalidArgument", "max-keys must be a number and the delimiter a slash")
        most = min(int(asked), 1000)
        now_ms = self._faults.listed_until(now_ms)
        shown: list[tuple[_Listed, tuple[int, str]]] = []
        truncated = False
        for entry in self._walk("", prefix, marker, delimiter == "/", now_ms):
            details = (0, "") if entry.published_ms is None else self._details(entry.key, now_ms)
            if details is None:
                continue
            if len(shown) == most:
                truncated = True
                break
            shown.append((entry, details))
        return Response(200, _listing_xml(query, most, shown, truncated).encode(), "application/xml")

    def _details(self, key: str, now_ms: float) -> tuple[int, str] | None:
        """Size and ETag of an object; None if its period has no bars."""
        if key not in self._sizes:
            body = self.fetch(key, now_ms)
            # MD5 is what S3 puts into an ETag; nothing is secured by it.
            tag = hashlib.md5(body, usedforsecurity=False).hexdigest() if body is not None else ""
            self._sizes[key] = None if body is None else (len(body), tag)
        return self._sizes[key]

    def _walk(self, folder: str, prefix: str, marker: str, grouped: bool, now_ms: float) -> Iterator[_Listed]:
        """Keys (and, if grouped, common prefixes) under `folder` after `marker`, in the order of their
        bytes."""
        for name, published in self._children(folder, now_ms):
            path = folder + name
            if not (path.startswith(prefix) or prefix.startswith(path)):
                continue
            if published is not None:
                if path > marker and path.startswith(prefix):
                    yield _Listed(path, published)
            elif marker > path and not marker.startswith(path):
                continue
            elif grouped and path.startswith(prefix) and path != prefix:
                if not marker.startswith(path):
                    yield _Listed(path)
            else:
                yield from self._walk(path, prefix, marker, grouped, now_ms)

    def _interval_of(self, folder: str) -> str | None:
        """The interval that a folder name stands for: the archive writes `1mo` for `1M`."""
        name = "1M" if folder == "1mo" else "" if folder == "1M" else folder
        return name if name in self._venue.intervals else None

    def _children(self, folder: str, now_ms: float) -> Iterator[tuple[str, int | None]]:
        """Names in a folder, sorted; folders end with a slash and have no time of publication."""
        parts = [part + "/" for part in folder.split("/")[:-1]]
        depth = len(parts) - len(self._root)
        inside = parts[len(self._root) :]
        if depth < 0:
            names = [self._root[depth]]
        elif depth == 0:
            names = ["daily/", "monthly/"]
        elif depth == 1:
            names = ["klines/"]
        elif depth == 2:
            names = sorted(f"{symbol}/" for symbol in self._known)
        elif depth == 3:
            known = self._venue.intervals
            chosen = [name for name in known if inside[0] == "monthly/" or not _is_monthly_only(name)]
            names = sorted(f"{name.replace('1M', '1mo')}/" for name in chosen)
        else:
            symbol, interval = inside[2][:-1], inside[3][:-1]
            for period in self._periods(inside[0] == "daily/", symbol, now_ms):
                stem = f"{symbol}-{interval}-{period.label}.zip"
                yield stem, period.published_ms
                yield f"{stem}.CHECKSUM", period.published_ms
            return
        for name in names:
            yield name, None

    def _periods(self, daily: bool, symbol: str, now_ms: float) -> Iterator[_Period]:
        unit, make = ("1d", _day) if daily else ("1M", _month)
        start = floor_ms(self._market.instrument(symbol).onboard_ms, unit)
        while (period := make(start)).published_ms <= now_ms:
            yield period
            start = period.end_ms

    def _build(self, symbol: str, interval: str, period: _Period, stem: str, key: str) -> bytes | None:
        """The zip of one period; None if the market has no bar in it."""
        if key in self._objects:
            self._objects.move_to_end(key)
            return self._objects[key]
        bars = self._market.bars(symbol, interval, period.start_ms, period.end_ms)
        # A 3d or 1w bar may reach over the month's end: what is not closed when the file appears is not in
        # it.
        closed = [next_ms(int(opened), interval) <= period.published_ms for opened in bars[OPEN_TIME]]
        bars = bars[:, closed]
        body: bytes | None = None
        if bars.shape[1]:
            text = self._csv(symbol, interval, bars)
            body = _zip(f"{stem}.csv", text.encode(), period.end_ms)
        self._objects[key] = body
        if len(self._objects) > _KEPT_OBJECTS:
            self._objects.popitem(last=False)
        return body

    def _csv(self, symbol: str, interval: str, bars: BarTable) -> str:
        """The text of a file; it counts in microseconds if its first bar opens late enough."""
        venue = self._venue
        fine = venue.microseconds_from is not None and int(bars[OPEN_TIME, 0]) >= venue.microseconds_from
        return csv_text(
            self._market.instrument(symbol),
            interval,
            bars,
            header=venue.archive_header,
            places=venue.places,
            per_ms=1000 if fine else 1,
        )


def _is_monthly_only(interval: str) -> bool:
    return interval == "1M" or FIXED[interval] > _LONGEST_DAILY


def _parse_period(kind: str, label: str) -> _Period | None:
    daily = kind == "daily"
    try:
        start = dt.datetime.strptime(label, "%Y-%m-%d" if daily else "%Y-%m").replace(tzinfo=dt.UTC)
    except ValueError:
        return None
    start_ms = int(start.timestamp()) * 1000
    return _day(start_ms) if daily else _month(start_ms)


def _zip(name: str, content: bytes, stamp_ms: int) -> bytes:
    """A zip with one member, and nothing in it that depends on when or where it was made."""
    moment = dt.datetime.fromtimestamp(stamp_ms / 1000, tz=dt.UTC)
    member = zipfile.ZipInfo(name, date_time=moment.timetuple()[:6])
    member.compress_type = zipfile.ZIP_DEFLATED
    member.create_system = 3
    member.external_attr = 0o644 << 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(member, content)
    return buffer.getvalue()


def _listing_xml(
    query: dict[str, str], most: int, shown: list[tuple[_Listed, tuple[int, str]]], truncated: bool
) -> str:
    parts = [
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>data.binance.vision</Name>'
        f"<Prefix>{escape(query.get('prefix', ''))}</Prefix>"
        f"<Marker>{escape(query.get('marker', ''))}</Marker>"
    ]
    delimiter = query.get("delimiter", "")
    # S3 names the next marker only where it groups by a delimiter; others go on from the last key.
    if truncated and delimiter and shown:
        parts.append(f"<NextMarker>{escape(shown[-1][0].key)}</NextMarker>")
    parts.append(f"<MaxKeys>{most}</MaxKeys>")
    if delimiter:
        parts.append(f"<Delimiter>{escape(delimiter)}</Delimiter>")
    parts.append(f"<IsTruncated>{'true' if truncated else 'false'}</IsTruncated>")
    for entry, (size, tag) in shown:
        if entry.published_ms is not None:
            modified = _stamp(entry.published_ms, "%Y-%m-%dT%H:%M:%S.000Z")
            parts.append(
                f"<Contents><Key>{escape(entry.key)}</Key><LastModified>{modified}</LastModified>"
                f'<ETag>"{tag}"</ETag><Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>'
            )
    for entry, _ in shown:
        if entry.published_ms is None:
            parts.append(f"<CommonPrefixes><Prefix>{escape(entry.key)}</Prefix></CommonPrefixes>")
    return "".join([*parts, "</ListBucketResult>"])


def missing(key: str) -> Response:
    """The answer for an object that is not there."""
    return _error(404, "NoSuchKey", "The specified key does not exist.", f"<Key>{escape(key)}</Key>")


def _error(status: int, code: str, text: str, extra: str = "") -> Response:
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{code}</Code><Message>{escape(text)}</Message>{extra}</Error>"
    )
    return Response(status, body.encode(), "application/xml")
