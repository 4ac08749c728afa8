"""The gap-free certificate: issued when it should be, and believed only if everything in it fits."""

from __future__ import annotations

import asyncio
import copy
import csv
import json
import shutil
import time
from datetime import datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from alpha_forge.cli import main
from alpha_forge.runtime.ledger import certificate as certificates
from alpha_forge.runtime.ledger import segments
from alpha_forge.runtime.ledger.check import check
from alpha_forge.runtime.ledger.recorder import Certifier
from alpha_forge.runtime.runner import RealTimeRunner
from alpha_forge_sdk import MarketEvent, SourceError
from alpha_forge_sdk.sandbox import SandboxConfig
from alpha_forge_sdk.testing.exchange import market_bars, running_exchange
from tests.fake_source import ScriptedSource, VirtualClock
from tests.market_truth import random_market
from tests.pipelines import arrivals_of, compiled, config
from tests.runtime.ledger_cases import FIRST, batch_of, certified, ledger_of, past_of
from tests.runtime.ledger_support import HOUR, as_said, iso, row_of, sealed

STEPS = "- features: {using: features.momentum, inputs: {column: F.close}, outputs: {columns: [mom_20]}}\n"


def command(*words: str | Path) -> tuple[int, str]:
    """Exit code and output of ``alpha_forge bars certificate``."""
    result = CliRunner().invoke(main, ["bars", "certificate", *map(str, words)])
    return result.exit_code, result.output


@pytest.fixture
def issued(tmp_path: Path) -> Path:
    """A certificate that holds, with its ledger beside it: two segments, a hole, a revision, three origins."""
    state = tmp_path / "state"
    folder = state / "test.bars" / "ohlcv-1h"
    one = ledger_of(3, folder)
    one.begin(past_of(3, 20, missing={(FIRST + 4, 1)}), 0)
    for row in range(FIRST + 20, FIRST + 25):
        one.add([batch_of(row, [0, 1, 2])], 0)
    one.close()
    two = ledger_of(3, folder)
    two.begin(past_of(3, 25, missing={(FIRST + 4, 1)}), 0)
    two.add([batch_of(FIRST + 25, [0, 1], absent=[2])], 0)
    two.add([batch_of(FIRST + 26, [0, 1, 2], "repair")], 0)
    path = state / "test.certificate.json"
    certificates.write(path, certified(two))
    two.add([batch_of(FIRST + 27, [0, 1, 2])], 0)  # the run goes on behind it
    two.close()
    return path


def test_a_certificate_that_nobody_touched_holds(issued):
    code, text = command(issued)
    assert code == 0, text
    assert text.splitlines()[-1] == "holds"
    assert "80 of 81 bars" not in text
    assert "79 of 81 bars, 2 in holes, 0 still missing, 0 revision(s)" in text
    hole = iso((FIRST + 25) * HOUR)
    assert (
        f"hole: S002USDT {hole} … {hole}, 1 bar(s): the exchange has none (history silent, asked when" in text
    )
    code, text = command(issued, "--format", "json")
    said = json.loads(text)
    assert (code, said["holds"], said["problems"], said["notes"]) == (0, True, [], [])
    assert said["certificate"] == json.loads(issued.read_text())


def test_it_is_checked_without_a_ledger_too_and_says_so(issued, tmp_path):
    alone = shutil.copy(issued, tmp_path / "alone.json")
    code, text = command(alone)
    assert code == 0
    assert "note: there is no ledger to compare with" in text
    code, text = command(alone, "--ledger", issued.parent / "test.bars")
    assert code == 0
    assert "note" not in text


def symbol(content: dict, name: str = "S001USDT") -> dict:
    return content["frames"]["ohlcv"]["symbols"][name]


def drop_hole(content):
    symbol(content)["holes"].clear()


def fill_hole_in_silence(content):
    """As if the bar had been there: runs joined, counts and totals put right."""
    section = symbol(content)
    hole = section["holes"].pop()
    before, after = section["runs"][:2]
    before["to"], before["bars"] = after["to"], before["bars"] + after["bars"] + hole["bars"]
    del section["runs"][1]
    section["bars"] += 1
    content["totals"] = certificates.totals(content["frames"])


def longer_run(content):
    symbol(content)["runs"][-1]["to"] = iso((FIRST + 30) * HOUR)


def overlap(content):
    symbol(content)["runs"][1]["from"] = symbol(content)["runs"][0]["to"]


def other_origin(content):
    symbol(content)["runs"][-1]["origin"] = "stream"


def other_digest(content):
    symbol(content)["digest"] = "0" * 64


def other_count(content):
    symbol(content)["bars"] += 1


def other_expectation(content):
    symbol(content)["expected"] -= 1


