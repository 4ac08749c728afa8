"""What the registry knows of each pack and each plugin, and the error it raises."""

from __future__ import annotations

from dataclasses import dataclass

from alpha_forge.contracts.errors import AlphaForgeError

OK = "ok"
BROKEN = "broken"
DUPLICATE = "duplicate"
INCOMPATIBLE = "incompatible"
BLOCKED = "blocked"


class RegistryError(AlphaForgeError):
    """A pack or plugin can't be used: unknown, broken, given twice, incompatible or blocked."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class PackRecord:
    """One entry point of the group ``alpha_forge``. ``name`` is the capability in the DSL.

    ``status`` is ``ok | broken | duplicate | incompatible | blocked``; ``cause`` says why it isn't ``ok``.
    """

    name: str
    distribution: str
    version: str
    status: str = OK
    cause: str = ""


@dataclass(frozen=True, slots=True)
class PluginRecord:
    """One plugin that a pack gives. Nothing of it has been imported.

    ``name`` is the DSL's (``sinks.parquet``), ``kind`` its prefix, ``target`` the ``module:attribute``
    behind it, ``summary`` the first line of its docstring, read from the source. ``status`` is ``ok |
    broken | duplicate``; ``cause`` says why it isn't ``ok``.
    """

    name: str
    kind: str
    pack: str
    distribution: str
    version: str
    status: str
    cause: str
    summary: str
    target: str

    @property
    def qualified(self) -> str:
        """``pack:name``: the form that stays clear when two packs give one name."""
        return f"{self.pack}:{self.name}"
