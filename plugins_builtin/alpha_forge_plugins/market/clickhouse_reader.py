"""A table of bars in ClickHouse: what is asked of it over HTTP, and what its answers say. No clock, no loop.

Rows come as RowBinary of fixed width, so that an answer is one array; the symbol is its place in the universe.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from alpha_forge_plugins.clickhouse_server import MISSING, PASSING, REFUSED_USER, brief
from alpha_forge_sdk import Interval, SourceError

if TYPE_CHECKING:
    import httpx
    import numpy as np
    import numpy.typing as npt

    from alpha_forge_plugins.market.clickhouse_poll import ClickHousePoll

VALUES = ("open", "high", "low", "close", "volume")

_FLOATS = re.compile(r"Float(32|64)|U?Int(8|16|32)")
_DECIMAL = re.compile(r"Decimal\((\d+), (\d+)\)")
_DECIMAL64 = 18
_TIME = re.compile(r"DateTime(64)?(\(.*\))?")
_TEXT = re.compile(r"(LowCardinality\()?(Nullable\()?String\)*")
_EXACT = 2**53
"""Up to here every integer is a float64."""


class Unreachable(Exception):
    """A fault that may pass: no connection, no answer in time, or a server in trouble."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of the table, by symbol and then by close: each key once."""

    symbol: npt.NDArray[np.int64]
    """Places in the universe."""
    ts: npt.NDArray[np.int64]
    """Closes, ns."""
    values: npt.NDArray[np.float64]
    """(5, rows), open to volume."""

    def __len__(self) -> int:
        return len(self.ts)


@dataclass(frozen=True, slots=True)
class Flawed:
    """A row that is no bar, and why."""

    symbol: str
    ts: int
    why: str