def other_totals(content):
    content["totals"]["bars"] += 1


def open_hole_kept_quiet(content):
    symbol(content)["open"] = [{"from": iso(FIRST * HOUR), "to": iso(FIRST * HOUR), "bars": 1, "held": 0}]


def says_it_does_not_hold(content):
    content["holds"] = False


def off_the_grid(content):
    symbol(content)["runs"][0]["from"] = symbol(content)["runs"][0]["from"].replace(":00:00Z", ":00:01Z")


def no_runs(content):
    del symbol(content)["runs"]


def wrong_kind(content):
    symbol(content)["runs"] = 7


def stranger(content):
    content["frames"]["ohlcv"]["symbols"]["XUSDT"] = copy.deepcopy(symbol(content))
    content["totals"] = certificates.totals(content["frames"])


def other_offset(content):
    content["frames"]["ohlcv"]["ledger"]["offset"] -= 1


def offset_behind_the_end(content):
    content["frames"]["ohlcv"]["ledger"]["offset"] += 10_000


def offset_of_another_kind(content):
    content["frames"]["ohlcv"]["ledger"]["offset"] = "here"


def other_segment(content):
    content["frames"]["ohlcv"]["ledger"]["segment"] = 9


EDITS = {
    drop_hole: "is in no run and no hole",
    fill_hole_in_silence: "ohlcv S001USDT: bars: it says 27, the ledger 26",
    longer_run: "ohlcv S001USDT",
    overlap: "is in two runs or holes",
    other_origin: "ohlcv S001USDT: runs: it says",
    other_digest: "the content hashes of its bars are not those of the ledger",
    other_count: "it says 27 bars, its runs have 26",
    other_expectation: "it says 26 bars are expected, its range has 27",
    other_totals: "its totals are not the sums",
    open_hole_kept_quiet: "were still missing or waiting",
    says_it_does_not_hold: 'it says "holds": False',
    off_the_grid: "is no close of 1h",
    no_runs: "it is not complete: KeyError: 'runs'",
    wrong_kind: "it is not complete: TypeError",
    stranger: "ohlcv XUSDT: the ledger does not know it",
    other_offset: "has no record that ends at the place",
    offset_behind_the_end: "can be read up to byte",
    offset_of_another_kind: "it is not complete: TypeError",
    other_segment: "has no segment 9",
}


@pytest.mark.parametrize("edit", EDITS, ids=lambda e: e.__name__)
def test_an_edit_is_found_by_the_digest_and_by_what_it_says(issued, edit):
    content = json.loads(issued.read_text())
    edit(content)
    issued.write_text(json.dumps(content))
    code, text = command(issued)
    assert code == 1
    assert "problem: its digest does not fit its content" in text
    issued.write_text(json.dumps(sealed(content)))  # whoever edits can compute a digest
    code, text = command(issued)
    assert code == 1
    assert "its digest" not in text
    assert EDITS[edit] in text


def test_every_byte_of_the_certificate_counts(issued):
    whole = issued.read_bytes()
    for at in range(0, len(whole), 23):
        if whole[at : at + 1].isspace():
            continue
        issued.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        try:
            content = certificates.read(issued)
        except certificates.UsageError:
            continue
        assert not check(content).holds, at


def test_a_ledger_that_was_edited_or_lacks_a_segment_is_found(issued):
    first, second = segments.segment_paths(issued.parent / "test.bars" / "ohlcv-1h")
    whole = first.read_bytes()
    first.write_bytes(whole[:-30])
    code, text = command(issued)
    assert code == 1
    assert "segment 2 of the ledger does not begin where 1 ends" in text
    first.write_bytes(whole)
    second.unlink()
    code, text = command(issued)
    assert code == 1
    assert "has no segment 2, where the certificate was made" in text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "AF5060"),
        ("{", "AF5060"),
        ("[]", "AF5060"),
        ("[" * 100_000, "AF5060"),
        ('{"format": "alpha_forge.ledger"}', "AF5060"),
        ('{"format": "alpha_forge.certificate", "version": 2}', "AF5061"),
        ("name: minimal", "AF5060"),
    ],
)
def test_what_is_no_certificate_is_wrong_usage(tmp_path, text, said):
    path = tmp_path / "file.json"
    path.write_text(text)
    code, output = command(path)
    assert code == 2
    assert f"error[{said}]" in output
    assert "help:" in output


