"""What starting any server on this machine needs: a free port, and waiting until it is of use."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from subprocess import Popen
from typing import Any

HOST = "127.0.0.1"

_POLL_SECONDS = 0.02


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on at this moment; another process may take it before you do."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(ready: Callable[[], bool], child: Popen[Any], seconds: float) -> bool:
    """True once `ready()` is, False once the child has ended. Raises TimeoutError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not ready():
        if child.poll() is not None:
            return False
        if time.monotonic() > deadline:
            raise TimeoutError(f"process {child.pid} was of no use after {seconds:g} s")
        time.sleep(_POLL_SECONDS)
    return True