class BarTable:
    """Asks the server. `describe` first; raises SourceError for what won't pass, Unreachable for what may."""

    def __init__(self, params: ClickHousePoll.Params, interval: Interval) -> None:
        import httpx

        self._params = params
        self._interval = interval
        self._scales: tuple[int | None, ...] = ()
        self._final = ""
        verify: ssl.SSLContext | bool = params.verify
        if params.secure and params.verify and params.ca_cert is not None:
            verify = self._trusted(params.ca_cert)
        scheme = "https" if params.secure else "http"
        self._client = httpx.AsyncClient(
            base_url=f"{scheme}://{params.host}:{params.port_or_default()}",
            headers={"X-ClickHouse-User": params.user, "X-ClickHouse-Key": params.secret()},
            timeout=params.timeout,
            verify=verify,
            trust_env=False,
        )

    async def describe(self) -> None:
        """Check the table's columns and learn how to read them. Raises SourceError AF5070 to AF5072, AF5074."""
        p = self._params
        where = {"d": p.database, "t": p.table_name}
        engines = await self._lines(
            "SELECT engine FROM system.tables WHERE database = {d:String} AND name = {t:String}", where
        )
        if not engines:
            raise self._missing()
        # What a merge would leave is what is read, whether it has come yet or not.
        self._final = " FINAL" if re.search(r"(Replacing|Collapsing)MergeTree", engines[0]) else ""
        lines = await self._lines(
            "SELECT name, type FROM system.columns WHERE database = {d:String} AND table = {t:String}", where
        )
        types = dict(line.replace("\\'", "'").split("\t", 1) for line in lines)
        problems = [problem for problem in self._column_problems(types) if problem]
        if problems:
            raise SourceError(
                "AF5072",
                f"{p.database}.{p.table_name} is no table of bars: {'; '.join(problems)}",
                "name its columns in `columns` and `filters`, or make a view that has them",
            )
        self._scales = tuple(_scale(types[name]) for name in p.columns.values())

    def _column_problems(self, types: Mapping[str, str]) -> list[str]:
        columns = self._params.columns
        wanted = [
            (columns.symbol, _TEXT, "a String"),
            (columns.time, _TIME, "a DateTime or DateTime64"),
            *((name, None, "Float64 or a Decimal of at most 18 digits") for name in columns.values()),
        ]
        problems = []
        for name, form, what in wanted:
            if name not in types:
                problems.append(f"it lacks the column {name}; it has {', '.join(sorted(types)[:12])}")
            elif not (form.fullmatch(types[name]) if form else _is_number(types[name])):
                problems.append(f"{name} is {types[name]} instead of {what}")
        problems += [
            f"it lacks the column {name} of `filters`" for name in self._params.filters if name not in types
        ]
        return problems

    async def newest(self, universe: Sequence[str], until: int) -> dict[str, int]:
        """Each symbol's newest close ≤ `until` (ns); without the symbols that have none."""
        c = self._params.columns
        query = (
            f"SELECT toUInt32(indexOf({{symbols:Array(String)}}, toString(`{c.symbol}`))), "
            f"max({self._nanoseconds()}) {self._from(universe)} "
            f"AND `{c.time}` <= fromUnixTimestamp64Nano({{until:Int64}}) GROUP BY 1"
        )
        values = self._values(universe, until=until)
        lines = [line.split("\t") for line in await self._lines(query, values)]
        return {universe[int(place) - 1]: int(ns) + self._shift for place, ns in lines}

    async def rows(self, universe: Sequence[str], start: int, end: int) -> tuple[Rows, list[Flawed]]:
        """Rows of these symbols with ``start < close <= end`` (ns): the bars, and the rows that are none."""
        import numpy as np

        c = self._params.columns
        values = ", ".join(self._number(i, name) for i, name in enumerate(c.values()))
        # DISTINCT: a table without a key may hold a row twice.
        query = (
            f"SELECT DISTINCT toUInt32(indexOf({{symbols:Array(String)}}, toString(`{c.symbol}`))), "
            f"{self._nanoseconds()}, {values} {self._from(universe)} "
            f"AND `{c.time}` > fromUnixTimestamp64Nano({{since:Int64}}) "
            f"AND `{c.time}` <= fromUnixTimestamp64Nano({{until:Int64}}) FORMAT RowBinary"
        )
        answer = await self._ask(query, self._values(universe, since=start, until=end))
        kinds = ["<i8" if scale is not None else "<f8" for scale in self._scales]
        row = np.dtype([("symbol", "<u4"), ("ts", "<i8"), *zip(VALUES, kinds, strict=True)])
        table = np.frombuffer(answer, row)
        table = table[np.lexsort((table["ts"], table["symbol"]))]
        numbers = [_floats(table[name], scale) for name, scale in zip(VALUES, self._scales, strict=True)]
        found = Rows(table["symbol"].astype(np.int64) - 1, table["ts"] + self._shift, np.stack(numbers))
        return sound(found, universe, self._interval)

    async def close(self) -> None:
        """Close the connections. Idempotent."""
        await self._client.aclose()

    @property
    def _shift(self) -> int:
        """From the time column to the close."""
        return self._interval.ns if self._params.time_is == "open" else 0

    def _nanoseconds(self) -> str:
        return f"toUnixTimestamp64Nano(toDateTime64(`{self._params.columns.time}`, 9, 'UTC'))"

    def _number(self, place: int, name: str) -> str:
        scale = self._scales[place]
        if scale is None:
            return f"toFloat64(`{name}`)"
        return f"reinterpretAsInt64(toDecimal64(`{name}`, {scale}))"

    def _from(self, universe: Sequence[str]) -> str:
        p = self._params
        filters = "".join(f" AND `{name}` = {{f{i}:String}}" for i, name in enumerate(p.filters))
        return (
            f"FROM `{p.database}`.`{p.table_name}`{self._final} "
            f"WHERE `{p.columns.symbol}` IN {{symbols:Array(String)}}{filters}"
        )

    def _values(self, universe: Sequence[str], **instants: int) -> dict[str, str]:
        names = ",".join("'" + s.replace("\\", "\\\\").replace("'", "\\'") + "'" for s in universe)
        times = {name: str(ns - self._shift) for name, ns in instants.items()}
        filters = {f"f{i}": value for i, value in enumerate(self._params.filters.values())}
        return {"symbols": f"[{names}]", **times, **filters}

    async def _lines(self, query: str, values: Mapping[str, str]) -> list[str]:
        """An answer in lines, tabs between its values."""
        text = (await self._ask(f"{query} FORMAT TabSeparated", values)).decode()
        return text.splitlines()

    async def _ask(self, query: str, values: Mapping[str, str]) -> bytes:
        import httpx

        # The whole answer is made before its first byte is sent: a failure has its status, none is cut off in between.
        asked = {"wait_end_of_query": "1", **{f"param_{name}": _escaped(v) for name, v in values.items()}}
        try:
            answer = await self._client.post("/", params=asked, content=query.encode())
        except httpx.TransportError as error:
            raise self._fault(error) from error
        if answer.status_code == 200:
            return answer.content
        raise self._refusal(answer)

    def _fault(self, error: Exception) -> Exception:
        seen: BaseException | None = error
        while seen is not None:
            if isinstance(seen, ssl.SSLError):
                return SourceError(
                    "AF5074",
                    f"no TLS with {self._params.place()}: {seen.reason or seen}",
                    "set ca_cert to the file of the authority's certificate, or `secure` as the server's port wants it",
                )
            seen = seen.__cause__ or seen.__context__
        return Unreachable(f"{self._params.place()}: {type(error).__name__} {error}".rstrip())

    def _refusal(self, answer: httpx.Response) -> Exception:
        p = self._params
        code, text = int(answer.headers.get("X-ClickHouse-Exception-Code", 0)), brief(answer.text)
        if code in PASSING or answer.status_code in (502, 503, 504):
            return Unreachable(f"{p.place()} can't answer now: {text}")
        if code in REFUSED_USER:
            return SourceError(
                "AF5070",
                f"{p.place()} refuses user '{p.user}': {text}",
                'correct user and password (password: "${env:NAME}"), or let the server\'s administrator grant '
                f"SELECT on {p.database}.{p.table_name}",
            )
        if code in MISSING:
            return self._missing()
        return SourceError(
            "AF5074",
            f"{p.place()} refused a request (HTTP {answer.status_code}): {text}",
            "a port that is not ClickHouse's HTTP interface answers like this, too",
        )

    def _missing(self) -> SourceError:
        p = self._params
        return SourceError(
            "AF5071",
            f"{p.place()} has no table {p.database}.{p.table_name}",
            "correct database and table_name; the user must be allowed to SELECT from it",
        )

    @staticmethod
    def _trusted(file: str) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=file)
        except OSError as error:
            raise SourceError(
                "AF5074",
                f"ca_cert: {file} can't be read: {error}",
                "name the authority's certificate, a PEM file",
            ) from None


