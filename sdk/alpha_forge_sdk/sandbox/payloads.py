"""The texts in which the exchange writes a bar: stream event, REST row, archive line.

Key order, types and decimals follow frames captured from the real exchange. Texts are built by hand, not by a
JSON library: their parts are digits and fixed names, and there are thousands of them a second.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from alpha_forge_sdk.sandbox.bars import FIRST_ID, BarTable, Instrument
from alpha_forge_sdk.sandbox.intervals import next_ms

ARCHIVE_COLUMNS: Final = (
    "open_time",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "close_time",
    "quote_volume",
    "count",
    "taker_buy_volume",
    "taker_buy_quote_volume",
    "ignore",
)


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """A kline stream: its name as subscribed, and what it shows. `contract` is empty for
    `<symbol>@kline_<i>`."""

    name: str
    symbol: str
    interval: str
    contract: str = ""


def decimal_text(value: int, decimals: int, places: int = 0) -> str:
    """`value` x 10^-decimals with `decimals` decimals, or `places` if that is more; `value` is not negative."""
    if decimals < places:
        value, decimals = value * 10 ** (places - decimals), places
    if decimals == 0:
        return str(value)
    digits = str(value).zfill(decimals + 1)
    return f"{digits[:-decimals]}.{digits[-decimals:]}"


def event_text(
    spec: StreamSpec, instrument: Instrument, bar: BarTable, event_ms: int, closed: bool, places: int = 0
) -> str:
    """The payload of a kline or continuous kline event for `bar`, shape (12, 1); numbers have at least `places`
    decimals."""
    values: list[int] = bar[:, 0].tolist()
    opened, open_, high, low, close, volume, quote, trades, taker, taker_quote, first, end = values
    last = end - 1
    if trades == 0:
        first = last = -1
    price, amount, product = instrument.decimals
    if spec.contract:
        head = (
            f'{{"e":"continuous_kline","E":{event_ms},"ps":"{spec.symbol}","ct":"{spec.contract}","k":'
            f'{{"t":{opened},"T":{next_ms(opened, spec.interval) - 1},'
        )
    else:
        head = (
            f'{{"e":"kline","E":{event_ms},"s":"{spec.symbol}","k":'
            f'{{"t":{opened},"T":{next_ms(opened, spec.interval) - 1},"s":"{spec.symbol}",'
        )
    return (
        f'{head}"i":"{spec.interval}","f":{first},"L":{last},'
        f'"o":"{decimal_text(open_, price, places)}","c":"{decimal_text(close, price, places)}",'
        f'"h":"{decimal_text(high, price, places)}","l":"{decimal_text(low, price, places)}",'
        f'"v":"{decimal_text(volume, amount, places)}","n":{trades},"x":{"true" if closed else "false"},'
        f'"q":"{decimal_text(quote, product, places)}","V":"{decimal_text(taker, amount, places)}",'
        f'"Q":"{decimal_text(taker_quote, product, places)}","B":"0"}}}}'
    )


def combined_text(stream: str, payload: str) -> str:
    """The payload in the wrapper of a combined stream."""
    return f'{{"stream":"{stream}","data":{payload}}}'


def kline_rows(
    instrument: Instrument, interval: str, bars: BarTable, quote: str = "", places: int = 0, per_ms: int = 1
) -> list[str]:
    """The twelve columns of each bar, decimals between `quote` marks; times in units of which `per_ms` are a
    millisecond."""
    price, amount, product = instrument.decimals
    mark = f"{quote},{quote}"
    rows = []
    for opened, *prices, volume, turnover, trades, taker, taker_quote in bars[:FIRST_ID].T.tolist():
        path = mark.join([decimal_text(value, price, places) for value in prices])
        rows.append(
            f"{opened * per_ms},{quote}{path}{mark}{decimal_text(volume, amount, places)}{quote},"
            f"{next_ms(opened, interval) * per_ms - 1},{quote}{decimal_text(turnover, product, places)}{quote},"
            f"{trades},{quote}{decimal_text(taker, amount, places)}{mark}"
            f"{decimal_text(taker_quote, product, places)}{mark}0{quote}"
        )
    return rows


def rest_text(instrument: Instrument, interval: str, bars: BarTable, places: int = 0) -> str:
    """The body of a klines response."""
    rows = kline_rows(instrument, interval, bars, '"', places)
    return "[[" + "],[".join(rows) + "]]" if rows else "[]"


def csv_text(
    instrument: Instrument,
    interval: str,
    bars: BarTable,
    *,
    header: bool = True,
    places: int = 0,
    per_ms: int = 1,
) -> str:
    """The csv of an archive file; by default that of futures: a header, and times in milliseconds."""
    rows = kline_rows(instrument, interval, bars, "", places, per_ms)
    lines = [",".join(ARCHIVE_COLUMNS), *rows] if header else rows
    return "\n".join(lines) + "\n"
