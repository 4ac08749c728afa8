"""One hostile run of the whole runtime over a made-up market, and what does not fit the truth."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import io
import json
import logging
import math
import tempfile
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import click
import numpy as np

from alpha_forge.cli import main as alpha_forge
from alpha_forge.contracts.types import BarBatch
from alpha_forge.runtime.ledger.check import check
from alpha_forge.runtime.results import PredictedRow
from alpha_forge.runtime.runner import RealTimeRunner, RunSummary
from alpha_forge_plugins.market.binance import refusals
from alpha_forge_sdk.sandbox import FaultScript, HostileFaults, SandboxConfig
from alpha_forge_sdk.sandbox.feed import Push
from alpha_forge_sdk.sandbox.hostile.script import Rule
from alpha_forge_sdk.sandbox.http import Request, Response
from alpha_forge_sdk.testing.exchange import running_exchange
from tests.pipelines import compiled
from tests.soak.campaign import expected
from tests.soak.campaign.expected import Heard, Truth
from tests.soak.campaign.market import INTERVALS, Market, make, write
from tests.soak.campaign.scenario import PROFILES, WINDOW, Scenario

FRAME = "ohlcv"
LIMIT = 90.0
"""Real seconds after which a run counts as one that does not end."""

BAN = 0.5
"""Real seconds that a ban of the profile of that name lasts: long enough to tell who waits from who is slow."""
ADDED = {
    "ban": "{{kind: http_418, rate: 0.4, times: 2, ban: {ban}s}}",
    "lag": (
        "{{kind: rest_lag, rate: 0.6, lag: 25s}}, {{kind: missing_close, rate: 0.2}}, "
        "{{kind: late_close, rate: 0.2, delay: 20s}}"
    ),
    "revisions": "{{kind: reuploaded, rate: 0.3, rows: 4}}, {{kind: changed_close, rate: 0.1, delay: 10s}}",
}
"""What the profiles of these names have besides what is drawn; `ban` is in exchange seconds."""
ON_THE_WAY = 0.1
"""Real seconds after a ban within which the exchange takes requests that were sent before it was told."""


@dataclass
class Outcome:
    """One run: what was done to it, what it did, and each thing that does not fit the truth."""

    scenario: Scenario
    problems: list[str] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    violations: Counter[str] = field(default_factory=Counter)
    summary: RunSummary | None = None
    bars: int = 0
    streamed: int = 0
    holes: int = 0
    revisions: int = 0
    origins: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    script: str = ""


class Listening:
    """A journal: keeps every bar that the engine is given."""

    def __init__(self, names: Sequence[str]) -> None:
        self.heard = Heard()
        self._names = names

    def begin(self, known: Mapping[str, Any]) -> None:
        pass

    def cut(self, cutoff: Mapping[str, int], cutoffs: Mapping[Any, Any]) -> None:
        self.heard.anchor = cutoff[FRAME]

    def warmed(self, items: Sequence[tuple[str, BarBatch]]) -> None:
        self._take(items)

    def processed(self, items: Sequence[tuple[str, BarBatch]], rows: Sequence[PredictedRow]) -> None:
        self._take(items)

    def _take(self, items: Sequence[tuple[str, BarBatch]]) -> None:
        for _, batch in items:
            self.heard.first = self.heard.first or batch.ts
            for place, values in zip(batch.symbols.tolist(), batch.values.T.tolist(), strict=True):
                self.heard.bars.append((self._names[place], batch.ts, tuple(values)))
            self.heard.absent += [(self._names[place], batch.ts) for place in batch.absent.tolist()]


class Tapped(HostileFaults):
    """The faults of a script; notes what else than its market the exchange has told of a bar.

    ``others`` maps (symbol, close in ns) to the values of changed closes; ``altered`` has those of archive files.
    """

    def __init__(self, script: FaultScript, interval_ms: int) -> None:
        super().__init__(script)
        self._step = interval_ms
        self.on_the_way = 0
        self._since = -math.inf
        self.others: dict[tuple[str, int], set[tuple[float, ...]]] = {}
        self.altered: set[tuple[str, int]] = set()

    def intercept(self, request: Request, address: str, now_ms: float, budget_ms: float) -> Response | None:
        bans, early = self.counts["http_418"], self.violations["banned"]
        found = super().intercept(request, address, now_ms, budget_ms)
        if self.counts["http_418"] > bans:
            self._since = time.monotonic()
        elif self.violations["banned"] > early and time.monotonic() - self._since < ON_THE_WAY:
            self.violations["banned"] -= 1
            self.on_the_way += 1
        return found

    def publish(self, push: Push) -> Sequence[Any]:
        found = super().publish(push)
        for item in found:
            inner = getattr(item, "item", item)
            if isinstance(inner, Push) and inner.closed and inner.text != push.text:
                bar = json.loads(inner.text)["k"]
                key = inner.symbol, (inner.open_ms + self._step) * 1_000_000
                self.others.setdefault(key, set()).add(tuple(float(bar[name]) for name in "ohlcv"))
        return found

    def content(self, key: str, body: bytes, now_ms: float) -> bytes | None:
        found = super().content(key, body, now_ms)
        if found is not None and found != body:
            # A zip that can't be read tells no other values.
            with contextlib.suppress(
                zipfile.BadZipFile, zlib.error, ValueError, NotImplementedError, EOFError
            ):
                before, after = _rows(body), _rows(found)
                symbol = key.rpartition("/")[2].partition("-")[0]
                changed = {opened for opened, row in after.items() if before.get(opened) != row}
                self.altered |= {(symbol, (opened + self._step) * 1_000_000) for opened in changed}
        return found


def _rows(body: bytes) -> dict[int, list[str]]:
    """Open time (ms) → the values of a zip's rows; nothing of one that is too large to be a day or a month."""
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        info = archive.infolist()[0]
        if info.file_size > 1 << 24:
            return {}
        text = archive.read(info).decode()
    rows = (line.split(",") for line in text.splitlines() if line[:1].isdigit())
    return {int(row[0]) // (1000 if len(row[0]) > 13 else 1): row[1:6] for row in rows}


def script_of(scenario: Scenario, market: Market) -> FaultScript:
    """The faults of a run; every third one of the profile revisions has nothing but changed closes, where what must be
    told of them is known to the last one."""
    if purely_revised(scenario):
        rules = "seed: {}\nfaults: [{{kind: changed_close, rate: 0.2, delay: {}ms}}]"
        return FaultScript.parse(rules.format(scenario.seed, scenario.interval_ms // 4))
    drawn = _drawn(scenario, market, "lossless" if scenario.profile in ("ban", "lag") else scenario.profile)
    if scenario.profile == "lossless":
        # Wilder: where the faults of a script are of one side, more of them meet each other.
        drawn += _drawn(scenario, market, ("stream", "archive")[scenario.seed // 7 % 2])
    if scenario.profile in ADDED:
        text = ADDED[scenario.profile].format(ban=round(BAN * scenario.speed))
        added = FaultScript.parse(f"faults: [{text}]").rules
        kinds = {rule.kind for rule in added}
        drawn = (*added, *(rule for rule in drawn if rule.kind not in kinds))
    return FaultScript(scenario.seed, drawn)


def _drawn(scenario: Scenario, market: Market, profile: str) -> tuple[Rule, ...]:
    script = FaultScript.random(
        scenario.seed,
        symbols=market.names,
        interval_ms=scenario.interval_ms,
        start_ms=scenario.start_ms,
        until_ms=scenario.until_ms,
        profile=profile,
    )
    # A bomb of a gigabyte takes the exchange ten seconds to make; for a client that reads 400 KiB, a small one will do.
    return tuple(
        dataclasses.replace(rule, options={**rule.options, "bytes": 1 << 26})
        if rule.kind == "zip_bomb"
        else rule
        for rule in script.rules
    )


def purely_revised(scenario: Scenario) -> bool:
    """Whether the only fault of a run is that bars come again with other values."""
    return scenario.profile == "revisions" and scenario.seed // len(PROFILES) % 3 == 0


def execute(scenario: Scenario) -> Outcome:
    """Make the market, play it, run the configuration over it, and compare. Raises nothing for what goes wrong."""
    outcome = Outcome(scenario)
    rng = np.random.default_rng([scenario.seed, 1])
    recorded_ms = INTERVALS[scenario.recorded]
    market = make(rng, scenario.symbols, scenario.first_ms, recorded_ms, scenario.parts, scenario.holes)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="campaign-") as folder, _quiet(), _hasty():
        where = Path(folder)
        write(market, where / "data", scenario.form)
        script = script_of(scenario, market)
        outcome.script = script.dump()
        faults = Tapped(script, scenario.interval_ms)
        config = SandboxConfig(
            data=where / "data",
            symbols=market.names,
            start_ms=scenario.start_ms,
            speed=scenario.speed,
            hold=scenario.held,
            venue=scenario.venue,
        )
        with running_exchange(config, faults=faults) as exchange:
            try:
                _run(scenario, market, exchange.url, where, faults, outcome)
            except Exception as error:  # noqa: BLE001 - whatever ends a run is what the campaign looks for
                outcome.problems.append(f"{type(error).__name__}: {error}")
        outcome.faults, outcome.violations = faults.counts, Counter(faults.violations)
    outcome.problems += [
        f"{count} × {kind} at the exchange" for kind, count in outcome.violations.items() if count
    ]
    outcome.seconds = time.monotonic() - began
    return outcome


def _run(scenario: Scenario, market: Market, url: str, where: Path, faults: Tapped, outcome: Outcome) -> None:
    """The run, or the two of it, and all comparisons."""
    document, dag = compiled(configuration(scenario, market, url, where))
    state = where / "state" if scenario.state else None
    half = scenario.bars // 2
    want: dict[tuple[str, int], float] = {}
    truths: list[Truth] = []
    for bars in [half, scenario.bars - half] if scenario.restarted else [scenario.bars]:
        journal = Listening(market.names)
        runner = RealTimeRunner(
            document, dag, bars=bars, cache_dir=where / "cache", state_dir=state, journal=journal
        )
        outcome.summary = asyncio.run(asyncio.wait_for(runner.run(), LIMIT))
        heard, content = journal.heard, _certificate(runner, state, outcome)
        last = heard.anchor + bars * scenario.interval_ms * 1_000_000
        truth = Truth.of(market, scenario.interval_ms, heard.first, last)
        if scenario.profile == "revisions":
            outcome.problems += expected.compare_order(heard, truth)
            outcome.problems += _revised(scenario, heard, truth, faults, content)
            truth = _as_processed(truth, heard)
        else:
            outcome.problems += expected.compare_bars(heard, truth)
        # What closed while no run was there, the second one predicts when it begins.
        want |= expected.predicted(truth, truths[-1].last if truths else heard.anchor, WINDOW)
        truths.append(truth)
        outcome.problems += expected.compare_certificate(content, FRAME, _joined(truths))
        outcome.bars += len(heard.bars)
        outcome.streamed += sum(ts > heard.anchor for _, ts, _ in heard.bars)
        outcome.holes += len(heard.absent)
    outcome.problems += expected.compare_predictions(where / "predictions.csv", want)
    outcome.revisions = int(content["totals"]["revisions"])
    for section in content["frames"][FRAME]["symbols"].values():
        for run in section["runs"]:
            outcome.origins[run["origin"]] += run["bars"]


def _joined(truths: Sequence[Truth]) -> Truth:
    """What the ledger knows after runs one after the other: of a bar that two of them saw, the first one's word."""
    first, *later = truths
    for truth in later:
        bars = {
            name: dict(its) | {ts: values for ts, values in truth.bars[name].items() if ts > first.last}
            for name, its in first.bars.items()
        }
        first = Truth(bars, min(first.first, truth.first), truth.last, first.step, (*first.cuts, first.last))
    return first


def configuration(scenario: Scenario, market: Market, url: str, where: Path) -> str:
    """The YAML of a run: one momentum over one data step, into a CSV file."""
    source = {"usdm": "data.binance_futures", "spot": "data.binance_spot"}[scenario.venue]
    # Nobody reads this mean: it is there for the past that it needs.
    mean = f"- features: {{using: features.sma, inputs: {{column: {FRAME}.close}}, outputs: {{columns: [mean]}}, params: {{window: {scenario.past}}}}}"
    return f"""name: campaign
using: {{capabilities: [shared, middlefreq]}}
signal_generation:
  mode: stream
  warmup: {{lookback_days: auto}}
  scheduling: {{buffer_minutes: {scenario.buffer_minutes}}}
  on_prediction:
  - {{using: sinks.csv_append, column: {FRAME}.mom, params: {{path: {where / "predictions.csv"}}}}}
pipeline:
- data:
    using: {source}
    outputs: {{frame: {FRAME}}}
    params:
      universe: [{", ".join(market.names)}]
      interval: {scenario.interval}
      endpoints: {url}
      silence: {scenario.silence}
      streams_per_connection: {scenario.per_connection}
      request_timeout: 5
      patience: 360000
- features: {{using: features.momentum, inputs: {{column: {FRAME}.close}}, outputs: {{columns: [mom]}}, params: {{window: {WINDOW}}}}}
{mean if scenario.past else ""}
"""


def _certificate(runner: RealTimeRunner, state: Path | None, outcome: Outcome) -> Mapping[str, Any]:
    """The certificate of the shutdown; checked as its users do."""
    assert runner.ledger is not None
    assert runner.ledger.newest is not None
    content = runner.ledger.newest
    if state is None:
        findings = check(content)
        outcome.problems += [f"certificate: {problem}" for problem in findings.problems]
        return content
    path = state / "campaign.certificate.json"
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = _exit_code(["bars", "certificate", str(path)])
    if code != 0:
        outcome.problems.append(f"`alpha_forge bars certificate` exits with {code}: {said.getvalue()[-600:]}")
    return expected.read_certificate(path)


def _exit_code(arguments: list[str]) -> int:
    try:
        alpha_forge(arguments, standalone_mode=True)
    except SystemExit as ended:
        return int(ended.code or 0)
    except click.ClickException:
        return 2
    return 0


def _revised(
    scenario: Scenario, heard: Heard, truth: Truth, faults: Tapped, content: Mapping[str, Any]
) -> Iterator[str]:
    """What was processed is the market's, or what the exchange has told else; each revision has both values."""
    processed = {(name, ts): values for name, ts, values in heard.bars}
    for (name, ts), values in processed.items():
        if values == truth.bars[name].get(ts) or (name, ts) in faults.altered:
            continue
        if purely_revised(scenario) or values not in faults.others.get((name, ts), ()):
            yield f"{name} {expected.told(ts)}: {values}, which the exchange has not told first"
    sections = content["frames"][FRAME]["symbols"]
    for name, section in sections.items():
        for one in section["revisions"]["listed"]:
            ts = expected.instant(one["ts"])
            first, other = (_values(one[key]) for key in ("processed", "other"))
            known = {truth.bars[name].get(ts), *faults.others.get((name, ts), ())}
            if first != processed.get((name, ts)) or first == other:
                yield f"{name} {one['ts']}: a revision of {first}, processed was {processed.get((name, ts))}"
            if other not in known and (name, ts) not in faults.altered:
                yield f"{name} {one['ts']}: a revision to {other}, which the exchange has never told"
    if purely_revised(scenario):
        yield from _all_told(heard, truth, faults, sections)


def _all_told(heard: Heard, truth: Truth, faults: Tapped, sections: Mapping[str, Any]) -> Iterator[str]:
    """Where nothing is lost, each second close is a revision; those of the last bars may come after the end."""
    for name, section in sections.items():
        sure = truth.last - 8 * truth.step
        due = {ts for (who, ts) in faults.others if who == name and heard.anchor < ts <= sure}
        got = {expected.instant(one["ts"]) for one in section["revisions"]["listed"]}
        if not due <= got and section["revisions"]["count"] <= len(section["revisions"]["listed"]):
            yield f"{name}: {len(due - got)} second closes are no revisions, the first {expected.told(min(due - got))}"


def _values(told: Mapping[str, Any] | None) -> tuple[float, ...] | None:
    return (
        None
        if told is None
        else tuple(float(told[key]) for key in ("open", "high", "low", "close", "volume"))
    )


def _as_processed(truth: Truth, heard: Heard) -> Truth:
    """The truth with the values that were processed: where channels disagree, the first one stands."""
    bars: dict[str, dict[int, tuple[float, ...]]] = {name: {} for name in truth.bars}
    for name, ts, values in heard.bars:
        bars[name][ts] = values
    return Truth(bars, truth.first, truth.last, truth.step)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Faults are told one by one: right for a service, too much here."""
    loggers = [
        logging.getLogger(name) for name in ("alpha_forge", "alpha_forge_plugins", "httpx", "websockets")
    ]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def _hasty() -> Iterator[None]:
    """A handshake refused with 429 keeps a client away for a minute: right for an exchange, and here it is not the time
    that is tried."""
    with mock.patch.object(refusals, "_TOO_MANY", 0.5):
        yield
