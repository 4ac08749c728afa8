"""Which connection is opened, trusted, replaced and dropped: `Shard` against a simulated exchange, no sockets."""

from __future__ import annotations

import itertools
import random

import pytest

from alpha_forge_plugins.market.binance.session import Patience
from alpha_forge_plugins.market.binance.shard import Failure
from alpha_forge_sdk import SourceError

from .ws_world import Wire, World, last_gap, many

HOUR = 3600.0
DAY = 24 * HOUR


def gap_of(world: World, limit: float) -> dict[str, float]:
    return {symbol: gap for symbol, gap in last_gap(world).items() if gap > limit}


def test_a_healthy_day_costs_one_connection_and_a_second_one_that_overlaps() -> None:
    world = World(many(5), every=lambda symbol: 20.0)
    world.run(22 * 0.9 * HOUR)
    assert len(world.connects) == 1
    assert world.announced == [(world.announced[0][0], "source.connected")]
    first = world.current()
    world.run(23.5 * HOUR)
    assert len(world.connects) == 2
    assert [kind for _, kind in world.announced] == ["source.connected", "source.reconnected"]
    assert not first.open, "the old one is let go"
    assert world.most_at_once == 2, "for a while both were open"
    assert not gap_of(world, 21.0)


def test_every_push_is_heard_while_one_connection_replaces_another() -> None:
    world = World(many(50), every=lambda symbol: 0.5, patience=Patience(60.0, 100.0, 60.0, 0.25))
    world.run(500.0)
    assert len(world.connects) >= 5
    for symbol in world.symbols:
        # Of two pushes a second none is lost after the first connection stood; overlaps hear some of them twice.
        assert world.pushes[symbol] >= 2 * 500 - 3


def test_shards_that_were_born_together_are_not_replaced_together() -> None:
    world = World(many(40), shards=8, every=lambda symbol: 30.0)
    world.run(23.5 * HOUR)
    later = sorted(world.connects)[8:]
    assert len(later) == 8
    assert later[-1] - later[0] > 0.02 * DAY
    assert min(b - a for a, b in itertools.pairwise(later)) > 1.0


def test_more_streams_than_a_url_takes_are_subscribed_at_the_pace_allowed() -> None:
    world = World(many(1024), every=lambda symbol: 5.0, patience=Patience(60.0, 82_800.0, 60.0, 0.5))
    world.run(30.0)
    wire = world.current()
    assert wire.names == {f"{symbol.lower()}@kline_1m" for symbol in world.symbols}
    assert 1 < max(world.rates) <= 3, "of the 5 a second that the exchange takes"
    assert len(world.connects) == 1
    assert not gap_of(world, 6.0)


def test_a_stream_that_never_spoke_is_subscribed_again_before_the_connection_is_blamed() -> None:
    world = World(many(20))
    deaf = "s0007usdt@kline_1m"
    world.greet = lambda wire: wire.cured.add(deaf)
    world.run(120.0)
    assert world.subscribed_again == {deaf: 1}
    assert len(world.connects) == 1
    assert not gap_of(world, 2.0)


def test_a_stream_that_stays_silent_costs_a_connection() -> None:
    world = World(many(20))
    world.greet = lambda wire: wire.silent.update({"s0007usdt@kline_1m"} if wire.number == 1 else ())
    world.run(180.0)
    assert len(world.connects) == 2
    assert not gap_of(world, 2.0)


def test_a_stream_that_spoke_and_stops_is_missed_while_others_go_on() -> None:
    world = World(many(20))
    world.run(600.0)
    assert len(world.connects) == 1
    world.current().silent.add("s0003usdt@kline_1m")
    world.run(600.0 + 60 + 30 + 30)
    assert len(world.connects) == 2
    assert not gap_of(world, 2.0)


def test_a_market_that_is_silent_on_every_connection_costs_ever_fewer_of_them() -> None:
    dead = "s0003usdt@kline_1m"
    world = World(many(20), every=lambda symbol: 10.0)
    world.greet = lambda wire: wire.silent.add(dead)
    world.run(12 * HOUR)
    first_hour = sum(1 for at in world.connects if at < HOUR)
    assert 2 <= first_hour <= 8
    assert len(world.connects) - first_hour <= 20, "about one an hour"
    assert not {symbol for symbol in gap_of(world, 11.0) if symbol != "S0003USDT"}


def test_a_market_that_trades_once_in_a_while_is_known_by_its_habit() -> None:
    world = World(
        many(4),
        every=lambda symbol: 300.0 if symbol == "S0003USDT" else 5.0,
        patience=Patience(60.0, 82_800.0, 3600.0, 0.25),
    )
    world.run(12 * HOUR)
    assert len(world.connects) <= 8, "at first it is doubted; later its silence is what it always is"
    assert world.pushes["S0003USDT"] >= 140


