"""What a run lives in: engines behind proxies, a small disk, the exchange, and the child processes."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from alpha_forge_sdk.testing.engines.clickhouse import ClickHouse, running_clickhouse
from alpha_forge_sdk.testing.engines.dynamodb import DynamoDB, running_dynamodb
from alpha_forge_sdk.testing.fault_proxy import FaultProxy, fault_proxy
from alpha_forge_sdk.testing.http_fault_proxy import HttpFaultProxy, http_fault_proxy
from tests.soak.chaos import truth
from tests.soak.chaos.scenario import Life
from tests.soak.chaos.truth import Stored

DEADLINE = 90.0
"""Seconds after which anything counts as one that does not come."""

DISK = "16m"
"""Room for the write-ahead logs of SQLite, and soon full."""

TOLD = 1_500
"""Characters of a log's end that are told."""
CHILD = Path(__file__).with_name("child.py")

CONFIG = """name: {name}
using: {{capabilities: [shared, middlefreq]}}
signal_generation:
  mode: stream
  warmup: {{lookback_days: auto}}
  catch_up: all
  delivery: {{drain_seconds: 1}}
  on_prediction:
    - {{using: sinks.csv_append, name: csv, column: ohlcv.mom_20, params: {{path: {disk}/out.csv}}}}
    - {{using: sinks.sqlite, name: sqlite, column: ohlcv.mom_20, params: {{path: {disk}/out.db}}}}
    - using: sinks.clickhouse
      name: clickhouse
      column: ohlcv.mom_20
      params: {{host: {ch_host}, port: {ch_port}, user: {user}, password: {password}, database: {database},
               table_name: {table}, create_table: true, timeout: 1}}
    - using: sinks.dynamodb
      name: dynamodb
      column: ohlcv.mom_20
      params: {{table_name: {items}, endpoint_url: "{endpoint}", region: {region}, access_key_id: {access},
               secret_access_key: {secret}, create_table: true, request_timeout: 0.5}}
pipeline:
  - data:
      using: data.binance_futures
      outputs: {{frame: ohlcv}}
      params: {{universe: [{symbols}], interval: 1m, endpoints: "{exchange}"}}
  - features:
      using: features.momentum
      inputs: {{column: ohlcv.close}}
      outputs: {{columns: [mom_20]}}
      params: {{window: 20}}
"""


def until(condition: Callable[[], bool], what: Callable[[], str]) -> None:
    """Wait for it. Raises TimeoutError after `DEADLINE` seconds."""
    end = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(what())
        time.sleep(0.02)


class Engines:
    """ClickHouse and DynamoDB for many runs, one after another, each behind its proxy; and what starts processes."""

    def __init__(
        self,
        clickhouse: ClickHouse,
        dynamodb: DynamoDB,
        wire: FaultProxy,
        requests: HttpFaultProxy,
        spawner: Spawner,
    ) -> None:
        self.clickhouse = clickhouse
        self.dynamodb = dynamodb
        self.wire = wire
        """Before ClickHouse."""
        self.requests = requests
        """Before DynamoDB."""
        self.spawner = spawner

    @property
    def client(self) -> Any:
        import boto3

        return boto3.client("dynamodb", **self.dynamodb.connection())


@contextlib.contextmanager
def engines() -> Iterator[Engines]:
    """Both, started. Raises EngineMissing."""
    with (
        tempfile.TemporaryDirectory(prefix="af-chaos-engines-", ignore_cleanup_errors=True) as name,
        running_clickhouse(Path(name) / "clickhouse") as clickhouse,
        running_dynamodb(Path(name) / "dynamodb") as dynamodb,
        fault_proxy(clickhouse.host, clickhouse.port) as wire,
        http_fault_proxy(dynamodb.endpoint_url) as requests,
        contextlib.closing(Spawner()) as spawner,
    ):
        yield Engines(clickhouse, dynamodb, wire, requests, spawner)


