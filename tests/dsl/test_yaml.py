"""YAML texts: places, scalars, and syntax errors that say what to do. Both of PyYAML's parsers give the same."""

from __future__ import annotations

import math
from typing import Any

import pytest
import yaml

from alpha_forge.dsl.diagnostics import KEY, Diagnostics, Source, masked
from alpha_forge.dsl.read import MAX_CHARACTERS, MAX_DEPTH, UNREADABLE, read

LOADERS = [yaml.CBaseLoader, yaml.BaseLoader]


@pytest.fixture(params=LOADERS, ids=lambda loader: loader.__name__)
def loader(request: pytest.FixtureRequest) -> Any:
    return request.param


def reading(text: str, loader: Any) -> tuple[Any, Diagnostics]:
    diagnostics = Diagnostics(Source("f.yaml", text))
    return read(text, diagnostics, loader=loader), diagnostics


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E5", 1e5),
        (".5", 0.5),
        ("5.", 5.0),
        ("-3", -3),
        ("+3", 3),
        ("010", 10),
        ("0o17", 15),
        ("0x1F", 31),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("0b1", "0b1"),
        ("true", True),
        ("FALSE", False),
        ("yes", "yes"),
        ("on", "on"),
        ("y", "y"),
        ("null", None),
        ("~", None),
        ("", None),
        ("2025-01-05", "2025-01-05"),
        ("'5'", "5"),
        ('"true"', "true"),
        ("!!str 5", "5"),
        ("! 5", "5"),
        ("!!float 5", 5.0),
        ("!!int 5", 5),
        (".inf", math.inf),
        ("-.Inf", -math.inf),
        ("1h", "1h"),
        ("http://localhost:8080/x", "http://localhost:8080/x"),
        ("${env:X}", "${env:X}"),
        ("٣", "٣"),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: object, loader: Any) -> None:
    data, diagnostics = reading(f"key: {text}\n", loader)
    assert not diagnostics
    assert data == {"key": value}
    assert type(data["key"]) is type(value)


def test_not_a_number_is_read(loader: Any) -> None:
    data, _ = reading("[.nan]", loader)
    assert math.isnan(data[0])


def test_keys_are_texts_as_written(loader: Any) -> None:
    data, diagnostics = reading("on: 1\nyes: 2\n5: 3\n1e-4: 4\nnull: 5\n", loader)
    assert not diagnostics
    assert data == {"on": 1, "yes": 2, "5": 3, "1e-4": 4, "null": 5}


def test_every_key_and_value_has_its_place(loader: Any) -> None:
    text = "a:\n  - b: 1\n    cé: {d: x, e: [1, 2]}\n"
    _, diagnostics = reading(text, loader)
    marks = diagnostics.source.marks
    assert marks[("a", KEY)] == (1, 1)
    assert marks[("a", 0, "b", KEY)] == (2, 5)
    assert marks[("a", 0, "b")] == (2, 8)
    assert marks[("a", 0, "cé", "d", KEY)] == (3, 10)
    assert marks[("a", 0, "cé", "e", 1)] == (3, 23)
    assert diagnostics.source.place(("a", 0, "b", "deeper", 3)) == (2, 8)


def test_aliases_and_merge_keys(loader: Any) -> None:
    text = "a: &d {x: 1, y: [2]}\nb: {<<: *d, x: 3}\nc: [*d, *d]\ne: {<<: [{x: 4}, *d]}\n"
    data, diagnostics = reading(text, loader)
    assert not diagnostics
    assert data["b"] == {"x": 3, "y": [2]}
    assert data["c"] == [{"x": 1, "y": [2]}] * 2
    assert data["c"][0]["y"] is not data["c"][1]["y"], "an override of one must not change the other"
    assert data["e"] == {"x": 4, "y": [2]}


