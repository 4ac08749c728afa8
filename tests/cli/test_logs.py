"""What reaches standard error: our lines, other libraries' warnings, and no client that warns at each try."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from alpha_forge.cli.logs import CHATTY, set_up

OURS = ("alpha_forge", "alpha_forge_sdk", "alpha_forge_plugins")


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    levels = {name: logging.getLogger(name).level for name in (*OURS, *CHATTY)}
    yield
    root.handlers = handlers
    root.setLevel(level)
    for name, was in levels.items():
        logging.getLogger(name).setLevel(was)


def test_clients_that_warn_at_each_try_are_heard_of_errors_only(capsys):
    set_up("text")
    logging.getLogger("urllib3.connectionpool").warning("Retrying after connection broken")
    logging.getLogger("clickhouse_connect.driver.httpclient").warning("Unexpected Http Driver Exception")
    logging.getLogger("urllib3.connectionpool").error("this is one")
    logging.getLogger("somebodys_pack.sink").warning("the pack's own")
    logging.getLogger("alpha_forge.delivery").info("a line of ours")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(None, 1)[1] for line in lines] == [
        "ERROR   this is one",
        "WARNING the pack's own",
        "INFO    a line of ours",
    ]


def test_quiet_leaves_warnings_and_errors_and_json_is_an_object_a_line(capsys):
    set_up("json", quiet=True)
    logging.getLogger("alpha_forge.delivery").info("left out")
    logging.getLogger("alpha_forge.delivery").warning("kept")
    (line,) = capsys.readouterr().err.splitlines()
    entry = json.loads(line)
    assert (entry["level"], entry["logger"], entry["message"]) == ("WARNING", "alpha_forge.delivery", "kept")
