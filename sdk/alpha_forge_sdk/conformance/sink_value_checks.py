"""AF-S11 … AF-S14: what arrives is what was sent, to the last bit."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from alpha_forge.contracts.errors import Rejected
from alpha_forge.contracts.types import Prediction
from alpha_forge_sdk.conformance.check import Broken, Check, check
from alpha_forge_sdk.conformance.search import smallest, strategies
from alpha_forge_sdk.conformance.sink_arrival_checks import BASE
from alpha_forge_sdk.conformance.sink_trial import (
    Record,
    Trial,
    arrived,
    record,
    shown,
    sink_class,
    told,
    whole_record,
)
from alpha_forge_sdk.testing.predictions import METADATA, START

if TYPE_CHECKING:
    from alpha_forge_sdk.conformance.case import SinkConformance

FLOATS = (
    0.0,
    -0.0,
    5e-324,
    2.225073858507201e-308,
    2.2250738585072014e-308,
    1.7976931348623157e308,
    -1.7976931348623157e308,
    0.1,
    0.1 + 0.2,
    1 / 3,
    -1e-7,
    1e22,
    1 + 2**-52,
    2.0**53 + 2,
    123456789.12345679,
    -0.000123456789012345678,
)
"""Zeros, the edges of float64, and values that short decimals, float32 or fixed point would alter."""

TIMES = (
    START,
    START + timedelta(microseconds=1),
    START + timedelta(microseconds=2),
    START + timedelta(milliseconds=1),
    START + timedelta(microseconds=999_999),
    datetime(1970, 1, 1, tzinfo=UTC),
    datetime(2024, 2, 29, 23, 59, 59, 123_456, tzinfo=UTC),
    datetime(2025, 11, 2, 5, 30, tzinfo=UTC),
    datetime(2025, 11, 2, 6, 30, tzinfo=UTC),
    datetime(2038, 1, 19, 3, 14, 8, tzinfo=UTC),
    datetime(2099, 12, 31, tzinfo=UTC),
)
"""Edges of formats; and an hour that New York's clocks show twice."""

TEXTS = (
    "BTCUSDT",
    "btcusdt",
    "BTC,USDT",
    "BTC/USDT:USDT",
    "../up",
    "'; DROP TABLE predictions; --",
    'the "best"',
    "it's",
    "比特币",
    "🚀",
    "Ünïcödé",
    "e\u0301",
    "\u00e9",
    " padded ",
    "padded",
    "back\\slash",
    "50%",
    "{curly}",
    "=1+1",
    "null",
    "123",
)
"""What formats quote, escape, fold, trim, normalise or take for something else; some differ only in that."""

CONTROLS = ("line\nbreak", "cr\r\nlf", "a\ttab", "nul\x00nul", "long" * 100)
"""May be rejected: not every destination can hold them."""

EXAMPLES = 20


def faithful(
    trial: Trial,
    sent: Sequence[Prediction],
    promised: str,
    must: Callable[[Prediction], bool],
    form: Callable[[Prediction], Record] = record,
) -> None:
    """Raise Broken unless each record is stored as it is or, where not ``must``, `Rejected`."""
    with trial.life() as life:
        error = life.offer(sent)
    refused: set[int] = set()
    if isinstance(error, Rejected):
        refused = set(error.reasons)
        if wrongly := [i for i in sorted(refused) if not 0 <= i < len(sent) or must(sent[i])]:
            what = shown(sent[wrongly[0]], form is whole_record) if wrongly[0] < len(sent) else "no record"
            raise Broken(promised, f"index {wrongly[0]} was rejected, that is {what}: {told(error)}")
    elif error is not None:
        raise Broken(promised, f"emitting {shown(sent[0], form is whole_record)} … raised {told(error)}")
    kept = [p for i, p in enumerate(sent) if i not in refused]
    arrived(promised, kept, trial.stored(), once=True, after="read back", form=form)


def _searched(
    case: SinkConformance,
    tmp_path: Path,
    strategy: object,
    check_one: Callable[[Trial, object], None],
) -> None:
    """`check_one` in a destination of its own for each case that Hypothesis makes; raise the smallest that fails."""
    number = itertools.count()

    def breaks(found: object) -> Broken | None:
        try:
            check_one(Trial(case, tmp_path / f"found{next(number)}"), found)
        except Broken as broken:
            return broken
        return None

    smallest(strategy, breaks, examples=EXAMPLES)  # type: ignore[arg-type]


def _with_values(values: Sequence[float]) -> list[Prediction]:
    return [Prediction("BTCUSDT", START + timedelta(hours=i), v, METADATA) for i, v in enumerate(values)]


def _within_reach(prediction: Prediction) -> bool:
    """Values that every destination must hold. Some, with decimal numbers, have to reject what lies beyond."""
    size = abs(prediction.value)
    return 1e-100 < size < 1e100 or (size == 0 and math.copysign(1, prediction.value) > 0)


