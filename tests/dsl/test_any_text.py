"""Whatever the text: a document or mistakes, never another exception."""

from __future__ import annotations

import contextlib

import yaml
from dsl_support import RIGHT
from hypothesis import given, settings
from hypothesis import strategies as st

from alpha_forge.contracts.errors import UsageError
from alpha_forge.dsl import parse
from alpha_forge.dsl.diagnostics import Diagnostics, Source
from alpha_forge.dsl.read import read

MARKUP = st.text(st.sampled_from("ab01.:-{}[]$\"'#&*!|>%@`?,~<\n \t\\éλ\u2028\ufeff"), max_size=60)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from(["${expand.windows}", "${env:A}", "${", "{window}", "stream", "auto", "features.rsi"]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(
            ["name", "using", "capabilities", "signal_generation", "pipeline", "expand", "training", "mode", "warmup", "data", "features", "model", "inputs", "outputs", "params", "frame", "columns", "on_prediction", "delivery", "lookback_days", "x-a"]
        ),
        inner,
        max_size=5,
    ),
    max_leaves=20,
)  # fmt: skip


def check(text: str) -> None:
    document, diagnostics = parse(text, "f.yaml")
    assert document is not None or diagnostics
    for found in diagnostics:
        assert found.code.startswith("AF")
        assert found.line >= 1
        assert found.column >= 1
        assert found.render()


@settings(deadline=None)
@given(MARKUP | st.text(max_size=60))
def test_any_text(text: str) -> None:
    check(text)


@settings(deadline=None)
@given(st.integers(0, len(RIGHT)), st.integers(0, 12), MARKUP)
def test_a_right_configuration_with_a_piece_cut_out_and_another_put_in(
    at: int, gone: int, piece: str
) -> None:
    check(RIGHT[:at] + piece + RIGHT[at + gone :])


@settings(deadline=None)
@given(VALUES)
def test_any_values(value: object) -> None:
    check(yaml.safe_dump(value, allow_unicode=True))


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=30), st.text(max_size=20))
def test_any_option(key: str, value: str) -> None:
    # A key that leads nowhere is a usage error.
    with contextlib.suppress(UsageError):
        _, diagnostics = parse(RIGHT, "f.yaml", [f"{key}={value}"])
        assert all(found.render() for found in diagnostics)


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.text(st.characters(codec="utf-8"), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("abcé on", max_size=5), inner, max_size=4)
    ),
    max_leaves=15,
)


@settings(deadline=None)
@given(PLAIN)
def test_what_is_written_as_yaml_is_read_back(value: object) -> None:
    # Every text quoted: what plain scalars mean is our own decision, not PyYAML's.
    text = yaml.safe_dump(value, default_style='"', allow_unicode=False)
    diagnostics = Diagnostics(Source("f.yaml", text))
    assert read(text, diagnostics) == value
    assert not diagnostics
