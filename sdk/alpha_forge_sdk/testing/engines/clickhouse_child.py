"""The ClickHouse server as a process: ``python -m …clickhouse_child``, in a folder with a ``config.xml``.

chdb-core links clickhouse-local, which can listen (``SYSTEM START LISTEN HTTP``). It is ClickHouse's own HTTP handler
and its own tables; what it serves ends with the query that started it, so that query never ends.

Ends when its standard input does: no server outlives the process that started it, however that one died.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from importlib.machinery import ExtensionFileLoader
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from typing import Any

DATA = "data"
"""Where the tables are, in the working folder."""

_SERVE = (
    "SYSTEM START LISTEN HTTP; "
    "SELECT sleepEachRow(0.25) FROM system.numbers SETTINGS max_block_size = 1 FORMAT Null"
)


def extension() -> Any:
    """chdb's extension module alone: the package around it imports pandas and opens a database of its own."""
    spec = find_spec("chdb")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("chdb-core is not installed")
    path = os.path.join(spec.submodule_search_locations[0], "_chdb.abi3.so")
    if sys.platform == "linux":  # its own allocator first, as the package does it
        ctypes.CDLL(path, mode=sys.getdlopenflags() | os.RTLD_DEEPBIND)
    name = "chdb._chdb"
    loader = ExtensionFileLoader(name, path)
    made = spec_from_file_location(name, path, loader=loader)
    assert made is not None
    module = module_from_spec(made)
    loader.exec_module(module)
    return module


def _end_with_input() -> None:
    while os.read(0, 1):
        pass
    os._exit(0)


def main() -> None:
    """Serve until killed, or until standard input ends. What can't be served is an exception."""
    chdb = extension()
    threading.Thread(target=_end_with_input, daemon=True).start()
    # An absolute path: the server can't sync a directory that it knows by a relative one.
    chdb.query(_SERVE, "TabSeparated", path=os.path.abspath(DATA))


if __name__ == "__main__":
    main()