class Disk:
    """A folder that can be filled to the last byte: a small tmpfs of its own where this user may mount one.

    ``small`` is False where it is an ordinary folder, which nobody should fill.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        command = ("mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder))
        self.small = (
            sys.platform == "linux"
            and os.geteuid() == 0
            and shutil.which("mount") is not None
            and subprocess.run(command, capture_output=True, check=False).returncode == 0
        )

    def fill(self) -> None:
        with (self.folder / ".ballast").open("ab", buffering=0) as file:
            for piece in (1 << 16, 1):
                try:
                    while True:
                        file.write(b"\0" * piece)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise

    def free(self) -> None:
        (self.folder / ".ballast").unlink(missing_ok=True)

    def close(self) -> None:
        if self.small:
            subprocess.run(("umount", "--lazy", str(self.folder)), capture_output=True, check=False)


class World:
    """The destinations of one run, and its configuration in `folder`."""

    def __init__(
        self, engines: Engines, folder: Path, tag: str, symbols: tuple[str, ...], exchange: str
    ) -> None:
        self.engines = engines
        self.folder = folder
        self.exchange = exchange
        self.disk = Disk(folder / "disk")
        self.state_disk = Disk(folder / "state")
        self.table, self.items = f"chaos_{tag}", f"{engines.dynamodb.prefix}{tag}"
        server, (host, port), keys = (
            engines.clickhouse,
            engines.wire.address,
            engines.dynamodb.connection(),
        )
        (folder / "config.yaml").write_text(
            CONFIG.format(
                name=truth.NAME, disk=self.disk.folder, ch_host=host, ch_port=port, user=server.user,
                password=server.password, database=server.database, table=self.table, items=self.items,
                endpoint=engines.requests.url, region=keys["region_name"], access=keys["aws_access_key_id"],
                secret=keys["aws_secret_access_key"], symbols=", ".join(symbols), exchange=exchange,
            ),
            encoding="utf-8",
        )  # fmt: skip

    def log(self, twin: str) -> Path:
        """The delivery log of one of the twins."""
        return self.state_disk.folder / twin / f"{truth.NAME}.outbox.db"

    def stored(self) -> dict[str, Stored]:
        """What each destination holds, read past the proxies."""
        server, folder = self.engines.clickhouse, self.disk.folder
        made = server.query(f"EXISTS TABLE {self.table}").strip() == "1"
        with contextlib.closing(self.engines.client) as client:
            known = self.items in client.list_tables()["TableNames"]
            items = truth.read_dynamodb(client, self.items) if known else Stored(())
        return {
            "CSV": truth.read_csv(folder / "out.csv"),
            "SQLite": truth.read_sqlite(folder / "out.db"),
            "ClickHouse": truth.read_clickhouse(server.query, self.table) if made else Stored(()),
            "DynamoDB": items,
        }

    def unmerged(self) -> int:
        """Rows that ClickHouse stores on top of what FINAL shows."""
        answer = self.engines.clickhouse.query(
            f"SELECT (SELECT count() FROM {self.table}) - (SELECT count() FROM {self.table} FINAL)"
        )
        return int(answer)

    def close(self) -> None:
        self.engines.clickhouse.query(f"DROP TABLE IF EXISTS {self.table}")
        self.disk.close()
        self.state_disk.close()


class Spawner:
    """Starts processes of ``alpha_forge`` from one that has imported everything; see ``child.py``."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            (sys.executable, str(CHILD)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._lock = threading.Lock()
        self._answer()

    def start(self, arguments: Sequence[str], cwd: Path, log: Path, **trap: object) -> int:
        """→ its process id. `trap`: ``point``, ``hits``, ``armed``."""
        pid = self._ask({"start": arguments, "cwd": str(cwd), "log": str(log), **trap})
        assert pid is not None
        return pid

    def poll(self, pid: int) -> int | None:
        """The exit code; to be asked no more once there is one: until then nobody else gets the id."""
        return self._ask({"poll": pid})

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _ask(self, request: Mapping[str, object]) -> int | None:
        with self._lock:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            return self._answer()

    def _answer(self) -> int | None:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the process that starts processes has ended"
        answer: int | None = json.loads(line)
        return answer


class Child:
    """``alpha_forge signal``, its log in a file. Its trap, if it has one, is `armed` from the start or by `arm`."""

    def __init__(self, world: World, twin: str, life: Life | None, *options: str, armed: bool = True) -> None:
        number = len(list(world.folder.glob("log-*")))
        self.log_path = world.folder / f"log-{number}-{twin}"
        self.log_path.touch()
        self._code: int | None = None
        self._spawner = world.engines.spawner
        arguments = [
            "signal",
            "config.yaml",
            "--state",
            str(world.log(twin).parent),
            "--cache",
            "cache",
            *options,
        ]
        point, hits = (life.point, life.hits) if life is not None else ("", 0)
        self._trapped = bool(point)
        self._pid = self._spawner.start(
            arguments, world.folder, self.log_path, point=point, hits=hits, armed=armed
        )

    @property
    def log(self) -> str:
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    @property
    def last_words(self) -> str:
        return self.log[-TOLD:]

    @property
    def code(self) -> int | None:
        """Its exit code, as `subprocess` has it; None while it runs."""
        if self._code is None:
            self._code = self._spawner.poll(self._pid)
        return self._code

    @property
    def ended(self) -> bool:
        return self.code is not None

    def saw(self, text: str) -> bool:
        return text in self.log

    def wait_warm(self) -> bool:
        """True once it streams; False if it has ended before."""
        until(lambda: self.saw("Starting real-time") or self.ended, lambda: f"never warm\n{self.last_words}")
        return not self.ended

    def anchor(self) -> int:
        """The close after which its predictions begin, in ns."""
        found = re.findall(r"Warming ohlcv: \d+ bars up to (\S+)", self.log)
        return truth.nanoseconds(found[-1])

    def arm(self) -> None:
        """Let the trap count from now on."""
        if self._trapped:
            self.send(signal.SIGUSR1)

    def kill(self) -> None:
        """SIGKILL; returns when it is gone. Nothing to a process that has ended."""
        self.send(signal.SIGKILL)
        self.end()

    def end(self) -> int:
        """Its exit code, once it has ended."""
        until(lambda: self.ended, lambda: f"does not end\n{self.last_words}")
        assert self._code is not None
        return self._code

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it still runs."""
        if not self.ended:
            os.kill(self._pid, number)


class Later:
    """Things that happen at their time, each on a thread; what one raised is raised by `join`."""

    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []
        self._errors: list[BaseException] = []

    def start(self, seconds: float, work: Callable[[], None]) -> None:
        def run() -> None:
            time.sleep(seconds)
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - raised by join
                self._errors.append(error)

        thread = threading.Thread(target=run, daemon=True)
        self._threads.append(thread)
        thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(DEADLINE)
        self._threads.clear()
        if self._errors:
            raise self._errors.pop()
