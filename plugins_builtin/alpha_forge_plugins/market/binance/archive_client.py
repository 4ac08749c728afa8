"""The HTTP loop around ``archive``: download, verify, keep on disk. What can't be trusted is left to REST."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from datetime import date, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from alpha_forge_plugins.market.binance import archive
from alpha_forge_plugins.market.binance.archive import ArchiveError, ArchiveFile
from alpha_forge_plugins.market.binance.planner import MONTHLY_ONLY, Published
from alpha_forge_plugins.market.binance.rest_client import backoff
from alpha_forge_plugins.market.binance.rows import Rows, clean
from alpha_forge_sdk import Interval

log = logging.getLogger(__name__)

_ATTEMPTS = 3


class ArchiveClient:
    """Files of one archive, kept under `cache_dir` as they were downloaded, each beside its checksum.

    The files of a public archive are taken from disk without asking. Those of a local exchange are compared
    with its checksum first: another exchange may serve other data under the same address tomorrow.
    """

    def __init__(
        self, http: httpx.AsyncClient, base: str, listing: str, cache_dir: Path, ask: bool, concurrency: int
    ) -> None:
        self._http = http
        self._base = base
        self._listing = listing
        self._folder = cache_dir / "binance" / urlsplit(base).netloc.replace(":", "_")
        self._ask = ask
        self._slots = asyncio.Semaphore(concurrency)

    def cached(self, file: ArchiveFile) -> bool:
        return self._path(file).exists()

    def _path(self, file: ArchiveFile) -> Path:
        return self._folder / file.key

    async def fetch(self, file: ArchiveFile, interval: Interval) -> Rows | None:
        """The file's bars, cleaned; None if it is missing or can't be trusted (then it is logged)."""
        async with self._slots:
            content = await self._content(file)
            if content is None:
                return None
            try:
                return await asyncio.to_thread(_rows, content, file, interval)
            except ArchiveError as error:
                log.warning("archive file %s: %s; REST serves its range", file.key, error)
                return None

    async def _content(self, file: ArchiveFile) -> bytes | None:
        path = self._path(file)
        kept = await asyncio.to_thread(_read_kept, path)
        if kept is not None and not self._ask:
            return kept
        for attempt in range(2):
            checksum = await self._get(f"{self._base}/{file.key}.CHECKSUM")
            if checksum is None:
                return None
            if kept is not None and _matches(kept, checksum):
                return kept
            content = await self._get(f"{self._base}/{file.key}")
            if content is None:
                return None
            try:
                archive.verify(content, checksum)
            except ArchiveError as error:
                # Files are uploaded anew now and then: file and checksum may be of two versions. Once more.
                log.warning("archive file %s, attempt %d: %s", file.key, attempt + 1, error)
                continue
            await asyncio.to_thread(_keep, path, content, checksum)
            return content
        return None

    async def _get(self, url: str, query: dict[str, str] | None = None) -> bytes | None:
        """The body of a 200; None for anything else, once it has been retried if it may pass."""
        for attempt in range(_ATTEMPTS):
            try:
                answer = await self._http.get(url, params=query)
            except (httpx.TransportError, httpx.DecodingError) as error:
                cause = f"{type(error).__name__}: {error}".rstrip(": ")
            else:
                if answer.status_code == 200:
                    return answer.content
                if answer.status_code in (403, 404):
                    return None  # S3 answers either for a key that isn't there
                cause = f"HTTP {answer.status_code}"
            if attempt + 1 < _ATTEMPTS:
                await asyncio.sleep(backoff(attempt + 1))
        log.warning("%s: %s (%d attempts); REST serves its range", url, cause, _ATTEMPTS)
        return None

    async def published(self, symbol: str, interval: Interval, fallback: Published) -> Published:
        """The last month and day that are there for `symbol`; `fallback` where the listing doesn't answer."""
        month = await self._newest(symbol, interval, True, fallback.month)
        day = (
            None
            if interval.name in MONTHLY_ONLY
            else await self._newest(symbol, interval, False, fallback.day)
        )
        return Published(month, day)

    async def _newest(
        self, symbol: str, interval: Interval, monthly: bool, guess: date | None
    ) -> date | None:
        if guess is None:
            return None
        folder = archive.prefix(symbol, interval.name, monthly)
        # Keys sort by date: a marker a little before the guess leaves one short page.
        marker = f"{folder}{symbol}-{interval.name}-{guess - timedelta(days=70 if monthly else 10)}"
        newest: date | None = None
        while True:
            body = await self._get(self._listing, archive.listing_query(folder, marker))
            if body is None:
                return guess
            try:
                page = archive.parse_listing(body)
            except ArchiveError as error:
                log.warning("archive listing of %s: %s; going by the calendar", folder, error)
                return guess
            found = [day for key in page.keys if (day := _date_of(key, monthly)) is not None]
            newest = max([*found, *([newest] if newest else [])], default=None)
            if page.marker is None or page.marker <= marker:
                break
            marker = page.marker
        # Nothing at all speaks of this symbol (listed last week), not of what is published for the others.
        return newest or guess


def _date_of(key: str, monthly: bool) -> date | None:
    """``…-2026-09-02.zip`` → its day, ``…-2026-09.zip`` → its first; None for checksums and strangers."""
    if not key.endswith(".zip"):
        return None
    text = key[:-4][-7:] + "-01" if monthly else key[:-4][-10:]
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _rows(content: bytes, file: ArchiveFile, interval: Interval) -> Rows:
    ts, values = archive.parse_zip(content, interval)
    # A file answers for the bars that open in its period; rows of another are an error of its making.
    return clean(
        ts, values, interval, file.begin + interval.ns - 1, file.end + interval.ns - 1, "archive", file.key
    )


def _matches(content: bytes, checksum: bytes) -> bool:
    try:
        archive.verify(content, checksum)
    except ArchiveError:
        return False
    return True


def _read_kept(path: Path) -> bytes | None:
    """A file from disk, if it is whole: its checksum is verified again, for disks and editors do harm too."""
    try:
        content = path.read_bytes()
        checksum = path.with_name(path.name + ".CHECKSUM").read_bytes()
    except OSError:
        return None
    return content if _matches(content, checksum) else None


def _keep(path: Path, content: bytes, checksum: bytes) -> None:
    """Both files, each by an atomic rename, the checksum first. A full disk is no reason to stop."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for target, data in ((path.with_name(path.name + ".CHECKSUM"), checksum), (path, content)):
            part = target.with_name(f".{target.name}.{os.getpid()}.{hashlib.sha256(data).hexdigest()[:8]}")
            part.write_bytes(data)
            part.replace(target)
    except OSError as error:
        log.warning("archive cache: %s could not be kept: %s", path, error)
