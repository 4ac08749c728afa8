"""The fault script: what it reads, what it refuses and how it says so, and random ones for campaigns."""

from __future__ import annotations

from pathlib import Path

import pytest

from alpha_forge_sdk.sandbox import FaultScript, FaultScriptError, HostileFaults, SandboxExchange
from alpha_forge_sdk.sandbox.hostile import EFFECTS, KINDS
from alpha_forge_sdk.sandbox.hostile.dice import Armed, draw
from alpha_forge_sdk.sandbox.hostile.draw import PROFILES
from alpha_forge_sdk.sandbox.hostile.examples import EXAMPLES
from alpha_forge_sdk.sandbox.hostile.kinds import SECTIONS

START = 1_767_573_000_000  # 2026-01-05T00:30:00Z
MINUTE = 60_000

WHOLE = """\
seed: 7
faults:
  - kind: disconnect
    after: 10m
    until: 2026-01-05T12:00:00Z
    rate: 0.25
    times: 3
    symbols: [btcusdt, ETHUSDT]
    intervals: 1m
    share: 0.5
  - kind: late_close
    from: 2026-01-05T02:00:00+02:00
    delay: 1.5
  - {kind: http_5xx, paths: [/data/], status: 502}
"""


def test_a_script_says_when_whom_and_how() -> None:
    script = FaultScript.parse(WHOLE)
    cut, late, error = script.rules
    assert script.seed == 7
    assert (cut.kind, cut.rate, cut.times, cut.symbols, cut.intervals) == (
        "disconnect",
        0.25,
        3,
        ("BTCUSDT", "ETHUSDT"),
        ("1m",),
    )
    assert cut.start is not None
    assert cut.end is not None
    assert cut.start.at(START) == START + 10 * MINUTE
    assert cut.end.at(START) == 1_767_614_400_000
    assert (cut.option("share"), cut.option("reset")) == (0.5, False)
    assert late.start is not None
    assert (late.start.at(0), late.option("delay")) == (1_767_571_200_000, 1500)
    assert (error.paths, error.option("status")) == (("/data/",), 502)


def test_a_script_is_written_as_it_is_read() -> None:
    script = FaultScript.parse(WHOLE)
    assert FaultScript.parse(script.dump()) == script


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("faults:\n- kind: disconect\n", 2, "did you mean 'disconnect'?"),
        (
            "faults:\n- kind: disconnect\n  shre: 1\n",
            3,
            "disconnect has no option 'shre'; did you mean 'share'?",
        ),
        ("faults:\n- kind: disconnect\n  share: 2\n", 3, "share: 2: expected a number from 0 to 1"),
        ("faults:\n- rate: 0.5\n", 2, "a rule needs a `kind`"),
        ("faults:\n- kind: late_close\n  delay: soon\n", 3, "delay: 'soon': expected a duration"),
        ("faults:\n- kind: late_close\n  delay: 0\n", 3, "at least 1ms"),
        ("faults:\n- kind: late_close\n  rate: 1.5\n", 3, "expected a probability from 0 to 1"),
        ("faults:\n- kind: late_close\n  times: 0\n", 3, "expected a whole number from 1"),
        ("faults:\n- kind: late_close\n  intervals: [7m]\n", 3, "no interval '7m'"),
        ("faults:\n- kind: late_close\n  paths: [api]\n", 3, "start with a slash"),
        ("faults:\n- kind: late_close\n  after: 1m\n  from: 2026-01-05\n", 3, "`from` or `after`, not both"),
        ("faults:\n- kind: late_close\n  from: 2026-01-06\n  until: 2026-01-05\n", 4, "is not after"),
        ("faults:\n- kind: late_close\n  from: then\n", 3, "expected a time"),
        ("faults:\n- kind: outage\n", 2, "outage needs `from` and `until`"),
        ("faults:\n- kind: delist\n", 2, "delist needs `from`"),
        ("faults:\n- kind: garbage\n  form: rubbish\n", 3, "expected one of malformed, truncated"),
        ("faults:\n- kind: http_429\n  retry_after: -1\n", 3, "expected a whole number from 0"),
        ("faults:\n- kind: [a]\n", 2, "no kind ['a']"),
        ("faults: 3\n", 1, "expected a list of rules"),
        ("faults:\n- disconnect\n", 2, "expected a rule"),
        ("seed: lucky\n", 1, "seed: expected a whole number"),
        ("seed: 1\nfauls: []\n", 2, "did you mean 'faults'?"),
        ("- 1\n", 1, "expected a mapping"),
        ("seed: [\n", 2, "no YAML"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, line: int, said: str) -> None:
    with pytest.raises(FaultScriptError) as error:
        FaultScript.parse(text, "bad.yaml")
    assert str(error.value).startswith(f"bad.yaml:{line}: ")
    assert said in str(error.value)


