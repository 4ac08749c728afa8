"""Sinks that append lines to a file: correct ones, each with another guarantee or form. POSIX and Windows alike."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

from pydantic import Field

from alpha_forge.contracts.errors import Rejected
from alpha_forge.contracts.params import Params as BaseParams
from alpha_forge.contracts.plugin import Sink
from alpha_forge.contracts.types import Prediction
from alpha_forge_sdk.conformance.case import SinkConformance


def as_line(prediction: Prediction) -> bytes:
    """One record as a line of JSON; Python's own shortest text for the value, which reads back to the same bits."""
    fields = {
        "symbol": prediction.symbol,
        "ts": prediction.ts.isoformat(),
        "value": prediction.value,
        "metadata": dict(prediction.metadata),
    }
    return json.dumps(fields).encode() + b"\n"


def of_line(line: bytes | str) -> Prediction:
    """The record of a line. Raises ValueError or KeyError for anything else."""
    fields = json.loads(line)
    ts = datetime.fromisoformat(fields["ts"])
    return Prediction(fields["symbol"], ts, fields["value"], fields["metadata"])


class JsonLines(Sink):
    """A correct sink: appends batches to a file; a batch that comes again is there again (at least once)."""

    class Params(BaseParams):
        """Where to."""

        path: str = Field("predictions.jsonl", min_length=1, description="the file; its directory must exist")

    def __init__(self, params: Params) -> None:
        super().__init__(params)
        self.file: BinaryIO | None = None

    def emit_batch(self, predictions: Sequence[Prediction]) -> None:
        """Append all of them in one piece, and sync."""
        self.append(map(as_line, predictions))

    def open(self) -> None:
        self.file = open(self.params.path, "ab+", buffering=0)  # noqa: SIM115 - closed by close()
        self.mend()

    def mend(self) -> None:
        """Cut off what is no whole line: only a killed writer leaves it, and its record comes again."""
        file = self.opened()
        file.seek(0)
        data = file.read()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            file.truncate(whole)

    def opened(self) -> BinaryIO:
        if self.file is None:
            raise RuntimeError(f"{type(self).__name__} is not open: call open() first")
        return self.file

    def append(self, lines: Iterable[bytes]) -> None:
        """All of it, synced; or none of it, and the error."""
        file = self.opened()
        end = file.seek(0, os.SEEK_END)
        data = memoryview(b"".join(lines))
        try:
            while data:
                data = data[file.write(data) :]
            os.fsync(file.fileno())
        except OSError:
            file.truncate(end)
            raise

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
            self.file = None


class SingleLines(JsonLines):
    """A correct sink that takes single records."""

    emit_batch = Sink.emit_batch

    def emit(self, symbol: str, ts: datetime, prediction: float, metadata: Mapping[str, Any]) -> None:
        self.append([as_line(Prediction(symbol, ts, prediction, metadata))])


class AsyncLines(JsonLines):
    """A correct sink all of whose methods are coroutines."""

    async def open(self) -> None:  # type: ignore[override]
        super().open()

    async def emit_batch(self, predictions: Sequence[Prediction]) -> None:  # type: ignore[override]
        super().emit_batch(predictions)

    async def close(self) -> None:  # type: ignore[override]
        super().close()


class FiniteLines(JsonLines):
    """A correct sink that rejects NaN and infinities, and stores all others first."""

    non_finite = "reject"

    def emit_batch(self, predictions: Sequence[Prediction]) -> None:
        self.opened()
        reasons = {i: "not finite" for i, p in enumerate(predictions) if not math.isfinite(p.value)}
        super().emit_batch([p for i, p in enumerate(predictions) if i not in reasons])
        if reasons:
            raise Rejected(reasons)


class FirstValueLines(JsonLines):
    """A correct sink that keeps the first value of a key, whoever wrote it: it looks into the file, under a lock."""

    delivery = "effectively_once"
    idempotent_by: ClassVar[tuple[str, ...]] = ("ts", "symbol")
    on_conflict = "keep"

    def emit_batch(self, predictions: Sequence[Prediction]) -> None:
        with self.locked():
            self.mend()
            self.store_new(predictions, self.keys_there())

    def store_new(self, predictions: Sequence[Prediction], there: set[tuple[datetime, str]]) -> None:
        """Append what is not `there`; of a key twice in the batch, the first."""
        new: dict[tuple[datetime, str], Prediction] = {}
        for p in predictions:
            if (p.ts, p.symbol) not in there:
                new.setdefault((p.ts, p.symbol), p)
        self.append(map(as_line, new.values()))

    def keys_there(self) -> set[tuple[datetime, str]]:
        file = self.opened()
        file.seek(0)
        return {(p.ts, p.symbol) for p in map(of_line, file.read().splitlines())}

    def locked(self) -> Any:
        """Hold the file for this writer alone, until the block ends or the process dies."""
        return _Locked(self.opened())


class _Locked:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def __enter__(self) -> None:
        self._set("LOCK_EX")

    def __exit__(self, *_: object) -> None:
        self._set("LOCK_UN")

    def _set(self, how: str) -> None:
        try:
            import fcntl
        except ImportError:  # Windows: the kit's race of two processes does not run there either
            return
        fcntl.flock(self._file.fileno(), getattr(fcntl, how))


class LinesCase(SinkConformance):
    """Reads the file line by line; anything but whole records raises."""

    crashes = 12
    recovery = 2.0

    def params(self, tmp_path: Path) -> Mapping[str, Any]:
        return {"path": str(tmp_path / "predictions.jsonl")}

    def read_back(self, params: Mapping[str, Any]) -> Iterator[Prediction]:
        with open(params["path"], "rb") as file:
            yield from map(of_line, file.read().splitlines())
