"""An HTTP proxy that misbehaves by a script: throttles, fails, loses answers. For tests of HTTP destinations.

>>> with http_fault_proxy("http://127.0.0.1:8000") as proxy:      # doctest: +SKIP
...     proxy.script(throttle(), lost(), only="BatchWriteItem")
...     client = boto3.client("dynamodb", endpoint_url=proxy.url, ...)
...     client.batch_write_item(...)              # refused, then written with the answer lost, then all is well
...     assert proxy.struck == {"throttle": 1, "lost": 1}

`fault_proxy` cuts and stalls bytes of any protocol; this one knows where a request ends, so that it can refuse one, or
let it through and keep back the answer.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import socket
import struct
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import urlsplit

Kind = Literal["pass", "throttle", "error", "unprocessed", "reset", "lost", "delay", "hang"]

Headers = tuple[tuple[str, str], ...]

_JSON = "application/x-amz-json-1.0"
_THROTTLED = {
    "__type": "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException",
    "message": "The level of configured provisioned throughput for the table was exceeded.",
}
_OWN_HEADERS = frozenset(
    # What belongs to a connection, not to a request; and the sum over a body that may have been changed.
    {
        "connection",
        "keep-alive",
        "transfer-encoding",
        "content-length",
        "proxy-connection",
        "x-amz-crc32",
        "te",
    }
)
_FORWARD_SECONDS = 30.0
_END_SECONDS = 5.0
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER on, zero seconds: close() sends RST


@dataclass(frozen=True, slots=True)
class HttpFault:
    """What happens to one request. Made by the functions of this module."""

    kind: Kind
    status: int = 500
    headers: Headers = ()
    body: bytes = b""
    count: int = 0
    seconds: float = 0.0


def passed() -> HttpFault:
    """Nothing: forwarded and answered. For the healthy requests of a script."""
    return HttpFault("pass")


def throttle(*, seconds: float = 0.0) -> HttpFault:
    """DynamoDB's ProvisionedThroughputExceededException, after so many seconds; nothing is forwarded."""
    body = json.dumps(_THROTTLED).encode()
    return HttpFault("throttle", 400, (("Content-Type", _JSON),), body, seconds=seconds)


def error(
    status: int = 500,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    *,
    seconds: float = 0.0,
) -> HttpFault:
    """This answer, after so many seconds, and nothing is forwarded: 500, or 503 with ``Retry-After``."""
    return HttpFault("error", status, tuple((headers or {}).items()), body, seconds=seconds)


def unprocessed(count: int) -> HttpFault:
    """Of a BatchWriteItem, all but the last `count` writes are forwarded; those come back as UnprocessedItems."""
    return HttpFault("unprocessed", count=count)


def reset() -> HttpFault:
    """The connection is reset before anything is forwarded."""
    return HttpFault("reset")


def lost() -> HttpFault:
    """Forwarded and executed; then the connection is reset, and the answer is lost."""
    return HttpFault("lost")


def delay(seconds: float) -> HttpFault:
    """Forwarded after so many seconds."""
    return HttpFault("delay", seconds=seconds)


def hang() -> HttpFault:
    """Never answered, not forwarded; the connection is reset when the proxy is told to `lift`, or closed."""
    return HttpFault("hang")


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request that came to the proxy. ``operation`` is AWS's (``BatchWriteItem``), else the path."""

    method: str
    path: str
    headers: Headers
    body: bytes
    operation: str

    def header(self, name: str) -> str | None:
        """The value of a header, whatever its case; None if the request has none of that name."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    proxy: HttpFaultProxy

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away in the middle of a request is what this proxy is for: nothing to tell."""


