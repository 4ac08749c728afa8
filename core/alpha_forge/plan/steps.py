"""First stage of the compiler: each step's plugin is found, its parameters validated, its output columns named."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from alpha_forge.contracts.errors import AlphaForgeError
from alpha_forge.contracts.plugin import Plugin
from alpha_forge.dsl.diagnostics import Diagnostics, Path
from alpha_forge.dsl.document import STEP_KINDS, Document, SinkConfig, Step
from alpha_forge.dsl.params import build_params, format_columns
from alpha_forge.registry import Catalogue

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class BoundStep:
    """A step with its plugin class, validated parameters, an instance to ask, and its output columns."""

    step: Step
    plugin: type[Plugin]
    params: Any
    instance: Any
    columns: tuple[str, ...]


@dataclass(slots=True)
class Declared:
    """What steps that failed would have made: nothing more is said of what is missing because of them."""

    frames: set[str]
    columns: list[str]
    """Names as the document has them; ``{param}`` stands for anything."""
    anything: bool = False
    """Steps were left out before they could be read: whatever is missing may be theirs."""

    def frame(self, name: str) -> bool:
        return self.anything or name in self.frames

    def column(self, name: str) -> bool:
        return self.anything or any(_fits(template, name) for template in self.columns)


def _fits(template: str, name: str) -> bool:
    pattern = ".*".join(re.escape(part) for part in re.split(r"\{[^{}]*\}", template))
    return re.fullmatch(pattern, name) is not None


def ask(diagnostics: Diagnostics, path: Path, question: str, call: Callable[[], T]) -> T | None:
    """What a plugin answers while compiling, or None with a diagnostic: an isolation border.

    Errors with a code keep it; a ValueError is the plugin's way to say that a value doesn't fit.
    """
    try:
        return call()
    except AlphaForgeError as error:
        diagnostics.error(error.code, error.message, path, error.help)
    except Exception as error:  # noqa: BLE001 - a third party's code; whatever it raises is shown at its step
        diagnostics.error(
            "AF4021",
            f"{question}: {type(error).__name__}: {error}"
            if not isinstance(error, ValueError)
            else f"{question}: {error}",
            path,
            "mend the parameters of this step, or the plugin",
        )
    return None


def load_plugin(
    using: str, kind: str, path: Path, document: Document, catalogue: Catalogue, diagnostics: Diagnostics
) -> type[Plugin] | None:
    """The class behind a ``using:`` name, of the kind that its place asks for; None with a diagnostic."""
    where = (*path, "using")

    def load() -> type[Plugin]:
        return catalogue.load(catalogue.find(using, document.capabilities))

    name = using.split(":", 1)[-1]
    if not name.startswith(f"{kind}."):
        diagnostics.error(
            "AF4023",
            f"'{using}' can't stand here: this place takes a plugin of the kind '{kind}'",
            where,
            f"names of this kind begin with '{kind}.'",
        )
        return None
    return ask(diagnostics, where, f"'{using}' can't be loaded", load)


def bind_step(
    step: Step, document: Document, catalogue: Catalogue, diagnostics: Diagnostics
) -> BoundStep | None:
    """Find the plugin of a step and build its parameters; None (with diagnostics) where that fails."""
    plugin = load_plugin(step.using, STEP_KINDS[step.kind], step.path, document, catalogue, diagnostics)
    if plugin is None:
        return None
    params = build_params(step, plugin, diagnostics, extra=_joined(step, plugin))
    if params is None:
        return None
    instance = ask(diagnostics, step.path, f"'{step.using}' can't be made", lambda: plugin(params))
    columns = format_columns(step, params, diagnostics)
    if instance is None or columns is None:
        return None
    output = getattr(params, "output_col", None)
    if step.kind == "model" and columns and output is not None and output != columns[0]:
        diagnostics.error(
            "AF4017",
            f"output_col is '{output}', but outputs.columns says '{columns[0]}'",
            (*step.path, "params", "output_col"),
            "make them equal, or leave output_col out",
        )
    return BoundStep(step, plugin, params, instance, columns)


def _joined(step: Step, plugin: type[Plugin]) -> dict[str, Any]:
    """Parameters of a model that stand elsewhere in its step: ``inputs.model_ref``, and the output column."""
    if step.kind != "model":
        return {}
    extra: dict[str, Any] = {}
    if "model_ref" in step.inputs:
        extra["model_ref"] = step.inputs["model_ref"]
    columns = step.outputs.get("columns")
    if "output_col" in plugin.Params.model_fields and "output_col" not in step.params and columns:
        extra["output_col"] = columns[0]
    return extra


def bind_sink(
    config: SinkConfig, document: Document, catalogue: Catalogue, diagnostics: Diagnostics
) -> tuple[type[Plugin], Any] | None:
    """Plugin class and parameters of a sink, or None with diagnostics."""
    plugin = load_plugin(config.using, "sinks", config.path, document, catalogue, diagnostics)
    if plugin is None:
        return None
    params = build_params(config, plugin, diagnostics)
    return None if params is None else (plugin, params)
