"""Discovery: what one pack does wrong is its own cause, and nobody else's trouble."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint

import pytest
from pack_support import SINK, Site, hooks

from alpha_forge.registry import Catalogue, PackRecord, PluginRecord, discover

GOOD = hooks(alpha_forge_sinks="{'avro': 'acme_pack.avro:AvroSink'}")


def pack(catalogue: Catalogue, name: str) -> PackRecord:
    return next(p for p in catalogue.packs if p.name == name)


def plugin(catalogue: Catalogue, name: str, of: str = "acme") -> PluginRecord:
    return next(p for p in catalogue.plugins if p.name == name and p.pack == of)


def test_a_pack_is_found_with_its_distribution_and_summaries_without_importing_its_plugins(
    site: Site,
) -> None:
    site.pack("acme", GOOD, distribution="Acme-Sinks", avro=SINK)
    catalogue = discover()
    assert pack(catalogue, "acme") == PackRecord("acme", "Acme-Sinks", "1.2.3", "ok", "")
    assert plugin(catalogue, "sinks.avro") == PluginRecord(
        "sinks.avro", "sinks", "acme", "Acme-Sinks", "1.2.3", "ok", "", "Writes Avro.",
        "acme_pack.avro:AvroSink",
    )  # fmt: skip
    assert "acme_pack.avro" not in sys.modules


@pytest.mark.parametrize(
    ("init", "cause"),
    [
        ("raise ValueError('no\\nsecond line')", "ValueError: no (acme_pack/__init__.py:1)"),
        ("import nowhere_to_be_found", "ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        ("import sys\nsys.exit(7)", "SystemExit: 7"),
        ("raise BaseException('base')", "BaseException: base"),
        ("def broken(:", "SyntaxError"),
        (
            "class Mute(Exception):\n    def __str__(self):\n        raise RuntimeError\nraise Mute",
            "its message can't be read",
        ),
        (hooks(alpha_forge_sinks="1 / 0"), "ZeroDivisionError: division by zero"),
        (hooks(alpha_forge_sinks="None"), "alpha_forge_sinks returned nothing"),
        (hooks(alpha_forge_sinks="['avro']"), "alpha_forge_sinks returned a list"),
        (hooks(alpha_forge_sinks="{1: 'a:b'}"), "names a plugin 1"),
        (hooks(alpha_forge_sinks="{'sinks.avro': 'a:b'}"), "names a plugin 'sinks.avro'"),
        (hooks(alpha_forge_conformance="{'sinks.x': 5}"), "alpha_forge_conformance returned 'sinks.x'"),
        (hooks(alpha_forge_sink="{}"), "no hook 'alpha_forge_sink'; did you mean 'alpha_forge_sinks'?"),
        (hooks(acme_things="{}"), "no hook 'acme_things'; the hooks are alpha_forge_data_sources, "),
        ("def alpha_forge_sinks():\n    return {}", "alpha_forge_sinks is not marked with @hookimpl"),
        (
            "def alpha_forge_snks():\n    return {}",
            "did you mean 'alpha_forge_sinks' (marked with @hookimpl)?",
        ),
        (
            "from alpha_forge_sdk import hookimpl\n@hookimpl\ndef alpha_forge_sinks(config):\n    return {}",
            "alpha_forge_sinks",
        ),
        (
            "from alpha_forge_sdk import hookimpl\n@hookimpl(wrapper=True)\n"
            "def alpha_forge_sinks():\n    return (yield)",
            "hook alpha_forge_sinks is a wrapper",
        ),
        (
            hooks(alpha_forge_sinks="{'x': 'a:b'}")
            + "\n@hookimpl(specname='alpha_forge_sinks')\ndef more():\n    return {'x': 'c:d'}\n",
            "two of its hooks give 'sinks.x'",
        ),
    ],
)
def test_a_broken_pack_is_listed_with_its_cause_and_breaks_no_other(
    site: Site, init: str, cause: str
) -> None:
    site.pack("acme", init)
    site.pack("other", hooks(alpha_forge_sinks="{'ndjson': 'other_pack.sink:AvroSink'}"), sink=SINK)
    catalogue = discover()
    assert pack(catalogue, "acme").status == "broken"
    assert cause in pack(catalogue, "acme").cause
    assert "\n" not in pack(catalogue, "acme").cause
    assert not [p for p in catalogue.plugins if p.pack == "acme"]
    assert plugin(catalogue, "sinks.ndjson", of="other").status == "ok"
    assert pack(catalogue, "shared").status == "ok"


def test_an_interrupt_during_an_import_is_no_fault_of_the_pack(site: Site) -> None:
    site.pack("acme", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        discover()


@pytest.mark.parametrize(
    ("target", "cause"),
    [
        ("'acme_pack.nowhere:Sink'", "there is no module 'acme_pack.nowhere'"),
        ("'acme_pack.avro.deeper:Sink'", "there is no module 'acme_pack.avro.deeper'"),
        ("'nowhere_at_all.x:Sink'", "there is no module 'nowhere_at_all.x'"),
        ("'acme_pack.avro:Avro'", "module 'acme_pack.avro' has no 'Avro'"),
        ("'acme_pack.wrong:Sink'", "SyntaxError"),
        ("'acme_pack.avro'", "'module:attribute'"),
        ("'acme_pack.avro:'", "'module:attribute'"),
        ("7", "must be a text 'module:attribute', not 7"),
    ],
)
def test_a_target_that_does_not_exist_breaks_its_plugin_alone(site: Site, target: str, cause: str) -> None:
    init = hooks(alpha_forge_sinks=f"{{'bad': {target}, 'avro': 'acme_pack.avro:AvroSink'}}")
    site.pack("acme", init, avro=SINK, wrong="class Sink(:")
    catalogue = discover()
    assert plugin(catalogue, "sinks.bad").status == "broken"
    assert cause in plugin(catalogue, "sinks.bad").cause
    assert plugin(catalogue, "sinks.avro").status == "ok"
    assert pack(catalogue, "acme").status == "ok"


def test_a_name_given_by_two_packs_is_duplicate_in_both(site: Site) -> None:
    site.pack("acme", GOOD, avro=SINK)
    site.pack("other", GOOD.replace("acme_pack", "other_pack"), avro=SINK)
    catalogue = discover()
    assert plugin(catalogue, "sinks.avro").status == "duplicate"
    assert plugin(catalogue, "sinks.avro", of="other").status == "duplicate"
    assert "also given by other" in plugin(catalogue, "sinks.avro").cause
    assert "acme:sinks.avro" in plugin(catalogue, "sinks.avro").cause


@pytest.mark.parametrize(
    ("requirement", "status"),
    [
        ("alpha-forge", "ok"),
        ("alpha-forge>=0.1", "ok"),
        ("Alpha_Forge[torch] (>=0.1,<2)", "ok"),
        ("alpha-forge>=99", "incompatible"),
        ("alpha.forge<0.1", "incompatible"),
        ("alpha-forge>=99; python_version < '3'", "ok"),
        ("alpha-forge>=99; extra == 'next'", "ok"),
        ("alpha-forge-tools>=99", "ok"),
        ("alpha-forge>=>1", "broken"),
    ],
)
def test_a_pack_for_another_version_is_incompatible_and_is_not_imported(
    site: Site, requirement: str, status: str
) -> None:
    site.pack("acme", GOOD, requires=("click", requirement), avro=SINK)
    catalogue = discover(version="0.1.0")
    assert pack(catalogue, "acme").status == status
    assert ("acme_pack" in sys.modules) == (status == "ok")
    if status == "incompatible":
        assert "this is 0.1.0" in pack(catalogue, "acme").cause


def test_a_blocked_pack_is_not_imported(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.pack("acme", "raise SystemExit", avro=SINK)
    monkeypatch.setenv("ALPHA_FORGE_BLOCK", " nothing, acme ")
    assert pack(discover(), "acme").status == "blocked"
    assert "acme_pack" not in sys.modules
    assert pack(discover(block=()), "acme").status == "broken"


def test_a_capability_of_two_distributions_is_duplicate_until_one_is_blocked(site: Site) -> None:
    site.pack("acme", GOOD, distribution="acme-one", avro=SINK)
    site.pack("acme", GOOD, distribution="acme-two", module="acme_two", avro=SINK)
    catalogue = discover()
    assert [p.status for p in catalogue.packs if p.name == "acme"] == ["duplicate", "duplicate"]
    assert "acme-one, acme-two" in pack(catalogue, "acme").cause
    assert "acme_pack" not in sys.modules
    statuses = {p.distribution: p.status for p in discover(block=("acme-two",)).packs if p.name == "acme"}
    assert statuses == {"acme-one": "ok", "acme-two": "blocked"}


def test_with_capabilities_only_their_packs_are_imported(site: Site) -> None:
    site.pack("acme", GOOD, avro=SINK)
    site.pack("other", "raise SystemExit", avro=SINK)
    catalogue = discover(["acme"])
    assert [p.name for p in catalogue.packs] == ["acme"]
    assert {p.pack for p in catalogue.plugins} == {"acme"}
    assert set(catalogue.installed) >= {"acme", "other", "shared", "middlefreq"}
    assert "other_pack" not in sys.modules


def test_of_a_distribution_that_is_there_twice_the_first_counts(
    site: Site, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.pack("acme", GOOD, version="1.0", avro=SINK)
    nearer = tmp_path_factory.mktemp("nearer")
    Site(nearer).metadata("acme-dist", "2.0", "[alpha_forge]\nacme = acme_pack\n")
    monkeypatch.syspath_prepend(str(nearer))
    assert [p.version for p in discover().packs if p.name == "acme"] == ["2.0"]


@pytest.mark.parametrize("entry_points", ["[alpha_forge]\nacme\n", "[alpha_forge]\nacme = not a module!\n"])
def test_a_nonsensical_entry_point_is_a_broken_pack(site: Site, entry_points: str) -> None:
    site.metadata("acme-dist", "1.0", entry_points)
    assert pack(discover(), "acme").status == "broken"
    assert "does not name a module" in pack(discover(), "acme").cause


def test_metadata_that_is_no_text_is_a_broken_pack(site: Site) -> None:
    folder = site.metadata("acme-dist", "1.0", "")
    (folder / "entry_points.txt").write_bytes(b"[alpha_forge]\nacme = \xff\n")
    catalogue = discover()
    assert "can't be read" in pack(catalogue, "acme_dist").cause
    assert pack(catalogue, "shared").status == "ok"


def test_conformance_cases_are_kept_by_plugin(site: Site) -> None:
    init = GOOD + hooks(alpha_forge_conformance="{'sinks.avro': 'acme_pack.kit:Case'}")
    site.pack("acme", init, avro=SINK)
    assert discover().conformance["sinks.avro"] == (("acme", "acme_pack.kit:Case"),)


def test_entry_points_can_be_handed_in_and_may_name_an_object(site: Site) -> None:
    site.pack("unused", "class Pack:\n    pass\n" + GOOD, module="acme_pack", avro=SINK)
    catalogue = discover(entry_points=[EntryPoint("acme", "acme_pack", "alpha_forge")])
    assert [(p.name, p.distribution, p.status) for p in catalogue.packs] == [("acme", "", "ok")]
    assert [p.name for p in catalogue.plugins] == ["sinks.avro"]


def test_what_a_pack_prints_leaves_stdout_clean(site: Site) -> None:
    noise = "import os, sys\nprint('printed')\nsys.__stdout__.write('written')\nos.system('echo child')\n"
    site.pack("acme", noise + GOOD, avro=SINK)
    listed = site.listed()
    assert "sinks.avro" in [p["name"] for p in listed["plugins"]]


def test_a_pack_that_exits_in_a_real_process_is_listed(site: Site) -> None:
    site.pack("acme", "import sys\nsys.exit(0)", avro=SINK)
    listed = site.listed()
    assert {p["name"]: p["status"] for p in listed["packs"]} == {
        "acme": "broken", "middlefreq": "ok", "shared": "ok",
    }  # fmt: skip


def test_the_environment_blocks_built_ins_too(site: Site) -> None:
    listed = site.listed(ALPHA_FORGE_BLOCK="middlefreq")
    assert {p["name"]: p["status"] for p in listed["packs"]} == {"middlefreq": "blocked", "shared": "ok"}
    assert {p["pack"] for p in listed["plugins"]} == {"shared"}