class HttpFaultProxy:
    """Listens on a port of 127.0.0.1 and forwards requests to one HTTP(S) server. All methods from any thread.

    Each request takes the next fault: of the script first, then of `always` or `seeded`; without any it is passed on.
    Requests that a fault's ``only`` does not name pass, and use up nothing.
    """

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._secure = parts.scheme == "https"
        self._target = parts.hostname or "127.0.0.1", parts.port or (443 if self._secure else 80)
        self._lock = threading.Lock()
        self._script: deque[HttpFault] = deque()
        self._always: HttpFault | None = None
        self._rates: tuple[random.Random, dict[HttpFault, float]] | None = None
        self._only: str | None = None
        self._lifted = threading.Event()
        self._open: set[socket.socket] = set()
        self._ended = False
        self.requests: list[HttpRequest] = []
        """Every request that came, in order of arrival."""
        self.struck: Counter[str] = Counter()
        """How often each kind of fault happened."""
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.proxy = self
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": 0.02},
            name="HTTP fault proxy",
            daemon=True,
        )
        self._thread.start()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port for the client."""
        host, port = self._server.server_address[:2]
        return str(host), int(port)

    @property
    def url(self) -> str:
        """``http://HOST:PORT`` for the client."""
        host, port = self.address
        return f"http://{host}:{port}"

    def script(self, *faults: HttpFault, only: str | None = None) -> None:
        """The next requests take these faults, one each, in order. `only`: requests of that operation (or path)."""
        self._set(faults, None, None, only)

    def always(self, fault: HttpFault, *, only: str | None = None) -> None:
        """Every request takes this fault, until `lift`."""
        self._set((), fault, None, only)

    def seeded(self, seed: int, rates: Mapping[HttpFault, float], *, only: str | None = None) -> None:
        """Each request takes a fault with its probability, or none; the same seed gives the same sequence."""
        if not 0 <= sum(rates.values()) <= 1:
            raise ValueError(f"probabilities add up to {sum(rates.values())}")
        self._set((), None, (random.Random(seed), dict(rates)), only)

    def lift(self) -> None:
        """Pass everything on again. Requests that hang are reset."""
        self._set((), None, None, None)
        self._lifted.set()

    def close(self) -> None:
        """Reset what hangs, close every connection, and end the threads. Idempotent."""
        with self._lock:
            self._ended = True
            sockets = list(self._open)
        self._lifted.set()
        for sock in sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        deadline = time.monotonic() + _END_SECONDS
        while self._open and time.monotonic() < deadline:  # their threads end by themselves now
            time.sleep(0.005)

    def _set(
        self,
        script: Iterable[HttpFault],
        always: HttpFault | None,
        rates: tuple[random.Random, dict[HttpFault, float]] | None,
        only: str | None,
    ) -> None:
        with self._lock:
            self._script, self._always, self._rates, self._only = deque(script), always, rates, only
            self._lifted.clear()

    def _next(self, request: HttpRequest) -> HttpFault:
        with self._lock:
            self.requests.append(request)
            fault = passed()
            if self._only not in (None, request.operation, request.path):
                return fault
            if self._script:
                fault = self._script.popleft()
            elif self._always is not None:
                fault = self._always
            elif self._rates is not None:
                source, rates = self._rates
                (fault,) = source.choices(
                    [*rates, fault], [*rates.values(), max(0.0, 1 - sum(rates.values()))]
                )
            if fault.kind != "pass":
                self.struck[fault.kind] += 1
            return fault

    def _connected(self, sock: socket.socket) -> bool:
        with self._lock:
            self._open.add(sock)
            return not self._ended

    def _disconnected(self, sock: socket.socket) -> None:
        with self._lock:
            self._open.discard(sock)

    def _upstream(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        return kind(*self._target, timeout=_FORWARD_SECONDS)


class _Handler(BaseHTTPRequestHandler):
    """One connection of a client, on a thread of its own."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        super().setup()
        self._proxy = self.server.proxy
        if not self._proxy._connected(self.connection):
            raise ConnectionAbortedError("the proxy is closed")

    def finish(self) -> None:
        super().finish()
        self._proxy._disconnected(self.connection)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are kept in ``requests``; nothing is printed."""

    def _serve(self) -> None:
        target = self.headers.get("X-Amz-Target", "")
        operation = target.rpartition(".")[2] or urlsplit(self.path).path
        request = HttpRequest(self.command, self.path, tuple(self.headers.items()), self._body(), operation)
        fault = self._proxy._next(request)
        if fault.seconds:
            # Ends early when the fault is lifted.
            self._proxy._lifted.wait(fault.seconds)
        match fault.kind:
            case "throttle" | "error":
                self._answer(fault.status, fault.headers, fault.body)
            case "reset":
                self._reset()
            case "hang":
                self._proxy._lifted.wait()
                self._reset()
            case "lost":
                self._forward(request)
                self._reset()
            case "unprocessed":
                self._withhold(request, fault.count)
            case _:
                answer = self._forward(request)
                if answer is not None:
                    self._answer(*answer)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_OPTIONS = _serve

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", "").lower():
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        pieces = []
        while size := int(self.rfile.readline().partition(b";")[0] or b"0", 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():  # trailers
            pass
        return b"".join(pieces)

    def _forward(self, request: HttpRequest) -> tuple[int, Headers, bytes] | None:
        """The target's answer; None if it can't be reached, and the client's connection is reset then."""
        headers = {k: v for k, v in request.headers if k.lower() not in _OWN_HEADERS}
        # A connection for each request: one that was kept may be closed by now, and to find that out by using it would
        # mean to forward a request twice.
        with contextlib.closing(self._proxy._upstream()) as target:
            try:
                target.request(request.method, request.path, request.body, headers)
                answer = target.getresponse()
                return answer.status, tuple(answer.getheaders()), answer.read()
            except (OSError, http.client.HTTPException):
                self._reset()
                return None

    def _withhold(self, request: HttpRequest, count: int) -> None:
        """Forward all but the last `count` writes, and add those to the UnprocessedItems of the answer."""
        content = json.loads(request.body)
        kept = dict(content["RequestItems"])
        held: dict[str, list[Any]] = {}
        for table in reversed(list(kept)):
            writes = kept[table]
            take = min(count, len(writes))
            if take:
                held[table], kept[table] = writes[-take:], writes[:-take]
                count -= take
            if not kept[table]:
                del kept[table]
        if not kept:
            self._answer(200, (("Content-Type", _JSON),), json.dumps({"UnprocessedItems": held}).encode())
            return
        body = json.dumps({**content, "RequestItems": kept}).encode()
        answer = self._forward(HttpRequest("POST", request.path, request.headers, body, request.operation))
        if answer is None:
            return
        status, headers, text = answer
        if status == 200:
            whole = json.loads(text)
            left = whole.setdefault("UnprocessedItems", {})
            for table, writes in held.items():
                left[table] = [*left.get(table, []), *writes]
            text = json.dumps(whole).encode()
        self._answer(status, headers, text)

    def _answer(self, status: int, headers: Headers, body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in _OWN_HEADERS:
                self.send_header(name, value)
        if status >= 200 and status not in (204, 304):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.close_connection = True
        # Closing alone waits for the files made of the socket, and shutting it down first would send FIN.
        self.rfile.close()
        self.connection.close()


@contextlib.contextmanager
def http_fault_proxy(target: str) -> Iterator[HttpFaultProxy]:
    """An `HttpFaultProxy` in front of `target` (``http://HOST:PORT``); passes everything on until told otherwise."""
    proxy = HttpFaultProxy(target)
    try:
        yield proxy
    finally:
        proxy.close()
