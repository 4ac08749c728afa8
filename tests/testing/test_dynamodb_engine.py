"""The DynamoDB engine of the tests: it keeps what was written, survives its clients, and never outlives its starter."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from click.testing import CliRunner

from alpha_forge.cli import main
from alpha_forge_sdk.testing.engines import EngineMissing
from alpha_forge_sdk.testing.engines.dynamodb import (
    DYNALITE_VARIABLE,
    URL_VARIABLE,
    DynamoDB,
    running_dynamodb,
    start_dynamodb,
)
from alpha_forge_sdk.testing.leaks import no_leaks

KEY = {"symbol": {"S": "A"}, "ts": {"S": "1"}}


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DynamoDB]:
    monkeypatch.delenv(URL_VARIABLE, raising=False)
    with running_dynamodb(tmp_path / "engine") as made:
        yield made


def client_with_table(engine: DynamoDB, name: str) -> Any:
    client = boto3.client("dynamodb", **engine.connection())
    client.create_table(
        TableName=name,
        AttributeDefinitions=[{"AttributeName": n, "AttributeType": "S"} for n in ("symbol", "ts")],
        KeySchema=[{"AttributeName": n, "KeyType": k} for n, k in (("symbol", "HASH"), ("ts", "RANGE"))],
        BillingMode="PAY_PER_REQUEST",
    )
    deadline = time.monotonic() + 20
    while client.describe_table(TableName=name)["Table"]["TableStatus"] != "ACTIVE":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return client


def is_running(pid: int) -> bool:
    """False also for a process that has ended and that nobody has waited for."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_what_was_acknowledged_is_there_after_sigkill_and_a_restart(engine: DynamoDB) -> None:
    client = client_with_table(engine, "kept")
    client.put_item(TableName="kept", Item={**KEY, "value": {"N": "1.5"}})
    url = engine.endpoint_url
    engine.kill()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(engine.address, timeout=5)
    with pytest.raises(EngineMissing, match="does not run"):
        _ = engine.pid  # type: ignore[attr-defined]
    engine.restart()
    assert engine.endpoint_url == url
    assert client.get_item(TableName="kept", Key=KEY)["Item"]["value"] == {"N": "1.5"}


def test_a_client_that_hangs_up_in_the_middle_of_a_request_does_not_end_it(engine: DynamoDB) -> None:
    client = client_with_table(engine, "alive")
    for how in ("FIN", "RST"):
        with socket.create_connection(engine.address) as sock:
            sock.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
            if how == "RST":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    # The engine answers in order of arrival: by this answer it has met both.
    assert client.describe_table(TableName="alive")["Table"]["TableName"] == "alive"
    assert is_running(engine.pid)  # type: ignore[attr-defined]


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are looked up in /proc")
def test_it_ends_with_the_process_that_started_it_however_that_ends(tmp_path: Path) -> None:
    program = (
        "import sys, time, pathlib; from alpha_forge_sdk.testing.engines.dynamodb import start_dynamodb\n"
        f"print(start_dynamodb(pathlib.Path({str(tmp_path)!r})).pid, flush=True); time.sleep(600)"
    )
    environment = {k: v for k, v in os.environ.items() if k != URL_VARIABLE}
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment)
    assert child.stdout is not None
    pid = int(child.stdout.readline())
    assert is_running(pid)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    deadline = time.monotonic() + 10
    while is_running(pid):
        assert time.monotonic() < deadline, "it outlived its starter"
        time.sleep(0.02)


def test_nothing_is_left_when_it_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(URL_VARIABLE, raising=False)
    with no_leaks():
        engine = start_dynamodb(tmp_path)
        engine.stop()
        engine.stop()


def test_without_it_the_cure_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(URL_VARIABLE, raising=False)
    monkeypatch.setenv(DYNALITE_VARIABLE, str(tmp_path / "none"))
    with pytest.raises(EngineMissing, match=r"npm install --global dynalite@4\.0\.0"):
        start_dynamodb(tmp_path)
    monkeypatch.setenv(DYNALITE_VARIABLE, __file__)  # a file, but no JavaScript
    with pytest.raises(RuntimeError, match=r"dynalite does not start: .*Error"):
        start_dynamodb(tmp_path)


def test_an_engine_of_ones_own_is_used_and_left_clean(
    engine: DynamoDB, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URL_VARIABLE, engine.endpoint_url + "/")
    with running_dynamodb(tmp_path / "none") as others:
        assert not others.own
        assert others.address == engine.address
        client = client_with_table(others, f"{others.prefix}mine")
        client_with_table(others, "somebodys")
        for refused in (others.kill, others.restart):
            with pytest.raises(EngineMissing, match=URL_VARIABLE):
                refused()
    deadline = time.monotonic() + 10
    while client.list_tables()["TableNames"] != ["somebodys"]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    monkeypatch.setenv(URL_VARIABLE, "localhost:8000")
    with pytest.raises(EngineMissing, match="is no http"):
        start_dynamodb(tmp_path)


def test_without_an_engine_no_sink_is_called_proved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every check skipped is no pass: nobody has seen what arrives."""
    for name in ("AF_DYNALITE", "AF_DYNAMODB_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", "")
    result = CliRunner().invoke(main, ["plugins", "validate", "sinks.dynamodb", "--format", "json"])
    assert result.exit_code == 1
    (plugin,) = json.loads(result.stdout)["plugins"]
    assert plugin["verdict"] == "error"
    assert "can't be judged here: no DynamoDB here" in plugin["problem"]
