"""Where a sink is killed: wherever it may have changed the outside, then evenly."""

from __future__ import annotations

from alpha_forge_sdk.conformance.sink_crash_checks import kill_places
from alpha_forge_sdk.testing.crash import Crash, Place


def run(events: int, *places: tuple[int, str]) -> Crash:
    return Crash(False, (), events, tuple(Place(*place) for place in places))


def test_no_event_no_place() -> None:
    assert kill_places(run(0), 40) == []


def test_every_event_where_there_are_few() -> None:
    assert [p.event for p in kill_places(run(5), 40)] == [1, 2, 3, 4, 5]


def test_places_that_change_something_come_before_the_rest() -> None:
    whole = run(1000, (17, "after write at a.py:1"), (501, "after fsync at a.py:2"))
    places = kill_places(whole, 10)
    assert len(places) == 10
    assert {17, 501} < {p.event for p in places}
    assert next(p.where for p in places if p.event == 501) == "after fsync at a.py:2"
    assert (places[0].event, places[-1].event) == (1, 1000)


def test_first_last_and_middle_of_a_loop() -> None:
    whole = run(
        1000, *((10 * i, "after write at a.py:1") for i in range(1, 100)), (995, "after fsync at a.py:2")
    )
    assert [p.event for p in kill_places(whole, 4)] == [10, 500, 990, 995]


def test_of_too_many_places_an_even_choice_with_both_ends() -> None:
    whole = run(1000, *((i, f"after write at a.py:{i}") for i in range(1, 101)))
    assert [p.event for p in kill_places(whole, 4)] == [1, 34, 67, 100]
