"""A plugin's target looked up in the source of its module, without importing it."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable
from importlib.machinery import ModuleSpec
from typing import NamedTuple

_FOLLOWED_IMPORTS = 5


class Found(NamedTuple):
    """What the source says of a target: why it can't be there, if so, and its docstring's first line."""

    cause: str = ""
    summary: str = ""


UNREADABLE = Found()
"""The source can't be had (a compiled module), or makes the name as it runs: the benefit of the doubt."""


class Targets:
    """Looks targets up; finds and reads each module once."""

    def __init__(self) -> None:
        self._specs: dict[str, ModuleSpec | None] = {}
        self._sources: dict[str, str | None] = {}

    def look_up(self, target: str) -> Found:
        """Find ``module:attribute`` in the source.

        A module that isn't there, one that doesn't parse, and an attribute that its source never binds each
        give a cause. Names that come in by ``from … import`` are followed. Nothing is imported, the packages
        above the module included.
        """
        module, _, attribute = target.partition(":")
        try:
            return self._look_up(module, attribute.split("."), _FOLLOWED_IMPORTS)
        except Exception:  # noqa: BLE001 - finders and loaders are foreign code; the import itself will tell
            return UNREADABLE

    def _look_up(self, module: str, attributes: list[str], hops: int) -> Found:
        spec = self._spec(module)
        if spec is None:
            return Found(f"there is no module '{module}'")
        source = self._source(spec)
        if source is None:
            return UNREADABLE
        quick = _quickly(source, attributes)
        if quick is not None:
            return quick
        try:
            body: list[ast.stmt] = ast.parse(source).body
        except SyntaxError as error:
            return Found(f"SyntaxError: {error.msg} ({module}, line {error.lineno})")
        return self._in_body(body, spec, attributes, hops)

    def _in_body(self, body: list[ast.stmt], spec: ModuleSpec, attributes: list[str], hops: int) -> Found:
        node = _binding(body, attributes[0])
        if isinstance(node, ast.ImportFrom):
            return self._follow(node, spec, attributes, hops)
        if isinstance(node, ast.ClassDef) and len(attributes) > 1:
            return self._in_body(node.body, spec, attributes[1:], hops)
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            return Found(summary=_first_line(ast.get_docstring(node)))
        if node is None and not _dynamic(body):
            return Found(f"module '{spec.name}' has no '{'.'.join(attributes)}'")
        return UNREADABLE

    def _follow(self, node: ast.ImportFrom, spec: ModuleSpec, attributes: list[str], hops: int) -> Found:
        original = next(a.name for a in node.names if (a.asname or a.name) == attributes[0])
        module = node.module or ""
        if node.level:
            package = (
                spec.name if spec.submodule_search_locations is not None else spec.name.rpartition(".")[0]
            )
            for _ in range(node.level - 1):
                package = package.rpartition(".")[0]
            module = f"{package}.{module}".strip(".")
        if not hops or self._spec(module) is None:
            return UNREADABLE
        found = self._look_up(module, [original, *attributes[1:]], hops - 1)
        # `from package import submodule` binds a name that the package's source doesn't.
        return found if not found.cause or self._spec(f"{module}.{original}") is None else UNREADABLE

    def _source(self, spec: ModuleSpec) -> str | None:
        if spec.name not in self._sources:
            get_source = getattr(spec.loader, "get_source", None)
            self._sources[spec.name] = get_source(spec.name) if get_source is not None else None
        return self._sources[spec.name]

    def _spec(self, module: str) -> ModuleSpec | None:
        """The module's spec, step by step: `importlib.util.find_spec` would import the packages above it."""
        if module in self._specs:
            return self._specs[module]
        parent = module.rpartition(".")[0]
        path: list[str] | None = None
        if parent:
            above = self._spec(parent)
            if above is None:
                return None
            loaded_parent = sys.modules.get(parent)
            locations = getattr(loaded_parent, "__path__", None) or above.submodule_search_locations
            # A module that isn't a package has nothing under it.
            path = list(locations) if locations is not None else []
        loaded = sys.modules.get(module)
        self._specs[module] = loaded.__spec__ if loaded is not None else _find(module, path)
        return self._specs[module]


def _quickly(source: str, attributes: list[str]) -> Found | None:
    """The class's summary from its first lines alone, or None where the whole source has to be parsed.

    Parsing every plugin's module would cost more than all else in ``plugins list``.
    """
    header = f"\nclass {attributes[0]}"
    start = source.find(header) + 1
    if len(attributes) > 1 or not start or source[start - 1 + len(header)] not in "(:":
        return None
    if (
        source.find(header, start) >= 0
        or source.count('"""', 0, start) % 2
        or source.count("'''", 0, start) % 2
    ):
        return None  # bound twice, or within a text
    first = source.find('"""', start)
    end = source.find('"""', first + 3)
    if first < 0 or end < 0:
        return None
    try:
        node = ast.parse(source[start : end + 3]).body[0]
    except SyntaxError:
        return None  # these are not the quotes of its docstring: the parser will say
    if not isinstance(node, ast.ClassDef):
        return None
    return Found(summary=_first_line(ast.get_docstring(node)))


def _first_line(docstring: str | None) -> str:
    return (docstring or "").strip().partition("\n")[0].strip()


def _binding(body: Iterable[ast.stmt], name: str) -> ast.stmt | None:
    """The last statement that binds `name`, looking into ``if``, ``try`` and ``with`` too."""
    found: ast.stmt | None = None
    for node in body:
        inner = _inner(node)
        if inner:
            found = _binding(inner, name) or found
        elif name in _bound(node):
            found = node
    return found


def _inner(node: ast.stmt) -> list[ast.stmt]:
    match node:
        case ast.If() | ast.For() | ast.While():
            return [*node.body, *node.orelse]
        case ast.With():
            return node.body
        case ast.Try():
            handlers = [statement for handler in node.handlers for statement in handler.body]
            return [*node.body, *handlers, *node.orelse, *node.finalbody]
    return []


def _bound(node: ast.stmt) -> list[str]:
    match node:
        case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
            return [node.name]
        case ast.Import() | ast.ImportFrom():
            return [(alias.asname or alias.name).partition(".")[0] for alias in node.names]
        case ast.Assign():
            return [n.id for target in node.targets for n in ast.walk(target) if isinstance(n, ast.Name)]
        case ast.AnnAssign():
            return [node.target.id] if isinstance(node.target, ast.Name) else []
    return []


def _dynamic(body: Iterable[ast.stmt]) -> bool:
    """True where a name may come from elsewhere: a star import, a module's ``__getattr__``, ``globals()``."""
    for node in body:
        if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
            return True
        if isinstance(node, ast.FunctionDef) and node.name == "__getattr__":
            return True
        if _dynamic(_inner(node)):
            return True
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
            if names & {"globals", "setattr", "exec", "vars"}:
                return True
    return False


def _find(name: str, path: list[str] | None) -> ModuleSpec | None:
    for finder in sys.meta_path:
        find_spec = getattr(finder, "find_spec", None)
        spec: ModuleSpec | None = find_spec(name, path) if find_spec is not None else None
        if spec is not None:
            return spec
    return None
