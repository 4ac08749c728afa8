"""The truth of one run: a market made from a seed, in whole ticks, and the kline files that tell it to an exchange.

Imports nothing of the product.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather

MINUTE = 60_000
INTERVALS = {"1m": MINUTE, "5m": 5 * MINUTE, "15m": 15 * MINUTE, "1h": 60 * MINUTE}
BASES = ("BTC", "ETH", "SOL", "XRP", "DOGE", "1000PEPE", "LINK", "AVAX")
COLUMNS = ("open", "high", "low", "close", "volume")
FORMS = ("csv", "csv.gz", "feather", "archive", "months")


@dataclass(frozen=True, slots=True)
class Grain:
    """How a symbol is told: decimals of its prices and of its volumes."""

    price: int
    volume: int


@dataclass(frozen=True, slots=True)
class Holes:
    """What a market lacks: how many outages of all symbols, stretches of one, and bars on their own, each drawn over the
    whole of it; and how many symbols are listed and delisted inside."""

    outages: int = 0
    stretches: int = 0
    single: float = 0.0
    listed: int = 0
    delisted: int = 0


@dataclass
class Market:
    """``ticks`` (symbols, recorded rows, 5) open … volume in whole units of each symbol's grain; ``present`` says which
    of the recorded bars exist. Row 0 opens at ``first_ms``; ``recorded_ms`` is the length of a recorded bar."""

    names: tuple[str, ...]
    bases: tuple[str, ...]
    first_ms: int
    recorded_ms: int
    ticks: np.ndarray
    present: np.ndarray
    grains: tuple[Grain, ...]
    untraded: int = 0
    """Bars in which nobody traded."""
    _texts: dict[tuple[int, int], str] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        return int(self.ticks.shape[1])

    def text(self, symbol: int, row: int) -> list[str]:
        """The five values of a recorded bar as decimal texts."""
        grain = self.grains[symbol]
        *prices, volume = self.ticks[symbol, row].tolist()
        return [*(_text(ticks, grain.price) for ticks in prices), _text(volume, grain.volume)]

    def bars(self, symbol: int, interval_ms: int) -> dict[int, tuple[float, ...]]:
        """Close (ns) → the five values of every bar that exists, each the float nearest to its decimal text."""
        ratio = interval_ms // self.recorded_ms
        assert ratio * self.recorded_ms == interval_ms
        assert self.first_ms % interval_ms == 0
        assert self.rows % ratio == 0
        grain = self.grains[symbol]
        found = {}
        for at in range(0, self.rows, ratio):
            inside = self.ticks[symbol, at : at + ratio][self.present[symbol, at : at + ratio]]
            if not len(inside):
                continue
            values = (inside[0, 0], inside[:, 1].max(), inside[:, 2].min(), inside[-1, 3], inside[:, 4].sum())
            close = (self.first_ms + at * self.recorded_ms + interval_ms) * 1_000_000
            places = (grain.price,) * 4 + (grain.volume,)
            found[close] = tuple(
                float(_text(int(value), place)) for value, place in zip(values, places, strict=True)
            )
        return found


def _text(ticks: int, decimals: int) -> str:
    if not decimals:
        return str(ticks)
    whole, part = divmod(ticks, 10**decimals)
    return f"{whole}.{part:0{decimals}d}"


def make(
    rng: np.random.Generator,
    symbols: int,
    first_ms: int,
    recorded_ms: int,
    parts: tuple[int, int, int],
    holes: Holes,
) -> Market:
    """A market whose symbols walk at random, with the holes asked for and some bars without trades.

    `parts` are its rows: those of the past, of the run, and what is recorded beyond it.
    """
    rows = sum(parts)
    bases = BASES[:symbols] if symbols <= len(BASES) else tuple(f"S{k:03d}" for k in range(symbols))
    grains = tuple(Grain(int(rng.integers(0, 7)), int(rng.integers(0, 5))) for _ in bases)
    ticks = np.stack([_walk(rng, rows) for _ in bases])
    untraded = rng.random((symbols, rows)) < 0.02
    ticks[untraded] = np.where(np.arange(5) == 4, 0, ticks[untraded][:, 3:4])
    present = _present(rng, symbols, parts, holes)
    names = tuple(f"{base}USDT" for base in bases)
    return Market(
        names, bases, first_ms, recorded_ms, ticks, present, grains, int((untraded & present).sum())
    )


def _walk(rng: np.random.Generator, rows: int) -> np.ndarray:
    """(rows, 5) whole ticks."""
    start = int(rng.integers(2_000, 2_000_000))
    scale = 0.003 * start
    close = np.maximum(np.rint(start + np.cumsum(rng.normal(0, scale, rows))).astype(np.int64), 50)
    open_ = np.concatenate(([start], close[:-1]))
    up, down = np.abs(np.rint(rng.normal(0, scale, (2, rows)))).astype(np.int64)
    high, low = np.maximum(open_, close) + up, np.maximum(np.minimum(open_, close) - down, 1)
    return np.stack((open_, high, low, close, rng.integers(1, 5_000_000, rows)), axis=1)


def _present(rng: np.random.Generator, symbols: int, parts: tuple[int, int, int], holes: Holes) -> np.ndarray:
    past, run, beyond = parts
    present = rng.random((symbols, past + run + beyond)) >= holes.single
    # Half of the holes are in the run, however long its past is.
    starts = [
        int(rng.integers(past, past + run) if rng.random() < 0.5 else rng.integers(1, past))
        for _ in range(16)
    ]
    for _ in range(holes.outages):
        start = starts.pop()
        present[:, start : start + int(rng.integers(1, 8))] = False
    for _ in range(holes.stretches):
        start = starts.pop()
        present[rng.integers(0, symbols), start : start + int(rng.integers(1, 12))] = False
    chosen = rng.permutation(symbols)
    for symbol in chosen[: holes.listed]:
        # Before the run begins: what is not traded yet, a source refuses.
        present[symbol, : int(rng.integers(1, past))] = False
    for symbol in chosen[::-1][: holes.delisted]:
        present[symbol, int(rng.integers(past // 2, past + run)) :] = False
    for symbol in range(symbols):
        if not present[symbol].any():
            present[symbol, past // 2] = True
    return present


def write(market: Market, folder: Path, form: str) -> None:
    """One kline file a symbol (``months``: one a symbol and month), in one of the forms that the sandbox reads."""
    folder.mkdir(parents=True, exist_ok=True)
    name = next(n for n, length in INTERVALS.items() if length == market.recorded_ms)
    for symbol, base in enumerate(market.bases):
        rows = np.flatnonzero(market.present[symbol]).tolist()
        opens = [market.first_ms + row * market.recorded_ms for row in rows]
        lines = [
            f"{opened},{','.join(market.text(symbol, row))}" for opened, row in zip(opens, rows, strict=True)
        ]
        if form == "feather":
            _write_feather(folder / f"{base}_USDT_USDT-{name}-futures.feather", opens, lines)
        elif form in ("csv", "csv.gz"):
            text = "\n".join([",".join(("timestamp", *COLUMNS)), *lines]) + "\n"
            data = text.encode()
            (folder / f"{base}_USDT_{name}.{form}").write_bytes(
                gzip.compress(data) if form == "csv.gz" else data
            )
        else:
            _write_archive(folder, f"{base}USDT-{name}", opens, lines, form == "months")


def _write_feather(path: Path, opens: list[int], lines: list[str]) -> None:
    columns = list(zip(*(map(float, line.split(",")[1:]) for line in lines), strict=True))
    date = pa.array([opened * 1_000_000 for opened in opens], pa.int64()).cast(pa.timestamp("ns", tz="UTC"))
    table = {"date": date, **{name: pa.array(v) for name, v in zip(COLUMNS, columns, strict=True)}}
    feather.write_feather(pa.table(table), path)


def _write_archive(folder: Path, stem: str, opens: list[int], lines: list[str], months: bool) -> None:
    """The archive's own file names, with a header; one file, or one a month."""
    groups: dict[str, list[str]] = {}
    for opened, line in zip(opens, lines, strict=True):
        month = str(np.datetime64(opened, "ms").astype("datetime64[M]")) if months else ""
        groups.setdefault(month, []).append(line)
    for month, part in groups.items():
        text = "\n".join([",".join(("open_time", *COLUMNS)), *part]) + "\n"
        (folder / f"{stem}{'-' if month else ''}{month}.csv").write_text(text)
