"""Ledgers for tests: small ones, made of bars that a formula gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from alpha_forge.contracts.interval import Interval
from alpha_forge.contracts.types import BarBatch
from alpha_forge.runtime.ledger import certificate as certificates
from alpha_forge.runtime.ledger.check import Findings, check
from alpha_forge.runtime.ledger.frame import FrameLedger, Keep, Past
from alpha_forge.runtime.ledger.origins import KNOWN, Origins
from tests.runtime.ledger_support import HOUR

ORIGIN_CODES = {name: code for code, name in enumerate(KNOWN)}
FIRST = 500_000


def values_of(symbol: int, row: int, flavour: int = 0) -> tuple[float, ...]:
    base = 100.0 + symbol + (row % 97) / 8 + flavour / 64
    return (base, base + 2, base - 2, base + 1, float(row % 13))


def past_of(symbols: int, rows: int, first: int = FIRST, missing: set[tuple[int, int]] = frozenset()) -> Past:
    """Every bar of rows `first` …, but for the `missing` (row, symbol)."""
    values = np.full((5, rows, symbols), np.nan)
    for at in range(rows):
        for s in range(symbols):
            if (first + at, s) not in missing:
                values[:, at, s] = values_of(s, first + at)
    there = ~np.isnan(values[3])
    last = np.where(there.any(axis=0), rows - there[::-1].argmax(axis=0), rows)
    origins = np.full((rows, symbols), ORIGIN_CODES["rest"], dtype=np.uint8)
    return Past(first, values, origins, first + last)


def batch_of(
    row: int, symbols: list[int], origin: str = "stream", absent: list[int] = (), flavour: int = 0
) -> BarBatch:
    values = np.array([values_of(s, row, flavour) for s in symbols]).reshape(len(symbols), 5).T
    codes = np.full(len(symbols), ORIGIN_CODES[origin], dtype=np.uint8)
    proved = np.full(len(absent), row * HOUR + 30 * 10**9, dtype=np.int64)
    as_int = (np.array(x, dtype=np.int64) for x in (symbols, absent))
    whose, silent = as_int
    return BarBatch(row * HOUR, whose, values, silent, codes, proved)


def ledger_of(symbols: int, folder: Path | None = None, keep: Keep | None = None) -> FrameLedger:
    names = [f"S{k:03d}USDT" for k in range(symbols)]
    return FrameLedger("ohlcv", Interval.parse("1h"), names, Origins(), folder, keep)


def certified(ledger: FrameLedger) -> dict:
    section = certificates.frame_section(ledger.state, (), ledger.position, {"source": "test"})
    return certificates.certificate("test", 0, "shutdown", {"ohlcv": section})


def checked(ledger: FrameLedger) -> Findings:
    assert ledger.directory is not None
    return check(certified(ledger), ledger.directory.parent)


def section_of(ledger: FrameLedger, symbol: int) -> dict:
    return certified(ledger)["frames"]["ohlcv"]["symbols"][f"S{symbol:03d}USDT"]


def folder_of(tmp_path: Path) -> Path:
    return tmp_path / "ohlcv-1h"
