"""The HTTP loop around ``archive``: download, verify, keep on disk. What can't be trusted is left to REST."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import httpx
import numpy as np

from alpha_forge_plugins.market.binance import archive
from alpha_forge_plugins.market.binance.archive import ArchiveError, ArchiveFile, Bars
from alpha_forge_plugins.market.binance.cache import FileCache
from alpha_forge_plugins.market.binance.planner import MONTHLY_ONLY, Published
from alpha_forge_plugins.market.binance.rest_client import backoff, tls_failure
from alpha_forge_plugins.market.binance.rows import Rows, clean
from alpha_forge_plugins.market.binance.venue import Venue
from alpha_forge_sdk import Interval

log = logging.getLogger(__name__)

_ATTEMPTS = 3
_TOLD = 10  # files named in the log; those that follow are counted
_GIVEN_UP = (
    5  # requests in a row without an answer, each tried several times, after which REST serves everything
)
_SLOWEST = 50_000  # bytes a second; a body that comes slower is left to REST
_CHECKSUM_BYTES = 4096
_LISTING_BYTES = 4 * 2**20


@dataclass(frozen=True, slots=True)
class _File:
    """A file's bytes, and whether they lay on disk already. None of either: it can't be had."""

    content: bytes | None = None
    kept: bool = False


class ArchiveClient:
    """Files of one archive, kept in `cache` as they were downloaded.

    Files on disk are taken without asking, but for two kinds: those of an archive whose data may change
    altogether (`ask`: a local exchange), and, once a day, those that lack bars: days are uploaded again.

    ``counts`` tells what has happened to files and rows since the client was made.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        base: str,
        listing: str,
        venue: Venue,
        cache: FileCache,
        *,
        ask: bool = False,
        concurrency: int = 8,
        timeout: float = 10.0,
    ) -> None:
        self._http = http
        self._base = base
        self._listing = listing
        self._venue = venue
        self._cache = cache
        self._slots = asyncio.Semaphore(concurrency)
        self._longest = 3 * timeout
        self._failures = 0
        self.asks = ask
        self.counts: Counter[str] = Counter()

    def kept(self, symbols: Sequence[str], interval: str) -> dict[str, set[str]]:
        """Names of each symbol's files on disk. Blocks: for a thread."""
        return self._cache.of(symbols, interval, self._venue)

    async def fetch(self, files: Sequence[ArchiveFile], interval: Interval) -> tuple[Rows, list[ArchiveFile]]:
        """The bars of one symbol's files, oldest first, cleaned; and the files that can't be had or trusted."""
        had, found = await asyncio.to_thread(self._from_disk, files, interval)
        lacking = [k for k, file in enumerate(had) if file.content is None or self.asks]
        if lacking:
            await self._renew(files, had, lacking, interval)
            found = await asyncio.to_thread(_decode, files, had, interval)
        doubtful = [
            k for k, bars in enumerate(found) if had[k].kept and self._doubtful(files[k], bars, interval)
        ]
        if doubtful:
            before = list(had)
            await self._renew(files, had, doubtful, interval)
            if had != before:
                found = await asyncio.to_thread(_decode, files, had, interval)
        lost = [file for file, bars in zip(files, found, strict=True) if not isinstance(bars, tuple)]
        return self._merged(files, had, found, interval), lost

    def _from_disk(
        self, files: Sequence[ArchiveFile], interval: Interval
    ) -> tuple[list[_File], list[Bars | ArchiveError | None]]:
        """What is kept, and what is in it if that is all. Blocks."""
        had = [_File(content, content is not None) for content in (self._cache.read(f.key) for f in files)]
        whole = not self.asks and all(file.kept for file in had)
        return had, _decode(files, had, interval) if whole else []

    async def _renew(
        self, files: Sequence[ArchiveFile], had: list[_File], which: Sequence[int], interval: Interval
    ) -> None:
        """Put what the archive has now in place of the files numbered `which`."""
        news = await asyncio.gather(*(self._content(files[k], had[k].content, interval) for k in which))
        for k, file in zip(which, news, strict=True):
            had[k] = file

    def _doubtful(self, file: ArchiveFile, bars: Bars | ArchiveError | None, interval: Interval) -> bool:
        whole = isinstance(bars, tuple) and len(bars[0]) >= file.rows(interval)
        return not whole and not self.asks and not self._cache.asked_lately(file.key)

    def _merged(
        self,
        files: Sequence[ArchiveFile],
        had: Sequence[_File],
        found: Sequence[Bars | ArchiveError | None],
        interval: Interval,
    ) -> Rows:
        """All files' bars as one, each file's of its own period alone."""
        parts: list[Bars] = []
        for file, source, bars in zip(files, had, found, strict=True):
            if bars is None:
                continue
            if isinstance(bars, ArchiveError):
                self._tell("files_damaged", file, str(bars))
                continue
            self.counts["files_from_disk" if source.kept else "files_downloaded"] += 1
            ts, values = bars
            # A file answers for the bars that open in its period; rows of another are an error of its making.
            own = (ts >= file.begin + interval.ns) & (ts < file.end + interval.ns)
            if not own.all():
                self.counts["rows_refused"] += int((~own).sum())
                log.warning("archive file %s: %d row(s) of another time", file.key, int((~own).sum()))
                ts, values = ts[own], values[:, own]
            parts.append((ts, values))
        if not parts:
            return Rows(np.empty(0, np.int64), np.empty((5, 0)), "archive")
        ts = np.concatenate([ts for ts, _ in parts])
        values = np.concatenate([values for _, values in parts], axis=1)
        begin, end = files[0].begin, files[-1].end + interval.ns
        rows = clean(ts, values, interval, begin, end, "archive", f"archive, {files[0].symbol}")
        self.counts["rows_refused"] += rows.refused
        self.counts["rows_repeated"] += len(ts) - rows.refused - len(rows.ts)
        return rows

    def _tell(self, kind: str, file: ArchiveFile, why: str) -> None:
        """Count a file that is not to be had, and name the first ones."""
        self.counts[kind] += 1
        told = self.counts["files_damaged"] + self.counts["files_missing"]
        if told <= _TOLD:
            more = "; further ones are only counted" if told == _TOLD else ""
            log.warning("archive file %s: %s; REST serves its range%s", file.key, why, more)

    async def _content(self, file: ArchiveFile, kept: bytes | None, interval: Interval) -> _File:
        """The file as the archive has it now: from disk if the checksum says that it is the same."""
        key, limit = file.key, file.max_bytes(interval)
        async with self._slots, self._cache.claim(key):
            on_disk = kept
            if kept is None:
                # Another process may have been quicker; what it has just kept needs no question.
                on_disk = await asyncio.to_thread(self._cache.read, key)
                if on_disk is not None and not self.asks:
                    return _File(on_disk, True)
            why = "it is missing"
            for _ in range(2):
                checksum = await self._get(f"{self._base}/{key}.CHECKSUM", _CHECKSUM_BYTES)
                if checksum is None:
                    break
                if on_disk is not None and _matches(on_disk, checksum):
                    await asyncio.to_thread(self._cache.asked, key)
                    return _File(on_disk, True)
                content = await self._get(f"{self._base}/{key}", limit)
                if content is None:
                    break
                try:
                    archive.verify(content, checksum)
                except ArchiveError as error:
                    # Files are uploaded anew now and then: file and checksum may be of two versions. Once more.
                    why = str(error)
                    continue
                if on_disk is not None:
                    self.counts["files_uploaded_again"] += 1
                    log.warning("archive file %s has been uploaded again; the new one is used", key)
                await asyncio.to_thread(self._cache.write, key, content, checksum)
                return _File(content)
        if kept is not None and not self.asks:
            return _File(kept, True)
        self._tell("files_missing" if why == "it is missing" else "files_damaged", file, why)
        return _File()

    async def _get(self, url: str, limit: int, query: dict[str, str] | None = None) -> bytes | None:
        """The body of a 200, of at most `limit` bytes; None for anything else, retried if it may pass."""
        cause = ""
        for attempt in range(_ATTEMPTS):
            if self._failures >= _GIVEN_UP:
                return None
            try:
                async with asyncio.timeout(self._longest + limit / _SLOWEST):
                    status, body = await self._download(url, limit, query)
            except ArchiveError as error:
                log.warning("%s: %s", url, error)
                return None
            except TimeoutError:
                # It would be as slow the next time, and REST has the same bars.
                cause = "no end of its body"
                break
            except (httpx.TransportError, httpx.DecodingError) as error:
                cause = tls_failure(error) or f"{type(error).__name__}: {error}".rstrip(": ")
            else:
                if status == 200:
                    self._failures = 0
                    return body
                if status in (403, 404):
                    self._failures = 0
                    return None  # S3 answers either for a key that isn't there
                cause = f"HTTP {status}"
            if attempt + 1 < _ATTEMPTS:
                await asyncio.sleep(backoff(attempt + 1))
        self._failures += 1
        log.warning("%s: %s (%d attempts)", url, cause, attempt + 1)
        if self._failures == _GIVEN_UP:
            log.warning("the archive at %s does not answer; REST serves everything", self._base)
        return None

    async def _download(self, url: str, limit: int, query: dict[str, str] | None) -> tuple[int, bytes]:
        """(status, body). Raises ArchiveError as soon as the body passes `limit`."""
        async with self._http.stream("GET", url, params=query) as answer:
            body = bytearray()
            async for chunk in answer.aiter_bytes():
                body += chunk
                if len(body) > limit:
                    raise ArchiveError(f"more than the {limit} bytes that it can have")
            return answer.status_code, bytes(body)

    async def published(self, symbol: str, interval: Interval, fallback: Published) -> Published:
        """The last month and day that are there for `symbol`; `fallback` where the listing doesn't answer.

        Asked once for each range: an archive that was given up before is tried again.
        """
        self._failures = 0
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
        folder = archive.prefix(self._venue.archive_folder, symbol, interval.name, monthly)
        # Keys sort by date: a marker a little before the guess leaves one short page.
        marker = f"{folder}{symbol}-{interval.name}-{guess - timedelta(days=70 if monthly else 10)}"
        newest: date | None = None
        while True:
            body = await self._get(self._listing, _LISTING_BYTES, archive.listing_query(folder, marker))
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


def _decode(
    files: Sequence[ArchiveFile], had: Sequence[_File], interval: Interval
) -> list[Bars | ArchiveError | None]:
    """Each file's bars, or why it can't be read; None where there is no file."""
    found: list[Bars | ArchiveError | None] = []
    texts: list[bytes] = []
    places: list[int] = []
    for place, (file, source) in enumerate(zip(files, had, strict=True)):
        found.append(None)
        if source.content is None:
            continue
        try:
            texts.append(archive.unzip(source.content, file.max_bytes(interval)))
            places.append(place)
        except ArchiveError as error:
            found[place] = error
    for place, bars in zip(places, archive.parse_all(texts, interval), strict=True):
        found[place] = bars
    return found


def _matches(content: bytes, checksum: bytes) -> bool:
    try:
        archive.verify(content, checksum)
    except ArchiveError:
        return False
    return True
