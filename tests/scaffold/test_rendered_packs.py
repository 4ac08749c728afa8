"""Every pack that a template can make: built, installed, tested, linted, typed; and seen red once it is broken."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from alpha_forge_sdk.scaffold import NewPack, new_pack, options_of
from tests.scaffold.combinations import COMBINATIONS, OTHERS, SINKS, Combination
from tests.scaffold.layered import Jobs, Layer

ROOT = Path(__file__).parents[2]


def worked_on(combination: Combination, made: NewPack, caches: Path) -> Layer:
    """Build, install, test, lint; then break it and test again."""
    layer = Layer(made.folder, made.folder.parent)
    layer.install()
    layer.test("tests")
    layer.lint(caches)
    if not combination.needs_training:
        layer.check_readme()
    if combination.validated:
        layer.validate(made.plugin)
    defect = combination.defect
    file = layer.lib / made.package / defect.file
    source = file.read_text("utf-8")
    assert source.count(defect.was) == 1, f"{defect.was!r} is not once in {file}"
    file.write_text(source.replace(defect.was, defect.becomes), "utf-8")
    layer.test("broken", "-k", combination.check)
    return layer


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jobs]:
    jobs = Jobs()
    caches = tmp_path_factory.mktemp("caches")
    for combination in COMBINATIONS:
        # Here and not in the job: cookiecutter changes the working directory of the whole process.
        folder = tmp_path_factory.mktemp(combination.id)
        made = new_pack(combination.kind, combination.name, folder, combination.options)
        jobs.submit(combination.id, lambda c=combination, m=made: worked_on(c, m, caches))
    yield jobs
    jobs.close()


def test_no_combination_is_left_out() -> None:
    options = {key: choices for key, choices in options_of("sinks").items() if len(choices) > 1}
    wanted = {frozenset(zip(options, chosen, strict=True)) for chosen in product(*options.values())}
    assert {frozenset(c.options.items()) for c in SINKS} == wanted
    assert len(SINKS) == len(wanted) == 8
    for other in OTHERS:
        assert all(len(choices) == 1 for choices in options_of(other.kind).values())
    assert {c.kind for c in COMBINATIONS} == {"data", "transforms", "features", "models", "sinks"}


@pytest.mark.parametrize("combination", COMBINATIONS, ids=lambda c: c.id)
def test_a_new_pack_passes_its_tests_lint_and_types(jobs: Jobs, combination: Combination) -> None:
    layer = jobs[combination.id]
    for step in combination.green:
        assert layer.steps[step].code == 0, str(layer.steps[step])
    passed = re.search(r"(\d+) passed", layer.steps["tests"].output)
    assert passed is not None
    assert int(passed[1]) >= 20


@pytest.mark.parametrize("combination", COMBINATIONS, ids=lambda c: c.id)
def test_a_pack_that_is_then_broken_is_seen_red(jobs: Jobs, combination: Combination) -> None:
    broken = jobs[combination.id].steps["broken"]
    assert broken.code == 1, str(broken)
    failed = {m[1] for m in re.finditer(r"^FAILED .*\[(AF-\w+) ", broken.output, re.MULTILINE)}
    assert failed == {combination.check}, str(broken)


@pytest.mark.parametrize("combination", SINKS, ids=lambda c: c.id)
def test_plain_cookiecutter_makes_the_same_pack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, combination: Combination
) -> None:
    from cookiecutter.main import cookiecutter

    monkeypatch.setenv("HOME", str(tmp_path))
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps({key: str(tmp_path / key) for key in ("replay_dir", "cookiecutters_dir")}))
    plain = cookiecutter(
        str(ROOT / "cookiecutter-sink"),
        no_input=True,
        extra_context={"name": combination.name, **combination.options},
        output_dir=str(tmp_path / "plain"),
        config_file=str(config),
    )
    ours = new_pack("sinks", combination.name, tmp_path / "ours", combination.options)
    assert contents(Path(plain)) == contents(ours.folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_wheel_has_every_template(tmp_path: Path) -> None:
    """Built from the checkout and from the source distribution; and what is installed from it needs no checkout."""
    sources = tmp_path / "checkout"
    for name in ("cookiecutter-sink", "core", "sdk", "plugins_builtin"):
        shutil.copytree(ROOT / name, sources / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE", "CHANGELOG.md"):
        shutil.copy(ROOT / name, sources / name)
    layer = Layer(sources, tmp_path / "direct")
    layer.install()
    packed = layer.run("sdist", sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", tmp_path)
    assert packed.code == 0, str(packed)
    shutil.unpack_archive(next(tmp_path.glob("*.tar.gz")), tmp_path / "unpacked", filter="data")
    again = Layer(next((tmp_path / "unpacked").iterdir()), tmp_path / "again")
    again.install()
    assert contents(layer.lib / "alpha_forge_sdk").keys() == contents(again.lib / "alpha_forge_sdk").keys()
    shutil.rmtree(sources)
    layer.project = tmp_path
    program = (
        "import alpha_forge_sdk, sys; from alpha_forge_sdk.scaffold import new_pack; from pathlib import Path\n"
        f"assert alpha_forge_sdk.__file__.startswith({str(layer.lib)!r}), alpha_forge_sdk.__file__\n"
        "for kind in ('data', 'transforms', 'features', 'models', 'sinks'):\n"
        "    made = new_pack(kind, 'my_own', Path('made') / kind)\n"
        "    assert 'pyproject.toml' in made.files and len(made.files) >= 10, made\n"
    )
    made = layer.run("render", sys.executable, "-c", program)
    assert made.code == 0, str(made)
