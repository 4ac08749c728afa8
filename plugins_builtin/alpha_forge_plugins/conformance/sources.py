"""Cases of the built-in data sources."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alpha_forge_sdk import Bar, Interval
from alpha_forge_sdk.conformance import DataSourceConformance, Injection

if TYPE_CHECKING:
    from alpha_forge_sdk.sandbox import SandboxExchange

HOUR = Interval.parse("1h")


PAST, FUTURE = 60 * 24, 5000
"""Bars: months of past, so that archive files are among what is fetched, and more future than the checks will see."""

RULES: Mapping[str, tuple[tuple[str, Mapping[str, Any]], ...]] = {
    "disconnect": (("disconnect", {}),),
    "refused": (("refuse_connect", {}),),
    "stall": (("stall", {}),),
    "silent_subscription": (("silent_subscription", {"life": "connection"}),),
    "garbage": (("garbage", {}),),
    "oversized": (("oversized", {}),),
    "duplicate_close": (("duplicate_close", {"delay": "90m"}),),
    "late_close": (("late_close", {"delay": "10m"}),),
    "missing_close": (("missing_close", {}),),
    "out_of_order": (("out_of_order", {"window": "20m"}),),
    "server_error": (("http_5xx", {}),),
    "truncated": (("truncated_body", {"paths": ["/fapi/v1/klines", "/api/v3/klines"]}),),
    "rate_limited": (("http_429", {}),),
    "banned": (("http_418", {"ban": "1h"}),),
    "history_lag": (("rest_lag", {"lag": "20s"}),),
    "clock_off": (("wrong_clock", {"offset": "-90m"}),),
    # A checksum that fits nothing, and values that are others: what a cache in between may do.
    "wrong_checksum": (("wrong_checksum", {}), ("reuploaded", {})),
    "missing_file": (("missing_file", {}),),
    "corrupt_file": (("corrupt_zip", {}),),
}
"""Fault of the kit → kinds of the sandbox's fault scripts, with their options."""


class _BinanceConformance(DataSourceConformance):
    """A client against the sandbox exchange; the truth is the exchange's market, not what it sends."""

    venue = "usdm"
    stream_bars = 2

    @contextmanager
    def running(self, tmp_path: Path) -> Iterator[Mapping[str, Any]]:
        from alpha_forge_sdk.sandbox import SandboxConfig
        from alpha_forge_sdk.testing.exchange import running_exchange

        symbols = ("BTCUSDT", "ETHUSDT")
        config = SandboxConfig(venue=self.venue, seed=5, symbols=symbols, speed=18_000)
        with running_exchange(config) as exchange:
            self._exchange = exchange
            # Impatient: a connection that fell silent is to be noticed before the kit is.
            yield {"universe": list(symbols), "interval": "1h", "endpoints": exchange.url, "silence": 1.0}

    def truth(self, params: Mapping[str, Any]) -> Iterable[tuple[str, Bar]]:
        from alpha_forge_sdk.testing.exchange import market_bars

        now = HOUR.floor(int(self._exchange.clock.now_ms()) * 1_000_000)
        start, end = now - PAST * HOUR.ns, now + FUTURE * HOUR.ns
        return [
            (s, bar) for s in params["universe"] for bar in market_bars(self._exchange, s, "1h", start, end)
        ]

    def disconnect(self, params: Mapping[str, Any]) -> None:
        self._exchange.disconnect()

    def inject(self, params: Mapping[str, Any], fault: str, *, times: int | None = 1) -> Injection:
        from alpha_forge_sdk.sandbox import HostileFaults

        rules, faults = RULES[fault], self._exchange.faults
        assert isinstance(faults, HostileFaults)
        before = faults.counts
        lifts = [self._exchange.inject(kind, times=times, **options) for kind, options in rules]

        def struck() -> int:
            return min(faults.counts[kind] - before[kind] for kind, _ in rules)

        def lift() -> None:
            for end in lifts:
                end()

        return Injection(struck, lift)

    def violations(self, params: Mapping[str, Any]) -> int:
        return self._exchange.faults.violations.total()

    _exchange: SandboxExchange


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
