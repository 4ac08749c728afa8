"""What the sink checks work with: a destination of one case, lives of the sink in it, and what has arrived there."""

from __future__ import annotations

import contextlib
import json
import math
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from alpha_forge.contracts.errors import Rejected, RetryLater
from alpha_forge.contracts.plugin import Sink
from alpha_forge.contracts.types import Prediction
from alpha_forge_sdk.conformance.check import Broken
from alpha_forge_sdk.testing.sink_probe import SinkProbe

if TYPE_CHECKING:
    from alpha_forge_sdk.conformance.case import SinkConformance

SETTLING = 1.0
"""Seconds in which records must be in the destination where being there at once is not what is judged."""

MARGIN = 5.0
"""Seconds that a call may take beyond the sink's ``timeout`` on a busy machine."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

Record = tuple[Any, ...]


def sink_class(case: SinkConformance) -> type[Sink]:
    """The sink's class."""
    return case.plugin_class()  # type: ignore[return-value]


def is_idempotent(case: SinkConformance) -> bool:
    """True if the sink says that a second record with the same key is no second record."""
    return bool(sink_class(case).idempotent_by)


def call_seconds(case: SinkConformance) -> float:
    """How long a call may take with the case's parameters, without the margin."""
    return case.timeout if case.timeout is not None else sink_class(case).timeout


