"""F12 as polars expressions over one symbol's high, low and close. Imports nothing of the product."""

from __future__ import annotations

import polars as pl


def expressions() -> list[pl.Expr]:
    """Fourteen columns."""
    close = pl.col("close")
    change = close.diff()
    columns = [close.pct_change(20), close.pct_change(60)]
    for w in (6, 12, 24):
        gain = change.clip(lower_bound=0.0).ewm_mean(alpha=1.0 / w, adjust=False)
        loss = (-change.clip(upper_bound=0.0)).ewm_mean(alpha=1.0 / w, adjust=False)
        columns.append(100.0 * gain / (gain + loss))
    columns += [close.rolling_mean(w).pct_change() * 10.0 for w in (5, 10, 20, 60)]
    for w in (20, 60):
        columns.append((pl.col("high").rolling_max(w) - close) / close)
        columns.append((close - pl.col("low").rolling_min(w)) / close)
    return [*columns, close.pct_change().rolling_std(20)]