def test_a_quiet_universe_is_not_reconnected_for_ever() -> None:
    world = World(["S0000USDT"], every=lambda symbol: 200.0, patience=Patience(60.0, 82_800.0, 3600.0, 0.25))
    world.run(12 * HOUR)
    assert len(world.connects) <= 12
    assert world.announced
    assert world.pushes["S0000USDT"] >= 200


def test_a_bar_whose_close_never_comes_kills_no_connection() -> None:
    # Pushes say only x:false in this world: no bar ever closes, and nothing is replaced for that.
    world = World(many(3), every=lambda symbol: 2.0)
    world.run(2 * HOUR)
    assert len(world.connects) == 1


def test_a_stalled_connection_is_replaced_within_the_silence_allowed() -> None:
    world = World(many(20))
    world.run(100.0)
    world.current().stalled = True
    world.run(100.0 + 60 + 10)
    assert len(world.connects) == 2
    assert not gap_of(world, 3.0)


def test_a_market_that_goes_on_again_calls_the_replacement_off() -> None:
    world = World(many(3), every=lambda symbol: 1.0)
    world.run(100.0)
    old = world.current()
    old.stalled = True
    deaf: list[Wire] = []

    def greet(wire: Wire) -> None:
        wire.stalled = True
        deaf.append(wire)

    world.greet = greet
    world.run(175.0)
    assert deaf
    assert deaf[-1].open
    old.stalled = False
    world.run(200.0)
    assert old.open
    assert not deaf[-1].open
    assert len(world.announced) == 1
    assert not gap_of(world, 3.0)


def test_the_old_connection_stays_until_the_new_one_delivers_what_the_old_one_does() -> None:
    world = World(many(20))
    world.greet = lambda wire: wire.cured.update({"s0004usdt@kline_1m"} if wire.number == 2 else ())
    world.run(50.0)
    old = world.current()
    world.control(old, 0, {"stream": "!serverShutdown", "data": {"e": "serverShutdown", "E": 1}})
    world.run(60.0)
    assert len(world.connects) == 2
    assert old.open, "the new one lacks a stream"
    assert not gap_of(world, 1.5)
    world.run(75.0)
    assert world.subscribed_again == {"s0004usdt@kline_1m": 1}
    assert not old.open
    assert not gap_of(world, 1.5)


@pytest.mark.parametrize(
    "message",
    [
        {"e": "serverShutdown", "E": 1},
        {"stream": "!serverShutdown", "data": {"e": "serverShutdown", "E": 1}},
    ],
)
def test_a_shutdown_that_is_announced_replaces_the_connection_before_it_comes(
    message: dict[str, object],
) -> None:
    world = World(many(20), every=lambda symbol: 0.5)
    world.run(100.0)
    old = world.current()
    world.control(old, 0, message)
    world.run(104.0)
    assert world.current() is not old
    assert not old.open
    assert not gap_of(world, 0.6)


def test_when_the_next_connection_is_lost_the_old_one_goes_on() -> None:
    world = World(many(20))
    world.run(50.0)
    old = world.current()
    world.control(old, 0, {"e": "serverShutdown", "E": 1})
    world.greet = lambda wire: world.at(world.now + 1.2, lambda: world.cut(wire, 0))
    world.run(52.0)
    world.greet = lambda wire: None
    world.run(53.0)
    assert not gap_of(world, 1.5)
    world.run(70.0)
    assert not old.open
    assert not gap_of(world, 1.5)


def test_pauses_grow_with_every_failure_and_start_anew_after_a_stable_connection() -> None:
    world = World(many(2))
    world.run(100.0)
    world.refuse = lambda now: Failure("refused")
    world.cut(world.current(), 0)
    world.run(700.0)
    pauses = [b - a for a, b in zip(world.connects[1:], world.connects[2:], strict=False)]
    assert max(pauses) <= 30.0 + 1
    assert 20 <= len(pauses) <= 70, "full jitter: half of 30 s on average, once the cap is reached"
    assert sum(pauses[:4]) < 10 < max(pauses)
    world.refuse = lambda now: None
    world.run(800.0)
    assert not gap_of(world, 2.0)
    world.cut(world.current(), 0)
    world.run(802.5)
    assert not gap_of(world, 2.5), "half a second at most, after a connection that lived"


def test_a_connection_that_is_cut_again_and_again_does_not_become_a_storm() -> None:
    world = World(many(20), shards=4)
    world.greet = lambda wire: [  # type: ignore[func-returns-value]
        world.at(world.now + 1.5, lambda k=k: world.cut(wire, k))
        for k in range(4)
        if wire in world.wires[k].values()
    ]
    world.run(HOUR)
    assert world.in_window(300.0) <= 240
    assert len(world.connects) < 4 * HOUR / 10


def test_connects_of_all_shards_stay_under_the_limit_of_the_address() -> None:
    world = World(many(60), shards=60, connects=50, every=lambda symbol: 60.0)
    world.refuse = lambda now: Failure("refused")
    world.run(HOUR / 2)
    assert 200 < len(world.connects) <= 40 * 7
    assert world.in_window(299.9) <= 40
    assert min(b - a for a, b in zip(world.connects, world.connects[1:], strict=False)) >= 0.0999


