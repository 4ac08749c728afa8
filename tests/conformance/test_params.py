"""The AF-P checks: the zoo's specimens each caught by its own, and the judgements that have edges of their own."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field, SecretStr

from alpha_forge.contracts.params import Params as BaseParams
from alpha_forge.contracts.plugin import Sink
from alpha_forge_sdk.conformance import SinkConformance
from alpha_forge_sdk.conformance.import_checks import HEAVY, Import, heavy_ones
from alpha_forge_sdk.conformance.instance_checks import sounds_secret
from alpha_forge_sdk.conformance.params_bounds import candidates
from alpha_forge_sdk.conformance.runner import run_case
from alpha_forge_sdk.conformance.selftest import SelfTest, selftest
from alpha_forge_sdk.conformance.suite import checks_of
from alpha_forge_sdk.conformance.watching import watched
from alpha_forge_sdk.conformance.zoo import params as zoo


@pytest.fixture(scope="module")
def result() -> SelfTest:
    return selftest(["params"])


@pytest.mark.parametrize("place", range(len(zoo.BROKEN)), ids=[s.case.__name__ for s in zoo.BROKEN])
def test_broken_plugin_is_caught_by_its_check_alone(result: SelfTest, place: int) -> None:
    finding = result.findings[place]
    assert not finding.deviations
    assert finding.check == zoo.BROKEN[place].check


@pytest.mark.parametrize("place", range(len(zoo.CORRECT)), ids=[c.__name__ for c in zoo.CORRECT])
def test_correct_plugin_passes(result: SelfTest, place: int) -> None:
    assert not result.findings[len(zoo.BROKEN) + place].deviations


def test_every_check_has_its_broken_plugin() -> None:
    checks = {c.id for c in checks_of("features") if c.id.startswith("AF-P")}
    assert {s.check for s in zoo.BROKEN} == checks
    assert len(checks) == 17


@pytest.mark.parametrize("kind", ["data", "transforms", "features", "models", "sinks"])
def test_every_kind_has_all_of_them(kind: str) -> None:
    assert [c.id for c in checks_of(kind)][:17] == [f"AF-P{n:02}" for n in range(1, 18)]


@pytest.mark.parametrize(
    "name",
    ["password", "db_password", "secret", "client_secret", "token", "authToken", "api_key", "key", "apikey"],
)
def test_secret_names(name: str) -> None:
    assert sounds_secret(name)


@pytest.mark.parametrize(
    "name",
    [
        "partition_key",
        "sort_key",
        "dedup_key",
        "keys_path",
        "token_url",
        "secret_name",
        "keyboard",
        "monkey",
        "tokenizer",
    ],
)
def test_names_that_only_sound_secret(name: str) -> None:
    assert not sounds_secret(name)


@pytest.mark.parametrize(
    ("schema", "inside", "outside"),
    [
        ({"type": "integer", "minimum": 2, "maximum": 9}, [2, 9], [1, 10]),
        ({"type": "integer", "exclusiveMinimum": 0}, [1], [0]),
        ({"type": "integer", "minimum": 1, "multipleOf": 5}, [5], [0, 16]),
        ({"type": "number", "exclusiveMaximum": 1}, [1 - 1e-6], [1]),
        ({"type": "number", "minimum": 0}, [0], [-5e-324, -1]),
        ({"enum": ["a", "b"], "type": "string"}, ["a", "b"], ["no such choice"]),
        ({"type": "string", "minLength": 2, "maxLength": 3}, [], ["a", "aaaa"]),
        ({"type": "array", "minItems": 1, "maxItems": 2}, [], [[], [7, 7, 7]]),
        ({"type": "integer"}, [], []),
    ],
)
def test_candidates_stand_at_the_bounds(
    schema: dict[str, Any], inside: list[Any], outside: list[Any]
) -> None:
    found = list(candidates(schema, [7]))
    assert [c.value for c in found if c.judged_inside] == inside
    assert [c.value for c in found if not c.judged_inside] == outside


def test_a_heavy_library_within_a_package_is_named() -> None:
    assert heavy_ones(("google", "google.cloud", "torch", "torch.nn", "pandastic")) == [
        "google.cloud",
        "torch",
    ]
    assert "numpy" not in HEAVY, "every plugin's data comes in its arrays"


def test_a_slow_machine_gives_more_time() -> None:
    assert Import(0.1, 0, "", "", (), ()).budget == 0.1
    assert Import(3.0, 0, "", "", (), ()).budget == 1.5


class TestWatching:
    def test_files_sockets_threads_and_environment_are_seen(self, tmp_path: Path) -> None:
        with watched() as deeds:
            (tmp_path / "new").write_text("x")
            (tmp_path / "new").read_text()
            socket.socket().close()
            threading.Thread(target=int, name="helper").start()
            os.environ.get("HOME")
            (tmp_path / "new").exists()
        text = "\n".join(deeds.all)
        for part in (
            "opened",
            "made a socket",
            "started the thread 'helper'",
            "variable 'HOME'",
            "looked at",
        ):
            assert part in text
        assert len(deeds.lasting) == 3

    def test_imports_and_other_threads_are_left_out(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "some_module_of_a_test.py").write_text("import os\nHOME = os.environ.get('HOME')\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        ready, done = threading.Event(), threading.Event()

        def elsewhere() -> None:
            ready.wait(5)
            (tmp_path / "other").write_text("x")
            done.set()

        thread = threading.Thread(target=elsewhere)
        thread.start()
        with watched() as deeds:
            import some_module_of_a_test  # type: ignore[import-not-found]  # noqa: F401

            ready.set()
            done.wait(5)
        thread.join()
        assert deeds.all == []

    def test_nothing_is_left_behind(self) -> None:
        before = (os.stat, threading.Thread.start, type(os.environ).__getitem__)
        with watched():
            pass
        assert (os.stat, threading.Thread.start, type(os.environ).__getitem__) == before


def test_pydantic_errors_of_params_show_no_input() -> None:
    class Params(BaseParams):
        password: SecretStr = Field(description="of the database")
        port: int = Field(description="of the database")

    with pytest.raises(ValueError, match="port") as error:
        Params.model_validate({"password": "hunter2-and-more"})
    assert "hunter2" not in str(error.value)


class Careless(Sink):
    """Stores nothing, but holds its password as a text of its own."""

    class Params(BaseParams):
        password: SecretStr = Field(description="of the database")

    examples = ({"password": "not-a-real-one"},)
    idempotent_by = ("ts",)
    buffer: list[Any] = []  # noqa: RUF012 - the defect itself

    def emit_batch(self, predictions: Any) -> None:
        self.buffer.append(len(predictions))


class CarelessCase(SinkConformance):
    plugin = Careless


def test_a_sink_is_put_to_use_to_see_what_its_class_shares(tmp_path: Path) -> None:
    found = {o.id: o for o in run_case(CarelessCase, tmp_path, ["AF-P15", "AF-P17"])}
    assert found["AF-P15"].status == "pass", found["AF-P15"]
    assert "changed the class's 'buffer'" in found["AF-P17"].detail
