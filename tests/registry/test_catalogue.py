"""The catalogue: which plugin a name means, and what importing one can lead to."""

from __future__ import annotations

import pytest
from pack_support import SINK, Site, hooks

from alpha_forge.contracts.errors import MissingExtraError
from alpha_forge.registry import RegistryError, discover


def sinks(module: str = "acme_pack", **names: str) -> str:
    return hooks(alpha_forge_sinks=str({name: f"{module}.{target}" for name, target in names.items()}))


GOOD = sinks(avro="avro:AvroSink")


def refused(call: object, *arguments: object) -> RegistryError:
    with pytest.raises(RegistryError) as caught:
        call(*arguments)  # type: ignore[operator]
    assert caught.value.exit_code == 2
    return caught.value


def test_a_plugin_is_found_by_name_and_by_pack_and_name_and_loads(site: Site) -> None:
    site.pack("acme", GOOD, avro=SINK)
    catalogue = discover()
    record = catalogue.find("sinks.avro")
    assert record == catalogue.find("acme:sinks.avro", ["acme"])
    assert catalogue.load(record).__name__ == "AvroSink"


def test_a_name_given_twice_is_clear_once_capabilities_or_a_prefix_say_whose(site: Site) -> None:
    site.pack("acme", GOOD, avro=SINK)
    site.pack("other", GOOD.replace("acme_pack", "other_pack"), avro=SINK)
    catalogue = discover()
    error = refused(catalogue.find, "sinks.avro")
    assert (error.code, error.help) == ("AF3004", "say whose: acme:sinks.avro or other:sinks.avro")
    assert refused(catalogue.find, "sinks.avro", ["acme", "other"]).code == "AF3004"
    for record in (catalogue.find("sinks.avro", ["other"]), catalogue.find("other:sinks.avro")):
        assert (record.pack, record.status, record.cause) == ("other", "ok", "")


def test_an_unknown_name_says_what_was_meant(site: Site) -> None:
    site.pack("acme", GOOD, avro=SINK)
    catalogue = discover()
    error = refused(catalogue.find, "features.momentun")
    assert (error.code, error.help) == ("AF3001", "did you mean 'features.momentum'?")
    error = refused(catalogue.find, "sinks.avro", ["shared"])
    assert (error.code, error.help) == ("AF3001", "pack 'acme' gives it: add it to using.capabilities")
    error = refused(discover(["shared"]).find, "sinks.zzzzzzzzzzzz", ["shared"])
    assert "packs not in using.capabilities: acme, middlefreq" in error.help
    error = refused(catalogue.find, "acme:sinks.avro", ["shared"])
    assert (error.code, error.help) == ("AF3009", "add 'acme' to using.capabilities")


def test_an_unknown_name_points_to_the_broken_pack_that_may_hold_it(site: Site) -> None:
    site.pack("acme", "raise ValueError('oops')")
    error = refused(discover().find, "sinks.zzzzz", ["acme"])
    assert error.code == "AF3001"
    assert "pack 'acme' is broken: ValueError: oops" in error.help


def test_requiring_a_capability_says_why_it_can_not_be_had(site: Site) -> None:
    site.pack("broken", "raise ValueError('oops')")
    site.pack("future", GOOD, requires=("alpha-forge>99",))
    site.pack("stopped", GOOD)
    site.pack("twice", GOOD, distribution="one")
    site.pack("twice", GOOD, distribution="two", module="twice_again")
    catalogue = discover(block=("stopped",))
    codes = {
        "broken": "AF3003",
        "twice": "AF3004",
        "future": "AF3005",
        "stopped": "AF3006",
        "absent": "AF3002",
    }
    for name, code in codes.items():
        error = refused(catalogue.require, name)
        assert error.code == code
        assert name in error.message
        assert error.help
    assert refused(catalogue.require, "middlefrek").help == "did you mean 'middlefreq'?"
    assert catalogue.require("shared").status == "ok"


@pytest.mark.parametrize(
    ("source", "code", "text"),
    [
        ("import nowhere_to_be_found\n" + SINK, "AF3007", "No module named 'nowhere_to_be_found'"),
        ("raise SystemExit(3)\n" + SINK, "AF3007", "SystemExit: 3 (acme_pack/avro.py:1)"),
        ("class AvroSink:\n    pass\n", "AF3010", "a class that does not derive from Sink"),
        ("def AvroSink():\n    pass\n", "AF3010", "a function, not a class"),
        (SINK + "    Params = dict\n", "AF3010", "Params does not derive from alpha_forge_sdk.Params"),
        (
            "from alpha_forge_sdk import Sink\nclass AvroSink(Sink):\n    pass\n",
            "AF3007",
            "neither emit nor",
        ),
    ],
)
def test_what_can_not_be_loaded_says_the_target_and_the_cause(
    site: Site, source: str, code: str, text: str
) -> None:
    site.pack("acme", GOOD, avro=source)
    catalogue = discover()
    error = refused(catalogue.load, catalogue.find("sinks.avro"))
    assert error.code == code
    assert "acme_pack.avro:AvroSink" in error.message
    assert text in error.message


def test_a_broken_plugin_is_not_found(site: Site) -> None:
    site.pack("acme", GOOD, other=SINK)
    error = refused(discover().find, "sinks.avro")
    assert error.code == "AF3007"
    assert "there is no module 'acme_pack.avro'" in error.message


def test_a_missing_extra_passes_as_it_is(site: Site) -> None:
    source = "from alpha_forge_sdk import MissingExtraError\nraise MissingExtraError('sinks.avro', 'torch')\n"
    site.pack("acme", GOOD, avro=source + SINK)
    catalogue = discover()
    with pytest.raises(MissingExtraError, match="extra 'torch'"):
        catalogue.load(catalogue.find("sinks.avro"))