def sound(rows: Rows, universe: Sequence[str], interval: Interval) -> tuple[Rows, list[Flawed]]:
    """The bars among `rows`, which are ordered by symbol and close, and the others: off the grid, not finite, or two
    rows for one close that say different things, of which neither is a bar."""
    import numpy as np

    off = (rows.ts - interval.offset) % interval.ns != 0
    unsound = ~np.isfinite(rows.values).all(axis=0)
    double = np.zeros(len(rows), dtype=np.bool_)
    if len(rows) > 1:
        same = (np.diff(rows.ts) == 0) & (np.diff(rows.symbol) == 0)
        double[1:] |= same
        double[:-1] |= same
    reasons = (
        (off, f"closes off the grid of {interval}"),
        (unsound & ~off, "has a value that is not finite"),
        (double & ~off & ~unsound, "is there twice, with different values"),
    )
    flawed = [
        Flawed(universe[rows.symbol[i]], int(rows.ts[i]), why)
        for mask, why in reasons
        for i in np.flatnonzero(mask)
    ]
    good = ~(off | unsound | double)
    return Rows(rows.symbol[good], rows.ts[good], np.ascontiguousarray(rows.values[:, good])), flawed


def _is_number(type_: str) -> bool:
    decimal = _DECIMAL.fullmatch(type_)
    return bool(_FLOATS.fullmatch(type_)) or (decimal is not None and int(decimal[1]) <= _DECIMAL64)


def _scale(type_: str) -> int | None:
    """Digits after the point of a decimal; None for what is read as float64."""
    decimal = _DECIMAL.fullmatch(type_)
    return int(decimal[2]) if decimal else None


def _floats(column: Any, scale: int | None) -> Any:
    """The float64 nearest to each number: what reading its decimal text would give."""
    import numpy as np

    if scale is None:
        return column.astype(np.float64)
    # Both integers are exact, so the one division rounds correctly (10 ** 18 is a float64 too).
    found = column.astype(np.float64) / 10.0**scale
    for i in np.flatnonzero(np.abs(column) > _EXACT):
        found[i] = float(Decimal(int(column[i])).scaleb(-scale))
    return found


def _escaped(text: str) -> str:
    """As a query parameter is read: tab-separated text."""
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")
