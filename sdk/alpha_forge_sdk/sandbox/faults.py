"""The seam through which an exchange misbehaves on purpose.

The server asks `Faults` at the four points where a real exchange goes wrong. The class itself does nothing; a
hostile exchange overrides what it needs. Methods are called from the server's event loop, except `archived`,
which is called from the archive's worker thread; none may block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from alpha_forge_sdk.sandbox.feed import Push
from alpha_forge_sdk.sandbox.http import Response


@dataclass(frozen=True, slots=True)
class Hangup:
    """End the connection: with a close frame of `code`, or by cutting the TCP connection if `code` is
    None."""

    code: int | None = None
    reason: str = ""


class Faults:
    """An exchange without faults; override methods to plant some."""

    def accept(self, path: str, now_ms: float) -> Response | None:
        """A refusal for a WebSocket handshake on `path`, or None to let it in."""
        return None

    def push(self, connection: int, push: Push) -> Sequence[Push | Hangup]:
        """What is sent in place of `push` on the connection of that number: `(push,)` unless something goes
        wrong."""
        return (push,)

    def rest(self, path: str, response: Response, now_ms: float) -> Response:
        """What is answered in place of `response` to a REST request for `path` (without query)."""
        return response

    def archived(self, key: str, body: bytes, now_ms: float) -> bytes | None:
        """What is served in place of the archive object `body`; None for a missing object."""
        return body
