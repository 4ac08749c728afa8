"""The gate: closed bars from the bytes of a socket into frames, with no features behind it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from alpha_forge.runtime.engine import Engine
from alpha_forge.runtime.feed import Feed
from alpha_forge_plugins.market.binance.messages import FrameDecoder
from alpha_forge_sdk import DataSource, Interval, MarketEvent
from benchmarks.blaster import messages
from benchmarks.graphs import FRAME, compiled, config
from benchmarks.market import close_of, names, random_bars
from benchmarks.results import CaseResult, Goal
from benchmarks.timing import in_turn, median, per_unit

OURS = "ours: bytes → frame"
SHED = "ours: a bar in progress, told and shed"
DECODE = "the limit: msgspec decodes the closed bar"
JSON = "json.loads and float, nothing else"
MICRO = 1e6
ROWS_A_TURN = 10


def run(*, quick: bool) -> CaseResult:
    """µs for one message of 500 streams."""
    result = CaseResult("gate", "a message of the socket becomes a bar in the frame", "µs a message", OURS)
    symbols, rounds = 500, 3 if quick else 40
    bars = random_bars(symbols, ROWS_A_TURN * (rounds + 1) + 1)
    sent = [messages(bars.values[k], k, closed=True) for k in range(bars.count)]
    still_open = messages(bars.values[0], 0, closed=False)
    gate = _Gate(symbols)
    gate.close(sent[0])
    _check(result, gate, bars.values[0])
    at = {OURS: 1, JSON: 1, DECODE: 1}

    def over_rows(name: str, take: Callable[[list[bytes]], object]) -> Callable[[], None]:
        def work() -> None:
            for _ in range(ROWS_A_TURN):
                take(sent[at[name]])
                at[name] += 1

        return work

    units = ROWS_A_TURN * symbols
    decode = msgspec.json.Decoder(Message, strict=False).decode
    turns = {
        OURS: per_unit(over_rows(OURS, gate.close), units),
        DECODE: per_unit(over_rows(DECODE, lambda row: [decode(m) for m in row]), units),
        JSON: per_unit(over_rows(JSON, lambda row: [by_json(m) for m in row]), units),
        SHED: per_unit(lambda: gate.read(still_open, ROWS_A_TURN), units),
    }
    found = in_turn(turns, rounds)
    for name, samples in found.items():
        result.add(name, f"{symbols} streams", samples, MICRO)
    ours = result.of(OURS, f"{symbols} streams")
    result.goals.append(
        Goal("≥ 100,000 closed bars a second, so ≤ 10 µs a bar", ours.median, 10.0, ours.best)
    )
    result.notes.append(
        f"{1 / median(found[OURS]):,.0f} closed bars a second; {1 / median(found[SHED]):,.0f} of bars in progress"
    )
    result.notes.append("without the socket itself: `websockets` hands over some 290,000 messages a second")
    return result


class _Gate:
    """Decoder, feed and engine as the runner joins them, the socket and the event loop left out."""

    def __init__(self, symbols: int) -> None:
        _, dag = compiled(config(names(symbols), "", "ohlcv.close", Path("never_opened.csv")))
        node = dag.data_nodes()[0]
        self.spec = dag.frames[FRAME]
        self.engine = Engine(dag)
        first = self.spec.interval.row(close_of(0))
        self.engine.begin({FRAME: np.full(symbols, first)})
        self.engine.emit_after({FRAME: 0})
        self.feed = Feed(node, self.spec, DataSource.__new__(DataSource), asyncio.Event())
        self.feed.sequencer.begin(np.full(symbols, first))
        self.decoder = FrameDecoder(self.spec.symbols, Interval.parse("1h"))

    def close(self, row: list[bytes]) -> None:
        """All bars of one close."""
        read, note = self.decoder.read, self.feed._note
        for message in row:
            event = read(message, 0.0)
            assert type(event) is MarketEvent
            note(event)
        self.feed.sort_in()
        self.engine.process(list(self.feed.take()))

    def read(self, row: list[bytes], times: int) -> None:
        """Decode alone."""
        for _ in range(times):
            for message in row:
                self.decoder.read(message, 0.0)


def _check(result: CaseResult, gate: _Gate, values: np.ndarray) -> None:
    """The bars in the frame are those that were written into the messages."""
    frame = gate.engine.frames[FRAME]
    row = frame.interval.row(close_of(0))
    columns = [frame.values(c, row, frame.everyone) for c in ("open", "high", "low", "close", "volume")]
    result.agree("bars in the frame", "500 streams", float(np.abs(np.stack(columns) - values).max()), 0.0)


class _Kline(msgspec.Struct, gc=False):
    t: int
    o: float
    h: float
    l: float  # noqa: E741
    c: float
    v: float
    x: bool


class _Data(msgspec.Struct, gc=False):
    s: str
    k: _Kline


class Message(msgspec.Struct, gc=False):
    """The least that a client must read of a kline."""

    data: _Data


def by_json(message: bytes) -> tuple[int, float, float, float, float, float]:
    """A closed bar as a client without a schema reads it."""
    k = json.loads(message)["data"]["k"]
    return k["t"], float(k["o"]), float(k["h"]), float(k["l"]), float(k["c"]), float(k["v"])
