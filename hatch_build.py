"""Puts the sink's template into the wheel, beside those of the other kinds.

It lives in ``cookiecutter-sink/`` so that plain cookiecutter can use it. Not ``force-include``: that would copy it
into site-packages for editable installs too, where the copy goes stale.
"""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class TemplateHook(BuildHookInterface[Any]):
    """Runs when a wheel is built."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "standard":
            build_data["force_include"]["cookiecutter-sink"] = "alpha_forge_sdk/scaffold/templates/sink"
