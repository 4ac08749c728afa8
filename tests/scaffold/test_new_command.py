"""`alpha_forge plugins new`: what it refuses, with which code, and that it leaves nothing behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from alpha_forge.cli import main
from alpha_forge_sdk.scaffold import ScaffoldError, new_pack
from alpha_forge_sdk.scaffold.names import check_name, check_package, check_text

ROOT = Path(__file__).parents[2]
HOOK = ROOT / "cookiecutter-sink" / "hooks" / "pre_gen_project.py"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["plugins", "new", *arguments])


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, and an empty folder to work in."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return home


@pytest.mark.parametrize("kind", ["data", "transform", "feature", "model", "sink", "sinks", "features"])
def test_every_kind_has_its_pack(kind: str, home: Path) -> None:
    result = run(kind, "acme", "--format", "json")
    assert result.exit_code == 0, result.output
    made = json.loads(result.stdout)
    assert made["plugin"].endswith(".acme")
    for file in (
        "pyproject.toml",
        "README.md",
        "LICENSE",
        ".github/workflows/test.yml",
        "src/alpha_forge_acme/py.typed",
    ):
        assert file in made["files"]
    assert all(Path(made["folder"], file).is_file() for file in made["files"])
    assert [p.name for p in Path().iterdir()] == ["alpha-forge-acme"]
    assert list(home.iterdir()) == []


def test_the_text_says_what_to_do_next() -> None:
    result = run(
        "sink", "acme", "--output", "packs", "--option", "style=async", "--option", "author=Zoë O'Neil"
    )
    assert result.exit_code == 0, result.output
    assert "packs/alpha-forge-acme  (plugin sinks.acme, distribution alpha-forge-acme)" in result.stdout
    assert "pip install -e '.[dev]'" in result.stdout
    assert "async def emit_batch" in Path("packs/alpha-forge-acme/src/alpha_forge_acme/sink.py").read_text(
        "utf-8"
    )
    assert "Zoë O'Neil" in Path("packs/alpha-forge-acme/pyproject.toml").read_text("utf-8")


def test_distribution_and_package_can_be_named() -> None:
    options = ("--option", "distribution=acme-sinks", "--option", "package=acme")
    assert run("sink", "kafka", *options).exit_code == 0
    assert 'kafka = "acme"' in Path("acme-sinks/pyproject.toml").read_text("utf-8")
    assert "sinks.kafka" in Path("acme-sinks/src/acme/__init__.py").read_text("utf-8")


BAD_NAMES = [
    "",
    "Parquet",
    "9lives",
    "a__b",
    "_a",
    "a_",
    "a-b",
    "a b",
    "class",
    "ä",
    "x" * 31,
    "../x",
    "{{x}}",
    "a\n",
]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        *((("sink", "--", name), "AF9010", "can't be the name of a plugin") for name in BAD_NAMES),
        (("sink", "a", "--option", "distribution=Acme"), "AF9010", "name of a distribution"),
        (("sink", "a", "--option", "package=a-b"), "AF9010", "name of a package"),
        (("sink", "a", "--option", 'description=say "hi"'), "AF9010", "the description is one line"),
        (("sink", "a", "--option", "author="), "AF9010", "the author is one line"),
        (("sink", "csv_append"), "AF9011", "by the pack 'shared' already"),
        (("feature", "middlefreq"), "AF9011", "a pack 'middlefreq' is installed already"),
        (("sink", "sdk"), "AF9011", "alpha_forge_sdk"),
        (("sink", "a", "--option", "package=json"), "AF9011", "would hide another"),
        (("sink", "a", "--option", "stile=async"), "AF9012", "did you mean 'style'?"),
        (("feature", "a", "--option", "style=async"), "AF9012", "no option 'style'"),
        (("sink", "a", "--option", "style=fast"), "AF9012", "choose from sync, async"),
        (("sink", "a", "--output", "/dev/null"), "AF9014", "can't be written"),
    ],
)
def test_what_makes_no_pack_is_refused(arguments: tuple[str, ...], code: str, says: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert f"error[{code}]" in result.stderr
    assert says in result.stderr
    assert list(Path().iterdir()) == []


def test_an_option_without_a_value_is_wrong_usage() -> None:
    result = run("sink", "a", "--option", "style")
    assert result.exit_code == 2
    assert "KEY=VALUE" in result.stderr


def test_a_misspelt_name_is_mended() -> None:
    assert "for example 'parquet_sink'" in run("sink", "ParquetSink").stderr
    assert "for example 'parquet_sink'" in run("sink", "parquet-sink").stderr


@pytest.mark.parametrize("what", ["folder", "file", "dangling link"])
def test_nothing_is_overwritten(what: str) -> None:
    target = Path("alpha-forge-acme")
    if what == "folder":
        target.mkdir()
    elif what == "file":
        target.write_text("mine")
    else:
        target.symlink_to("nowhere")
    result = run("sink", "acme")
    assert result.exit_code == 2
    assert "error[AF9013]: alpha-forge-acme exists already" in result.stderr
    assert [p.name for p in Path().iterdir()] == ["alpha-forge-acme"]
    assert not target.is_dir() or list(target.iterdir()) == []


def test_without_cookiecutter_the_extra_is_named() -> None:
    program = "import sys; sys.modules['cookiecutter'] = None; from alpha_forge.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "plugins", "new", "sink", "acme"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error[AF3008]")
    assert "pip install 'alpha-forge[sdk]'" in done.stderr
    assert list(Path().iterdir()) == []


def test_a_template_that_fails_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hook refuses what we did not: as if the rules of the two had come apart."""
    monkeypatch.setattr("alpha_forge_sdk.scaffold.packs.check_text", lambda key, text: None)
    with pytest.raises(ScaffoldError) as error:
        new_pack("sinks", "acme", options={"description": "two\nlines"})
    assert error.value.code == "AF9015"
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("name", [*(n for n in BAD_NAMES if n), "good", "good_name", "x" * 30, "a1_b2"])
def test_the_templates_hook_has_the_same_rules(name: str) -> None:
    """Plain cookiecutter knows nothing of Alpha Forge: its hook says the same in other words."""
    distribution, package = f"d-{name}".replace("_", "-"), f"d_{name}".replace("-", "_")
    for key, text in (("description", name), ("author", "x")):
        hooked = _hook(name, distribution, package, **{"description": "x", "author": "x", key: text})
        assert hooked == _accepted(name, distribution, package, key, text)


def _accepted(name: str, distribution: str, package: str, key: str, text: str) -> bool:
    try:
        check_name("sinks", name)
        check_package(distribution, package)
        check_text(key, text)
    except ScaffoldError:
        return False
    return True


def _hook(name: str, distribution: str, package: str, **texts: str) -> bool:
    from jinja2 import Environment

    context = {"name": name, "distribution": distribution, "package": package, **texts}
    source = Environment().from_string(HOOK.read_text("utf-8")).render(cookiecutter=context)
    try:
        exec(compile(source, str(HOOK), "exec"), {})
    except SystemExit:
        return False
    return True


def test_help_costs_no_cookiecutter() -> None:
    program = (
        "import sys; from alpha_forge.cli import main\n"
        "main(['plugins', 'new', '-h'], standalone_mode=False); assert 'cookiecutter' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True).returncode == 0
