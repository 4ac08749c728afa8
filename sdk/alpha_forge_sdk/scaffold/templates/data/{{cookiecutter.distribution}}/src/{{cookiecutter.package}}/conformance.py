"""What the conformance kit has to know of the source: what it should deliver."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from alpha_forge_sdk import Bar, Interval
from alpha_forge_sdk.conformance import DataSourceConformance

from {{ cookiecutter.package }}.market import market_bar


class {{ cookiecutter._case }}(DataSourceConformance):
    """Proves that the source keeps what it declares, on bars of one second."""

    plugin = "data.{{ cookiecutter.name }}"
    stream_bars = 2

    def params(self, tmp_path: Path) -> Mapping[str, Any]:
        return {"universe": ["AAA", "BBB"], "interval": "1s"}

    def truth(self, params: Mapping[str, Any]) -> Iterable[tuple[str, Bar]]:
        """The market itself: two minutes of its past, and more of its future than the checks will see.

        A real source is compared with a server that the case runs (see `running`), or with recorded bars.
        """
        interval = Interval.parse(params["interval"])
        now = interval.row(time.time_ns())
        closes = [interval.ts(row) for row in range(now - 120, now + 600)]
        return [(symbol, market_bar(symbol, ts)) for symbol in params["universe"] for ts in closes]
