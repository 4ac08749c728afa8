"""The child's side of `benchmarks.peers`: says hello, then takes the turn of each contender whose name it reads."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable, Mapping


def serve(hello: object, turns: Mapping[str, Callable[[], float]]) -> None:
    """Until the parent closes the pipe. A turn gives seconds for one unit of its work."""
    print(json.dumps(hello), flush=True)
    gc.collect()
    gc.disable()
    for line in sys.stdin:
        print(turns[line.strip()](), flush=True)
