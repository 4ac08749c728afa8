"""A name for what an exchange's archive holds, so that a client may keep its files from one run to the next."""

from __future__ import annotations

import hashlib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from alpha_forge_sdk.sandbox.intervals import DAY
from alpha_forge_sdk.sandbox.market import Market

_SAMPLE: Final = "1h"


def market_identity(market: Market, *, seed: int, data: Path | None, venue: str) -> str:
    """Equal for two exchanges only if their archives have the same bytes under the same keys.

    It is made of what draws a market (the seed, or the names, sizes and times of the recordings), of the symbols, the
    venue and the version, and of a day of bars.
    """
    first = market.symbols[0]
    begin = market.instrument(first).onboard_ms
    told: list[object] = [venue, seed, *sorted(market.symbols), begin, _version()]
    told.append(market.bars(first, _SAMPLE, begin, begin + DAY).tobytes())
    if data is not None:
        for path in sorted(path for path in data.rglob("*") if path.is_file()):
            about = path.stat()
            told += [path.relative_to(data).as_posix(), about.st_size, about.st_mtime_ns]
    return hashlib.blake2b(repr(told).encode(), digest_size=10).hexdigest()


def _version() -> str:
    try:
        return version("alpha-forge")
    except PackageNotFoundError:
        return ""
