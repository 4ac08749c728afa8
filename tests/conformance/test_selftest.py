"""`--selftest`: from the wheel in an empty folder, and what it says when the kit is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from alpha_forge_sdk.conformance import FeatureConformance, report
from alpha_forge_sdk.conformance.selftest import selftest
from alpha_forge_sdk.conformance.zoo import MODULES, Specimen, params
from alpha_forge_sdk.conformance.zoo.change import Change, case_for
from tests.conformance.wheels import built_wheel, layered_environment, run


@pytest.fixture(scope="module")
def wheel_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    return layered_environment(folder / "env", built_wheel(folder))


def test_the_whole_zoo_from_the_wheel_in_an_empty_folder(wheel_python: Path, tmp_path: Path) -> None:
    done = run(wheel_python, tmp_path, "plugins", "validate", "--selftest", "--format", "json", "--jobs", "2")
    told = json.loads(done.stdout)
    assert told["deviations"] == []
    assert done.returncode == 0
    broken, correct = len(told["broken"]), len(told["correct"])
    assert told["summary"] == (
        f"{broken} broken plugins caught, {correct} correct plugins passed, 0 deviations"
    )
    assert {entry["name"].partition(".")[0] for entry in told["broken"]} == set(MODULES)
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


def test_a_plugin_of_the_wheel_is_judged_by_its_recorded_files(wheel_python: Path, tmp_path: Path) -> None:
    done = run(wheel_python, tmp_path, "plugins", "validate", "features.sma", "--format", "json")
    (plugin,) = json.loads(done.stdout)["plugins"]
    assert plugin["verdict"] == "pass", plugin
    assert len(plugin["sha256"]) == 64
    files = next(wheel_python.parents[1].rglob("alpha_forge_plugins/features/averages.py"))
    files.write_text(files.read_text() + "\n# changed\n")
    again = run(wheel_python, tmp_path, "plugins", "validate", "features.sma", "--format", "json")
    assert json.loads(again.stdout)["plugins"][0]["sha256"] != plugin["sha256"]


class Harmless(Change):
    """Is said to be broken, but is not."""


@pytest.mark.parametrize(
    ("specimen", "says"),
    [
        (Specimen(case_for(Harmless), "AF-P01", "x"), "AF-P01 must fail, but: pass"),
        (Specimen(case_for(params.SaysNothing), "AF-P03", "nobody says this"), "must say 'nobody says this'"),
        (Specimen(case_for(params.SaysNothing), "AF-P05", "x"), "AF-P03 fail, though it is not to blame"),
        (Specimen(case_for(params.SaysNothing), "AF-S01", "x"), "there is no check AF-S01 of its kind"),
    ],
    ids=["not caught", "another message", "caught by another", "no such check"],
)
def test_a_specimen_that_deviates_is_told(
    specimen: Specimen, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(params, "BROKEN", (specimen,))
    monkeypatch.setattr(params, "CORRECT", ())
    result = selftest(["params"])
    assert any(says in text for text in result.deviations), result.deviations
    assert result.summary.startswith("0 broken plugins caught")
    assert 'failures="1"' in report.as_junit(result.as_verdicts())


def test_a_false_alarm_on_a_correct_plugin_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(params, "BROKEN", ())
    monkeypatch.setattr(params, "CORRECT", (case_for(params.SaysNothing),))
    result = selftest(["params"])
    assert [d.partition(",")[0] for d in result.deviations] == ["params.SaysNothing: AF-P03 fail"]
    assert result.summary == "0 broken plugins caught, 0 correct plugins passed, 1 deviations"


def test_a_check_that_nothing_proves_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in MODULES:
        module = __import__(f"alpha_forge_sdk.conformance.zoo.{name}", fromlist=["BROKEN"])
        monkeypatch.setattr(module, "BROKEN", ())
        monkeypatch.setattr(module, "CORRECT", ())
    result = selftest()
    assert any(text.startswith("no broken plugin proves AF-P01") for text in result.gaps)


def test_junit_of_a_good_zoo_is_well_formed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(params, "BROKEN", ())
    monkeypatch.setattr(params, "CORRECT", (case_for(Change),))
    root = ElementTree.fromstring(report.as_junit(selftest(["params"]).as_verdicts()))
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("1", "0", "0")
    assert issubclass(case_for(Change), FeatureConformance)
