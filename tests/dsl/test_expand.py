"""Expansion: which copies a template makes, in which order, and what each is given."""

from __future__ import annotations

from typing import Any

import pytest
from dsl_support import RIGHT, changed, mistakes, parsed

from alpha_forge.dsl import EnvRef


def copies(params: str) -> list[dict[str, Any]]:
    document = parsed(changed("window: ${expand.windows}", params))
    return [dict(step.params) for step in document.steps if step.kind == "features"]


def test_a_step_without_a_template_stays_one() -> None:
    assert copies("window: 5") == [{"window": 5}]


def test_one_list_makes_one_copy_for_each_value() -> None:
    document = parsed(RIGHT)
    steps = [step for step in document.steps if step.kind == "features"]
    assert [step.params for step in steps] == [{"window": 6}, {"window": 12}]
    assert [step.expanded for step in steps] == [{"window": 6}, {"window": 12}]
    assert {step.path for step in steps} == {("pipeline", 1, "features")}
    assert steps[0].outputs == {"columns": ("rsi{window}",)}, "named once the parameters are validated"


def test_the_same_list_zips() -> None:
    assert copies(
        "{window: '${expand.windows}', other: '${expand.windows}'}".replace("{w", "w")
        .rstrip("}")
        .replace(", ", "\n        ")
    ) == [
        {"window": 6, "other": 6},
        {"window": 12, "other": 12},
    ]


def test_different_lists_multiply_and_the_first_is_the_outermost() -> None:
    assert copies("mode: ${expand.modes}\n        window: ${expand.windows}") == [
        {"mode": "fast", "window": 6},
        {"mode": "fast", "window": 12},
        {"mode": "slow", "window": 6},
        {"mode": "slow", "window": 12},
    ]
    assert copies("window: ${expand.windows}\n        mode: ${expand.modes}")[1] == {
        "window": 6,
        "mode": "slow",
    }


def test_within_a_text_the_value_is_written_out() -> None:
    assert copies("name: w${expand.windows}_${expand.modes}")[0] == {"name": "w6_fast"}
    assert copies("name: $${expand.windows}-${expand.windows}")[0] == {"name": "${expand.windows}-6"}


def test_nested_params_are_templates_too() -> None:
    params = "inner:\n          list: [1, '${expand.windows}']"
    assert copies(params) == [{"inner": {"list": [1, 6]}}, {"inner": {"list": [1, 12]}}]
    document = parsed(changed("window: ${expand.windows}", params))
    assert document.steps[1].expanded == {"inner.list.1": 6}


def test_environment_references_keep_what_stands_around_them() -> None:
    reference = copies("url: http://${env:USER}:${env:PASS}@${expand.modes}")[0]["url"]
    assert reference == EnvRef("USER", "http://", EnvRef("PASS", ":", "@fast"))
    assert str(reference) == "http://${env:USER}:${env:PASS}@fast"
    assert reference.names() == ("USER", "PASS")
    assert reference.resolve({"USER": "u", "PASS": "p"}) == "http://u:p@fast"
    with pytest.raises(KeyError, match="PASS"):
        reference.resolve({"USER": "u"})


def test_too_many_copies_are_refused() -> None:
    text = changed("windows: [6, 12]", f"windows: {list(range(200))}")
    text = text.replace("modes: [fast, slow]", f"modes: {list(range(200))}")
    text = text.replace(
        "window: ${expand.windows}", "window: ${expand.windows}\n        mode: ${expand.modes}"
    )
    assert [d.code for d in mistakes(text)] == ["AF2010"]
