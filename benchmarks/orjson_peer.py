"""Klines decoded by orjson, in the environment of ``make bench-peers``: a child of the benchmark ``ingest``.

``python -m benchmarks.orjson_peer FILE``: reads one message a line, and then, for each line that comes, prints the
seconds that one message took in one turn over all of them. Imports nothing of the product.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import orjson


def main() -> None:
    messages = Path(sys.argv[1]).read_bytes().splitlines()
    for _ in sys.stdin:
        start = time.perf_counter()
        for message in messages:
            k = orjson.loads(message)["data"]["k"]
            k["t"], float(k["o"]), float(k["h"]), float(k["l"]), float(k["c"]), float(k["v"])
        print((time.perf_counter() - start) / len(messages), flush=True)


if __name__ == "__main__":
    main()
