"""A pack on disk with its conformance test, run by pytest as its author would."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conformance.test_validate import FEATURE

TEST = """
from acme import Last
from alpha_forge_sdk.conformance import FeatureConformance


class TestLast(FeatureConformance):
    plugin = Last
"""


def run_pytest(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
    (tmp_path / "acme.py").write_text(FEATURE)
    (tmp_path / "test_last.py").write_text(TEST)
    return tmp_path


def test_one_green_test_for_each_check_with_its_id_in_the_name(pack: Path) -> None:
    from alpha_forge_sdk.conformance.suite import checks_of

    done = run_pytest(pack, "-v")
    assert done.returncode == 0, done.stdout
    for check in checks_of("features"):
        assert f"test_conformance[{check.id} " in done.stdout
    assert "failed" not in done.stdout


def test_a_broken_plugin_is_red_by_its_check_and_says_how_to_mend_it(pack: Path) -> None:
    (pack / "acme.py").write_text(FEATURE.replace(', description="nothing"', ""))
    done = run_pytest(pack, "-rf")
    assert done.returncode == 1
    assert "promised:" in done.stdout
    assert "mend:" in done.stdout
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    assert len(failed) == 1
    assert "[AF-P05 " in failed[0]


def test_one_check_can_be_run_alone_by_its_id(pack: Path) -> None:
    done = run_pytest(pack, "-k", "AF-P05")
    assert "1 passed" in done.stdout
