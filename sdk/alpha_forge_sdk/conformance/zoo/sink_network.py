"""Sinks that send lines over TCP, correct and broken ones, and the small server that they send to."""

from __future__ import annotations

import json
import logging
import socket
import socketserver
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import Field

from alpha_forge.contracts.params import Params as BaseParams
from alpha_forge.contracts.plugin import Sink
from alpha_forge.contracts.types import Prediction
from alpha_forge_sdk.conformance.case import SinkConformance
from alpha_forge_sdk.conformance.zoo.sink_files import as_line, of_line

_log = logging.getLogger(__name__)

_END = b"END\n"
_ANSWER = b"OK\n"


class _Connection(socketserver.StreamRequestHandler):
    """The table's name as JSON, then records; ``END`` is answered when all before it are stored."""

    def handle(self) -> None:
        server: LineServer = self.server  # type: ignore[assignment]
        try:
            table = json.loads(self._line())
            while line := self._line():
                if line == _END:
                    self.wfile.write(_ANSWER)
                else:
                    server.tables.setdefault(table, []).append(line)
        except (OSError, ValueError):
            pass  # the client went away: what it had sent in full is stored

    def _line(self) -> bytes:
        """A whole line; nothing at the end, where a torn one does not count."""
        line = self.rfile.readline()
        return line if line.endswith(b"\n") else b""


class LineServer(socketserver.ThreadingTCPServer):
    """Keeps the lines of each table in memory, for as long as the process."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.tables: dict[str, list[bytes]] = {}
        threading.Thread(target=self.serve_forever, name="line server", daemon=True).start()


@cache
def line_server() -> LineServer:
    """This process's server, started when it is first asked for."""
    return LineServer()


class LineClient(Sink):
    """A correct sink: sends a batch, and returns when the server has answered (at least once)."""

    class Params(BaseParams):
        """Where to, and how long to wait."""

        host: str = Field("127.0.0.1", description="the server's host")
        port: int = Field(9000, ge=1, le=65535, description="the server's port")
        table: str = Field("predictions", min_length=1, description="what the records are filed under")
        patience: float = Field(
            0.3, gt=0, description="seconds to wait for a connection, and for each answer"
        )

    def __init__(self, params: Params) -> None:
        super().__init__(params)
        self.connection: socket.socket | None = None

    def open(self) -> None:
        self.connection = self.connect()

    def connect(self) -> socket.socket:
        made = socket.create_connection((self.params.host, self.params.port), timeout=self.params.patience)
        try:
            made.sendall(json.dumps(self.params.table).encode() + b"\n")
        except BaseException:
            made.close()
            raise
        return made

    def opened(self) -> socket.socket:
        if self.connection is None:
            raise RuntimeError(f"{type(self).__name__} is not open: call open() first")
        return self.connection

    def emit_batch(self, predictions: Sequence[Prediction]) -> None:
        self.opened().sendall(b"".join(map(as_line, predictions)) + _END)
        self.wait_for_answer()

    def wait_for_answer(self) -> None:
        answer = b""
        while answer != _ANSWER:
            part = self.opened().recv(len(_ANSWER) - len(answer))
            if not part:
                raise ConnectionError("the server ended the connection before it had answered")
            answer += part

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None


class SendsWithoutWaiting(LineClient):
    """Returns when the records are sent, not when they have arrived."""

    def wait_for_answer(self) -> None:
        pass


class LeaksSocketWhenRefused(LineClient):
    """Makes a socket first, and forgets it when nobody answers."""

    made: socket.socket | None = None

    def connect(self) -> socket.socket:
        self.made = socket.socket()
        self.made.settimeout(self.params.patience)
        self.made.connect((self.params.host, self.params.port))
        self.made.sendall(json.dumps(self.params.table).encode() + b"\n")
        return self.made


class SwallowsConnectionErrors(LineClient):
    """Makes a note of them, and carries on."""

    def open(self) -> None:
        try:
            super().open()
        except OSError as error:
            _log.debug("not stored: %s", error)

    def emit_batch(self, predictions: Sequence[Prediction]) -> None:
        try:
            super().emit_batch(predictions)
        except OSError as error:
            _log.debug("not stored: %s", error)


class WaitsForEver(LineClient):
    """Has no time limit on its socket."""

    def connect(self) -> socket.socket:
        made = super().connect()
        made.settimeout(None)
        return made


class CountsSentAsStored(LineClient):
    """When the connection ends midway it connects anew, and goes on behind what it had sent."""

    def emit_batch(self, predictions: Sequence[Prediction]) -> None:
        sent = 0
        for attempt in range(2):
            try:
                for prediction in predictions[sent:]:
                    self.opened().sendall(as_line(prediction))
                    sent += 1
                self.opened().sendall(_END)
                self.wait_for_answer()
                return
            except ConnectionError:
                if attempt:
                    raise
                self.opened().close()
                self.connection = self.connect()


class LinesOverTcpCase(SinkConformance):
    """Looks into the server's memory, which is this process's."""

    timeout = 1.0
    crashes = 12
    recovery = 2.0

    def params(self, tmp_path: Path) -> Mapping[str, Any]:
        host, port = line_server().server_address[:2]
        return {"host": host, "port": port, "table": str(tmp_path)}

    def read_back(self, params: Mapping[str, Any]) -> Iterator[Prediction]:
        yield from map(of_line, line_server().tables.get(params["table"], ()))

    def destination(self, params: Mapping[str, Any]) -> tuple[str, int] | None:
        return params["host"], params["port"]

    def through(self, params: Mapping[str, Any], host: str, port: int) -> Mapping[str, Any]:
        return {**params, "host": host, "port": port}


class HidesItsDestination(LineClient):
    """Nothing is wrong with it but its case, which does not tell where it connects to."""


class HidesItsDestinationCase(LinesOverTcpCase):
    """Names no destination."""

    plugin = HidesItsDestination

    def destination(self, params: Mapping[str, Any]) -> tuple[str, int] | None:
        return None
