"""Which names a pack may have. Pure, but for the look at what is installed."""

from __future__ import annotations

import keyword
import re
import sys

from alpha_forge.contracts.errors import UsageError

LONGEST = 30
"""Letters of a plugin's name; lines of the rendered code stay within their length then."""

_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_DISTRIBUTION = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_OURS = ("alpha_forge", "alpha_forge_sdk", "alpha_forge_plugins")


class ScaffoldError(UsageError):
    """A pack can't be made as asked."""


def check_name(kind: str, name: str) -> None:
    """The plugin's name, which becomes the pack's too. Raises ScaffoldError AF9010, or AF9011 if either is taken."""
    if not _NAME.fullmatch(name) or len(name) > LONGEST or keyword.iskeyword(name):
        raise ScaffoldError(
            "AF9010",
            f"'{name}' can't be the name of a plugin: 1 to {LONGEST} small letters, digits and single _, beginning "
            "with a letter, and no keyword of Python",
            f"for example '{_mended(name) or 'my_plugin'}'",
        )
    from alpha_forge.registry import discover

    catalogue = discover()
    plugin = next((p for p in catalogue.plugins if p.name == f"{kind}.{name}"), None)
    if plugin is not None:
        raise ScaffoldError(
            "AF9011", f"{plugin.name} is given by the pack '{plugin.pack}' already", "choose another name"
        )
    if name in catalogue.installed:
        raise ScaffoldError(
            "AF9011",
            f"a pack '{name}' is installed already: two of one name make both unusable",
            "choose another name",
        )


def _mended(name: str) -> str:
    """The nearest name that would do, or nothing."""
    words = re.findall(r"[a-z0-9]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower())
    guess = "_".join(words).lstrip("0123456789_")[:LONGEST].rstrip("_")
    return guess if _NAME.fullmatch(guess) and not keyword.iskeyword(guess) else ""


def check_package(distribution: str, package: str) -> None:
    """Names of distribution and import package. Raises ScaffoldError AF9010, or AF9011 if one is somebody else's."""
    if not _DISTRIBUTION.fullmatch(distribution):
        raise ScaffoldError(
            "AF9010",
            f"'{distribution}' can't be the name of a distribution: small letters, digits and single -",
            "for example 'acme-sinks'",
        )
    if not _NAME.fullmatch(package) or keyword.iskeyword(package):
        raise ScaffoldError(
            "AF9010",
            f"'{package}' can't be the name of a package: small letters, digits and single _",
            "for example 'acme_sinks'",
        )
    if package in (*_OURS, "tests") or distribution == "alpha-forge" or package in sys.stdlib_module_names:
        raise ScaffoldError(
            "AF9011",
            f"the package '{package}' of the distribution '{distribution}' would hide another one of that name",
            "choose another name, or set --option package=…",
        )


def check_text(key: str, text: str) -> None:
    """A line that is put into TOML and docstrings as it is. Raises ScaffoldError AF9010."""
    if not text.strip() or len(text) > 100 or not text.isprintable() or set(text) & set('"\\'):
        raise ScaffoldError(
            "AF9010",
            f'the {key} is one line of 1 to 100 characters, without " and \\',
            "shorten it, or quote with '",
        )
