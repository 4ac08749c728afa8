"""Cases of the built-in data sources."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alpha_forge_sdk import Bar, Interval
from alpha_forge_sdk.conformance import DataSourceConformance

HOUR = Interval.parse("1h")


class _BinanceConformance(DataSourceConformance):
    """A client against the sandbox exchange; the truth is the exchange's market, not what it sends."""

    venue = "usdm"

    @contextmanager
    def running(self, tmp_path: Path) -> Iterator[Mapping[str, Any]]:
        from alpha_forge_sdk.sandbox import SandboxConfig
        from alpha_forge_sdk.testing.exchange import running_exchange

        symbols = ("BTCUSDT", "ETHUSDT")
        config = SandboxConfig(venue=self.venue, seed=5, symbols=symbols, speed=7200, hold=True)
        with running_exchange(config) as exchange:
            self._exchange = exchange
            yield {"universe": list(symbols), "interval": "1h", "endpoints": exchange.url}

    def truth(self, params: Mapping[str, Any]) -> Iterable[tuple[str, Bar]]:
        from alpha_forge_sdk.testing.exchange import market_bars

        now = HOUR.floor(int(self._exchange.clock.now_ms()) * 1_000_000)
        # Four days of past, and more future than the checks will see.
        start, end = now - 96 * HOUR.ns, now + 5000 * HOUR.ns
        return [
            (s, bar) for s in params["universe"] for bar in market_bars(self._exchange, s, "1h", start, end)
        ]

    def disconnect(self, params: Mapping[str, Any]) -> None:
        self._exchange.disconnect()


class BinanceFuturesConformance(_BinanceConformance):
    """USD-M futures."""

    plugin = "data.binance_futures"


class BinanceSpotConformance(_BinanceConformance):
    """The spot market: other paths, limits, numbers and archive files."""

    plugin = "data.binance_spot"
    venue = "spot"


class FilesConformance(DataSourceConformance):
    """Recorded bars: CSV files that the case writes itself."""

    plugin = "data.files"

    @contextmanager
    def running(self, tmp_path: Path) -> Iterator[Mapping[str, Any]]:
        folder = tmp_path / "recorded"
        folder.mkdir()
        universe = ["AAAUSDT", "BBBUSDT"]
        for symbol in universe:
            lines = ["open_time,open,high,low,close,volume"]
            for bar in _bars(symbol):
                values = ",".join(repr(v) for v in bar[1:])
                lines.append(f"{(bar.ts - HOUR.ns) // 1_000_000},{values}")
            (folder / f"{symbol}-1h.csv").write_text("\n".join(lines) + "\n", "utf-8")
        yield {"path": str(folder / "{symbol}-{interval}.csv"), "universe": universe, "interval": "1h"}

    def truth(self, params: Mapping[str, Any]) -> Iterable[tuple[str, Bar]]:
        return [(symbol, bar) for symbol in params["universe"] for bar in _bars(symbol)]


def _bars(symbol: str) -> list[Bar]:
    """Two hundred made-up hours."""
    from alpha_forge_sdk.testing.bars import COLUMNS, made_bars

    made = made_bars(200, 1, seed=len(symbol) + ord(symbol[0]))
    first = HOUR.ts(480_000)
    return [
        Bar(first + (k + 1) * HOUR.ns, *(float(made[c][k, 0]) for c in COLUMNS))
        for k in range(len(made["close"]))
    ]
