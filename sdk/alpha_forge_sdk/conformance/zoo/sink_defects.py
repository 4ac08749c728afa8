"""File sinks that each break one promise of arrival, values or idempotency."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping, MutableSequence, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

from alpha_forge.contracts.types import Prediction
from alpha_forge_sdk.conformance.zoo.sink_files import FirstValueLines, JsonLines, as_line


class StoresNothing(JsonLines):
    """Takes everything, keeps nothing."""

    def append(self, lines: Iterable[bytes]) -> None:
        self.opened()


class ClaimsOnceWithoutKey(JsonLines):
    """Says effectively once, and not by which key."""

    delivery = "effectively_once"


class CreatesFileInPreflight(JsonLines):
    """Makes the file when it is only asked whether it could."""

    def preflight(self) -> None:
        with open(self.params.path, "ab"):
            pass


class DropsBeyondTwentyFive(JsonLines):
    """Stores what fits into one request of 25, and forgets the rest."""

    def emit_batch(self, predictions: Sequence[Prediction]) -> None:
        super().emit_batch(predictions[:25])


class DropsLastBatch(JsonLines):
    """Stores a batch when the next one comes; close forgets the one that waits."""

    waiting: Sequence[Prediction] = ()

    def emit_batch(self, predictions: Sequence[Prediction]) -> None:
        self.opened()
        ready, self.waiting = self.waiting, list(predictions)
        super().emit_batch(ready)


class EmitForgetsMetadata(JsonLines):
    """Its emit is not what its emit_batch is."""

    def emit(self, symbol: str, ts: datetime, prediction: float, metadata: Mapping[str, Any]) -> None:
        self.append([as_line(Prediction(symbol, ts, prediction))])


class AcksBeforeWrite(JsonLines):
    """Keeps records in memory until close."""

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        self.waiting: list[bytes] = []

    def append(self, lines: Iterable[bytes]) -> None:
        self.opened()
        self.waiting += lines

    def close(self) -> None:
        if self.file is not None:
            super().append(self.waiting)
            self.waiting.clear()
        super().close()


class WritesInBackground(JsonLines):
    """Leaves records to a thread, and returns; close waits for the thread."""

    pool: ThreadPoolExecutor | None = None

    def open(self) -> None:
        super().open()
        self.pool = ThreadPoolExecutor(1)

    def append(self, lines: Iterable[bytes]) -> None:
        self.opened()
        if self.pool is not None:
            self.pool.submit(super().append, list(lines))

    def close(self) -> None:
        if self.pool is not None:
            self.pool.shutdown()
        super().close()


class SortsBySymbol(JsonLines):
    """Stores a batch in an order of its own."""

    def emit_batch(self, predictions: Sequence[Prediction]) -> None:
        super().emit_batch(sorted(predictions, key=lambda p: p.symbol))


class EmptiesTheBatch(JsonLines):
    """Takes records out of the caller's list."""

    def emit_batch(self, predictions: Sequence[Prediction]) -> None:
        super().emit_batch(predictions)
        cast(MutableSequence[Prediction], predictions).clear()


class TruncatesWhenOpened(JsonLines):
    """Opens to write instead of to append."""

    def open(self) -> None:
        with open(self.params.path, "wb"):
            pass
        super().open()


class SkipsOlderThanNewest(JsonLines):
    """Takes an older ts for a record that it has seen."""

    newest: datetime | None = None

    def emit_batch(self, predictions: Sequence[Prediction]) -> None:
        taken = []
        for p in predictions:
            if self.newest is None or p.ts >= self.newest:
                self.newest = p.ts
                taken.append(p)
        super().emit_batch(taken)


class Alters(JsonLines):
    """Stores something else than what came: how, the subclasses tell."""

    def altered(self, prediction: Prediction) -> Prediction:
        return prediction

    def emit_batch(self, predictions: Sequence[Prediction]) -> None:
        super().emit_batch([self.altered(p) for p in predictions])


class RoundsToFloat32(Alters):
    """Stores four bytes."""

    def altered(self, prediction: Prediction) -> Prediction:
        try:
            return replace(prediction, value=struct.unpack("<f", struct.pack("<f", prediction.value))[0])
        except OverflowError:
            return prediction


class PrintsFifteenDigits(Alters):
    """Stores a text that is a little short."""

    def altered(self, prediction: Prediction) -> Prediction:
        return replace(prediction, value=float(f"{prediction.value:.15g}"))


class LosesSignOfZero(Alters):
    """Takes -0.0 for 0.0."""

    def altered(self, prediction: Prediction) -> Prediction:
        return replace(prediction, value=prediction.value or 0.0)


class LosesMicroseconds(Alters):
    """Stores milliseconds."""

    def altered(self, prediction: Prediction) -> Prediction:
        ts = prediction.ts
        return replace(prediction, ts=ts.replace(microsecond=ts.microsecond // 1000 * 1000))


class StoresLocalTime(Alters):
    """Stores what the clock on the wall shows."""

    def altered(self, prediction: Prediction) -> Prediction:
        return replace(prediction, ts=prediction.ts.astimezone().replace(tzinfo=UTC))


class FoldsCase(Alters):
    """Takes symbols that differ in case for the same."""

    def altered(self, prediction: Prediction) -> Prediction:
        return replace(prediction, symbol=prediction.symbol.upper())


class DropsMetadata(Alters):
    """Stores symbol, ts and value alone."""

    def altered(self, prediction: Prediction) -> Prediction:
        return replace(prediction, metadata={})


class StoresNanAsZero(Alters):
    """Fills what is unknown with zero."""

    def altered(self, prediction: Prediction) -> Prediction:
        return replace(prediction, value=0.0) if math.isnan(prediction.value) else prediction


class DuplicatesOnRetry(JsonLines):
    """Declares a key, and appends whatever comes."""

    delivery = "effectively_once"
    idempotent_by = ("ts", "symbol")
    on_conflict = "keep"


class ForgetsItsOwnBatch(FirstValueLines):
    """Looks only at what was there before the batch."""

    def store_new(self, predictions: Sequence[Prediction], there: set[tuple[datetime, str]]) -> None:
        self.append(as_line(p) for p in predictions if (p.ts, p.symbol) not in there)


class RemembersKeysInMemory(FirstValueLines):
    """Knows the keys that this instance wrote, none that were there."""

    known: set[tuple[datetime, str]] = frozenset()  # type: ignore[assignment]

    def keys_there(self) -> set[tuple[datetime, str]]:
        return set(self.known)

    def store_new(self, predictions: Sequence[Prediction], there: set[tuple[datetime, str]]) -> None:
        super().store_new(predictions, there)
        self.known = there | {(p.ts, p.symbol) for p in predictions}


class ReadsKeysOnlyAtOpen(RemembersKeysInMemory):
    """Knows what was there when it opened, not what others have written since."""

    def open(self) -> None:
        super().open()
        self.known = FirstValueLines.keys_there(self)


class KeepsThoughItSaysReplace(FirstValueLines):
    """Declares that the newest value stands, and keeps the first."""

    on_conflict = "replace"
