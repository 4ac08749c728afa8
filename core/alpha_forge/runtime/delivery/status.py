"""What is known of a sink while a run goes on: for its end, for metrics, and for whoever asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, SecretBytes, SecretStr

from alpha_forge.contracts.errors import AlphaForgeError

CLOSED = "closed"
OPEN = "open"


@dataclass(slots=True)
class SinkStatus:
    """What a worker has done so far. Counts are of records, but for `faults`, `timeouts` and `abandoned`: calls."""

    delivered: int = 0
    rejected: int = 0
    last_rejection: str = ""
    retries: int = 0
    timeouts: int = 0
    abandoned: int = 0
    """Calls that never returned in time: each holds a thread until it does."""
    last_error: str = ""
    circuit: str = CLOSED
    may_duplicate: bool = False
    """A call was given up that may still have written, to a sink that stores a record again that comes again."""


@dataclass(frozen=True, slots=True)
class SinkReport:
    """One sink at one moment; the numbers a metric of it would have."""

    delivered: int
    backlog: int
    dead_letters: int
    dropped: int
    retries: int
    timeouts: int
    abandoned: int
    circuit: str
    may_duplicate: bool
    last_error: str


@dataclass(frozen=True, slots=True)
class DeliveryReport:
    """The log and every sink at one moment."""

    appended: int = 0
    repeated: int = 0
    conflicts: int = 0
    sinks: Mapping[str, SinkReport] = field(default_factory=dict)


def secrets_of(params: Any) -> tuple[str, ...]:
    """The texts of all secrets in a plugin's parameters, longest first."""
    found: set[str] = set()
    _gather(params, found)
    return tuple(sorted(found, key=len, reverse=True))


def _gather(value: Any, found: set[str]) -> None:
    if isinstance(value, SecretStr):
        found.add(value.get_secret_value())
    elif isinstance(value, SecretBytes):
        found.add(value.get_secret_value().decode(errors="replace"))
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            _gather(getattr(value, name, None), found)
    elif isinstance(value, Mapping):
        for item in value.values():
            _gather(item, found)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            _gather(item, found)
    found.discard("")


def one_line(error: BaseException, secrets: tuple[str, ...] = ()) -> str:
    """An error for logs: by its code and message if it has one, else by its type; without what is secret.

    A destination's client may well quote the password, or the address with it, that it was refused for.
    """
    if isinstance(error, AlphaForgeError):
        text = f"[{error.code}] {error.message}"
    else:
        text = f"{type(error).__name__}: {error}"
    return hidden(" ".join(text.split()), secrets)


def hidden(text: str, secrets: tuple[str, ...]) -> str:
    """The text with every secret in it replaced."""
    for secret in secrets:
        text = text.replace(secret, "**********")
    return text
