"""YAML text → `Document`: positions, shape, expansion, and the checking of parameters."""

from __future__ import annotations

from alpha_forge.dsl.diagnostics import ConfigError, Diagnostic, Diagnostics, Source
from alpha_forge.dsl.document import Document, EnvRef, SinkConfig, Step
from alpha_forge.dsl.parser import parse, parse_file

__all__ = [
    "ConfigError",
    "Diagnostic",
    "Diagnostics",
    "Document",
    "EnvRef",
    "SinkConfig",
    "Source",
    "Step",
    "parse",
    "parse_file",
]
