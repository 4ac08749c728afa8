"""Makes a pack: checks what was asked for, then renders the template of its kind with cookiecutter."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from alpha_forge.contracts.errors import MissingExtraError, did_you_mean
from alpha_forge_sdk.scaffold.names import ScaffoldError, check_name, check_package, check_text
from alpha_forge_sdk.scaffold.templates import assemble, settings

__all__ = ["NewPack", "ScaffoldError", "new_pack", "options_of"]


@dataclass(frozen=True, slots=True)
class NewPack:
    """A pack that was made. ``plugin`` is the name in the DSL; ``files`` are relative to ``folder``."""

    folder: Path
    plugin: str
    distribution: str
    package: str
    files: tuple[str, ...]


def options_of(kind: str) -> dict[str, tuple[str, ...]]:
    """Options of the template of `kind` (``data``, ``transforms``, ``features``, ``models``, ``sinks``).

    Each with its choices, the first being the default; an option that takes any text has one choice: its default, which
    may be an expression over other options.
    """
    return {
        key: tuple(value) if isinstance(value, list) else (str(value),)
        for key, value in settings(kind).items()
        if not key.startswith("_") and key != "name"
    }


def new_pack(
    kind: str,
    name: str,
    output: Path = Path("."),
    options: Mapping[str, str] = MappingProxyType({}),
) -> NewPack:
    """Write the pack of a plugin `name` of `kind` into a new folder under `output`, named after the distribution.

    `options` are those of `options_of`. Nothing that exists is ever overwritten, and nothing is left behind where it
    fails. One at a time: cookiecutter changes the working directory while it works.

    Raises ScaffoldError: AF9010 a name that can't be used, AF9011 a name that is taken, AF9012 an option or choice that
    there is none of, AF9013 the folder exists, AF9014 it can't be written, AF9015 the template failed;
    MissingExtraError without cookiecutter.
    """
    _check_options(kind, options)
    check_name(kind, name)
    for key in ("description", "author"):
        if key in options:
            check_text(key, options[key])
    distribution = options.get("distribution", f"alpha-forge-{name.replace('_', '-')}")
    package = options.get("package", distribution.replace("-", "_"))
    check_package(distribution, package)
    folder = output / distribution
    if folder.exists() or folder.is_symlink():
        raise ScaffoldError("AF9013", f"{folder} exists already", "choose another name, or another --output")
    _render(kind, output, {**options, "name": name, "distribution": distribution, "package": package})
    files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    return NewPack(folder, f"{kind}.{name}", distribution, package, tuple(files))


def _check_options(kind: str, options: Mapping[str, str]) -> None:
    known = options_of(kind)
    for key, value in options.items():
        if key not in known:
            raise ScaffoldError(
                "AF9012", f"packs of {kind} have no option '{key}'", did_you_mean(key, list(known))
            )
        choices = known[key]
        if len(choices) > 1 and value not in choices:
            raise ScaffoldError(
                "AF9012", f"'{value}' is no choice of '{key}'", f"choose from {', '.join(choices)}"
            )


def _render(kind: str, output: Path, context: Mapping[str, Any]) -> None:
    """Render into a folder beside the target first: what fails halfway must leave nothing behind."""
    try:
        from cookiecutter.exceptions import CookiecutterException
        from cookiecutter.main import cookiecutter
    except ImportError as error:
        raise MissingExtraError("alpha_forge plugins new", "sdk") from error
    try:
        output.mkdir(parents=True, exist_ok=True)
        # In `output`, so that the last step is a rename within one file system.
        with tempfile.TemporaryDirectory(prefix=".alpha-forge-new-", dir=output) as folder:
            work = Path(folder)
            # cookiecutter reads the user's settings, and keeps a log in the home folder, unless told otherwise.
            config = work / "cookiecutter.yaml"
            config.write_text(
                json.dumps({key: str(work / key) for key in ("replay_dir", "cookiecutters_dir")})
            )
            template = assemble(kind, work / "template")
            made = cookiecutter(
                str(template),
                no_input=True,
                extra_context=dict(context),
                output_dir=str(work / "made"),
                config_file=str(config),
            )
            Path(made).rename(output / context["distribution"])
    except OSError as error:
        raise ScaffoldError(
            "AF9014",
            f"{output} can't be written: {error.strerror or error}",
            "give --output a folder you can write to",
        ) from error
    except CookiecutterException as error:
        raise ScaffoldError(
            "AF9015",
            f"the template of {kind} failed: {error}",
            "install alpha-forge again",
        ) from error
