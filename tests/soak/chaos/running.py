"""One run of the campaign: processes over an exchange into four destinations, through everything its scenario has."""

from __future__ import annotations

import contextlib
import io
import re
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from alpha_forge.cli import main as alpha_forge
from alpha_forge_sdk.sandbox import SandboxConfig
from alpha_forge_sdk.testing.exchange import running_exchange
from tests.soak.chaos import truth
from tests.soak.chaos.scenario import SPEED, Life, Scenario
from tests.soak.chaos.trouble import Troubles
from tests.soak.chaos.truth import FIRST, MINUTE, PAST, Market, Verdict
from tests.soak.chaos.world import DEADLINE, Child, Engines, Later, World, until

LATE = 300
"""Bars after the exchange's start by which the first process must have begun, however slow the machine."""

NO_ROOM = "error[AF6044]"

AT_ONCE = 8.0
"""Seconds in which a process must be gone after a second SIGTERM."""


@dataclass
class Outcome:
    """What was done in a run, what each destination held at its end, and each thing that is not as promised."""

    scenario: Scenario
    done: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    unmerged: int = 0
    """Rows that ClickHouse has yet to merge away: seen without FINAL only."""
    caught_up: int = 0
    """Predictions of bars that closed while no process ran."""
    seconds: float = 0.0


