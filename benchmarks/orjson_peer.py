"""Klines decoded by orjson, in the environment of ``make bench-peers``: a child of the benchmark ``ingest``.

``python -m benchmarks.orjson_peer FILE``: one message a line. Imports nothing of the product.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import orjson

from benchmarks.serving import serve


def main() -> None:
    messages = Path(sys.argv[1]).read_bytes().splitlines()

    def turn() -> float:
        start = time.perf_counter()
        for message in messages:
            k = orjson.loads(message)["data"]["k"]
            k["t"], float(k["o"]), float(k["h"]), float(k["l"]), float(k["c"]), float(k["v"])
        return (time.perf_counter() - start) / len(messages)

    serve(None, {"orjson": turn})


if __name__ == "__main__":
    main()
