"""Steps that name what triggers them and what they publish: chains, guards, and each bar once however often it is told."""

from __future__ import annotations

import pandas as pd
import pytest

from alpha_forge.contracts.errors import FlowExecutionError
from alpha_forge.dsl.diagnostics import ConfigError
from tests.market_truth import HOUR, features, random_market, resample, worst
from tests.pipelines import arrivals_of, compiled, config, read_column, run_scripted, shuffled

WARM, LIVE = 160, 30


def market_of(symbols: int = 3, *, step: int = HOUR, bars: int = WARM + LIVE, warm: int = WARM):
    market = random_market(symbols, bars, 31, step=step)
    return market, int(next(iter(market.values())).index[warm - 1])


def ran(tmp_path, market, anchor, columns, steps, **options):
    arrivals = shuffled(arrivals_of(market, anchor), seed=4, block=2 * len(market) + 1)
    text = config(list(market), tmp_path, columns, steps=steps, **options)
    run_scripted(text.replace("warmup: {", "warmup: {epsilon: 1e-5, "), market, arrivals)
    return {c: read_column(tmp_path / f"{c}.csv") for c in columns}


def check(got: pd.Series, want: dict[str, pd.Series], tolerance: float = 1e-9) -> None:
    assert set(got.index) == {(s, ts) for s, values in want.items() for ts in values.index}
    for symbol, values in want.items():
        assert worst(got[symbol].loc[values.index].to_numpy(), values.to_numpy()) <= tolerance, symbol


def step(plugin: str, column: str, name: str, window: int, *, on: str = "", emits: str = "") -> str:
    events = f", on: [{on}]" * bool(on) + f", emits: [{emits}]" * bool(emits)
    return (
        f"- features: {{using: features.{plugin}, inputs: {{column: {column}}}, outputs: {{columns: [{name}]}}, "
        f"params: {{window: {window}}}{events}}}\n"
    )


def test_a_chain_of_events(tmp_path):
    market, anchor = market_of()
    steps = (
        step("sma", "F.close", "sma_20", 20, on="late.signal", emits="later.signal")
        + step("momentum", "F.close", "mom_20", 20, on="data.binance_1h", emits="signal.generated")
        + step("ema", "F.close", "ema_10", 10, on="later.signal")
        + step("momentum", "F.close", "mom_1", 1, on="signal.generated", emits="late.signal")
    )
    got = ran(tmp_path, market, anchor, ["sma_20", "mom_20", "ema_10"], steps)
    truth = {s: features(bars) for s, bars in market.items()}
    for column, tolerance in (("sma_20", 1e-9), ("mom_20", 1e-9), ("ema_10", 1e-5)):
        check(got[column], {s: t.loc[t.index > anchor, column] for s, t in truth.items()}, tolerance)


def test_only_a_finite_value_publishes(tmp_path):
    market, anchor = market_of(2)
    name, bars = next(iter(market.items()))
    flat = bars.index[WARM + 2 : WARM + 24]
    bars.loc[flat, ["open", "high", "low", "close"]] = 100.0
    unknown = bars["close"].rolling(20).std(ddof=1) == 0
    assert 0 < unknown[bars.index > anchor].sum() < LIVE
    steps = step("zscore", "F.close", "zscore_20", 20, emits="signal.generated") + step(
        "sma", "F.close", "follower", 3, on="signal.generated"
    )
    got = ran(tmp_path, market, anchor, ["follower"], steps)["follower"]
    want = {s: b["close"].rolling(3).mean()[b.index > anchor] for s, b in market.items()}
    want[name] = want[name][~unknown.loc[want[name].index]]
    check(got, want)


