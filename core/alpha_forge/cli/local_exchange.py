"""The sandbox exchange as a child process, for commands that are given ``--sandbox``."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from alpha_forge.contracts.errors import SourceError, UsageError
from alpha_forge.plan.graph import EventFlowDAG


@contextmanager
def local_exchange(
    dag: EventFlowDAG, *, speed: float, data: str | None, seed: int, faults: Path | None = None
) -> Iterator[list[str]]:
    """Run an exchange that lists the configuration's symbols; yields the overrides that point its data steps there.

    The exchange stands still until the first subscription, so that a run does not depend on how long this process
    took to load. It ends with the block, or, should this process die, when its standard input closes.
    """
    symbols = sorted({s for node in dag.data_nodes() for s in dag.frames[node.frame].symbols})
    command = [sys.executable, "-m", "alpha_forge", "sandbox", "--format", "json", "--hold", "--parent-watch"]
    command += ["--speed", str(speed), "--seed", str(seed)]
    command += ["--data", data] if data else ["--symbols", ",".join(symbols)]
    if faults is not None:
        command += ["--faults", str(faults)]
    # A session of its own: Ctrl-C is for this process, which then ends the exchange in good order.
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        yield endpoint_overrides(dag, _url(process))
    finally:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def _url(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        code = process.wait()
        # Its 2 is ours: it refused what this command passed on to it.
        kind = UsageError if code == 2 else SourceError
        raise kind("AF5034", f"the sandbox exchange ended at once with {code}", "its error is above")
    url: str = json.loads(line)["url"]
    return url


def endpoint_overrides(dag: EventFlowDAG, url: str) -> list[str]:
    """``--set`` texts for every data step that has endpoints."""
    nodes: Sequence = [n for n in dag.data_nodes() if "endpoints" in n.plugin.Params.model_fields]  # type: ignore[type-arg]
    if not nodes:
        raise SourceError(
            "AF5035",
            "--sandbox: no data step of this configuration connects to an exchange",
            "run it without --sandbox",
        )
    return [".".join(map(str, (*n.path, "params", "endpoints"))) + f"={url}" for n in nodes]
