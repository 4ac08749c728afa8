"""The faults that a case of a data source may inject, and what the checks are given for each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

FAULTS: Final[dict[str, str]] = {
    "disconnect": "the stream's connection is lost at a close, which is not delivered",
    "refused": "a new connection of the stream is refused",
    "stall": "the stream's connection stays open and says nothing more",
    "silent_subscription": "a subscription is acknowledged, and nothing of that symbol comes",
    "garbage": "a message that is none: cut off, no text, other fields",
    "oversized": "a message far beyond the size of any true one",
    "duplicate_close": "a close is told again, after the next one too",
    "late_close": "a close comes after messages of the next bar, while another symbol's came in time",
    "missing_close": "a close is never told; the next message is of the next bar",
    "out_of_order": "messages of one symbol overtake those of another; each symbol's keep their order",
    "server_error": "a request for history is answered with an error of the server (HTTP 5xx)",
    "truncated": "the answer to a request for history ends early",
    "rate_limited": "a request for history is refused until a moment later (HTTP 429)",
    "banned": "requests for history are refused until a time that is told (HTTP 418); a request before it prolongs it",
    "history_lag": "history lacks the newest closed bar for a while that `history_lag` covers",
    "clock_off": "the clock handed in is ahead of the source's own by more than a bar",
    "wrong_checksum": "a bulk file was altered on its way: its checksum does not fit",
    "missing_file": "a bulk file is not there",
    "corrupt_file": "a bulk file can't be read, though its checksum fits",
}
"""Fault → what happens to the source. A case injects those that can happen to its source."""


@dataclass(frozen=True, slots=True)
class Injection:
    """A fault in play.

    ``struck()`` is how often it has happened so far: a check goes on once it has seen what it asked for. ``lift()``
    takes it out of play; what it has begun (a ban) may last. Both are called on the event loop.
    """

    struck: Callable[[], int]
    lift: Callable[[], None]