def test_two_publishers_of_one_event_and_two_triggers_of_one_step_make_no_bar_count_twice(tmp_path):
    market, anchor = market_of()
    steps = (
        step("momentum", "F.close", "mom_20", 20, emits="signal.generated")
        + step("sma", "F.close", "sma_20", 20, emits="signal.generated")
        + step("ema", "F.close", "ema_10", 10, on="signal.generated")
        + step("rsi", "F.close", "rsi_14", 14, on="data.binance_1h, signal.generated")
    )
    got = ran(tmp_path, market, anchor, ["ema_10", "rsi_14"], steps)
    truth = {s: features(bars) for s, bars in market.items()}
    for column in got:
        check(got[column], {s: t.loc[t.index > anchor, column] for s, t in truth.items()}, 3e-5)


def test_an_event_of_one_frame_triggers_a_step_of_another(tmp_path):
    """On hourly bars a step follows quarter-hours: it runs where both have closed."""
    market, anchor = market_of(3, step=HOUR // 4, bars=4 * 60, warm=4 * 50)
    steps = (
        "- transform: {using: transforms.resample, inputs: {frame: ohlcv}, outputs: {frame: hourly}, params: {interval: 1h}}\n"
        + step("momentum", "ohlcv.close", "mom_20", 20, emits="signal.generated")
        + step("sma", "hourly.close", "on_signal", 5, on="signal.generated")
        + step("sma", "hourly.close", "on_close", 5, on="data.binance_15m")
    )
    got = ran(tmp_path, market, anchor, ["on_close"], steps, frame="hourly", interval="15m")
    want = {s: resample(bars, HOUR)["close"].rolling(5).mean() for s, bars in market.items()}
    check(got["on_close"], {s: v[v.index > anchor] for s, v in want.items()})


def test_columns_that_come_with_the_bar_are_delivered_too(tmp_path):
    market, anchor = market_of(3, step=HOUR // 4, bars=4 * 60, warm=4 * 50)
    steps = "- transform: {using: transforms.resample, inputs: {frame: ohlcv}, outputs: {frame: hourly}, params: {interval: 1h}}\n"
    got = ran(tmp_path, market, anchor, ["close", "volume"], steps, frame="hourly", interval="15m")
    for column in got:
        want = {s: resample(bars, HOUR)[column] for s, bars in market.items()}
        check(got[column], {s: v[v.index > anchor] for s, v in want.items()}, 1e-12)


def chained(count: int) -> str:
    """A bar, and `count` steps that each publish for the next."""
    return "".join(
        step(
            "sma", "F.close", f"s{i}", 1, on=f"chain.{i - 1}" if i else "data.binance_1h", emits=f"chain.{i}"
        )
        for i in range(count)
    )


def test_a_hundred_events_in_a_chain_are_the_limit(tmp_path):
    market, anchor = market_of(1, bars=24, warm=20)
    got = ran(tmp_path, market, anchor, ["s98"], chained(99))["s98"]
    assert len(got) == 4
    with pytest.raises(FlowExecutionError) as error:
        ran(tmp_path, market, anchor, ["s98"], chained(100))
    assert error.value.code == "AF8002"
    assert "chain.98 → chain.99" in error.value.message


@pytest.mark.parametrize(
    ("events", "code", "says"),
    [
        ((("a.b", "b.c"), ("b.c", "a.b")), "AF4016", "b.c → a.b → b.c"),
        ((("a.b", "a.b"),), "AF4016", "a.b → a.b"),
        ((("signal.genrated", ""), ("data.binance_1h", "signal.generated")), "AF4015", "'signal.generated'"),
        ((("data.binance_15m", ""),), "AF4015", "'data.binance_1h'"),
        ((("", "data.binance_1h"),), "AF4015", "bar close"),
    ],
)
def test_circles_and_unknown_events_do_not_compile(tmp_path, events, code, says):
    steps = "".join(
        step("sma", "F.close", f"s{i}", 1, on=on, emits=emits) for i, (on, emits) in enumerate(events)
    )
    with pytest.raises(ConfigError) as error:
        compiled(config(["BTCUSDT"], tmp_path, ["s0"], steps=steps))
    (found,) = error.value.diagnostics
    assert found.code == code
    assert says in found.message + found.help
    assert found.source_line.lstrip().startswith("- features")
