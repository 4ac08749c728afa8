"""Processes of ``alpha_forge``, forked from one that has imported it; each may kill itself at a chosen step.

``python child.py`` reads a line of JSON for each request and answers with one: ``{"start": arguments, "cwd", "log",
"point", "hits", "armed"}`` with a process id, ``{"poll": pid}`` with its exit code (None while it runs; as `subprocess`
has it). SIGKILL comes at the ``hits``-th time that a process gets to ``point``, in whatever thread that is, counted from
its start if it is ``armed``, else from SIGUSR1.
"""

from __future__ import annotations

import http.client
import importlib
import itertools
import json
import os
import signal
import sqlite3
import sys
from collections.abc import Iterable, Iterator
from typing import Any

POINTS = {
    "before a commit": 40,
    "after a commit": 40,
    "among the rows of a transaction": 60,
    "in the middle of a row of a file": 12,
    "after a sync": 25,
    "in the middle of a request": 50,
    "before an answer": 40,
    "after an answer": 40,
}
"""Where it may die, and how many times it may pass there at most."""


class Trap:
    """Strikes at the given hit of one point; all others pass."""

    def __init__(self, point: str, hits: int) -> None:
        self._point = point
        self._hits = hits
        self._count = itertools.count(1)
        self.armed = False

    def here(self, point: str) -> bool:
        """Whether this is the moment."""
        return self.armed and point == self._point and next(self._count) == self._hits

    def pass_by(self, point: str) -> None:
        if self.here(point):
            die()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def set_traps(trap: Trap) -> None:
    """In the process that may die."""

    class Connection(sqlite3.Connection):
        def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
            if sql != "COMMIT":
                return super().execute(sql, *arguments)
            trap.pass_by("before a commit")
            done = super().execute(sql)
            trap.pass_by("after a commit")
            return done

        def executemany(self, sql: str, rows: Iterable[Any], /) -> sqlite3.Cursor:
            return super().executemany(sql, _each(rows))

    def _each(rows: Iterable[Any]) -> Iterator[Any]:
        for number, row in enumerate(rows):
            yield row
            if number == 0:
                trap.pass_by("among the rows of a transaction")

    connect = sqlite3.connect
    sqlite3.connect = lambda *a, **k: connect(*a, **{"factory": Connection, **k})

    fsync = os.fsync

    def synced(fd: int) -> None:
        fsync(fd)
        trap.pass_by("after a sync")

    os.fsync = synced  # type: ignore[assignment]

    send, getresponse = http.client.HTTPConnection.send, http.client.HTTPConnection.getresponse

    def sent(self: http.client.HTTPConnection, data: Any) -> None:
        if isinstance(data, (bytes, bytearray)) and trap.here("in the middle of a request"):
            send(self, bytes(data)[: len(data) // 2])
            die()
        send(self, data)

    def answered(self: http.client.HTTPConnection) -> http.client.HTTPResponse:
        trap.pass_by("before an answer")
        answer = getresponse(self)
        trap.pass_by("after an answer")
        return answer

    http.client.HTTPConnection.send = sent  # type: ignore[method-assign]
    http.client.HTTPConnection.getresponse = answered  # type: ignore[method-assign]

    from alpha_forge_plugins.sinks import append_file, paths

    whole = paths.write_all

    def torn(file: Any, data: bytes) -> None:
        if trap.here("in the middle of a row of a file"):
            whole(file, data[: len(data) - 1 - len(data) // 3])
            die()
        whole(file, data)

    append_file.write_all = torn  # type: ignore[attr-defined]


IMPORTED = (
    "boto3", "botocore.session", "clickhouse_connect", "clickhouse_connect.driver.httpclient",
    "alpha_forge.cli.signal", "alpha_forge.runtime.runner", "alpha_forge.plan.compiler", "alpha_forge_sdk.kernels",
    "alpha_forge_plugins.shared", "alpha_forge_plugins.middlefreq", "alpha_forge_plugins.features.momentum",
    "alpha_forge_plugins.market.binance_futures", "alpha_forge_plugins.sinks.csv_append",
    "alpha_forge_plugins.sinks.sqlite", "alpha_forge_plugins.sinks.clickhouse", "alpha_forge_plugins.sinks.dynamodb",
)  # fmt: skip
"""What a process would import: half of its time."""


def serve() -> None:
    """Until standard input ends, in the parent; a child returns from here, and ends as any process does."""
    for line in sys.stdin:
        request = json.loads(line)
        if "start" in request:
            pid = os.fork()
            if pid == 0:
                become(request)
                return
            answer: int | None = pid
        else:
            pid, status = os.waitpid(request["poll"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        print(json.dumps(answer), flush=True)


def become(request: dict[str, Any]) -> None:
    """In the child: the process that was asked for. Raises SystemExit."""
    os.chdir(request["cwd"])
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    for place, fd in ((0, os.open(os.devnull, os.O_RDONLY)), (1, os.open(request["log"], flags))):
        os.dup2(fd, place)
        os.close(fd)
    os.dup2(1, 2)
    if request["point"]:
        trap = Trap(request["point"], request["hits"])
        trap.armed = request["armed"]
        signal.signal(signal.SIGUSR1, lambda *_: setattr(trap, "armed", True))
        set_traps(trap)
    from alpha_forge.cli import main as alpha_forge

    sys.argv = ["alpha_forge", *request["start"]]
    alpha_forge(request["start"])


def main() -> None:
    for name in IMPORTED:
        importlib.import_module(name)
    print("null", flush=True)
    serve()


if __name__ == "__main__":
    main()