class Trial:
    """A destination of its own: parameters of the case, and what was stored under them."""

    def __init__(self, case: SinkConformance, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.case = case
        self.folder = folder
        self.params: Mapping[str, Any] = dict(case.params(folder))

    def sink(self, params: Mapping[str, Any] | None = None) -> Sink:
        """A fresh, unopened instance; `params` in place of the trial's own, if given."""
        plugin = sink_class(self.case)
        return plugin(plugin.Params.model_validate(self.params if params is None else params))

    def probe(self, params: Mapping[str, Any] | None = None) -> SinkProbe:
        """A fresh instance on a thread of its own, unopened. ``end`` it."""
        return SinkProbe(self.sink(params), timeout=call_seconds(self.case) + MARGIN)

    @contextlib.contextmanager
    def life(self, params: Mapping[str, Any] | None = None) -> Iterator[Life]:
        """Open, use, close. Raises Broken if the sink can't be opened or closed; the destination is healthy."""
        probe = self.probe(params)
        life = Life(probe)
        try:
            life.must("open() succeeds where the destination is healthy", "open()", probe.open)
            yield life
            life.must("close() succeeds where the destination is healthy", "close()", probe.close)
        finally:
            if not probe.hung:
                with contextlib.suppress(Exception):
                    probe.close()
            probe.end()

    def store(self, *batches: Sequence[Prediction]) -> None:
        """One life, all batches."""
        with self.life() as life:
            for batch in batches:
                life.emit(batch)

    def deliver(self, batch: Sequence[Prediction]) -> None:
        """Hand over `batch` as a run does after faults: again and again, in lives of their own. Raises Undelivered."""
        deliver(self.probe, batch, self.case.recovery)

    def stored(self) -> list[Prediction]:
        """What the destination holds, by the case's own reader. Raises Broken if that fails."""
        try:
            return self.read()
        except Exception as error:
            raise Broken(
                "what the destination holds can be read, whole records only",
                f"read_back() raised {told(error)}",
            ) from error

    def settled(self, count: int) -> list[Prediction]:
        """`read`, for what need not be there at once: waits a little until there are at least `count` records."""
        deadline = time.monotonic() + SETTLING
        while len(found := self.read()) < count and time.monotonic() < deadline:
            time.sleep(0.02)
        return found

    def read(self) -> list[Prediction]:
        """As `stored`, but lets the reader's exception through. A file that isn't there yet holds nothing."""
        try:
            found = list(self.case.read_back(self.params))
        except FileNotFoundError:
            return []
        for item in found:
            if not isinstance(item, Prediction):
                raise TypeError(f"read_back() gives {type(item).__name__}, not Prediction")
        return found


class Life:
    """An opened sink, and the two ways to hand it records."""

    def __init__(self, probe: SinkProbe) -> None:
        self.probe = probe

    def emit(self, batch: Sequence[Prediction]) -> float:
        """Records that any sink takes, at most ``max_batch`` at a time. → seconds. Raises Broken if it doesn't."""
        seconds = 0.0
        most = self.probe.sink.max_batch
        for start in range(0, max(1, len(batch)), most):
            part = batch[start : start + most]
            what = f"emitting {len(part)} record(s)"
            self.must(
                "a healthy destination takes ordinary records", what, partial(self.probe.emit_batch, part)
            )
            seconds += self.probe.seconds
        return seconds

    def offer(self, batch: Sequence[Prediction]) -> Exception | None:
        """Records that it may refuse, at most ``max_batch`` at a time. → what it raised, a fault before `Rejected`."""
        reasons: dict[int, str] = {}
        most = self.probe.sink.max_batch
        for start in range(0, len(batch), most):
            try:
                self.probe.emit_batch(batch[start : start + most])
            except Rejected as error:
                reasons.update({start + index: reason for index, reason in error.reasons.items()})
            except Exception as error:  # noqa: BLE001 - the check judges it
                return error
        return Rejected(reasons) if reasons else None

    @staticmethod
    def must(promised: str, what: str, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:
            raise Broken(promised, f"{what} raised {told(error)}") from error


class Drives(Protocol):
    """`SinkProbe` or `SinkDriver`."""

    def open(self) -> None: ...
    def emit_batch(self, predictions: Sequence[Prediction]) -> None: ...
    def close(self) -> None: ...
    def end(self) -> None: ...


class Undelivered(Exception):
    """Records that a sink did not take within the time given, however often they were offered."""


def deliver(make: Callable[[], Drives], batch: Sequence[Prediction], seconds: float) -> None:
    """What the runtime does: `RetryLater` tries the same instance again, any other fault a new one after close.

    Raises Undelivered, with the last cause, after `seconds`.
    """
    deadline = time.monotonic() + seconds
    pause = 0.02
    while True:
        driver = make()
        try:
            driver.open()
            while not _taken(driver, batch, deadline):
                time.sleep(pause)
            return
        except RetryLater as error:
            cause = told(error)
        except Rejected:
            raise
        except Exception as error:  # noqa: BLE001 - a fault, whatever it is: it is tried again
            cause = told(error)
        finally:
            with contextlib.suppress(Exception):
                driver.close()
            driver.end()
        if time.monotonic() >= deadline:
            raise Undelivered(cause)
        time.sleep(pause)
        pause = min(2 * pause, 0.5)


def _taken(driver: Drives, batch: Sequence[Prediction], deadline: float) -> bool:
    try:
        driver.emit_batch(list(batch))  # a list of its own: the next try needs these records
    except RetryLater as error:
        if time.monotonic() >= deadline:
            raise
        time.sleep(min(error.after or 0.0, max(0.0, deadline - time.monotonic())))
        return False
    return True


def told(error: BaseException) -> str:
    """An exception in one line."""
    text = f"{type(error).__name__}: {error}".strip().splitlines()
    return text[0][:300] if text else type(error).__name__


def record(prediction: Prediction) -> Record:
    """What must arrive of a prediction, to the bit: symbol, microseconds of ts, bits of the value (any NaN is NaN)."""
    value = float(prediction.value)
    bits = "nan" if math.isnan(value) else struct.pack(">d", value).hex()
    return prediction.symbol, (prediction.ts - _EPOCH) // _MICROSECOND, bits


def whole_record(prediction: Prediction) -> Record:
    """`record`, and the metadata."""
    return *record(prediction), json.dumps(dict(prediction.metadata), sort_keys=True, default=repr)


def shown(prediction: Prediction, with_metadata: bool = False) -> str:
    """A prediction for people, the value with all its digits."""
    metadata = f", {dict(prediction.metadata)!r}" if with_metadata else ""
    return f"({prediction.symbol!r}, {prediction.ts.isoformat()}, {float(prediction.value)!r}{metadata})"


def arrived(
    promised: str,
    sent: Sequence[Prediction],
    got: Sequence[Prediction],
    *,
    once: bool,
    after: str,
    form: Callable[[Prediction], Record] = record,
) -> None:
    """Raise Broken unless every record of `sent` is in `got`, nothing else is, and, if `once`, none twice.

    ``after`` says what had happened, for the message.
    """
    wanted, found = Counter(map(form, sent)), Counter(map(form, got))
    missing = [p for p in sent if form(p) not in found]
    foreign = [p for p in got if form(p) not in wanted]
    everything = form is whole_record
    if missing and foreign:
        altered = next((p for p in foreign if p.symbol == missing[0].symbol), foreign[0])
        seen = f"sent {shown(missing[0], everything)}, found {shown(altered, everything)}"
    elif missing:
        seen = f"{len(missing)} of {len(sent)} records are missing, the first {shown(missing[0], everything)}"
    elif foreign:
        seen = f"the destination holds what was never sent: {shown(foreign[0], everything)}"
    elif once and (twice := [p for p in sent if found[form(p)] > wanted[form(p)]]):
        count = found[form(twice[0])]
        seen = (
            f"{len(set(map(form, twice)))} records are there more than once, {shown(twice[0])} {count} times"
        )
    else:
        return
    raise Broken(promised, f"{after}: {seen}")
