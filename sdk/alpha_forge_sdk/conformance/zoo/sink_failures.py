"""File sinks that each break one promise about faults, crashes, or opening and closing."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import socket
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, BinaryIO

from alpha_forge.contracts.errors import Rejected
from alpha_forge.contracts.types import Prediction
from alpha_forge_sdk.conformance.zoo.sink_files import FiniteLines, JsonLines, as_line


class SwallowsErrors(JsonLines):
    """Goes on as if the disk had taken it."""

    def append(self, lines: Iterable[bytes]) -> None:
        self.opened()
        with contextlib.suppress(OSError):
            super().append(lines)


class WritesHalfAndGoesOn(JsonLines):
    """After a failed write, what it had written stays, and the next line is written behind it."""

    def append(self, lines: Iterable[bytes]) -> None:
        self.opened().write(b"".join(lines))

    def mend(self) -> None:
        pass


class RejectsOnFault(JsonLines):
    """Gives up records since the disk is full just now."""

    def emit_batch(self, predictions: Sequence[Prediction]) -> None:
        try:
            super().emit_batch(predictions)
        except OSError as error:
            raise Rejected(dict.fromkeys(range(len(predictions)), str(error))) from error


class RejectsTheWholeBatch(FiniteLines):
    """Gives up every record of a batch that holds one that it can't take."""

    def emit_batch(self, predictions: Sequence[Prediction]) -> None:
        try:
            super().emit_batch(predictions)
        except Rejected:
            raise Rejected(dict.fromkeys(range(len(predictions)), "not finite")) from None


class StopsAtTheCulprit(FiniteLines):
    """Raises at the first record that it can't take, before those behind it are stored."""

    def emit_batch(self, predictions: Sequence[Prediction]) -> None:
        good = list(itertools.takewhile(lambda p: math.isfinite(p.value), predictions))
        super().emit_batch(good)
        if len(good) < len(predictions):
            raise Rejected({len(good): "not finite"})


class TearsRecordWhenKilled(JsonLines):
    """Writes a line in two halves, and takes what it finds at open for whole."""

    def append(self, lines: Iterable[bytes]) -> None:
        start = self.opened().seek(0, os.SEEK_END)
        try:
            for line in lines:
                for half in (line[: len(line) // 2], line[len(line) // 2 :]):
                    if self.opened().write(half) < len(half):
                        raise OSError("the disk is full")
        except OSError:
            self.opened().truncate(start)
            raise

    def mend(self) -> None:
        pass


class _LocksByFile(JsonLines):
    """Makes a lock file, and takes it away again: unless it is killed between the two."""

    @contextlib.contextmanager
    def lock_file(self) -> Iterator[None]:
        path = f"{self.params.path}.lock"
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            raise RuntimeError("another process has locked the file") from None
        try:
            yield
        finally:
            os.unlink(path)


class StaysLockedWhenKilled(_LocksByFile):
    """Holds a lock file during a batch."""

    def emit_batch(self, predictions: Sequence[Prediction]) -> None:
        self.opened()
        with self.lock_file():
            super().emit_batch(predictions)


class StaysLockedWhenKilledInOpen(_LocksByFile):
    """Holds a lock file while it opens."""

    def open(self) -> None:
        with self.lock_file():
            super().open()


class RewritesFileInClose(JsonLines):
    """Empties the file, and writes it anew."""

    def close(self) -> None:
        if self.file is not None:
            self.file.seek(0)
            lines = self.file.read()
            self.file.truncate(0)
            self.append([lines])
        super().close()


class RaisesOnSecondClose(JsonLines):
    """Closes what it has closed."""

    def close(self) -> None:
        self.opened()
        super().close()


class IgnoresRecordsWhenClosed(JsonLines):
    """Loses what comes before open and after close, without a word."""

    def append(self, lines: Iterable[bytes]) -> None:
        if self.file is not None:
            super().append(lines)


class StumblesWhenClosed(JsonLines):
    """Says that NoneType has no attribute."""

    def emit_batch(self, predictions: Sequence[Prediction]) -> None:
        self.file.fileno()  # type: ignore[union-attr]
        self.append(map(as_line, predictions))


class LeaksSocket(JsonLines):
    """Opens a pair of sockets, and leaves them."""

    def open(self) -> None:
        super().open()
        self.pair = socket.socketpair()


class LeaksThread(JsonLines):
    """Starts a thread that nobody ends."""

    def open(self) -> None:
        super().open()
        self.nobody_sets = threading.Event()
        threading.Thread(target=self.nobody_sets.wait, name="flusher", daemon=True).start()


class LeaksFile(JsonLines):
    """Forgets its file instead of closing it."""

    forgotten: Any = None

    def close(self) -> None:
        self.forgotten, self.file = self.file or self.forgotten, None


_shared: dict[str, BinaryIO] = {}


class SharesItsFile(JsonLines):
    """Keeps the open file for the whole process: the next instance writes where the last one does."""

    def open(self) -> None:
        super().open()
        _shared["file"] = self.opened()

    def opened(self) -> BinaryIO:
        mine = super().opened()
        file = _shared.get("file", mine)
        return mine if file.closed else file
