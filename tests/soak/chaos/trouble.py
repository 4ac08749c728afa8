"""What can happen to a destination, by name."""

from __future__ import annotations

import fcntl
import random
import sqlite3
import threading
import time
from collections.abc import Callable

from alpha_forge_sdk.testing import http_fault_proxy as http
from tests.soak.chaos.scenario import CLICKHOUSE, DYNAMODB, STATE, Trouble
from tests.soak.chaos.world import World

PULSE = 0.12
"""Seconds between two strikes of a fault that strikes one connection."""

WRITES = "BatchWriteItem"


class Troubles:
    """Plays troubles in a world: one at a time for each destination."""

    def __init__(self, world: World, seed: int) -> None:
        self._world = world
        self._random = random.Random(f"trouble {seed}")
        self._locks = {name: threading.Lock() for name in ("clickhouse", "dynamodb", "state", "files")}

    def play(self, trouble: Trouble) -> bool:
        """The whole of it; returns when it is over. False where this machine can't have it."""
        if trouble.kind in CLICKHOUSE:
            place, work = "clickhouse", self._clickhouse
        elif trouble.kind in DYNAMODB:
            place, work = "dynamodb", self._dynamodb
        else:
            place, work = ("state" if trouble.kind in STATE else "files"), self._files
        with self._locks[place]:
            return work(trouble.kind, trouble.seconds)

    def _clickhouse(self, kind: str, seconds: float) -> bool:
        engine, wire = self._world.engines.clickhouse, self._world.engines.wire
        if kind == "ClickHouse killed":
            if not engine.own:
                return False
            engine.kill()
            time.sleep(seconds)
            engine.restart()
            return True
        draw = self._random.randrange
        strikes: dict[str, Callable[[], None]] = {
            "requests cut": lambda: wire.cut(draw(2_500), once=True),
            "requests reset": lambda: wire.reset(draw(2_500), once=True),
            "answers lost": lambda: wire.reset(0, direction="down", once=True),
            "answers cut": lambda: wire.cut(draw(300), direction="down", once=True),
        }
        lasting: dict[str, Callable[[], None]] = {
            "ClickHouse refuses": wire.refuse,
            "ClickHouse stalls": lambda: wire.stall(draw(2_500)),
            "ClickHouse slow": lambda: wire.slow(0.05),
        }
        try:
            if kind in lasting:
                lasting[kind]()
                time.sleep(seconds)
            else:
                for _ in range(1 + int(seconds / PULSE)):
                    strikes[kind]()
                    time.sleep(PULSE)
        finally:
            wire.lift()
        return True

    def _dynamodb(self, kind: str, seconds: float) -> bool:
        engine, requests = self._world.engines.dynamodb, self._world.engines.requests
        if kind == "DynamoDB killed":
            if not engine.own:
                return False
            engine.kill()
            time.sleep(seconds)
            engine.restart()
            return True
        slow = http.delay(0.05)
        rates: dict[str, dict[http.HttpFault, float]] = {
            "DynamoDB throttles": {http.throttle(): 0.7},
            "DynamoDB errs": {http.error(500): 0.5, http.error(503): 0.3},
            "items unprocessed": {http.unprocessed(2): 0.5, http.unprocessed(25): 0.3},
            "DynamoDB resets": {http.reset(): 0.7},
            "DynamoDB's answers lost": {http.lost(): 0.7},
            "DynamoDB slow": {slow: 1.0},
            "DynamoDB hangs": {http.hang(): 0.7},
            "DynamoDB does all of it": {http.throttle(): 0.1, http.error(500): 0.1, http.unprocessed(3): 0.15,
                                        http.reset(): 0.1, http.lost(): 0.2, http.hang(): 0.05, slow: 0.1},
        }  # fmt: skip
        requests.seeded(self._random.randrange(2**32), rates[kind], only=WRITES)
        try:
            time.sleep(seconds)
        finally:
            requests.lift()
        return True

    def _files(self, kind: str, seconds: float) -> bool:
        folder = self._world.disk.folder
        if kind in ("disk full", *STATE):
            disk = self._world.state_disk if kind in STATE else self._world.disk
            if not disk.small:
                return False
            disk.fill()
            try:
                time.sleep(seconds)
            finally:
                disk.free()
            return True
        if kind == "SQLite held by another":
            database = sqlite3.connect(folder / "out.db", timeout=10, isolation_level=None)
            try:
                database.execute("BEGIN IMMEDIATE")
                time.sleep(seconds)
                database.execute("ROLLBACK")
            finally:
                database.close()
            return True
        with (folder / "out.csv").open("a+b") as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX)
            time.sleep(seconds)
        return True
