"""Which column goes to which destination."""

from __future__ import annotations

from collections.abc import Mapping

from alpha_forge.contracts.errors import did_you_mean
from alpha_forge.contracts.plugin import Sink
from alpha_forge.dsl.diagnostics import Diagnostics
from alpha_forge.dsl.document import Document, SinkConfig
from alpha_forge.plan.columns import FrameColumns
from alpha_forge.plan.graph import SinkSpec
from alpha_forge.plan.steps import Declared, bind_sink
from alpha_forge.registry import Catalogue


def bind_sinks(
    document: Document,
    catalogue: Catalogue,
    columns: Mapping[str, FrameColumns],
    declared: Declared,
    diagnostics: Diagnostics,
) -> tuple[SinkSpec, ...]:
    """Every entry of ``on_prediction`` with its plugin and column; one column for each destination."""
    specs: list[SinkSpec] = []
    for config in document.signal.sinks:
        bound = bind_sink(config, document, catalogue, diagnostics)
        target = _target(config, document, columns, declared, diagnostics)
        if bound is None or target is None:
            continue
        plugin, params = bound
        assert issubclass(plugin, Sink)
        frame, column = target
        spec = SinkSpec(config.name, config.using, plugin, params, frame, column, config.delivery)
        for other in specs:
            if other.using == spec.using and other.params == spec.params:
                same = (other.frame, other.column) == target
                diagnostics.error(
                    "AF4013",
                    f"'{other.name}' and '{spec.name}' write "
                    + ("the same column" if same else f"'{other.column}' and '{spec.column}'")
                    + " to the same destination",
                    config.path,
                    "take one away" if same else "give each column a destination of its own",
                )
        specs.append(spec)
    return tuple(specs)


def _target(
    config: SinkConfig,
    document: Document,
    columns: Mapping[str, FrameColumns],
    declared: Declared,
    diagnostics: Diagnostics,
) -> tuple[str, str] | None:
    """(frame, column) that a sink receives."""
    path = (*config.path, "column")
    if config.column is not None:
        # A column that is written twice is one all the same: the mistake is told where it is made.
        matches = list(
            dict.fromkeys(
                (f, c) for f, made in columns.items() for c in made.all() if config.column in (c, f"{f}.{c}")
            )
        )
        if len(matches) == 1:
            return matches[0]
        name = config.column.split(".", 1)[-1]
        if not matches and (declared.column(config.column) or declared.column(name)):
            return None
        every = [f"{f}.{c}" for f, made in columns.items() for c in made.all()]
        if matches:
            named = ", ".join(f"{f}.{c}" for f, c in matches)
            diagnostics.error(
                "AF4012", f"'{config.column}' stands in several frames", path, f"write one of {named}"
            )
        else:
            diagnostics.error(
                "AF4012",
                f"no step makes the column '{config.column}'",
                path,
                did_you_mean(config.column, every),
            )
        return None
    models = [
        (f, c)
        for f, made in columns.items()
        for s in made.steps
        if s.bound.step.kind == "model"
        for c in s.outputs
    ]
    if len(models) == 1:
        return models[0]
    if declared.anything or sum(step.kind == "model" for step in document.steps) == 1:
        return None  # the only model failed to bind, for a reason already told
    diagnostics.error(
        "AF4012",
        f"'{config.name}' must name its column: the pipeline has "
        + ("no model" if not models else f"{len(models)} models"),
        config.path,
        "column: " + (f"{models[0][0]}.{models[0][1]}" if models else "ohlcv.rsi_14"),
    )
    return None
