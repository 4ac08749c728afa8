"""How ``sinks.webhook`` is proved: against a receiver on this machine that stores by symbol and ts."""

from __future__ import annotations

import hashlib
import json
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from alpha_forge_sdk import Prediction
from alpha_forge_sdk.conformance import SinkConformance
from alpha_forge_sdk.testing.predictions import METADATA, START

REFUSED = "REFUSED"
"""A symbol that the receiver takes no record of: 422 for the whole request."""

_Stored = dict[tuple[str, str], dict[str, Any]]


class Receiver:
    """An HTTP server on 127.0.0.1 as a user may write one: each path is a store, POST adds to it, GET gives all of it.

    A request is stored whole or refused whole. A second record with the same symbol and ts replaces the first. Threads
    are daemons: it ends with the process.
    """

    def __init__(self) -> None:
        self._stores: dict[str, _Stored] = {}
        self._lock = threading.Lock()
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"receiver": self}))
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, name="webhook receiver", daemon=True).start()
        self.url = f"http://127.0.0.1:{server.server_address[1]}"

    def take(self, path: str, body: bytes, key: str | None) -> int:
        """Store a request's records; → the status of the answer."""
        if key != hashlib.sha256(body).hexdigest():
            return 400
        found = json.loads(body)
        records = found if isinstance(found, list) else [found]
        if any(record["symbol"] == REFUSED for record in records):
            return 422
        with self._lock:
            self._stores.setdefault(path, {}).update({(r["symbol"], r["ts"]): r for r in records})
        return 200

    def stored(self, path: str) -> list[dict[str, Any]]:
        """Everything that was stored there, in the order of first arrival."""
        with self._lock:
            return list(self._stores.get(path, {}).values())


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    receiver: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if len(body) < int(self.headers["Content-Length"]):  # cut off: nobody waits for an answer
            self.close_connection = True
            return
        self.send_response(self.receiver.take(self.path, body, self.headers.get("Idempotency-Key")))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        body = json.dumps(self.receiver.stored(self.path)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Prints nothing."""


@cache
def receiver() -> Receiver:
    """One for all checks of this process."""
    return Receiver()


class WebhookConformance(SinkConformance):
    """Asks the receiver, with the standard library, for everything that it holds."""

    plugin = "sinks.webhook"

    def params(self, tmp_path: Path) -> Mapping[str, Any]:
        path = hashlib.sha256(str(tmp_path).encode()).hexdigest()[:16]
        return {
            "url": f"{receiver().url}/{path}",
            "headers": {"Authorization": "Bearer of-the-checks"},
            "request_timeout": 0.5,
        }

    def read_back(self, params: Mapping[str, Any]) -> Iterator[Prediction]:
        url = receiver().url + urlsplit(params["url"]).path
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(url, timeout=10) as answer:
            records = json.load(answer)
        for record in records:
            ts = datetime.fromisoformat(record["ts"])
            yield Prediction(record["symbol"], ts, record["prediction"], record["metadata"])

    def culprit(self) -> Prediction:
        """The receiver refuses it, and every array that it is in."""
        return Prediction(REFUSED, START, 0.5, METADATA)

    def destination(self, params: Mapping[str, Any]) -> tuple[str, int]:
        parts = urlsplit(params["url"])
        return str(parts.hostname), int(parts.port or 80)

    def through(self, params: Mapping[str, Any], host: str, port: int) -> Mapping[str, Any]:
        return {**params, "url": f"http://{host}:{port}{urlsplit(params['url']).path}"}
