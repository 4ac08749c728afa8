"""The command line as a whole: lazy commands, help, and errors as exit codes."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import click
import pytest
from click.testing import CliRunner, Result

from alpha_forge.cli import COMMANDS, main
from alpha_forge.cli.common import config_argument, format_option, json_out, set_option
from alpha_forge.contracts.errors import AlphaForgeError, SourceError, UsageError
from alpha_forge.dsl import parse


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, prog_name="alpha_forge")


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """A command whose ``action`` a test chooses."""
    chosen: dict[str, object] = {"action": lambda: None}

    @click.command()
    @config_argument
    @set_option
    @format_option()
    def command(config: object, overrides: tuple[str, ...], form: str) -> object:
        """Probe."""
        chosen.update(config=config, overrides=overrides, form=form)
        return chosen["action"]()  # type: ignore[operator]

    module = ModuleType("alpha_forge_cli_probe")
    module.command = command  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "alpha_forge_cli_probe", module)
    monkeypatch.setitem(COMMANDS, "probe", ("alpha_forge_cli_probe:command", "Probe."))
    return chosen


def raising(error: BaseException) -> object:
    def action() -> None:
        raise error

    return action


def test_help_names_every_command_without_importing_any() -> None:
    code = (
        "import sys\nfrom alpha_forge.cli import main\n"
        "try:\n    main(['-h'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "print([m for m in sys.modules if m.startswith('alpha_forge.cli.')], file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert all(name in result.stdout for name in ("signal", "check", "plan", "train", "plugins", "sandbox"))
    assert result.stderr.strip() == "['alpha_forge.cli.common']"


@pytest.mark.parametrize("arguments", [("-h",), ("--help",), ("plugins", "-h"), ("plugins", "list", "-h")])
def test_help_is_everywhere(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.exit_code == 0
    assert "Usage: alpha_forge" in result.stdout


def test_the_version() -> None:
    assert run("--version").stdout.startswith("alpha_forge, version ")


def test_options_reach_the_command(probe: dict[str, object]) -> None:
    assert run("probe", "c.yaml", "--set", "a=1", "--set", "b=2", "--format", "json").exit_code == 0
    assert (str(probe["config"]), probe["overrides"], probe["form"]) == ("c.yaml", ("a=1", "b=2"), "json")


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (1, 1), ("text", 0)])
def test_a_whole_number_that_a_command_returns_is_the_exit_code(
    probe: dict[str, object], returned: object, code: int
) -> None:
    probe["action"] = lambda: returned
    assert run("probe", "c.yaml").exit_code == code


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (UsageError("AF1011", "wrong", "so"), 2, "error[AF1011]: wrong\nhelp: so\n"),
        (SourceError("AF5001", "gone"), 3, "error[AF5001]: gone\n"),
        (
            ValueError("odd\nmore"),
            3,
            "error[AF9001]: unexpected ValueError: odd\nhelp: set ALPHA_FORGE_DEBUG=1",
        ),
        (click.UsageError("bad"), 2, "Error: bad\n"),
        (click.FileError("f", "bad"), 2, "bad"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_errors_are_one_text_on_stderr_and_an_exit_code(
    probe: dict[str, object], error: BaseException, code: int, text: str
) -> None:
    probe["action"] = raising(error)
    result = run("probe", "c.yaml")
    assert result.exit_code == code
    assert text in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


def test_a_configurations_mistakes_are_all_shown(probe: dict[str, object]) -> None:
    diagnostics = parse("nam: x\nusing: 5\n", "c.yaml")[1]
    probe["action"] = diagnostics.raise_if_any
    result = run("probe", "c.yaml")
    assert result.exit_code == 2
    assert (
        "c.yaml:1:1: error[AF2001]: unknown key 'nam'\n    nam: x\n    ^\nhelp: did you mean 'name'?"
        in result.stderr
    )
    assert "c.yaml:2:8: error[AF2003]" in result.stderr


def test_with_json_errors_are_json_on_stdout(probe: dict[str, object]) -> None:
    diagnostics = parse("nam: x\nusing: 5\n", "c.yaml")[1]
    probe["action"] = diagnostics.raise_if_any
    result = run("probe", "c.yaml", "--format", "json")
    assert result.exit_code == 2
    errors = json.loads(result.stdout)["errors"]
    assert [set(error) for error in errors] == [
        {"code", "message", "path", "file", "line", "column", "help"}
    ] * len(errors)
    assert (errors[0]["code"], errors[0]["line"]) <= (errors[1]["code"], errors[1]["line"])
    assert {error["code"] for error in errors} >= {"AF2001", "AF2003"}


def test_with_json_an_error_without_a_place_has_nulls(probe: dict[str, object]) -> None:
    probe["action"] = raising(AlphaForgeError("AF5001", "gone", "wait"))
    result = run("probe", "c.yaml", "--format", "json")
    assert result.exit_code == 3
    assert json.loads(result.stdout)["errors"] == [
        {"code": "AF5001", "message": "gone", "path": None, "file": None, "line": None, "column": None, "help": "wait"}
    ]  # fmt: skip


def test_the_traceback_is_there_when_asked_for(
    probe: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALPHA_FORGE_DEBUG", "1")
    probe["action"] = raising(ValueError("odd"))
    assert "Traceback (most recent call last)" in run("probe", "c.yaml").stderr


def test_an_unknown_command_says_what_was_meant() -> None:
    result = run("plugin")
    assert result.exit_code == 2
    assert "did you mean 'plugins'?" in result.stderr


def test_a_reader_that_goes_away_is_no_error() -> None:
    code = "from alpha_forge.cli import main; main(['plugins', 'list', '--format', 'json'])"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.close()
        assert child.stderr is not None
        assert b"Traceback" not in child.stderr.read()


def test_a_full_disk_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "from alpha_forge.cli import main; main(['plugins', 'list'])"
    with open("/dev/full", "w") as full:
        result = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True)
    assert result.returncode == 3
    assert "No space left" in result.stderr


def test_json_is_the_same_in_any_locale(capsys: pytest.CaptureFixture[str]) -> None:
    json_out({"a": "é …"})
    assert capsys.readouterr().out == '{\n  "a": "\\u00e9 \\u2026"\n}\n'


def test_a_check_leaves_garbage_collection_as_it_was(tmp_path: Path) -> None:
    """Whatever comes of it: who calls the command from a program of its own has memory to keep."""
    broken = tmp_path / "broken.yaml"
    broken.write_text("name: [")
    for was in (True, False):
        (gc.enable if was else gc.disable)()
        try:
            assert run("check", str(broken)).exit_code == 2
            assert gc.isenabled() is was
        finally:
            gc.enable()
