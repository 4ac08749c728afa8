"""Parameter types that the market sources share: the universe of symbols."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

from pydantic import AfterValidator, Field


def _checked(symbols: tuple[str, ...]) -> tuple[str, ...]:
    for symbol in symbols:
        if not symbol or symbol != symbol.strip() or any(c.isspace() or c in "/@{}" for c in symbol):
            raise ValueError(
                f"{symbol!r} is not a symbol: write it as the exchange does, for example BTCUSDT"
            )
        if symbol != symbol.upper():
            raise ValueError(f"{symbol!r} is not in upper case: write {symbol.upper()!r}")
    doubles = [symbol for symbol, count in Counter(symbols).items() if count > 1]
    if doubles:
        raise ValueError(f"named twice: {', '.join(doubles)}; each symbol belongs into the universe once")
    return symbols


Universe = Annotated[
    tuple[str, ...],
    Field(min_length=1, description="symbols, in upper case, each once, for example [BTCUSDT, ETHUSDT]"),
    AfterValidator(_checked),
]