def test_a_cut_off_certificate_a_missing_one_and_a_missing_ledger_are_wrong_usage(issued, tmp_path):
    text = issued.read_text()
    issued.write_text(text[: len(text) // 2])
    assert command(issued)[0] == command(tmp_path / "nothing.json")[0] == 2
    issued.write_text(text)
    code, output = command(issued, "--ledger", tmp_path / "nothing")
    assert code == 2
    assert "AF5063" in output


def test_a_newer_ledger_is_refused_by_the_run_and_by_the_check(issued):
    path = segments.segment_paths(issued.parent / "test.bars" / "ohlcv-1h")[-1]
    data = bytearray(path.read_bytes())
    data[8] = 2
    path.write_bytes(data)
    code, output = command(issued)
    assert code == 2
    assert "AF5061" in output
    with pytest.raises(certificates.UsageError, match="version 2"):
        ledger_of(3, path.parent).begin(past_of(3, 20), 0)


# When it is issued.


class FakeFeed:
    def __init__(self) -> None:
        self.name, self.reconnected, self.through = "ohlcv", 0, 0
        self.spec = self.sequencer = self
        self.interval = type("Hours", (), {"row": staticmethod(lambda ts: ts // HOUR)})

    def passed(self, row: int) -> bool:
        return self.through >= row


def test_a_certificate_is_due_every_hour_and_when_a_broken_connection_is_made_good():
    feed = FakeFeed()
    certifier = Certifier([feed], 0)
    minutes = [m for m in range(1, 200) if certifier.due(m * HOUR // 60) == "hour"]
    assert minutes == [60, 120, 180]
    now = 200 * HOUR // 60
    feed.reconnected = 2
    assert certifier.due(now) is None  # the bar of the third hour is still missing
    feed.through = 3
    assert certifier.due(now) == "reconnect"
    assert certifier.due(now) is None


async def until(condition) -> None:
    """Return once the condition holds. Raises TimeoutError."""
    deadline = time.monotonic() + 20
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("it never came to hold")
        await asyncio.sleep(0.001)


class Interrupted(ScriptedSource):
    """Its connection breaks once: one bar is lost, and only history brings it back."""

    lost = 6

    async def stream(self):
        count = 0
        async for event in super().stream():
            count += event.closed
            if count == self.lost and event.closed:
                yield MarketEvent("source.reconnected", None, event.ts)
                continue
            yield event
            if event.closed:
                await until(self.calm)


def test_it_is_made_anew_every_hour_after_a_reconnect_and_at_the_end(tmp_path, monkeypatch):
    written = []
    put = certificates.write
    monkeypatch.setattr(
        certificates, "write", lambda path, content: (written.append(content), put(path, content))
    )
    market = random_market(2, 92, 5)
    anchor = int(market["S000USDT"].index[79])
    arrivals = arrivals_of(market, anchor)
    document, dag = compiled(config(list(market), tmp_path, ["mom_20"], steps=STEPS))
    source = Interrupted(market, arrivals, VirtualClock(anchor + HOUR // 2), HOUR)
    runner = RealTimeRunner(document, dag, sources={"ohlcv": source}, state_dir=tmp_path)

    def calm() -> bool:
        """Warm, and no certificate is due or being made."""
        ledger = runner.ledger
        runner._wake.set()  # the clock stands, and with it what wakes a run otherwise
        return (
            runner.summary.warmup is not None
            and ledger._certifier._hour > source.clock.now()
            and (ledger._making is None or ledger._making.done())
        )

    source.calm = calm
    asyncio.run(asyncio.wait_for(runner.run(), 60))
    reasons = [content["reason"] for content in written]
    assert reasons[-1] == "shutdown"
    assert reasons.count("shutdown") == 1
    assert reasons.count("reconnect") == 1
    assert reasons.count("hour") >= 8
    created = [content["created"] for content in written]
    assert created == sorted(created)
    lost_ts, lost_symbol = arrivals[Interrupted.lost - 1]
    proof = written[reasons.index("reconnect")]["frames"]["ohlcv"]["symbols"][lost_symbol]
    assert (lost_ts // HOUR, lost_ts // HOUR, "repair") in as_said(proof)
    for at, content in enumerate(written):
        found = check(content, tmp_path / "test_pipeline.bars")
        # An hour that ends before the hole is mended says so; nothing else is wrong, then or later.
        open_hole = at < reasons.index("reconnect") and content["created"] > iso(lost_ts)
        assert [text.split(":")[0] for text in found.problems] == [f"ohlcv {lost_symbol}"] * open_hole


class Unreachable(ScriptedSource):
    """Brings one bar behind a hole, and its history answers nothing any more."""

    async def history(self, symbols, start, end):
        if self.history_calls:
            raise SourceError("AF5001", "unreachable", "")
        async for block in super().history(symbols, start, end):
            yield block

    async def stream(self):
        async for event in super().stream():
            yield event
        await until(lambda: self.summary.bars == 23)
        self.stop()
        await asyncio.Event().wait()


def test_a_hole_that_is_still_open_is_listed_and_nothing_is_certified(tmp_path):
    market = random_market(3, 90, 5)
    anchor = int(market["S000USDT"].index[79])
    arrivals = [a for a in arrivals_of(market, anchor) if a != (anchor + 4 * HOUR, "S001USDT")]
    document, dag = compiled(config(list(market), tmp_path, ["mom_20"], steps=STEPS))
    source = Unreachable(market, arrivals, VirtualClock(anchor + HOUR // 2), HOUR)
    runner = RealTimeRunner(document, dag, sources={"ohlcv": source}, state_dir=tmp_path)
    source.stop, source.summary = runner.stop, runner.summary
    asyncio.run(asyncio.wait_for(runner.run(), 60))
    path = tmp_path / "test_pipeline.certificate.json"
    content = certificates.read(path)
    sections = content["frames"]["ohlcv"]["symbols"]
    assert sections["S000USDT"]["holds"]
    assert not sections["S001USDT"]["holds"]
    assert not content["holds"]
    (gap,) = sections["S001USDT"]["open"]
    assert gap == {"from": iso(anchor + 4 * HOUR), "to": iso(anchor + 10 * HOUR), "bars": 7, "held": 6}
    code, text = command(path)
    assert code == 1
    assert (
        f"problem: ohlcv S001USDT: 7 bar(s) {gap['from']} … {gap['to']} were still missing or waiting, 6 held"
        in text
    )


# A hole that the exchange really has, played by the local exchange.


def play(exchange, symbol_name: str, bars: int, out: Path) -> dict:
    """Run over a started exchange for `bars` closes; the certificate's section of the symbol, which must hold."""
    text = config([symbol_name], out, ["mom_20"], steps=STEPS)
    text = text.replace("interval: 1h}", f"interval: 1h, endpoints: {exchange.url}}}")
    document, dag = compiled(text)
    runner = RealTimeRunner(document, dag, bars=bars, cache_dir=out / "cache", state_dir=out / "state")
    asyncio.run(asyncio.wait_for(runner.run(), 60))
    path = out / "state" / "test_pipeline.certificate.json"
    code, text = command(path)
    assert code == 0, text
    section: dict = certificates.read(path)["frames"]["ohlcv"]["symbols"][symbol_name]
    return section


def test_an_outage_of_the_exchange_is_a_listed_hole(tmp_path):
    start = datetime.fromisoformat("2026-01-05T09:30:00+00:00")
    settings = SandboxConfig(
        symbols=("BTCUSDT",), speed=18_000, hold=True, start_ms=int(start.timestamp() * 1000)
    )
    with running_exchange(settings) as exchange:
        exchange.inject("outage", from_="2026-01-05T12:40:00Z", until="2026-01-05T14:00:00Z")
        section = play(exchange, "BTCUSDT", 7, tmp_path)
        (hole,) = section["holes"]
        assert (hole["from"], hole["to"], hole["reason"]) == (
            "2026-01-05T14:00:00Z",
            "2026-01-05T14:00:00Z",
            "the exchange has none",
        )
        assert "2026-01-05T14:0" in hole["proven_by"]
        end = row_of(section["last"]) * HOUR
        bars = market_bars(exchange, "BTCUSDT", "1h", row_of(section["first"]) * HOUR - HOUR, end)
        assert section["bars"] == len({bar.ts for bar in bars} - {row_of(hole["from"]) * HOUR})
        assert section["last"] == "2026-01-05T16:00:00Z"


@pytest.mark.real_data
def test_the_outage_of_march_2023_is_a_listed_hole(tmp_path):
    folder = Path(__file__).parents[3] / "shared" / "data" / "klines" / "spot_btc_12col_2023"
    if not folder.is_dir():
        pytest.skip("the recorded klines are not here")
    with (folder / "BTCUSDT-1h-2023-03.csv").open(newline="") as file:
        closes = {int(row["open_time"]) // 3_600_000 + 1 for row in csv.DictReader(file)}
    start = datetime.fromisoformat("2023-03-24T09:30:00+00:00")
    settings = SandboxConfig(
        symbols=("BTCUSDT",), data=folder, speed=18_000, hold=True, start_ms=int(start.timestamp() * 1000)
    )
    with running_exchange(settings) as exchange:
        section = play(exchange, "BTCUSDT", 8, tmp_path)
    first, last = row_of(section["first"]), row_of(section["last"])
    truth = {row: "bar" if row in closes else "hole" for row in range(first, last + 1)}
    said = {
        row: "hole" if word == "hole" else "bar" for a, b, word in as_said(section) for row in range(a, b + 1)
    }
    assert said == truth
    (hole,) = section["holes"]
    assert hole["from"] == hole["to"] == "2023-03-24T14:00:00Z"
    assert section["last"] >= "2023-03-24T17:00:00Z"
