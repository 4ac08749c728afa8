"""Parameters: each mistake at its own place, in words, and no secret in any of them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from dsl_support import changed, parsed
from pydantic import Field, SecretStr, field_validator, model_validator

from alpha_forge.contracts.params import Params as BaseParams
from alpha_forge.contracts.plugin import Feature
from alpha_forge.dsl import Diagnostics
from alpha_forge.dsl.params import build_params, format_columns

LINE = 24
"""Of the configuration: that of the first parameter under ``params:``."""


class Speed(Enum):
    FAST = "fast"
    SLOW = "slow"


class Ends(BaseParams):
    ws: str = Field("ws://x", description="WebSocket")
    port: int = Field(80, ge=1, le=65535, description="port")


class Probe(Feature):
    class Params(BaseParams):
        window: int = Field(ge=2, le=500, description="bars")
        factor: float = Field(1.0, gt=0, description="factor")
        name: str = Field("x", min_length=1, pattern="^[a-z]+$", description="name")
        mode: Literal["fast", "slow"] = Field("fast", description="mode")
        speed: Speed = Field(Speed.FAST, description="speed")
        universe: list[str] | str = Field(["A"], description="symbols")
        tags: Annotated[list[str], Field(min_length=1)] = Field(["a"], description="tags")
        ends: Ends = Field(Ends(), description="endpoints")
        path: Path | None = Field(None, description="path")
        password: SecretStr | None = Field(None, description="password")
        model_ref: str | None = Field(None, description="checkpoint")

        @field_validator("name")
        @classmethod
        def _no_bad_names(cls, name: str) -> str:
            if name == "bad":
                raise ValueError("'bad' is taken")
            if name == "worse":
                raise KeyError(name)
            return name

        @model_validator(mode="after")
        def _password_fits(self) -> Probe.Params:
            if self.password is not None and self.name == "leak":
                raise ValueError(f"refused {self.password.get_secret_value()}")
            return self


def built(params: str, extra: Mapping[str, Any] | None = None, **environ: str) -> tuple[Any, Diagnostics]:
    """The parameters of a feature step whose ``params`` are the given lines, and the mistakes."""
    text = changed("window: ${expand.windows}", params.replace("\n", "\n        "))
    step = next(step for step in parsed(text).steps if step.kind == "features")
    diagnostics = Diagnostics(parsed(text).source)
    return build_params(step, Probe, diagnostics, extra, environ), diagnostics


def test_right_parameters_are_built_with_their_defaults() -> None:
    params, diagnostics = built("window: 20\nuniverse: [B]\nends: {port: 8080}\npath: a/b\nmode: slow")
    assert not diagnostics
    assert isinstance(params, Probe.Params)
    assert (params.window, params.universe, params.ends.port, params.path) == (20, ["B"], 8080, Path("a/b"))
    assert (params.mode, params.factor) == ("slow", 1.0)


@pytest.mark.parametrize(
    ("params", "code", "line", "column", "message", "help"),
    [
        ("windw: 20\nwindow: 20", "AF3011", LINE, 9, "unknown parameter 'windw'", "did you mean 'window'?"),
        ("window: 20\nends: {prt: 1}", "AF3011", LINE + 1, 16, "unknown parameter 'ends.prt'", "'port'"),
        ("name: a", "AF3012", LINE - 1, 7, "parameter 'window' is missing", "add window: … (bars)"),
        ("window: '20'", "AF3013", LINE, 17, "'window' must be a whole number, not the text '20'", "without quotes"),
        ("window: 2.5", "AF3013", LINE, 17, "'window' must be a whole number, not the number 2.5", ""),
        ("window: true", "AF3013", LINE, 17, "must be a whole number, not true", ""),
        ("window:", "AF3013", LINE, 16, "must be a whole number, not nothing", ""),
        ("window: 20\nname: 5", "AF3013", LINE + 1, 15, "'name' must be a text, not the number 5", 'quote it: "5"'),
        ("window: 20\nname: false", "AF3013", LINE + 1, 15, "must be a text, not false", 'quote it: "false"'),
        ("window: 20\ntags: a", "AF3013", LINE + 1, 15, "'tags' must be a list, not the text 'a'", "write [a]"),
        ("window: 20\nuniverse: 5", "AF3013", LINE + 1, 19, "'universe' must be a list or a text", ""),
        ("window: 20\nuniverse: [A, 5]", "AF3013", LINE + 1, 23, "'universe[1]' must be a text", '"5"'),
        ("window: 20\nends: [1]", "AF3013", LINE + 1, 15, "'ends' must be a mapping, not a list", ""),
        ("window: 20\npath: [1]", "AF3013", LINE + 1, 15, "'path' must be a text or nothing, not a list", ""),
        ("window: 1", "AF3014", LINE, 17, "'window' must be at least 2 and at most 500, not the number 1", ""),
        ("window: 501", "AF3014", LINE, 17, "at least 2 and at most 500", ""),
        ("window: 20\nfactor: 0", "AF3014", LINE + 1, 17, "'factor' must be greater than 0, not the number 0", ""),
        ("window: 20\nfactor: .nan", "AF3014", LINE + 1, 17, "'factor' must be greater than 0", ""),
        ("window: 20\nname: ''", "AF3014", LINE + 1, 15, "'name' must not be empty", ""),
        ("window: 20\nname: A1", "AF3014", LINE + 1, 15, "'name' must have the form ^[a-z]+$", ""),
        ("window: 20\ntags: []", "AF3014", LINE + 1, 15, "'tags' must not be empty", ""),
        ("window: 20\nmode: fats", "AF3014", LINE + 1, 15, "must be 'fast' or 'slow', not the text 'fats'", "'fast'?"),
        ("window: 20\nspeed: slov", "AF3014", LINE + 1, 16, "must be 'fast' or 'slow'", "did you mean 'slow'?"),
        ("window: 20\nends: {port: 0}", "AF3014", LINE + 1, 22, "'ends.port' must be at least 1", ""),
        ("window: 20\nname: bad", "AF3018", LINE + 1, 15, "'name': 'bad' is taken", ""),
        ("window: 20\nname: worse", "AF3018", LINE, 9, "can't be validated: KeyError", ""),
    ],
)  # fmt: skip
def test_each_mistake_has_its_code_and_place(
    params: str, code: str, line: int, column: int, message: str, help: str
) -> None:
    result, diagnostics = built(params)
    assert result is None
    assert [(d.code, d.line, d.column) for d in diagnostics] == [(code, line, column)]
    found = diagnostics.found[0]
    assert message in found.message
    assert "(of features.rsi)" in found.message
    assert help in found.help


def test_all_mistakes_come_at_once_and_each_value_has_one() -> None:
    _, diagnostics = built("window: 1\nnmae: a\nmode: 5\nends: {port: x}\nname: bad")
    codes = [(d.code, d.line) for d in diagnostics]
    assert sorted(codes) == [
        ("AF3011", LINE + 1),
        ("AF3013", LINE + 3),
        ("AF3014", LINE),
        ("AF3014", LINE + 2),
        ("AF3018", LINE + 4),
    ]  # fmt: skip


def test_the_copies_of_a_template_make_one_mistake() -> None:
    document = parsed(changed("window: ${expand.windows}", "windw: ${expand.windows}\n        window: 5"))
    diagnostics = Diagnostics(document.source)
    for step in document.steps:
        if step.kind == "features":
            build_params(step, Probe, diagnostics)
    assert [d.code for d in diagnostics] == ["AF3011"]


def test_a_step_without_params_says_what_is_missing_where_the_plugin_is_named() -> None:
    document = parsed(changed("      params:\n        window: ${expand.windows}\n", ""))
    diagnostics = Diagnostics(document.source)
    build_params(document.steps[1], Probe, diagnostics)
    assert [(d.code, d.line, d.column) for d in diagnostics] == [("AF3012", 20, 7)]


def test_a_value_from_the_environment_is_read_as_the_schema_wants() -> None:
    params, diagnostics = built(
        "window: ${env:W}\nname: ${env:N}\npassword: a-${env:P}", W="20", N="abc", P="x"
    )
    assert not diagnostics
    assert (params.window, params.name) == (20, "abc")
    assert params.password.get_secret_value() == "a-x"
    # A text of digits stays one where a text is wanted.
    params, _ = built("window: 20\npassword: ${env:P}", P="0123")
    assert params.password.get_secret_value() == "0123"


def test_a_variable_that_is_not_set() -> None:
    params, diagnostics = built("window: ${env:W}\nname: 5")
    assert params is None
    assert [(d.code, d.line, d.column) for d in diagnostics] == [
        ("AF3015", LINE, 17),
        ("AF3013", LINE + 1, 15),
    ]
    assert "'W' is not set" in diagnostics.found[0].message


@pytest.mark.parametrize(
    "params",
    [
        "window: ${env:S}",
        "window: 20\nmode: ${env:S}",
        "window: 20\nuniverse: {a: '${env:S}'}",
        "window: 20\nends: {port: '${env:S}'}",
        "window: 20\nname: ${env:S}",
        "window: 20\nname: leak\npassword: ${env:S}",
        "window: 20\nname: leak\npassword: sw0rdfish",
        "window: 20\npassword: [sw0rdfish]",
        "window: 20\nfactor: x\npassword: sw0rdfish",
        "{window: 1, password: sw0rdfish}",
        "{window: 20, pasword: sw0rdfish}",
        "{window: 20, passphrase_of: sw0rdfish}",
    ],
)
def test_no_message_holds_a_secret(params: str) -> None:
    text = params if not params.startswith("{") else params[1:-1].replace(", ", "\n")
    result, diagnostics = built(text, S="sw0rdfish")
    assert result is None
    for found in diagnostics:
        assert "sw0rdfish" not in found.render()
        assert "sw0rdfish" not in str(found.as_json())


def test_secrets_show_in_no_representation() -> None:
    params, _ = built("window: 20\npassword: ${env:S}", S="sw0rdfish")
    document = parsed(changed("window: ${expand.windows}", "password: ${env:S}"))
    assert "sw0rdfish" not in repr(params) + str(params) + repr(document)


def test_extra_parameters_join_the_params() -> None:
    params, _ = built("window: 20", {"model_ref": "a.b"})
    assert params.model_ref == "a.b"
    assert built("window: 20\nmodel_ref: a.b", {"model_ref": "a.b"})[0].model_ref == "a.b"


def test_an_extra_parameter_that_says_otherwise_or_is_unknown() -> None:
    _, diagnostics = built("window: 20\nmodel_ref: a.b", {"model_ref": "c.d"})
    assert [(d.code, d.line, d.column) for d in diagnostics] == [("AF3017", LINE + 1, 20)]
    document = parsed(changed("window: ${expand.windows}", "window: 5"))
    model = document.steps[-1]
    diagnostics = Diagnostics(document.source)
    assert build_params(model, Probe, diagnostics, {"model_ref": 5}) is None
    path = ("pipeline", 2, "model")
    assert {(d.code, d.path, d.line, d.column) for d in diagnostics} == {
        ("AF3012", (*path, "params", "window"), 29, 7),
        ("AF3011", (*path, "params", "window_size"), 29, 16),
        ("AF3013", (*path, "inputs", "model_ref"), 27, 41),
    }


def test_parameters_from_an_option_are_shown_there() -> None:
    text = changed("window: ${expand.windows}", "window: 5")
    document = parsed(text, "params.window=1")
    diagnostics = Diagnostics(document.source)
    build_params(document.steps[1], Probe, diagnostics)
    found = diagnostics.found[0]
    assert (found.code, found.file, found.line, found.column) == ("AF3014", "--set params.window", 1, 15)


def test_a_model_without_a_json_schema_is_still_validated() -> None:
    class NoSchema(Feature):
        class Params(BaseParams):
            model_config = BaseParams.model_config | {"arbitrary_types_allowed": True}
            clock: Diagnostics | None = Field(None, description="an arbitrary type")
            size: int = Field(1, description="size")

    text = changed("window: ${expand.windows}", "size: x\n        other: 1")
    document = parsed(text)
    diagnostics = Diagnostics(document.source)
    assert build_params(document.steps[1], NoSchema, diagnostics) is None
    assert sorted((d.code, d.line) for d in diagnostics) == [("AF3011", LINE + 1), ("AF3013", LINE)]


def columns(templates: str, params: str = "window: 20") -> tuple[tuple[str, ...] | None, Diagnostics]:
    text = changed('["rsi{window}"]', templates)
    text = text.replace("window: ${expand.windows}", params.replace("\n", "\n        "))
    document = parsed(text)
    diagnostics = Diagnostics(document.source)
    built = build_params(document.steps[1], Probe, diagnostics)
    assert built is not None
    return format_columns(document.steps[1], built, diagnostics), diagnostics


@pytest.mark.parametrize(
    ("template", "params", "column"),
    [
        ("rsi{window}", "window: 20", "rsi20"),
        ("{window}_{window}", "window: 20", "20_20"),
        ("rsi_{mode}", "window: 20", "rsi_fast"),
        ("rsi_{speed}", "window: 20", "rsi_fast"),
        ("f{factor}", "window: 20", "f1"),
        ("f{factor}", "window: 20\nfactor: 0.5", "f0.5"),
        ("plain", "window: 20", "plain"),
    ],
)
def test_columns_take_any_validated_parameter(template: str, params: str, column: str) -> None:
    assert columns(f'["{template}"]', params)[0] == (column,)


@pytest.mark.parametrize(
    ("template", "help"),
    [
        ("rsi{windw}", "did you mean 'window'?"),
        ("a{}", ""),
        ("a{universe}", ""),
        ("a{path}", ""),
        ("a{b", "{param}"),
    ],
)
def test_a_column_that_can_not_be_named(template: str, help: str) -> None:
    made, diagnostics = columns(f'[fine, "{template}"]')
    assert made is None
    assert [(d.code, d.line, d.column) for d in diagnostics] == [("AF3016", 22, 33)]
    assert help in diagnostics.found[0].help


def test_a_secret_names_no_column() -> None:
    made, diagnostics = columns('["a{password}"]', "window: 20\npassword: sw0rdfish")
    assert made is None
    assert "sw0rdfish" not in diagnostics.found[0].render()
