"""What the exchange trades: the interface between a market and the ways in which the exchange shows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from alpha_forge_sdk.sandbox.bars import BarTable, Instrument


class Market(Protocol):
    """A complete, immutable course of prices; the exchange's clock decides how much of it has happened.

    Answers depend on the arguments alone, never on the order of the questions.
    """

    @property
    def symbols(self) -> Sequence[str]:
        """Names of all symbols, in a fixed order."""
        ...

    def instrument(self, symbol: str) -> Instrument:
        """The symbol's grid. KeyError for an unknown symbol."""
        ...

    def bars(self, symbol: str, interval: str, start_ms: int, end_ms: int) -> BarTable:
        """Final values of the bars that open in `[start_ms, end_ms)`; where the market has a hole, no bar."""
        ...

    def progress(self, symbol: str, interval: str, at_ms: float) -> BarTable | None:
        """The bar in progress at `at_ms` as known at that instant, shape (12, 1); None where the market has a
        hole."""
        ...
