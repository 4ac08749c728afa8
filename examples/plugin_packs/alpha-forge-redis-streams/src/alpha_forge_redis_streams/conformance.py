"""How the conformance kit gets at the sink's destination: a Redis server of its own, in a child process."""

from __future__ import annotations

import atexit
import hashlib
import json
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from alpha_forge_sdk import Prediction
from alpha_forge_sdk.conformance import NotApplicable, SinkConformance

_START_SECONDS = 10.0
_UNTIL_INPUT_ENDS = 'redis-server "$@" >/dev/null & server=$!; cat >/dev/null; kill $server; wait $server'


@cache
def server_port() -> int:
    """Port of a Redis server that ends with this process, also if this is killed.

    Raises NotApplicable where none is installed.
    """
    if shutil.which("redis-server") is None:
        raise NotApplicable("redis-server is not installed here (Debian: apt-get install redis-server)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    folder = tempfile.mkdtemp(prefix="redis-")
    options = ("--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", folder)
    child = subprocess.Popen(["sh", "-c", _UNTIL_INPUT_ENDS, "sh", *options], stdin=subprocess.PIPE)

    def end() -> None:
        child.communicate()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(end)
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return port
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


class SinkCase(SinkConformance):
    """Proves that the sink keeps what it declares, also behind a network that fails."""

    plugin = "sinks.redis_streams"

    def params(self, tmp_path: Path) -> Mapping[str, Any]:
        # Each check has a directory of its own, and so a stream of its own.
        stream = hashlib.sha256(str(tmp_path).encode()).hexdigest()[:16]
        return {"host": "127.0.0.1", "port": server_port(), "stream": stream, "timeout": 0.5}

    def read_back(self, params: Mapping[str, Any]) -> Iterable[Prediction]:
        """Everything in the stream, read without the sink's own code."""
        import redis

        with closing(redis.Redis(host=params["host"], port=params["port"], decode_responses=True)) as client:
            entries: Any = client.xrange(params["stream"])
        return [
            Prediction(
                fields["symbol"],
                datetime.fromisoformat(fields["ts"]),
                float(fields["value"]),
                json.loads(fields["metadata"]),
            )
            for _, fields in entries
        ]

    def culprit(self) -> Prediction:
        """A record that the destination can't hold: half of a surrogate pair is no character."""
        return Prediction("\ud800", datetime(2026, 1, 5, tzinfo=UTC), 0.5, {})

    def destination(self, params: Mapping[str, Any]) -> tuple[str, int]:
        return params["host"], params["port"]

    def through(self, params: Mapping[str, Any], host: str, port: int) -> Mapping[str, Any]:
        return {**params, "host": host, "port": port}
