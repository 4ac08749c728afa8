"""NautilusTrader: F12 of its indicators, and its BacktestEngine with them, as a child of benchmarks.

``python -m benchmarks.nautilus ARRAYS FIRST COUNT``: reads bars (bars, 5, symbols) from an .npy, updates the indicators
with those before FIRST, says their values after COUNT more in the engine, and serves turns of the engine over those:
seconds for one (symbol, bar). Imports nothing of the product.
"""

from __future__ import annotations

import sys
import time
from decimal import Decimal
from typing import Any

import numpy as np
from nautilus_trader.backtest.engine import BacktestEngine, BacktestEngineConfig
from nautilus_trader.config import LoggingConfig, StrategyConfig
from nautilus_trader.indicators import (
    BollingerBands,
    DonchianChannel,
    MovingAverageType,
    RateOfChange,
    RelativeStrengthIndex,
    SimpleMovingAverage,
)
from nautilus_trader.model.currencies import BTC, USDT
from nautilus_trader.model.data import Bar, BarType
from nautilus_trader.model.enums import AccountType, OmsType
from nautilus_trader.model.identifiers import InstrumentId, Symbol, TraderId, Venue
from nautilus_trader.model.instruments import CryptoPerpetual
from nautilus_trader.model.objects import Money, Price, Quantity
from nautilus_trader.trading.strategy import Strategy

from benchmarks.serving import serve

HOUR = 3600 * 10**9
VENUE = Venue("BINANCE")
DIGITS = 4
NAN = float("nan")


class Indicators:
    """F12 of one symbol."""

    def __init__(self) -> None:
        # It counts the newest price among its period.
        self._rates = [RateOfChange(w + 1) for w in (20, 60)]
        self._strengths = [RelativeStrengthIndex(w, MovingAverageType.WILDER) for w in (6, 12, 24)]
        self._averages = [SimpleMovingAverage(w) for w in (5, 10, 20, 60)]
        self._channels = [DonchianChannel(w) for w in (20, 60)]
        # It has no plain deviation: that of the bands, whose input is a typical price.
        self._bands = BollingerBands(20, 1.0)
        self._means = [NAN] * 4
        self._close = NAN

    def update(self, close: float, high: float, low: float) -> list[float]:
        """Fourteen values."""
        values = []
        for rate in self._rates:
            rate.update_raw(close)
            values.append(rate.value)
        for strength in self._strengths:
            strength.update_raw(close)
            values.append(100.0 * strength.value)
        for k, average in enumerate(self._averages):
            average.update_raw(close)
            mean = average.value
            values.append((mean / self._means[k] - 1.0) * 10.0)
            self._means[k] = mean
        for channel in self._channels:
            channel.update_raw(high, low)
            values.append((channel.upper - close) / close)
            values.append((close - channel.lower) / close)
        change = close / self._close - 1.0
        self._close = close
        if change == change:
            self._bands.update_raw(change, change, change)
        values.append((self._bands.upper - self._bands.middle) * (20.0 / 19.0) ** 0.5)
        return values


class _F12Strategy(Strategy):  # type: ignore[misc]
    """Takes every bar, as the engine replays them, through the indicators of its symbol."""

    def __init__(self, indicators: dict[BarType, Indicators]) -> None:
        super().__init__(StrategyConfig())
        self._indicators = indicators
        self.newest: dict[BarType, list[float]] = {}

    def on_start(self) -> None:
        for kind in self._indicators:
            self.subscribe_bars(kind)

    def on_bar(self, bar: Bar) -> None:
        kind = bar.bar_type
        self.newest[kind] = self._indicators[kind].update(
            bar.close.as_double(), bar.high.as_double(), bar.low.as_double()
        )


def _instrument(place: int) -> CryptoPerpetual:
    name = f"S{place:03d}USDT"
    return CryptoPerpetual(
        instrument_id=InstrumentId(Symbol(f"{name}-PERP"), VENUE),
        raw_symbol=Symbol(name),
        base_currency=BTC,
        quote_currency=USDT,
        settlement_currency=USDT,
        is_inverse=False,
        price_precision=DIGITS,
        size_precision=DIGITS,
        price_increment=Price(10.0**-DIGITS, DIGITS),
        size_increment=Quantity(10.0**-DIGITS, DIGITS),
        margin_init=Decimal(1),
        margin_maint=Decimal(1),
        maker_fee=Decimal(0),
        taker_fee=Decimal(0),
        ts_event=0,
        ts_init=0,
    )


class _Backtest:
    def __init__(self, bars: np.ndarray, first: int, count: int) -> None:
        self._symbols = bars.shape[2]
        self._instruments = [_instrument(s) for s in range(self._symbols)]
        self._kinds = [BarType.from_str(f"{i.id}-1-HOUR-LAST-EXTERNAL") for i in self._instruments]
        self._past = bars[:first]
        self._indicators = {kind: Indicators() for kind in self._kinds}
        for bar in self._past:
            for s, state in enumerate(self._indicators.values()):
                state.update(bar[3, s], bar[1, s], bar[2, s])
        self._bars = [
            self._bar(kind, bars[k, :, s], (k + 1) * HOUR)
            for k in range(first, first + count)
            for s, kind in enumerate(self._kinds)
        ]

    @staticmethod
    def _bar(kind: BarType, values: np.ndarray, ts: int) -> Bar:
        prices = [Price(v, DIGITS) for v in values[:4]]
        return Bar(kind, *prices, Quantity(values[4], DIGITS), ts, ts)

    def run(self) -> tuple[float, list[list[float]]]:
        """Seconds of the engine's run over the bars, and the values after the last one."""
        logging = LoggingConfig(bypass_logging=True)
        config = BacktestEngineConfig(trader_id=TraderId("BENCH-001"), logging=logging, run_analysis=False)
        engine: Any = BacktestEngine(config)
        engine.add_venue(
            venue=VENUE,
            oms_type=OmsType.NETTING,
            account_type=AccountType.MARGIN,
            starting_balances=[Money(1_000_000, USDT)],
        )
        for instrument in self._instruments:
            engine.add_instrument(instrument)
        engine.add_data(self._bars, validate=False, sort=False)
        strategy = _F12Strategy(self._indicators)
        engine.add_strategy(strategy)
        start = time.perf_counter()
        engine.run()
        seconds = time.perf_counter() - start
        newest = [strategy.newest[kind] for kind in self._kinds]
        engine.dispose()
        return seconds, newest


def main() -> None:
    path, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    bars = np.load(path)
    backtest = _Backtest(bars, first, count)
    _, newest = backtest.run()
    units = count * bars.shape[2]
    serve(newest, {"engine": lambda: backtest.run()[0] / units})


if __name__ == "__main__":
    main()