@pytest.mark.parametrize("kind", KINDS)
def test_the_example_of_a_kind_is_of_that_kind(kind: str) -> None:
    (rule,) = FaultScript.parse(f"faults:\n- {EXAMPLES[kind]}\n").rules
    assert rule.kind == kind


def test_every_kind_has_its_place() -> None:
    assert sorted(kind for kinds in SECTIONS.values() for kind in kinds) == sorted(KINDS)
    assert set(EXAMPLES) == set(KINDS)
    assert {kind.effect for kind in KINDS.values()} == set(EFFECTS)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(FaultScriptError, match=r"nowhere\.yaml: can't be read: No such file"):
        FaultScript.load(tmp_path / "nowhere.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00seed")
    with pytest.raises(FaultScriptError, match=r"bytes\.yaml: can't be read: it is not UTF-8 text"):
        FaultScript.load(tmp_path / "bytes.yaml")


@pytest.mark.parametrize("profile", PROFILES)
def test_random_scripts_are_a_function_of_their_seed_and_parse_back(profile: str) -> None:
    where = {"symbols": ("A", "B", "C"), "interval_ms": MINUTE, "start_ms": START}
    for seed in range(80):
        script = FaultScript.random(seed, until_ms=START + 300 * MINUTE, profile=profile, **where)
        assert script == FaultScript.random(seed, until_ms=START + 300 * MINUTE, profile=profile, **where)
        assert FaultScript.parse(script.dump()) == script
        assert all(rule.kind in PROFILES[profile] for rule in script.rules)


@pytest.mark.parametrize("profile", PROFILES)
def test_every_kind_of_a_profile_has_its_turn(profile: str) -> None:
    first = {
        FaultScript.random(
            seed,
            symbols=("A",),
            interval_ms=MINUTE,
            start_ms=START,
            until_ms=START + 9 * MINUTE,
            profile=profile,
        )
        .rules[0]
        .kind
        for seed in range(1000, 1000 + len(PROFILES[profile]))
    }
    assert first == set(PROFILES[profile])


def test_the_profiles_hold_every_kind_that_leaves_the_exchange_of_use() -> None:
    drawn = {kind for kinds in PROFILES.values() for kind in kinds}
    assert drawn == {name for name, kind in KINDS.items() if kind.effect != "fatal"}


def test_an_unknown_profile_is_refused() -> None:
    with pytest.raises(ValueError, match="no profile 'all'; there are lossless, mixed"):
        FaultScript.random(1, symbols=("A",), interval_ms=1, start_ms=0, until_ms=1, profile="all")


def test_draws_are_fair_and_depend_on_seed_rule_and_thing() -> None:
    numbers = [draw(1, 2, "strikes", thing) for thing in range(4000)]
    assert all(0 <= number < 1 for number in numbers)
    assert abs(sum(numbers) / 4000 - 0.5) < 0.02
    assert numbers != [draw(1, 3, "strikes", thing) for thing in range(4000)]
    assert numbers != [draw(2, 2, "strikes", thing) for thing in range(4000)]


def test_times_counts_things_and_a_thing_is_struck_again_for_free() -> None:
    rule = FaultScript.parse("faults: [{kind: missing_close, times: 2, after: 1m, until: 3m}]").rules[0]
    armed = Armed(rule, 0, 0, START)
    assert not armed.strikes(START, "a")
    at = START + MINUTE
    assert [armed.strikes(at, thing) for thing in "aabac"] == [True, True, True, True, False]
    assert not armed.strikes(START + 3 * MINUTE, "a")


def test_faults_serve_one_exchange() -> None:
    faults = HostileFaults()
    SandboxExchange(faults=faults)
    with pytest.raises(RuntimeError, match="serve another exchange"):
        SandboxExchange(faults=faults)


def test_a_bad_injection_is_refused() -> None:
    exchange = SandboxExchange()
    with pytest.raises(FaultScriptError, match="did you mean 'late_close'"):
        exchange.inject("late_clos")
    with pytest.raises(FaultScriptError, match="did you mean 'delay'"):
        exchange.inject("late_close", dely="1s")
