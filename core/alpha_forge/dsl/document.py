"""The typed document: what a YAML file says, expanded, before any plugin is asked anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from alpha_forge.dsl.diagnostics import Path, Source

STEP_KINDS = {"data": "data", "transform": "transforms", "features": "features", "model": "models"}
"""Key of a step in the DSL → prefix of its plugins' names."""


@dataclass(frozen=True, slots=True)
class EnvRef:
    """``${env:NAME}``: a secret that is read from the environment when parameters are built, and never shown.

    A text with the reference inside it keeps what stands around: ``before``, the name, ``after`` (which may
    hold the next reference).
    """

    name: str
    before: str = ""
    after: str | EnvRef = ""

    def __str__(self) -> str:
        return f"{self.before}${{env:{self.name}}}{self.after}"

    def names(self) -> tuple[str, ...]:
        """Every variable that the text refers to, in its order."""
        return (self.name, *(self.after.names() if isinstance(self.after, EnvRef) else ()))

    def resolve(self, environ: Mapping[str, str]) -> str:
        """The text with the variables' values. Raises KeyError with the name of one that isn't set."""
        after = self.after.resolve(environ) if isinstance(self.after, EnvRef) else self.after
        return self.before + environ[self.name] + after


@dataclass(frozen=True, slots=True)
class Step:
    """One step after expansion. Values may hold `EnvRef`."""

    kind: str
    """``data``, ``transform``, ``features`` or ``model``."""
    using: str
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    params: Mapping[str, Any]
    on: tuple[str, ...] = ()
    emits: tuple[str, ...] = ()
    path: Path = ()
    """Of the step's body: ``('pipeline', 3, 'features')``; shared by the copies of one template."""
    expanded: Mapping[str, Any] = field(default_factory=dict)
    """Parameters that the expansion gave this copy, by name (dotted where they are nested)."""


@dataclass(frozen=True, slots=True)
class SinkConfig:
    """One entry of ``on_prediction``."""

    name: str
    """Given, or ``using#n`` with n from 1 for each use of the same plugin."""
    using: str
    params: Mapping[str, Any]
    column: str | None
    """``frame.column`` or a column's name; None: the only model's."""
    delivery: Mapping[str, Any]
    path: Path = ()


@dataclass(frozen=True, slots=True)
class Warmup:
    """``signal_generation.warmup``."""

    lookback_days: float | None
    """None stands for ``auto``."""
    epsilon: float = 1e-9
    first_event_seconds: float = 120.0
    """Real seconds to wait for the first event of any kind."""


@dataclass(frozen=True, slots=True)
class Scheduling:
    """``signal_generation.scheduling``."""

    interval: str | None = None
    """Only closes on this interval emit; None: all."""
    buffer_minutes: float = 2.0
    """How long after its close a missing bar is waited for before it is fetched."""


@dataclass(frozen=True, slots=True)
class SignalGeneration:
    """``signal_generation``."""

    mode: str
    warmup: Warmup
    scheduling: Scheduling
    sinks: tuple[SinkConfig, ...]
    delivery: Mapping[str, Any]
    catch_up: str = "all"


@dataclass(frozen=True, slots=True)
class Training:
    """``training``: how ``alpha_forge train`` makes the model's checkpoint. Optional."""

    target: str = "forward_return"
    horizon: int = 1
    """Bars ahead."""
    history_days: float | None = None
    """History to train on; None: ten times the warm-up's, at least 30 days."""
    validation_fraction: float = 0.2
    epochs: int = 30
    patience: int = 5
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    """Passed to the model's ``fit`` (hidden size, learning rate …)."""


@dataclass(frozen=True, slots=True)
class Document:
    """A whole configuration."""

    name: str
    capabilities: tuple[str, ...]
    signal: SignalGeneration
    steps: tuple[Step, ...]
    training: Training
    source: Source
    partial: bool = False
    """Steps or sinks with mistakes were left out: the rest can be checked one by one, not as a graph."""