@pytest.mark.parametrize(
    ("text", "code", "line", "column", "help"),
    [
        ("a:\n\tb: 1\n", "AF1004", 2, 1, "indent with spaces"),
        ("a:\n  b: 1\n\tc: 2\n", "AF1004", 3, 1, "indent with spaces"),
        ("a: {path: ${env:X}, b: 1}\n", "AF1006", 1, 11, 'write "${env:X}"'),
        ("a: {x: ${expand.w} }\n", "AF1006", 1, 8, 'write "${expand.w}"'),
        ("a: [x, pre${expand.w}]\n", "AF1006", 1, 8, 'write "pre${expand.w}"'),
        ("c: {columns: [rsi{window}]}\n", "AF1006", 1, 15, 'write "rsi{window}"'),
        ("a: b: c\n", "AF1003", 1, 5, "quote a text that holds ': '"),
        ("a: 'x\nb: 1\n", "AF1003", 1, 4, "close it"),
        ("a: @x\n", "AF1003", 1, 4, "quote the text"),
        ("a: [1, 2\nb: 3\n", "AF1003", 2, 2, "] of the list that opened at line 1"),
        ("  a: 1\n b: 2\n", "AF1003", 2, 2, "check the indentation"),
        ("b: 1\n- a\n", "AF1003", 2, 1, "check the indentation"),
        ('a: "\\q"\n', "AF1003", 1, None, "write \\\\ for \\"),
        ("a: 1\n---\nb: 2\n", "AF1007", 2, 1, "one file holds one configuration"),
        ("a: *b\n", "AF1008", 1, 4, "quote the text if it is none"),
        ("a: &x 1\nb: *y\n", "AF1008", 2, 4, "defined above: x"),
        ("a: &x [*x]\n", "AF1008", 1, 8, ""),
        ("a: {<<: 5}\n", "AF1008", 1, 5, "<<: *NAME"),
        ("? [a]\n: 1\n", "AF1010", 1, 3, "plain text"),
        ("c: [{{window}: 1}]\n", "AF1010", 1, 6, "quote a template"),
        ("a: !!python/object:os.system x\n", "AF1010", 1, 4, "leave the tag out"),
        ("a: !!python/object/new:x {}\n", "AF1010", 1, 4, "leave the tag out"),
        ("a: !!int x\n", "AF1010", 1, 4, "leave the tag out"),
        (f"a: {'9' * 5000}\n", "AF1010", 1, 4, "quote it if it is a text"),
        ("a: x\x07y\n", "AF1002", 1, 5, "remove it"),
        ("a: 1\nb: \ud800\n", "AF1002", 2, 4, "remove it"),
        ("[" * (MAX_DEPTH + 9), "AF1009", 1, MAX_DEPTH + 2, ""),
    ],
)  # fmt: skip
def test_syntax_errors_have_a_place_and_a_help(
    text: str, code: str, line: int, column: int | None, help: str, loader: Any
) -> None:
    _, diagnostics = reading(text, loader)
    found = diagnostics.found[0]
    assert (found.code, found.line) == (code, line)
    assert column in (None, found.column)
    assert help in found.help


def test_duplicate_keys_are_all_found_and_the_first_counts(loader: Any) -> None:
    data, diagnostics = reading("a: 1\nb:\n  c: 2\n  'c': 3\na: 2\n", loader)
    assert [(d.code, d.line, d.column) for d in diagnostics] == [("AF1005", 4, 3), ("AF1005", 5, 1)]
    assert "first at line 3" in diagnostics.found[0].message
    assert data == {"a": 1, "b": {"c": 2}}


def test_aliases_can_not_blow_up(loader: Any) -> None:
    text = "a: &a [1,1,1,1,1,1,1,1,1,1]\n"
    for one, other in zip("abcdefgh", "bcdefghi", strict=True):
        text += f"{other}: &{other} [{','.join([f'*{one}'] * 10)}]\n"
    value, diagnostics = reading(text, loader)
    assert value is UNREADABLE
    assert diagnostics.found[0].code == "AF1009"


def test_a_file_that_is_too_long_is_refused(loader: Any) -> None:
    value, diagnostics = reading("#" * (MAX_CHARACTERS + 1), loader)
    assert value is UNREADABLE
    assert diagnostics.found[0].code == "AF1009"


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n"])
def test_an_empty_file_is_nothing(text: str, loader: Any) -> None:
    assert reading(text, loader)[0] is None


def test_a_mistake_is_shown_with_its_line_and_a_caret() -> None:
    diagnostics = Diagnostics(Source("f.yaml", "a:\n  b: 1\n", {("a", "b"): (2, 6)}))
    diagnostics.error("AF2003", "wrong", ("a", "b"), "mend it")
    assert diagnostics.found[0].render() == (
        "f.yaml:2:6: error[AF2003]: wrong\n      b: 1\n         ^\nhelp: mend it"
    )


def test_of_a_very_long_line_only_the_surroundings_are_shown() -> None:
    diagnostics = Diagnostics(Source("f.yaml", "x" * 900 + "!" + "y" * 900))
    diagnostics.error_at("AF1003", "wrong", (1, 901))
    _, line, caret = diagnostics.found[0].render().splitlines()
    assert len(line) < 250
    assert line[caret.index("^")] == "!"


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("password: hunter2", "password: *******"),
        ("{a: b, api_key: 'x y', c: d}", "{a: b, api_key: *****, c: d}"),
        ("sinks.0.params.token=abc", "sinks.0.params.token=***"),
        ("pasword: hunter2", "pasword: *******"),
        ('password: "${env:X}"', 'password: "${env:X}"'),
        ("password: ${env:X}", "password: ${env:X}"),
        ("dedup_key: [ts, symbol]", "dedup_key: [ts, symbol]"),
        ("tokens: [a, b]", "tokens: ******"),
        ("window: 20", "window: 20"),
    ],
)
def test_shown_lines_mask_literal_secrets(line: str, shown: str) -> None:
    assert masked(line) == shown
