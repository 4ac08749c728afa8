"""F12 as running state in plain Python, one symbol at a time. Imports nothing of the product, and no library."""

from __future__ import annotations

STRENGTHS, AVERAGES, LEVELS = (6, 12, 24), (5, 10, 20, 60), (20, 60)
LONGEST = 60
NAN = float("nan")


class Extremes:
    """Rolling extremes (a monotonic queue is slower at these lengths)."""

    def __init__(self, window: int) -> None:
        self._high = [float("-inf")] * window
        self._low = [float("inf")] * window
        self._at = 0

    def update(self, high: float, low: float) -> tuple[float, float]:
        self._high[self._at] = high
        self._low[self._at] = low
        self._at = (self._at + 1) % len(self._high)
        return max(self._high), min(self._low)


class RunningF12:
    """Nothing that grows: the last 61 closes in a ring, sums, Wilder's averages."""

    def __init__(self) -> None:
        self._closes = [NAN] * (LONGEST + 1)
        self._returns = [0.0] * 20
        self._wilder = [[0.0, 0.0] for _ in STRENGTHS]
        self._sums = [0.0] * len(AVERAGES)
        self._levels = [Extremes(w) for w in LEVELS]
        self._moments = [0.0, 0.0]
        self._count = 0

    def update(self, close: float, high: float, low: float) -> list[float]:
        """Fourteen values of one more bar; without meaning until 61 bars have been."""
        closes, t = self._closes, self._count
        self._count = t + 1
        size = LONGEST + 1
        before = closes[(t - 1) % size] if t else close
        out = [close / closes[(t - 20) % size] - 1.0, close / closes[(t - 60) % size] - 1.0]
        change = close - before
        up, down = (change, 0.0) if change > 0.0 else (0.0, -change)
        for w, state in zip(STRENGTHS, self._wilder, strict=True):
            if t > w:
                gain, loss = (state[0] * (w - 1) + up) / w, (state[1] * (w - 1) + down) / w
            else:
                gain, loss = state[0] + up / w, state[1] + down / w
            state[0], state[1] = gain, loss
            out.append(100.0 * gain / (gain + loss) if gain + loss else NAN)
        for k, w in enumerate(AVERAGES):
            step = close - closes[(t - w) % size] if t >= w else close
            out.append(step / self._sums[k] * 10.0 if t else NAN)
            self._sums[k] += step
        closes[t % size] = close
        for level in self._levels:
            highest, lowest = level.update(high, low)
            out.append((highest - close) / close)
            out.append((close - lowest) / close)
        out.append(self._deviation(close / before - 1.0, t % 20))
        return out

    def _deviation(self, change: float, at: int) -> float:
        old, moments = self._returns[at], self._moments
        self._returns[at] = change
        moments[0] += change - old
        moments[1] += change * change - old * old
        return max(0.0, (moments[1] - moments[0] * moments[0] / 20.0) / 19.0) ** 0.5
