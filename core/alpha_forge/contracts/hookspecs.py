"""The hooks of a pack. Import-light on purpose: this is all that discovery needs."""

from __future__ import annotations

import pluggy

PROJECT = "alpha_forge"
ENTRY_POINT_GROUP = "alpha_forge"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class PackHooks:
    """What a pack may offer. Each hook returns ``{name: "module:attribute"}``: strings, so nothing is imported."""

    @hookspec
    def alpha_forge_data_sources(self) -> dict[str, str]:  # type: ignore[empty-body]
        """Data sources; ``{"files": "acme.files:Files"}`` is named ``data.files`` in the DSL."""

    @hookspec
    def alpha_forge_transforms(self) -> dict[str, str]:  # type: ignore[empty-body]
        """Transforms, ``transforms.*`` in the DSL."""

    @hookspec
    def alpha_forge_features(self) -> dict[str, str]:  # type: ignore[empty-body]
        """Features, ``features.*`` in the DSL."""

    @hookspec
    def alpha_forge_models(self) -> dict[str, str]:  # type: ignore[empty-body]
        """Models, ``models.*`` in the DSL."""

    @hookspec
    def alpha_forge_sinks(self) -> dict[str, str]:  # type: ignore[empty-body]
        """Sinks, ``sinks.*`` in the DSL."""

    @hookspec
    def alpha_forge_conformance(self) -> dict[str, str]:  # type: ignore[empty-body]
        """Conformance cases by full plugin name: ``{"sinks.parquet": "acme.conformance:ParquetConformance"}``."""


KIND_OF_HOOK = {
    "alpha_forge_data_sources": "data",
    "alpha_forge_transforms": "transforms",
    "alpha_forge_features": "features",
    "alpha_forge_models": "models",
    "alpha_forge_sinks": "sinks",
}
"""Hook → the prefix of its plugins' names in the DSL."""
