"""What an outbox knows of its columns and symbols in memory, and telling what of a batch is new."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from alpha_forge.contracts.types import Prediction
from alpha_forge.runtime.delivery.log import Conflict, nanoseconds
from alpha_forge.runtime.delivery.schema import from_bits, to_bits

Row = tuple[int, int, int, int, int]
"""stream, place, symbol, ts, bits"""


@dataclass(slots=True)
class Stream:
    """One column: ``base`` is the place up to which its records were deleted, ``end`` that of its newest."""

    id: int
    metadata: Mapping[str, str]
    base: int = 0
    end: int = 0
    sinks: list[str] = field(default_factory=list)
    newest: dict[str, tuple[int, int | None]] = field(default_factory=dict)
    """Symbol → ts and bits (None: only marked) of its newest record."""


@dataclass(slots=True)
class Cursor:
    """How far a sink is in its stream."""

    stream: Stream
    place: int
    dropped: int = 0


class Symbols:
    """Names and the numbers that stand for them in the file."""

    def __init__(self, known: Iterable[tuple[int, str]] = ()) -> None:
        self.names: dict[int, str] = dict(known)
        self.ids: dict[str, int] = {name: id for id, name in self.names.items()}

    def add(self, new: Mapping[str, int]) -> None:
        """Take over what a transaction has committed."""
        self.names.update({id: name for name, id in new.items()})
        self.ids.update(new)

    def id_of(self, name: str, new: dict[str, int]) -> int:
        """The symbol's number; one that has none gets one in `new`."""
        known = self.ids.get(name) or new.get(name)
        if known is None:
            # Never the number of another: after a recovery there may be holes below the highest.
            known = new[name] = max(self.names, default=0) + len(new) + 1
        return known


@dataclass(slots=True)
class News:
    """What one append adds, until it is committed."""

    rows: list[Row] = field(default_factory=list)
    ends: dict[int, int] = field(default_factory=dict)
    newest: dict[int, dict[str, tuple[int, int]]] = field(default_factory=dict)
    symbols: dict[str, int] = field(default_factory=dict)
    repeated: int = 0
    conflicts: list[Conflict] = field(default_factory=list)


def sort_out(
    predictions: Sequence[Prediction],
    symbols: Symbols,
    stream_of: Callable[[str, str], Stream],
    stored: Callable[[int, int, int], int | None],
) -> News:
    """What of a batch is new, and what contradicts the log.

    ``stored(stream, symbol, ts)`` gives the bits of a record that the file has, or None.
    """
    news = News()
    instant, ts = None, 0
    for p in predictions:
        stream = stream_of(str(p.metadata["frame"]), str(p.metadata["column"]))
        if p.ts is not instant:
            instant, ts = p.ts, nanoseconds(p.ts)
        bits = to_bits(p.value)
        fresh = news.newest.setdefault(stream.id, {})
        newest = fresh.get(p.symbol) or stream.newest.get(p.symbol)
        id = symbols.id_of(p.symbol, news.symbols)
        if newest is None or ts > newest[0]:
            place = news.ends[stream.id] = news.ends.get(stream.id, stream.end) + 1
            news.rows.append((stream.id, place, id, ts, bits))
            fresh[p.symbol] = ts, bits
            continue
        known = newest[1] if ts == newest[0] else _in(news, stream.id, id, ts) or stored(stream.id, id, ts)
        if known is None or known == bits:
            news.repeated += 1
        else:
            news.conflicts.append(
                Conflict(Prediction(p.symbol, p.ts, from_bits(known), stream.metadata), p.value)
            )
    return news


def _in(news: News, stream: int, symbol: int, ts: int) -> int | None:
    return next((r[4] for r in news.rows if (r[0], r[2], r[3]) == (stream, symbol, ts)), None)


def metadata_of(frame: str, column: str, dag_name: str) -> Mapping[str, str]:
    """The metadata that every record of a column has."""
    return MappingProxyType({"frame": frame, "column": column, "dag_name": dag_name})


def load_streams(db: sqlite3.Connection, dag_name: str, symbols: Symbols) -> dict[tuple[str, str], Stream]:
    """(frame, column) → stream, of everything that the file has of this graph. Raises sqlite3.Error."""
    found = db.execute('SELECT id, frame, "column" FROM streams WHERE dag = ?', (dag_name,)).fetchall()
    return {(f, c): _load(db, id, metadata_of(f, c, dag_name), symbols) for id, f, c in found}


def _load(db: sqlite3.Connection, id: int, metadata: Mapping[str, str], symbols: Symbols) -> Stream:
    first, end = db.execute("SELECT min(place), max(place) FROM records WHERE stream = ?", (id,)).fetchone()
    if first is None:
        # Nothing at hand: the places go on from where the cursors stand.
        (end,) = db.execute("SELECT max(place) FROM sinks WHERE stream = ?", (id,)).fetchone()
    end = end or 0
    stream = Stream(id, metadata, end if first is None else first - 1, end)
    # Of records that are at hand nothing is kept in `newest`: it would double what an append writes.
    for query in (
        "SELECT symbol, ts, bits FROM newest WHERE stream = ?",
        "SELECT symbol, max(ts), bits FROM records WHERE stream = ? GROUP BY symbol",
    ):
        for symbol, ts, bits in db.execute(query, (id,)):
            known = stream.newest.get(symbols.names[symbol])
            if known is None or known[0] < ts:
                stream.newest[symbols.names[symbol]] = ts, bits
    return stream
