"""Archive files on disk, each beside its checksum. Any number of processes may share the folder."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from urllib.parse import quote

from alpha_forge_plugins.market.binance import archive
from alpha_forge_plugins.market.binance.archive import ArchiveError
from alpha_forge_plugins.market.binance.venue import Venue
from alpha_forge_plugins.sinks.file_lock import exclusive
from alpha_forge_sdk import RetryLater

log = logging.getLogger(__name__)

_CHECKSUM = ".CHECKSUM"
_POLL = 0.05
_PATIENCE = 60.0  # seconds that another process may take for one file before it is fetched twice
_DAY = 86_400.0


class FileCache:
    """Keeps objects of one archive under their keys.

    What is read has been verified against its checksum, for disks and editors do harm too. What is written
    appears by an atomic rename. A folder that can't be written is no reason to stop: it is said once, and the
    run goes on without. Safe for threads.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._root = os.fspath(folder)
        self._writes = True
        self._telling = threading.Lock()

    def of(self, symbols: Sequence[str], interval: str, venue: Venue) -> dict[str, set[str]]:
        """Names of each symbol's files, monthly and daily."""
        kept = {}
        for symbol in symbols:
            folders = [archive.prefix(venue.archive_folder, symbol, interval, by) for by in (True, False)]
            kept[symbol] = {name for folder in folders for name in self._names(quote(folder))}
        return kept

    def _names(self, folder: str) -> list[str]:
        try:
            return os.listdir(self._folder / folder)
        except OSError:
            return []

    def read(self, key: str) -> bytes | None:
        """The file, if it is there and whole."""
        # Strings and plain system calls: this is done ten thousand times before a run can begin.
        path = f"{self._root}/{key}"
        try:
            content = _bytes_of(path)
            checksum = _bytes_of(f"{path}{_CHECKSUM}")
        except OSError:
            return None
        try:
            archive.verify(content, checksum)
        except ArchiveError as error:
            log.warning("archive cache: %s is damaged and fetched anew: %s", path, error)
            return None
        return content

    def write(self, key: str, content: bytes, checksum: bytes) -> None:
        """Keep a file. The checksum goes first: without its file it is nothing, the other way round it is damage."""
        if not self._writes:
            return
        path = self._folder / key
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            for target, data in ((_beside(path), checksum), (path, content)):
                _replace(target, data)
        except OSError as error:
            with self._telling:  # of the threads that meet the same full disk at once, one says so
                told, self._writes = not self._writes, False
            if not told:
                why = error.strerror or error
                log.warning(
                    "archive cache: %s can't be written (%s); this run goes on without keeping files",
                    path,
                    why,
                )

    def asked_lately(self, key: str) -> bool:
        """Whether the archive was asked within a day if the file is still the one it has."""
        try:
            return time.time() - _beside(self._folder / key).stat().st_mtime < _DAY
        except OSError:
            return False

    def asked(self, key: str) -> None:
        """The archive has been asked: the file is still the one it has."""
        with contextlib.suppress(OSError):
            os.utime(_beside(self._folder / key))

    @contextlib.asynccontextmanager
    async def claim(self, key: str) -> AsyncIterator[None]:
        """Hold `key` while it is downloaded: who comes later waits, and then finds the file on disk.

        The system takes the claim from a process that dies. After a minute, or where files can't be locked, the
        block runs without: two downloads of one file do no harm.
        """
        if not self._writes:
            yield
            return
        path = self._folder / key
        lock = path.with_name(f".{path.name}.lock")
        with contextlib.ExitStack() as held:
            # Polls are counted, not timed: no clock decides anything but how long a wait may be.
            for _ in range(round(_PATIENCE / _POLL)):
                try:
                    if _take(lock, held):
                        break
                except OSError:
                    break
                await asyncio.sleep(_POLL)
            yield


def _take(lock: Path, held: contextlib.ExitStack) -> bool:
    """Try once to lock the file `lock`, to be unlocked and removed when `held` ends."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as mine:
        file = mine.enter_context(lock.open("ab"))
        try:
            mine.enter_context(exclusive(file, 0.0))
        except RetryLater:
            return False
        try:
            # The holder before us removes its lock file: we may have locked a file that no longer has a name.
            if lock.stat().st_ino != os.fstat(file.fileno()).st_ino:
                return False
        except FileNotFoundError:
            return False
        mine.callback(lock.unlink, missing_ok=True)
        held.push(mine.pop_all())
    return True


def _beside(path: Path) -> Path:
    return path.with_name(path.name + _CHECKSUM)


def _bytes_of(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        size = os.fstat(descriptor).st_size
        content = os.read(descriptor, size)
        while len(content) < size and (more := os.read(descriptor, size - len(content))):
            content += more
        return content
    finally:
        os.close(descriptor)


def _replace(target: Path, data: bytes) -> None:
    """Write `target` in one step; nothing is left behind where that fails."""
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        part.replace(target)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise
