"""The case of ``data.timer``: a tick every second, by this machine's clock."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alpha_forge_sdk import Bar, Interval, SystemClock
from alpha_forge_sdk.conformance import DataSourceConformance

SECOND = Interval.parse("1s")
PAST, FUTURE = 100, 600


class TimerConformance(DataSourceConformance):
    """The truth is arithmetic: every whole second."""

    plugin = "data.timer"
    stream_bars = 2

    @contextmanager
    def running(self, tmp_path: Path) -> Iterator[Mapping[str, Any]]:
        self._now = SECOND.floor(SystemClock().now())
        yield {"universe": ["AAAUSDT", "BBBUSDT"], "interval": "1s"}

    def truth(self, params: Mapping[str, Any]) -> Iterable[tuple[str, Bar]]:
        closes = range(self._now - PAST * SECOND.ns, self._now + FUTURE * SECOND.ns, SECOND.ns)
        return [(symbol, Bar(ts, 1.0, 1.0, 1.0, 1.0, 0.0)) for symbol in params["universe"] for ts in closes]

    _now: int