@check(
    "AF-S11",
    "a value reads back to the same float64, bit for bit",
    "sinks",
    remedy="store 8 bytes, or the shortest text that reads back to the same bits: repr(value); what the destination "
    "can't hold is Rejected",
    needs=BASE,
)
def values_exact(case: SinkConformance, tmp_path: Path) -> None:
    """A value that comes back changed in its last bit can't be compared with a replay, and tiny or huge ones
    can be wrong altogether. Text with 15 digits, float32 columns and a lost sign of zero are the usual
    causes."""
    promised = "a value arrives as the float64 it was, or is Rejected: never altered"

    def one(trial: Trial, values: object) -> None:
        faithful(trial, _with_values(values), promised, _within_reach)  # type: ignore[arg-type]

    for number, value in enumerate(FLOATS):
        one(Trial(case, tmp_path / str(number)), [value])
    one(Trial(case, tmp_path / "all"), FLOATS)
    st = strategies()
    finite = st.floats(allow_nan=False, allow_infinity=False)
    _searched(case, tmp_path, st.lists(finite, min_size=1, max_size=8), one)


@check(
    "AF-S12",
    "ts reads back to the same microsecond",
    "sinks",
    remedy="store microseconds since the epoch, or ISO 8601 with all six digits, in UTC",
    needs=("AF-S10",),
)
def times_exact(case: SinkConformance, tmp_path: Path) -> None:
    """ts is the record's key and what it is joined by. Rounded to milliseconds, or read in local time, it
    names another moment."""
    promised = "ts arrives to the microsecond, in UTC; two that differ stay two"

    def one(trial: Trial, times: object) -> None:
        sent = [Prediction("BTCUSDT", ts, 0.5, METADATA) for ts in times]  # type: ignore[attr-defined]
        faithful(trial, sent, promised, lambda _: True)

    one(Trial(case, tmp_path / "all"), TIMES)
    with _local_time("EST5EDT,M3.2.0,M11.1.0"):
        one(Trial(case, tmp_path / "elsewhere"), TIMES)
    st = strategies()
    first, last = datetime(1970, 1, 1), datetime(2100, 1, 1)  # naive: Hypothesis adds the zone itself
    times = st.datetimes(first, last, timezones=st.just(UTC))
    _searched(case, tmp_path, st.lists(times, min_size=1, max_size=8, unique=True), one)


@contextlib.contextmanager
def _local_time(zone: str) -> Iterator[None]:
    """Let this process live in another time zone, where the system can."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = zone
    _reset_zone()
    try:
        yield
    finally:
        os.environ.pop("TZ")
        if before is not None:
            os.environ["TZ"] = before
        _reset_zone()


def _reset_zone() -> None:
    if hasattr(time, "tzset"):  # not on Windows
        time.tzset()


@check(
    "AF-S13",
    "symbols and metadata read back letter for letter",
    "sinks",
    remedy="UTF-8 throughout, quote by the format's own library, compare text byte by byte; store all of metadata",
    needs=BASE,
)
def texts_exact(case: SinkConformance, tmp_path: Path) -> None:
    """Symbols are Unicode on some exchanges, and quotes, commas and line breaks occur in metadata. Folded
    case, another normal form or a home-made quoting merges records or tears them."""
    promised = "symbol and metadata arrive as they were, in any script; two that differ stay two"

    def one(trial: Trial, texts: object) -> None:
        sent = [
            Prediction(text, START, 0.5, {key: f"{text}{key}" for key in METADATA})
            for text in texts  # type: ignore[attr-defined]
        ]
        faithful(trial, sent, promised, lambda p: p.symbol not in CONTROLS, form=whole_record)

    one(Trial(case, tmp_path / "plain"), ["BTCUSDT"])
    one(Trial(case, tmp_path / "all"), TEXTS)
    for number, text in enumerate(CONTROLS):
        one(Trial(case, tmp_path / str(number)), [text])
    st = strategies()
    letters = st.characters(codec="utf-8", categories=("L", "M", "N", "P", "S"))
    words = st.text(letters, min_size=1, max_size=12)
    _searched(case, tmp_path, st.lists(words, min_size=1, max_size=6, unique=True), one)


@check(
    "AF-S14",
    "NaN and infinities are stored or rejected, as declared, never altered",
    "sinks",
    remedy='store them as they are, or declare `non_finite = "reject"` and raise Rejected for them',
    needs=BASE,
)
def non_finite(case: SinkConformance, tmp_path: Path) -> None:
    """A NaN that turns into 0 is a signal to trade. Destinations that lack NaN and infinities must refuse
    them by name."""
    rejects = sink_class(case).non_finite == "reject"
    for number, value in enumerate((math.nan, math.inf, -math.inf)):
        trial = Trial(case, tmp_path / str(number))
        sent = _with_values([value])
        with trial.life() as life:
            error = life.offer(sent)
        got = trial.stored()
        if rejects:
            promised = 'non_finite = "reject": NaN and infinities raise Rejected, and nothing is stored'
            if not isinstance(error, Rejected):
                raise Broken(promised, f"emitting {value} raised {told(error) if error else 'nothing'}")
            arrived(promised, [], got, once=True, after=f"{value} was rejected")
        else:
            promised = 'non_finite = "store": NaN and infinities arrive as they are'
            if error is not None:
                raise Broken(promised, f"emitting {value} raised {told(error)}")
            arrived(promised, sent, got, once=True, after="read back")


CHECKS: tuple[Check, ...] = (values_exact, times_exact, texts_exact, non_finite)