def execute(scenario: Scenario, engines: Engines) -> Outcome:
    """The whole run; whatever does not fit is in its ``problems``."""
    outcome = Outcome(scenario)
    began = time.monotonic()
    market = Market.make(scenario.seed, scenario.symbols)
    with tempfile.TemporaryDirectory(prefix="af-chaos-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        market.write(folder / "klines")
        start = (FIRST + PAST * MINUTE) // 1_000_000 + 20_000
        config = SandboxConfig(data=folder / "klines", speed=SPEED, start_ms=start, hold=True)
        with running_exchange(config) as exchange:
            tag = f"{scenario.seed}_{time.monotonic_ns()}"
            world = World(engines, folder, tag, market.names, exchange.url)
            play = _Play(scenario, world, market, outcome)
            try:
                play.all()
                _judge(outcome, world, market, play)
            except (TimeoutError, OSError, ValueError, AssertionError) as error:
                outcome.problems.append(f"{type(error).__name__}: {error}")
            finally:
                play.clean_up()
    outcome.seconds = time.monotonic() - began
    return outcome


class _Play:
    """The processes of one run, in order."""

    def __init__(self, scenario: Scenario, world: World, market: Market, outcome: Outcome) -> None:
        self._scenario = scenario
        self._world = world
        self._market = market
        self._outcome = outcome
        self._troubles = Troubles(world, scenario.seed)
        self._later = Later()
        self._children: list[Child] = []
        self.anchor = 0
        """The close after which predictions begin."""
        self.twins = ("first", "second") if scenario.twins else ("first",)

    @property
    def last(self) -> int:
        return FIRST + (PAST + self._scenario.bars) * MINUTE

    def all(self) -> None:
        survivor = self._twins() if self._scenario.twins else self._lives()
        self._later.join()
        for twin, child in survivor.items():
            until(
                lambda child=child, twin=twin: child.ended or self._has(twin, self.last),  # type: ignore[misc]
                lambda child=child: f"the last bar never came\n{child.last_words}",  # type: ignore[misc]
            )
            child.send(signal.SIGTERM)
        for child in survivor.values():
            code = child.end()
            self._check_log(child)
            if code != 0:
                self._outcome.problems.append(f"the undisturbed end is exit code {code}\n{child.last_words}")

    def clean_up(self) -> None:
        for child in self._children:
            child.kill()
        with contextlib.suppress(Exception):
            self._later.join()
        self._world.close()

    def _start(self, twin: str, life: Life | None, *, armed: bool = True) -> Child:
        options = ("--set", "signal_generation.delivery.drain_seconds=60") if life is None else ()
        child = Child(self._world, twin, life, *options, armed=armed)
        self._children.append(child)
        return child

    def _warm(self, twin: str, life: Life | None, *, armed: bool = True) -> Child:
        """A process that is warm, or was killed before; started again where there is no room for its log yet, as a
        supervisor does on exit code 3."""
        end = time.monotonic() + DEADLINE
        while True:
            child = self._start(twin, life, armed=armed)
            if child.wait_warm() or child.code != 3 or not child.saw(NO_ROOM):
                return child
            assert time.monotonic() < end, f"never any room\n{child.last_words}"
            self._check_log(child)
            self._outcome.ends["refused to start on a full disk"] += 1
            time.sleep(0.1)

    def _has(self, twin: str, ts: int) -> bool:
        """Whether the log of a twin has everything up to `ts`."""
        newest = truth.log_newest(self._world.log(twin))
        return len(newest) == self._scenario.symbols and min(newest.values()) >= ts

    def _begun(self, child: Child) -> None:
        """The first process: where the truth begins. It is let alone until it is warm."""
        if not child.wait_warm():
            raise AssertionError(f"the first start failed\n{child.last_words}")
        self.anchor = child.anchor()
        first = FIRST + PAST * MINUTE
        if not first <= self.anchor <= first + LATE * MINUTE:
            raise AssertionError(f"the first start begins at {self.anchor}, not at {first}")

    def _lives(self) -> dict[str, Child]:
        for number, life in enumerate(self._scenario.lives):
            if life.end == "killed while starting":
                child, began = self._start("first", life), time.monotonic()
            elif number:
                child, began = self._warm("first", life), time.monotonic()
            else:
                child = self._start("first", life, armed=False)
                self._begun(child)
                child.arm()
                began = time.monotonic()
            self._trouble(life)
            self._end(child, life, began)
        return {"first": self._warm("first", None)}

    def _twins(self) -> dict[str, Child]:
        """Both are warm, and the first has delivered up to where the second began, before anything is done."""
        (life,) = self._scenario.lives
        first, second = self._start("first", life, armed=False), self._start("second", None)
        self._begun(first)
        if not second.wait_warm():
            raise AssertionError(f"the second twin failed\n{second.last_words}")
        self.anchor = min(self.anchor, second.anchor())
        covered = second.anchor() + MINUTE
        wanted = {
            (name, ts)
            for name in self._market.names
            for ts in range(self.anchor + MINUTE, covered + 1, MINUTE)
        }

        def delivered() -> bool:
            """What only the first one has had is where it belongs: it may be killed, and never come back."""
            return all(
                wanted <= {(symbol, ts) for symbol, ts, _ in stored.records}
                for stored in self._world.stored().values()
            )

        until(delivered, lambda: f"the twins do not deliver\n{first.last_words}\n{second.last_words}")
        first.arm()
        self._trouble(life)
        self._end(first, life, time.monotonic())
        self._outcome.done["a twin killed"] += 1
        survivors = {"second": second}
        if self._scenario.revived:
            survivors["first"] = self._warm("first", None)
        return survivors

    def _trouble(self, life: Life) -> None:
        for trouble in life.troubles:

            def work(trouble=trouble) -> None:  # type: ignore[no-untyped-def]
                played = self._troubles.play(trouble)
                self._outcome.done[trouble.kind if played else f"{trouble.kind}: not possible here"] += 1

            self._later.start(trouble.at, work)

    def _end(self, child: Child, life: Life, began: float) -> None:
        """End a life as its scenario says, and check how it ended."""
        left = began + life.after - time.monotonic()
        if life.end == "killed at a step":
            with contextlib.suppress(TimeoutError):
                _wait(child, 1.5)
        elif left > 0:
            time.sleep(left)
        what = life.end
        if what == "killed at a step":
            what = f"killed {life.point}" if child.ended else "killed"
        if what.startswith("SIGTERM"):
            self._stop(child, twice=what == "SIGTERM twice")
        else:
            child.kill()
        self._outcome.ends[what] += 1
        self._check_log(child)
        code = child.end()
        fine = {-signal.SIGKILL} if what.startswith("killed") else {0, 3}
        if what == "killed while starting" and child.saw(NO_ROOM):
            fine |= {3}
        if what == "SIGTERM twice":
            # The run was over before the second one came, and nothing of it but the interpreter was left to be ended.
            fine |= {130, -signal.SIGTERM}
        if code not in fine:
            self._outcome.problems.append(f"{what}: exit code {code}\n{child.last_words}")

    @staticmethod
    def _stop(child: Child, *, twice: bool) -> None:
        child.send(signal.SIGTERM)
        if not twice:
            return
        until(lambda: child.saw("Stopping on SIGTERM") or child.ended, lambda: "SIGTERM is not heard")
        child.send(signal.SIGTERM)
        _wait(child, AT_ONCE)

    def _check_log(self, child: Child) -> None:
        # urllib3's word for an answer that is cut among its headers.
        log = re.sub(r"Failed to parse headers .*\nTraceback", "", child.log)
        for word in ("Traceback", "AF9001", "another value", "rejected", "dead letter"):
            if word in log:
                self._outcome.problems.append(
                    f"'{word}' in the log of a process\n{log[max(0, log.find(word) - 600) :][:1500]}"
                )
        for line in log.splitlines():
            if line.endswith("closed before this start"):
                self._outcome.caught_up += int(line.split()[0])


def _wait(child: Child, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not child.ended:
        if time.monotonic() > end:
            raise TimeoutError(f"not gone after {seconds:g} s\n{child.last_words}")
        time.sleep(0.005)


def _judge(outcome: Outcome, world: World, market: Market, play: _Play) -> None:
    """Each destination, the replay and the logs beside the truth."""
    stored = world.stored()
    newest = truth.newest_of(stored.values())
    for twin in play.twins[-1:] if not outcome.scenario.revived else play.twins:
        for symbol, ts in truth.log_newest(world.log(twin)).items():
            newest[symbol] = max(ts, newest.get(symbol, 0))
        if left := truth.log_left(world.log(twin)):
            outcome.problems.append(f"left in the log: {left}")
    if len(newest) != outcome.scenario.symbols or min(newest.values()) < play.last:
        outcome.problems.append(f"the run did not reach its last bar: {newest}")
        return
    values = market.predictions()
    for name, its in stored.items():
        verdict = truth.judge(its, values, play.anchor, newest)
        if outcome.scenario.twins and name in ("CSV", "SQLite"):
            verdict.unordered = 0  # two writers come as they come
        outcome.verdicts[name] = verdict
    outcome.unmerged = world.unmerged()
    outcome.verdicts["replay"] = _replayed(world, values, play.anchor, min(newest.values()))
    for name, verdict in outcome.verdicts.items():
        if verdict.faults:
            outcome.problems.append(f"{name}: {verdict.faults}")


def _replayed(world: World, values: dict[truth.Key, int], start: int, end: int) -> Verdict:
    """``alpha_forge replay`` over the same bars."""
    out = world.folder / "replay.csv"
    arguments = ["replay", str(world.folder / "config.yaml"), "--start", _iso(start), "--end", _iso(end)]
    arguments += ["--out", str(out), "--cache", str(world.folder / "cache"), "--quiet"]
    code: object = 0
    with _quiet() as said:
        try:
            alpha_forge(arguments, standalone_mode=True)
        except SystemExit as ended:
            code = ended.code
    assert not code, f"replay ended with {code}: {said.getvalue()}"
    stored = truth.read_replay(out)
    return truth.judge(stored, values, start, dict.fromkeys({s for s, _ in values}, end))


def _iso(ts: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ts // 10**9))


@contextlib.contextmanager
def _quiet() -> Iterator[io.StringIO]:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        yield said
