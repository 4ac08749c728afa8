"""`plugins validate` on packs that do everything wrong: each is reported for itself, the rest is validated."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from alpha_forge_sdk.conformance.check import Outcome, Verdict
from alpha_forge_sdk.conformance.child import unjudged
from alpha_forge_sdk.conformance.report import as_json, as_junit, as_text
from tests.registry.pack_support import SINK, Site, hooks

FEATURE = '''
from alpha_forge_sdk import Feature, Params
from pydantic import Field


class Last(Feature):
    """The close itself."""

    class Params(Params):
        unused: int = Field(1, ge=1, le=9, description="nothing")

    def lookback(self):
        return 1

    def compute(self, close):
        return close.copy()
'''
CASE = """
from alpha_forge_sdk.conformance import FeatureConformance


class LastCase(FeatureConformance):
    plugin = "features.{name}"
    waivers = {{"AF-P05": "to see that it is this case"}}
"""


def feature_pack(site: Site, name: str, source: str = FEATURE, *, init: str = "", **modules: str) -> None:
    """A pack with one feature, ``features.<name>``."""
    package = f"{name}_pack"
    offered = {"alpha_forge_features": f"{{'{name}': '{package}.plugin:Last'}}"}
    if "conformance" in modules:
        offered["alpha_forge_conformance"] = f"{{'features.{name}': '{package}.conformance:LastCase'}}"
    site.pack(name, init + hooks(**offered), plugin=source, **modules)


def bad_packs(site: Site) -> None:
    site.pack("raising", "raise RuntimeError('no such luck')")
    site.pack("exiting", "import sys\nsys.exit('goodbye')")
    site.pack("hanging", "import time\ntime.sleep(600)")
    site.pack("dying", "import os\nos._exit(7)")
    site.pack("nonsense", hooks(alpha_forge_sinks="42"))
    site.pack(
        "wrongkind", hooks(alpha_forge_features="{'wrongkind': 'wrongkind_pack.sink:AvroSink'}"), sink=SINK
    )
    site.pack("unread", hooks(alpha_forge_sinks="{'unread': 'unread_pack.sink:AvroSink'}"), sink=SINK)
    site.pack("misnamed", hooks(alpha_forge_conformance="{'features.nobody': 'misnamed_pack.plugin:Last'}"))
    feature_pack(site, "good", conformance=CASE.format(name="good"))
    feature_pack(site, "printing", init="print('hello from a pack')\n")
    feature_pack(site, "sleepy", "import time\ntime.sleep(600)\n" + FEATURE)
    feature_pack(site, "fatal", FEATURE.replace("return close.copy()", "import os; os._exit(9)"))
    feature_pack(site, "badschema", FEATURE.replace("ge=1,", "json_schema_extra={'maximum': 'nine'},"))
    feature_pack(site, "badexample", FEATURE + "\n    examples = ({'unused': 77},)\n")
    feature_pack(site, "badcase", conformance="raise OSError('no tests today')")
    feature_pack(site, "notacase", conformance="LastCase = 5")


NAMES = [
    *(
        "raising",
        "exiting",
        "hanging",
        "dying",
        "nonsense",
        "wrongkind",
        "unread",
        "misnamed",
        "good",
        "printing",
    ),
    *("sleepy", "fatal", "badschema", "badexample", "badcase", "notacase"),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("site"))


def command(*arguments: str, code: str = "", path: str = "") -> subprocess.CompletedProcess[str]:
    """``alpha_forge plugins validate`` in a child process, after `code`, with packs from `path`."""
    return subprocess.run(
        [
            sys.executable,
            "-c",
            f"{code}\nfrom alpha_forge.cli import main; main()",
            "plugins",
            "validate",
            *arguments,
        ],
        env={**os.environ, "PYTHONPATH": path, "ALPHA_FORGE_BLOCK": ""},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.fixture(scope="module")
def judged(site: Site) -> dict[str, dict[str, Any]]:
    """Name → entry of the report on all the bad packs and the good one."""
    bad_packs(site)
    options = ("--format", "json", "--deadline", "8", "--jobs", "2")
    done = command(*NAMES, *options, path=str(site.root))
    assert done.returncode == 1, done.stderr
    told = json.loads(done.stdout)
    assert set(told) == {"contract", "kit", "plugins"}
    return {plugin["name"]: plugin for plugin in told["plugins"]}


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("raising", "RuntimeError: no such luck"),
        ("exiting", "SystemExit: goodbye"),
        ("hanging", "its import did not end within 8 s"),
        ("dying", "exit code 7"),
        ("nonsense", "returned a int, not {name: 'module:attribute'}"),
        ("features.wrongkind", "does not derive from Feature or RecursiveFeature"),
        ("sinks.unread", "no read_back()"),
        ("features.nobody", "names a plugin that no pack gives"),
        ("features.sleepy", "import did not end within 8 s"),
        ("features.fatal", "its process ended (exit code 9)"),
        ("features.badcase", "OSError: no tests today"),
        ("features.notacase", "does not derive from FeatureConformance"),
    ],
)
def test_what_cannot_be_judged_is_an_error_with_its_cause(
    judged: dict[str, dict[str, Any]], name: str, says: str
) -> None:
    assert judged[name]["verdict"] == "error"
    assert says in judged[name]["problem"]


@pytest.mark.parametrize(
    ("name", "check", "says"),
    [
        ("features.printing", "AF-P13", "hello from a pack"),
        ("features.badschema", "AF-P04", "properties/unused/maximum"),
        ("features.badexample", "AF-P06", "examples[0]: unused"),
    ],
)
def test_what_breaks_a_promise_fails_by_its_check(
    judged: dict[str, dict[str, Any]], name: str, check: str, says: str
) -> None:
    assert judged[name]["verdict"] == "fail"
    failed = [c for c in judged[name]["checks"] if c["status"] not in ("pass", "skip")]
    assert [c["id"] for c in failed] == [check]
    assert says in failed[0]["detail"]
    assert failed[0]["remedy"]


def test_the_rest_is_validated_all_the_same(judged: dict[str, dict[str, Any]]) -> None:
    good = judged["features.good"]
    assert set(good) == {"name", "distribution", "version", "sha256", "verdict", "checks"}
    assert (good["distribution"], good["version"]) == ("good-dist", "1.2.3")
    assert len(good["sha256"]) == 64
    assert len(good["checks"]) > 20
    assert set(good["checks"][0]) == {"id", "title", "status", "detail", "remedy"}
    # Its own case was used: the waiver of a check that passes is strict.
    assert [c["id"] for c in good["checks"] if c["status"] == "fail"] == ["AF-P05"]
    assert len(judged) == len(NAMES)


def test_a_check_that_takes_the_process_along_is_named(judged: dict[str, dict[str, Any]]) -> None:
    last = judged["features.fatal"]["checks"][-1]
    assert last["status"] == "error"
    assert last["id"] in judged["features.fatal"]["problem"]


class TestUsage:
    @pytest.mark.parametrize("name", ["features.smaa", "sma"])
    def test_an_unknown_name_is_wrong_usage_with_a_suggestion(self, name: str) -> None:
        done = command(name)
        assert done.returncode == 2
        assert "did you mean 'features.sma'?" in done.stderr
        assert done.stdout == ""

    def test_a_missing_extra_is_named(self) -> None:
        code = (
            "import importlib.util; find = importlib.util.find_spec\n"
            "importlib.util.find_spec = lambda n, *a: None if n == 'hypothesis' else find(n, *a)\n"
        )
        done = command("--selftest", code=code)
        assert done.returncode == 2
        assert "the extra 'sdk'" in done.stderr

    def test_the_zoo_has_no_such_part(self) -> None:
        done = command("--selftest", "feature")
        assert done.returncode == 2
        assert "did you mean 'features'?" in done.stderr


@pytest.mark.parametrize(
    ("outcomes", "says"),
    [
        (
            [Outcome("AF-D01", "", "skip", "no truth()"), Outcome("AF-D02", "", "skip", "needs AF-D01")],
            "no truth()",
        ),
        ([Outcome("AF-D01", "", "skip", "no truth()"), Outcome("AF-D02", "", "pass")], ""),
        ([Outcome("AF-P06", "", "fail", "x"), Outcome("AF-D01", "", "skip", "needs AF-P06")], ""),
    ],
    ids=["nothing judged", "something judged", "a parameter failed"],
)
def test_a_plugin_of_which_nothing_was_judged_never_passes(outcomes: list[Outcome], says: str) -> None:
    problem = unjudged(outcomes)
    assert says in problem
    assert bool(problem) is bool(says)


VERDICTS = [
    Verdict("features.fine", "acme", "1", "ab", [Outcome("AF-P01", "is fine", "pass")]),
    Verdict(
        "sinks.poor",
        "acme",
        "1",
        "ab",
        [
            Outcome("AF-S01", "keeps", "fail", "promised: all\nseen: \x1bnone <&>", "keep it"),
            Outcome("AF-S02", "orders", "skip", "needs AF-S01"),
            Outcome("AF-S03", "closes", "waived", "the server does"),
        ],
    ),
    Verdict("broken", "worse", "2", "", problem="pack 'broken' is broken: it raised"),
]


class TestReport:
    def test_text_tells_what_was_promised_seen_and_how_to_mend_it(self) -> None:
        text = as_text(VERDICTS)
        assert text.splitlines()[-1] == "3 plugin(s): 1 pass, 1 fail, 1 error"
        for part in (
            "FAIL AF-S01 keeps",
            "promised: all",
            "mend: keep it",
            "problem: pack 'broken'",
            "WAIVED AF-S03",
        ):
            assert part in text
        assert "AF-S02" not in text, "what was skipped for another's fault only repeats it"

    def test_json_has_the_contract_and_kit_it_speaks_of(self) -> None:
        told = json.loads(json.dumps(as_json(VERDICTS)))
        assert told["contract"]
        assert told["kit"]
        assert [p["verdict"] for p in told["plugins"]] == ["pass", "fail", "error"]

    def test_junit_counts_and_survives_control_characters(self) -> None:
        root = ElementTree.fromstring(as_junit(VERDICTS))
        counts = {key: root.get(key) for key in ("tests", "failures", "errors", "skipped")}
        assert counts == {"tests": "5", "failures": "1", "errors": "1", "skipped": "2"}
        failure = root.find(".//failure")
        assert failure is not None
        assert "mend: keep it" in (failure.text or "")


def test_two_checkouts_of_the_same_files_have_the_same_hash(tmp_path: Path) -> None:
    from alpha_forge_sdk.conformance.fingerprint import _files

    for folder in ("one", "two"):
        package = tmp_path / folder / "acme"
        (package / "__pycache__").mkdir(parents=True)
        (package / "__init__.py").write_text("x = 1\n")
        (package / "__pycache__" / f"{folder}.pyc").write_text(folder)
    one, two = (dict(_files(tmp_path / f / "acme", tmp_path / f)) for f in ("one", "two"))
    assert list(one) == list(two) == ["acme/__init__.py"]
