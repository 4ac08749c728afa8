"""One WebSocket connection: frames between a session and its socket."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Final

from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from alpha_forge_sdk.sandbox.protocol import Close, Reply, Session

#: A client that has so much unread misses pushes of bars in progress, and beyond the second its connection.
_BEHIND_BYTES: Final = 1 << 20
_LOST_BYTES: Final = 64 << 20

#: Real seconds a client has to answer a close frame.
_CLOSE_GRACE: Final = 5.0


def text_frame(text: str) -> bytes:
    """A text message as the bytes of one server frame, the same for every connection."""
    return Frame(Opcode.TEXT, text.encode()).serialize(mask=False)


def end_by_reset(writer: asyncio.StreamWriter) -> None:
    """Make the end of this connection a TCP reset: what the client has not read yet may be lost to it."""
    raw = writer.get_extra_info("socket")
    if raw is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Connection:
    """A client's open WebSocket. Written to from one event loop only.

    `dismissed` is told the reason whenever the session ends the connection.
    """

    def __init__(
        self,
        number: int,
        protocol: ServerProtocol,
        session: Session,
        writer: asyncio.StreamWriter,
        dismissed: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self.number = number
        self.session = session
        self.registered: frozenset[str] = frozenset()
        self.last_pong: float = session.allowance.seconds
        self._protocol = protocol
        self._writer = writer
        self._queued: list[bytes] = []
        self._message: list[bytes] = []
        self._muted = False
        self._dismissed = dismissed

    @property
    def is_open(self) -> bool:
        """Whether messages can still be sent."""
        return self._protocol.state is OPEN and not self._writer.transport.is_closing()

    @property
    def is_behind(self) -> bool:
        """Whether the client reads too slowly for more than the closes of its bars."""
        return self._writer.transport.get_write_buffer_size() > _BEHIND_BYTES

    def queue(self, frame: bytes) -> None:
        """Add a frame to what `flush` writes."""
        self._queued.append(frame)

    def flush(self) -> None:
        """Write what was queued, in one piece; cut the connection of a client that stopped reading."""
        if self._queued and self.is_open and not self._muted:
            self._writer.write(b"".join(self._queued))
            if self._writer.transport.get_write_buffer_size() > _LOST_BYTES:
                self.cut()
        self._queued.clear()

    def ping(self, payload: bytes) -> None:
        """Send a ping."""
        if self.is_open:
            self._protocol.send_ping(payload)
            self._write_protocol()

    def close(self, code: int, reason: str) -> None:
        """Start the closing handshake; a client that does not answer is cut off."""
        self.flush()
        if self._protocol.state is OPEN:
            self._protocol.send_close(code, reason)
            self._write_protocol()
            asyncio.get_running_loop().call_later(_CLOSE_GRACE, self.cut)

    def cut(self, *, reset: bool = False) -> None:
        """End the TCP connection without a word; with `reset` by a TCP reset."""
        if reset:
            end_by_reset(self._writer)
        self._writer.transport.abort()

    def mute(self) -> None:
        """Say nothing more, neither messages nor pongs; the connection stays open."""
        self.flush()
        self._muted = True

    def carry_out(self, actions: list[Reply | Close]) -> None:
        """Send the session's replies, and close if it says so."""
        for action in actions:
            if isinstance(action, Close):
                if self.is_open:
                    self._dismissed(action.reason)
                self.close(action.code, action.reason)
            elif self.is_open and not self._muted:
                self._writer.write(text_frame(action.text))

    def feed(self, data: bytes, seconds: float) -> list[str]:
        """Take bytes of the client (empty at the end of the stream); returns the text messages now
        complete."""
        if data:
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()
        texts = []
        for event in self._protocol.events_received():
            if isinstance(event, Frame):
                text = self._take(event, seconds)
                if text is not None:
                    texts.append(text)
        self._write_protocol()
        return texts

    @property
    def is_done(self) -> bool:
        """Whether the closing handshake is over and the socket is to be closed."""
        return self._protocol.close_expected()

    def _take(self, frame: Frame, seconds: float) -> str | None:
        if frame.opcode in (Opcode.PING, Opcode.PONG):
            if frame.opcode is Opcode.PONG:
                self.last_pong = seconds
            self.carry_out(self.session.control_frame(seconds))
            return None
        if frame.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            return None
        self._message.append(bytes(frame.data))
        if not frame.fin:
            return None
        text = b"".join(self._message).decode("utf-8", errors="replace")
        self._message.clear()
        return text

    def _write_protocol(self) -> None:
        for piece in self._protocol.data_to_send():
            if piece and not self._muted and not self._writer.transport.is_closing():
                self._writer.write(piece)