def test_a_wait_that_the_exchange_imposes_holds_for_every_shard(caplog: pytest.LogCaptureFixture) -> None:
    world = World(many(8), shards=4)
    world.run(100.0)
    world.refuse = lambda now: Failure("HTTP 429", wait=120.0) if now < 230 else None
    before = len(world.connects)
    for k in range(4):
        world.cut(world.current(k), k)
    world.run(100.0 + 119)
    refused = world.connects[before:]
    assert len(refused) <= 4, "those that were on their way"
    said = [
        float(record.getMessage().split("again in ")[1].split()[0])
        for record in caplog.records
        if record.getMessage().startswith("HTTP 429; connecting again in")
    ]
    assert said
    assert all(119 <= seconds <= 145 for seconds in said), "what it is going to wait, not less"
    world.run(420.0)
    assert not gap_of(world, 2.0)


def test_a_first_connection_that_is_refused_for_good_fails_at_once() -> None:
    world = World(many(2))
    wrong = SourceError("AF5007", "refused", "correct it")
    world.refuse = lambda now: Failure("HTTP 404", fatal=wrong)
    world.run(1.0)
    assert [fail.error for fail in world.failed][:1] == [wrong]


def test_a_first_connection_that_can_not_be_made_is_given_up_after_some_attempts() -> None:
    world = World(many(2))
    gone = SourceError("AF5001", "unreachable", "check the network")
    world.refuse = lambda now: Failure("no route", unreachable=gone)
    world.run(60.0)
    assert world.failed[0].error is gone
    assert len([at for at in world.connects if at < 60]) >= 6


def test_once_it_has_delivered_nothing_is_given_up() -> None:
    world = World(many(2))
    world.run(10.0)
    wrong = SourceError("AF5007", "refused", "correct it")
    world.refuse = lambda now: Failure("HTTP 404", fatal=wrong, unreachable=wrong)
    world.cut(world.current(), 0)
    world.run(2 * HOUR)
    assert not world.failed
    world.refuse = lambda now: None
    world.run(2 * HOUR + 60)
    assert not gap_of(world, 2.0)


def test_a_connection_without_a_single_event_is_not_taken_for_subscribed() -> None:
    world = World(many(5))
    world.greet = lambda wire: setattr(wire, "stalled", wire.number < 3)
    world.run(60.0)
    assert not world.announced
    world.run(200.0)
    assert [kind for _, kind in world.announced] == ["source.connected"]
    assert not gap_of(world, 2.0)


@pytest.mark.parametrize("seed", range(8))
def test_whatever_happens_limits_are_kept_and_all_streams_come_back(seed: int) -> None:
    """Two hours of every fault at random, then peace: no limit was broken, every stream is heard again."""
    chance = random.Random(seed)
    count, shards = chance.choice([(3, 1), (60, 3), (300, 2)])
    lively = 1.0 if count < 100 else 20.0
    world = World(
        many(count),
        shards=shards,
        seed=seed,
        every=lambda symbol: lively * (1 + hash_of(symbol) % 3),
        patience=Patience(60.0, chance.choice([900.0, 82_800.0]), 60.0, 0.5),
    )
    peace = HOUR

    def greet(wire: Wire) -> None:
        if world.now > peace:
            return
        k = next(k for k in range(shards) if world.wires[k].get(wire.number) is wire)
        fault = chance.random()
        moment = world.now + chance.expovariate(1 / 120)
        names = chance.sample(sorted(wire.names), min(len(wire.names), chance.randint(1, 5)))
        if fault < 0.2:
            world.at(moment, lambda: world.cut(wire, k))
        elif fault < 0.4:
            world.at(moment, lambda: setattr(wire, "stalled", True))
        elif fault < 0.55:
            wire.cured.update(names)
        elif fault < 0.7:
            wire.silent.update(names)
        elif fault < 0.8:
            world.at(moment, lambda: wire.silent.update(names))
        elif fault < 0.9:
            world.at(moment, lambda: world.control(wire, k, {"e": "serverShutdown", "E": 1}))
            world.at(moment + 5, lambda: world.cut(wire, k))

    world.greet = greet
    world.refuse = lambda now: Failure("refused") if now < peace and chance.random() < 0.3 else None
    world.run(peace)
    # The last faulty connections are found out within the longest patience, one after the other.
    world.run(peace + 1200.0)
    assert not gap_of(world, lively * 3 + 1), "every stream is heard again"
    assert not world.failed
    assert world.in_window(300.0) <= 240
    assert world.most_at_once <= 3
    assert max(world.rates, default=0) <= 3
    settled = len(world.connects)
    world.run(peace + 1200.0 + 600.0)
    assert len(world.connects) - settled <= 2 * shards, "in peace only age replaces a connection"


def hash_of(symbol: str) -> int:
    return int(symbol[1:5])
