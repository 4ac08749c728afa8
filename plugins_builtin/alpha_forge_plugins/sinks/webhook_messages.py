"""What ``sinks.webhook`` sends, and what an answer to it means. Nothing in here talks to anybody."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

from alpha_forge_plugins.sinks.rows import utc_text
from alpha_forge_sdk import AlphaForgeError, Prediction, RetryLater

_LONGEST_WAIT = 3600.0
"""Seconds; a receiver that asks for more is asked again all the same."""

# Made once: json.dumps with options makes an encoder for each record.
_to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode

_SHOWN = 200

_WRONG_RECORD = frozenset({400, 413, 422})
"""The request is understood, what is in it is not taken: it may be one record of many."""

_PASSING = frozenset({408, 409, 421, 423, 425, 429})
"""Too early, too many, or the same request is being worked on: nothing that anybody has to mend."""


_KEPT = 10_000
"""Symbols and instants whose text is kept."""


class Texts:
    """Records as JSON. What they have in common (symbols, ts, metadata) is turned into text once."""

    def __init__(self) -> None:
        self._symbols: dict[str, str] = {}
        self._ts: dict[datetime, str] = {}
        self._metadata: tuple[Mapping[str, object], str] | None = None

    def of(self, prediction: Prediction) -> bytes:
        """One record as JSON. Raises ValueError or TypeError for what JSON can't hold.

        ``prediction`` is the shortest text that reads back to the same float64; ``ts`` is ISO 8601 in UTC with ``Z``,
        microseconds where there are some; ``metadata`` holds the prediction's own, key for key.
        """
        value = float(prediction.value)
        if not math.isfinite(value):
            raise ValueError(f"{prediction.value!r} is no number in JSON")
        if len(self._symbols) > _KEPT or len(self._ts) > _KEPT:
            self._symbols.clear()
            self._ts.clear()
        symbol = self._symbols.get(prediction.symbol)
        if symbol is None:
            symbol = self._symbols[prediction.symbol] = _to_json(prediction.symbol)
        ts = self._ts.get(prediction.ts)
        if ts is None:
            ts = self._ts[prediction.ts] = _to_json(utc_text(prediction.ts))
        # float's own repr is what the json module writes.
        return (
            f'{{"symbol":{symbol},"ts":{ts},"prediction":{value!r},'
            f'"metadata":{self._metadata_text(prediction.metadata)}}}'
        ).encode()

    def _metadata_text(self, metadata: Mapping[str, object]) -> str:
        known = self._metadata
        if known is not None and known[0] == metadata and list(known[0]) == list(metadata):
            return known[1]
        text = _to_json(dict(metadata))
        # Equal texts are the same text; of numbers that is not so: 1, 1.0 and True are equal.
        if all(type(value) is str for value in metadata.values()):
            self._metadata = (metadata, text)
        return text


def message(records: Sequence[bytes], *, single: bool) -> bytes:
    """The body of a request: a JSON array of the records, or the only record itself."""
    return records[0] if single else b"[" + b",".join(records) + b"]"


def idempotency_key(body: bytes) -> str:
    """The same for the same records in the same order, whenever and by whomever they are sent."""
    return hashlib.sha256(body).hexdigest()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a receiver said. ``headers`` have lower-case names, ``text`` is the beginning of the body."""

    status: int
    headers: Mapping[str, str]
    text: str = ""

    def told(self, hidden: Sequence[str] = ()) -> str:
        """In one line for people, without any of the texts in `hidden` (a receiver may echo what it was sent)."""
        text = " ".join(self.text.split())
        for secret in sorted(hidden, key=len, reverse=True):
            text = text.replace(secret, "***")
        text = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
        try:
            phrase = f"{self.status} {HTTPStatus(self.status).phrase}"
        except ValueError:
            phrase = str(self.status)
        return f"{phrase}: {text}" if text else phrase


def is_taken(answer: Answer, origin: str, hidden: Sequence[str] = ()) -> bool:
    """True if the receiver has the records, False if something in them is not taken: 400, 413, 422.

    Raises RetryLater for what passes (5xx, 429 and their like, with ``Retry-After``), AlphaForgeError AF6070 for what
    somebody has to mend, AF6071 for a redirect.
    """
    status = answer.status
    if 200 <= status < 300:
        return True
    if status in _WRONG_RECORD:
        return False
    told = answer.told(hidden)
    if status in _PASSING or status >= 500:
        raise RetryLater(f"{origin} answered {told}", after=retry_after(answer.headers))
    if 300 <= status < 400:
        raise AlphaForgeError(
            "AF6071",
            f"{origin} answered {told.partition(':')[0]}: redirects are not followed",
            "give url the address that it leads to, if that is one of yours",
        )
    raise AlphaForgeError(
        "AF6070",
        f"{origin} does not take requests of sinks.webhook: {told}",
        "correct url and headers (a token, say); the records are kept and come again",
    )


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the receiver asks to be left alone, at most an hour; None if it does not say.

    A date counts from the answer's own ``Date``: the clock of this machine may be another.
    """
    text = headers.get("retry-after", "").strip()
    seconds: float | None = None
    if text.isascii() and text.isdigit():
        seconds = float(text)
    else:
        until, now = _date(text), _date(headers.get("date", ""))
        if until is not None and now is not None:
            seconds = (until - now).total_seconds()
    return None if seconds is None else min(max(0.0, seconds), _LONGEST_WAIT)


def _date(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else None
