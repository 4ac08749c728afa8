"""The templates, and where they are.

A kind's template is its own files, laid over those that all kinds share. The shared ones are the sink's: its template is
complete in itself, so that plain cookiecutter can use it.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from alpha_forge_sdk.scaffold.names import ScaffoldError

_HERE = Path(__file__).parent
_FOLDER_OF_KIND = {
    "data": "data",
    "transforms": "transform",
    "features": "feature",
    "models": "model",
    "sinks": "sink",
}
_SHARED_SOURCES = ("__init__.py", "py.typed")
"""Files of the sink's package that are the same for every kind."""


def folder_of(kind: str) -> Path:
    """The template of a kind. Raises ScaffoldError AF9015 if the installation lacks it."""
    folder = _HERE / _FOLDER_OF_KIND[kind]
    if kind == "sinks" and not folder.exists():
        folder = _HERE.parents[3] / "cookiecutter-sink"  # a checkout; a wheel has it beside the others
    if not (folder / "cookiecutter.json").exists():
        raise ScaffoldError("AF9015", f"the template of {kind} is missing", "install alpha-forge again")
    return folder


def settings(kind: str) -> dict[str, Any]:
    """The template's ``cookiecutter.json``: options with their defaults or choices, and what begins with _."""
    found: dict[str, Any] = json.loads((folder_of(kind) / "cookiecutter.json").read_text("utf-8"))
    return found


def assemble(kind: str, target: Path) -> Path:
    """Put the complete template of a kind together in `target`, a new folder; → `target`."""
    sink = folder_of("sinks")
    if kind == "sinks":
        shutil.copytree(sink, target, ignore=shutil.ignore_patterns("__pycache__"))
        return target

    def of_sinks(folder: str, names: list[str]) -> list[str]:
        if Path(folder).parent.name == "src":
            return [name for name in names if name not in _SHARED_SOURCES]
        own = ("cookiecutter.json", "README.md", "__pycache__", "local_*", "network_*")
        return list(shutil.ignore_patterns(*own)(folder, names))

    shutil.copytree(sink, target, ignore=of_sinks)
    shutil.copytree(
        folder_of(kind), target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
    )
    return target
