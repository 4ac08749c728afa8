"""An exchange of a few functions, written after the documentation alone: REST klines, listing, archive, and its faults.

Bars follow from symbol and time by a formula, so that the truth needs no store. Plugs into httpx as a transport.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import zipfile
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx

MS = 1_000_000
HOUR_MS = 3_600_000
LENGTHS = {"1m": 60_000, "1h": HOUR_MS, "1d": 24 * HOUR_MS}


def at_ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def bar(symbol: str, opens: int, length: int) -> list[str]:
    """open, high, low, close, volume as the exchange prints them."""
    k = (opens // length * 7919 + sum(symbol.encode())) % 99_991
    return [f"{k + 1}.5", f"{k + 3}.25", f"{k}.75", f"{k + 2}.1", f"{k % 977}.003"]


def row(symbol: str, opens: int, length: int) -> list[Any]:
    o, h, low, c, v = bar(symbol, opens, length)
    return [opens, o, h, low, c, v, opens + length - 1, "1", 2, "3", "4", "0"]


def csv_of(symbol: str, opens: list[int], length: int, *, header: bool = True, unit: int = 1) -> bytes:
    lines = ["open_time,open,high,low,close,volume,close_time,qv,count,tb,tq,ignore"] if header else []
    for t in opens:
        lines.append(
            ",".join([str(t * unit), *bar(symbol, t, length), str((t + length) * unit - 1), "1,2,3,4,0"])
        )
    return ("\n".join(lines) + "\n").encode()


def zip_of(text: bytes, name: str = "a.csv") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        member = zipfile.ZipInfo(name)  # without the time of now: the same content is the same bytes
        member.compress_type = zipfile.ZIP_DEFLATED
        file.writestr(member, text)
    return buffer.getvalue()


def checksum_of(content: bytes, name: str) -> bytes:
    return f"{hashlib.sha256(content).hexdigest()}  {name}\n".encode()


Spoiler = Callable[[str, int, bytes], "bytes | httpx.Response | Exception | None"]


@dataclass
class Paper:
    """``asked`` counts paths (archive) and names of endpoints (REST); ``pages`` lists (symbol, start, end, limit).

    ``holes`` are (symbol, open) that the exchange never made; ``lost`` are opens that the archive alone lacks.
    ``spoil`` may put anything in the place of an archive object: it gets the key, how often that was asked before,
    and the true bytes.
    """

    now_ms: int
    listed: dict[str, int] = field(default_factory=dict)
    holes: set[tuple[str, int]] = field(default_factory=set)
    lost: set[tuple[str, int]] = field(default_factory=set)
    spoil: Spoiler | None = None
    asked: Counter[str] = field(default_factory=Counter)
    pages: list[tuple[str, int, int, int]] = field(default_factory=list)
    folder: str = "data/futures/um"
    max_keys: int = 1000
    header: bool = True
    unit: int = 1

    def opens(self, symbol: str, first: int, last: int, length: int) -> list[int]:
        """Opens within [first, last] of bars that exist."""
        begin = -(-max(first, self.listed.get(symbol, 0)) // length) * length
        return [t for t in range(begin, last + 1, length) if (symbol, t) not in self.holes]

    def truth(self, symbol: str, interval: str, start: int, end: int) -> dict[int, list[float]]:
        """Close (ns) → values of the closed bars with start < ts <= end (ns)."""
        length = LENGTHS[interval]
        last = min(end, self.now_ms * MS) // MS - length
        return {
            (t + length) * MS: [float(text) for text in bar(symbol, t, length)]
            for t in self.opens(symbol, start // MS, last, length)
        }

    def transport(self) -> httpx.AsyncBaseTransport:
        return httpx.MockTransport(self.answer)

    async def answer(self, request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0)  # as a network does
        path, query = request.url.path, dict(request.url.params)
        if path.endswith("/klines"):
            self.asked["klines"] += 1
            return self._klines(query)
        if path.endswith("/time"):
            self.asked["time"] += 1
            return httpx.Response(200, json={"serverTime": self.now_ms})
        if "prefix" in query:
            self.asked["listing"] += 1
            return httpx.Response(200, content=self._listing(query))
        return self._object(path.lstrip("/"))

    def _klines(self, query: dict[str, str]) -> httpx.Response:
        symbol, limit = query["symbol"], int(query["limit"])
        length = LENGTHS[query["interval"]]
        start, end = int(query["startTime"]), int(query.get("endTime", self.now_ms))
        self.pages.append((symbol, start, end, limit))
        if limit > 1500:
            return httpx.Response(400, json={"code": -1130, "msg": "limit"})
        first = max(start, self.listed.get(symbol, 0))
        found = self.opens(symbol, first, min(end, self.now_ms, first + 3 * limit * length), length)
        return httpx.Response(
            200, content=json.dumps([row(symbol, t, length) for t in found[:limit]]).encode()
        )

    def _object(self, key: str) -> httpx.Response:
        seen = self.asked[key]
        self.asked[key] += 1
        given: Any = self.body(key)
        if given is not None and self.spoil is not None:
            given = self.spoil(key, seen, given)
        if given is None:
            return httpx.Response(404, content=b"<Error><Code>NoSuchKey</Code></Error>")
        if isinstance(given, Exception):
            raise given
        return given if isinstance(given, httpx.Response) else httpx.Response(200, content=given)

    def body(self, key: str) -> bytes | None:
        """The true bytes of an object, None before it is published."""
        name = key.rsplit("/", 1)[1].removesuffix(".CHECKSUM")
        symbol, interval, period = name.removesuffix(".zip").split("-", 2)
        day = date.fromisoformat(period if len(period) == 10 else f"{period}-01")
        after = day + timedelta(days=1) if len(period) == 10 else (day + timedelta(days=32)).replace(day=1)
        if not key.startswith(self.folder) or at_ms(after.isoformat()) + 8 * HOUR_MS > self.now_ms:
            return None
        length = LENGTHS[interval]
        last = at_ms(after.isoformat()) - length
        opens = [
            t
            for t in self.opens(symbol, at_ms(day.isoformat()), last, length)
            if (symbol, t) not in self.lost
        ]
        if not opens:
            return None
        text = csv_of(symbol, opens, length, header=self.header, unit=self.unit)
        content = zip_of(text, name.replace(".zip", ".csv"))
        return checksum_of(content, name) if key.endswith(".CHECKSUM") else content

    def _listing(self, query: dict[str, str]) -> bytes:
        folder = query["prefix"]
        symbol, interval = folder.split("/")[-3:-1]
        day, keys = datetime.fromtimestamp(self.now_ms / 1000 - 90 * 86_400, UTC).date(), []
        for k in range(91):
            each = day + timedelta(days=k)
            name = f"{each:%Y-%m}" if "/monthly/" in folder else each.isoformat()
            keys += [
                f"{folder}{symbol}-{interval}-{name}.zip",
                f"{folder}{symbol}-{interval}-{name}.zip.CHECKSUM",
            ]
        there = [k for k in sorted(set(keys)) if k > query.get("marker", "") and self.body(k) is not None]
        shown = there[: self.max_keys]
        cut = len(shown) < len(there)
        contents = "".join(f"<Contents><Key>{k}</Key></Contents>" for k in shown)
        marker = f"<NextMarker>{shown[-1]}</NextMarker>" if cut else ""
        return (
            '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Prefix>{folder}</Prefix><IsTruncated>{str(cut).lower()}</IsTruncated>{marker}{contents}</ListBucketResult>"
        ).encode()


class Clock:
    """A clock that moves only when somebody sleeps."""

    def __init__(self, now_ms: int) -> None:
        self.time = now_ms * MS
        self.slept: list[float] = []

    def now(self) -> int:
        return self.time

    async def sleep(self, seconds: float) -> None:
        until = self.time + int(seconds * 1e9)
        self.slept.append(seconds)
        await asyncio.sleep(0)
        self.time = max(self.time, until)


class Endless(httpx.AsyncByteStream):
    """A body without end; ``sent`` counts its bytes."""

    def __init__(self) -> None:
        self.sent = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            self.sent += 65_536
            yield b"0" * 65_536
