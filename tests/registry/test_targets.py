"""Summaries and existence, read from the source: what is written counts, not what an import would do."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from alpha_forge.registry.targets import Targets

SOURCES = {
    "plain": 'class Thing(Base):\n    """One line."""\n',
    "keyword": 'class Thing(\n    Base,\n    metaclass=M,\n):\n    r"""Raw.\n\n    More.\n    """\n',
    "single": "class Thing:\n    'Single quotes.'\n",
    "without": 'class Thing:\n    def f(self):\n        """Of f."""\n',
    "quoted": '"""\nclass Thing:\n    wrong\n"""\n\nclass Thing:\n    """Right."""\n',
    "only_quoted": '"""\nclass Thing:\n"""\n',
    "prefix": 'class ThingElse:\n    """Wrong."""\n\nclass Thing:\n    """Right."""\n',
    "function": '@feature("x", lookback=1)\ndef Thing(close):\n    """Decorated."""\n',
    "guarded": 'try:\n    import x\nexcept ImportError:\n    class Thing:\n        """Fallback."""\n',
    "assigned": "Thing = make()\n",
    "nested": 'class Outer:\n    class Thing:\n        """Within."""\n',
    "again": 'class Thing:\n    """First."""\n\nclass Thing:\n    """Second."""\n',
    "reexport": "from .plain import Thing\n",
    "renamed": "from targets_case.plain import Thing as Other\n",
    "far": "from math import pi as Thing\n",
    "star": "from math import *\n",
    "lazy": "def __getattr__(name):\n    return 1\n",
    "circle": "from .circle import Thing\n",
    "missing": "class Other:\n    pass\n",
}


@pytest.fixture
def targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Targets:
    package = tmp_path / "targets_case"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    (package / "deep").mkdir()
    (package / "deep" / "__init__.py").write_text("raise SystemExit('imported')")
    (package / "deep" / "plain.py").write_text(SOURCES["plain"])
    for name, source in SOURCES.items():
        (package / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    return Targets()


@pytest.mark.parametrize(
    ("target", "summary"),
    [
        ("plain:Thing", "One line."),
        ("keyword:Thing", "Raw."),
        ("single:Thing", "Single quotes."),
        ("without:Thing", ""),
        ("quoted:Thing", "Right."),
        ("prefix:Thing", "Right."),
        ("function:Thing", "Decorated."),
        ("guarded:Thing", "Fallback."),
        ("assigned:Thing", ""),
        ("nested:Outer.Thing", "Within."),
        ("again:Thing", "Second."),
        ("reexport:Thing", "One line."),
        ("renamed:Other", "One line."),
        ("far:Thing", ""),
        ("star:Thing", ""),
        ("lazy:Thing", ""),
        ("circle:Thing", ""),
        ("deep.plain:Thing", "One line."),
    ],
)
def test_the_summary_is_the_docstrings_first_line(targets: Targets, target: str, summary: str) -> None:
    found = targets.look_up(f"targets_case.{target}")
    assert (found.summary, found.cause) == (summary, "")
    assert "targets_case" not in sys.modules


@pytest.mark.parametrize(
    "target", ["missing:Thing", "only_quoted:Thing", "nested:Thing", "nested:Outer.Other"]
)
def test_a_name_that_the_source_never_binds_is_a_cause(targets: Targets, target: str) -> None:
    assert "has no" in targets.look_up(f"targets_case.{target}").cause


def test_compiled_modules_have_the_benefit_of_the_doubt(targets: Targets) -> None:
    assert targets.look_up("math:Anything") == ("", "")
    assert targets.look_up("_socket:Anything") == ("", "")
