"""The example packs, as their authors would: each built, installed, and held to its own tests, lint and types."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.scaffold.layered import GREEN, TOOLS, Jobs, Layer

PACKS = Path(__file__).parents[2] / "examples" / "plugin_packs"
NAMES = {
    "alpha-forge-redis-streams": ("redis_streams", ("sinks.redis_streams",)),
    "alpha-forge-duckdb": ("duckdb", ("sinks.duckdb",)),
    "alpha-forge-extra-features": (
        "extra",
        ("features.donchian", "features.drawdown", "features.excess_return", "features.fading_volatility"),
    ),
}
"""Distribution → pack, and its plugins."""
VALIDATED = ("alpha-forge-extra-features",)
"""These are also held to `plugins validate`: the same checks once more, so that not all are."""
HAS_REDIS = shutil.which("redis-server") is not None


def worked_on(layer: Layer, caches: Path) -> Layer:
    layer.install()
    layer.test("tests", "-rs")
    layer.lint(caches)
    layer.check_readme()
    layer.run("list", TOOLS / "alpha_forge", "plugins", "list", "--format", "json")
    if layer.project.name in VALIDATED:
        layer.validate(NAMES[layer.project.name][0])
    return layer


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jobs]:
    jobs = Jobs()
    caches = tmp_path_factory.mktemp("caches")
    for name in NAMES:
        root = tmp_path_factory.mktemp(name)
        # A copy: its tests leave caches behind.
        project = shutil.copytree(
            PACKS / name, root / name, ignore=shutil.ignore_patterns(".*_cache", ".hypothesis")
        )
        layer = Layer(project, root)
        jobs.submit(name, lambda layer=layer: worked_on(layer, caches))
    yield jobs
    jobs.close()


def test_no_pack_is_left_out() -> None:
    assert {p.parent.name for p in PACKS.glob("*/pyproject.toml")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_an_example_pack_passes_its_tests_lint_and_types(jobs: Jobs, name: str) -> None:
    layer = jobs[name]
    for step in (*GREEN, "check"):
        assert layer.steps[step].code == 0, str(layer.steps[step])
    listed = json.loads(layer.steps["list"].output)
    pack, plugins = NAMES[name]
    assert [p["status"] for p in listed["packs"] if p["name"] == pack] == ["ok"]
    found = {p["name"]: (p["status"], p["distribution"]) for p in listed["plugins"] if p["pack"] == pack}
    assert found == dict.fromkeys(plugins, ("ok", name))


@pytest.mark.parametrize("name", VALIDATED)
def test_an_example_pack_is_validated_without_its_tests(jobs: Jobs, name: str) -> None:
    step = jobs[name].steps["validate"]
    assert step.code == 0, str(step)


def test_the_redis_pack_is_judged_against_a_server(jobs: Jobs) -> None:
    tests = jobs["alpha-forge-redis-streams"].steps["tests"]
    if not HAS_REDIS:
        assert "redis-server is not installed here" in tests.output, str(tests)
        pytest.skip("redis-server is not installed here: .ci/run installs it where it may")
    passed = re.search(r"(\d+) passed", tests.output)
    assert passed is not None
    assert int(passed[1]) >= 40, str(tests)


def test_a_machine_without_redis_skips_what_needs_it(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """And says so: a pack must not be red, nor seem proved, for want of a server."""
    layer = jobs["alpha-forge-redis-streams"]
    monkeypatch.setenv("PATH", "/nowhere")
    step = layer.test("without redis", "-rs")
    assert step.code == 0, str(step)
    assert "redis-server is not installed here" in step.output


@pytest.mark.parametrize("name", NAMES)
def test_an_example_pack_is_built_on_the_sdk_alone(name: str) -> None:
    for file in (PACKS / name).rglob("*.py"):
        found = re.findall(
            r"^\s*(?:from|import) (alpha_forge|alpha_forge_plugins)\b", file.read_text("utf-8"), re.M
        )
        assert not found, f"{file.name} imports {found}"
