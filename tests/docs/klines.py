"""A folder of recorded klines: a month of a seeded random walk, in the CSV form that is named in docs/sandbox.md."""

from __future__ import annotations

from pathlib import Path

import numpy as np

SYMBOLS = ("BTC", "ETH", "SOL", "XRP")
START_MS = 1_741_219_200_000  # 2025-03-06
DAYS = 32
STEP_MS = 900_000


def write_klines(folder: Path) -> None:
    """15m files of four symbols; longer intervals follow from them."""
    folder.mkdir()
    rows = DAYS * 96
    opened = START_MS + STEP_MS * np.arange(rows)
    for n, symbol in enumerate(SYMBOLS):
        random = np.random.default_rng(n)
        close = 100.0 * np.exp(np.cumsum(random.normal(0.0, 0.002, rows)))
        first = np.concatenate(([100.0], close[:-1]))
        high = np.maximum(first, close) * (1.0 + random.uniform(0.0, 0.001, rows))
        low = np.minimum(first, close) * (1.0 - random.uniform(0.0, 0.001, rows))
        volume = random.uniform(10.0, 1000.0, rows)
        lines = ["timestamp,open,high,low,close,volume"]
        columns = zip(opened, first, high, low, close, volume, strict=True)
        lines += [f"{t},{o:.6f},{h:.6f},{lo:.6f},{c:.6f},{v:.3f}" for t, o, h, lo, c, v in columns]
        (folder / f"{symbol}_USDT_15m.csv").write_text("\n".join(lines) + "\n")
