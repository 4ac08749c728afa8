"""A plugin's target looked up in the source of its module, without importing it."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.machinery import ModuleSpec

_FOLLOWED_IMPORTS = 5


@dataclass(frozen=True, slots=True)
class Found:
    """What the source says of a target: why it can't be there, if so, and its docstring's first line."""

    cause: str = ""
    summary: str = ""


UNREADABLE = Found()
"""The source can't be had (a compiled module), or makes the name as it runs: the benefit of the doubt."""


def look_up(target: str) -> Found:
    """Find ``module:attribute`` in the source.

    A module that isn't there, one that doesn't parse, and an attribute that its source never binds each
    give a cause. Names that come in by ``from … import`` are followed. Nothing is imported, the packages
    above the module included.
    """
    module, _, attribute = target.partition(":")
    try:
        return _look_up(module, attribute.split("."), _FOLLOWED_IMPORTS)
    except Exception:  # noqa: BLE001 - finders and loaders are foreign code; the import itself will tell
        return UNREADABLE


def _look_up(module: str, attributes: list[str], hops: int) -> Found:
    spec = _spec(module)
    if spec is None:
        return Found(f"there is no module '{module}'")
    get_source = getattr(spec.loader, "get_source", None)
    source = get_source(module) if get_source is not None else None
    if source is None:
        return UNREADABLE
    quick = _quickly(source, attributes)
    if quick is not None:
        return quick
    try:
        body: list[ast.stmt] = ast.parse(source).body
    except SyntaxError as error:
        return Found(f"SyntaxError: {error.msg} ({module}, line {error.lineno})")
    return _in_body(body, spec, attributes, hops)


def _in_body(body: list[ast.stmt], spec: ModuleSpec, attributes: list[str], hops: int) -> Found:
    node = _binding(body, attributes[0])
    if isinstance(node, ast.ImportFrom):
        return _follow(node, spec, attributes, hops)
    if isinstance(node, ast.ClassDef) and len(attributes) > 1:
        return _in_body(node.body, spec, attributes[1:], hops)
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        return Found(summary=_first_line(ast.get_docstring(node)))
    if node is None and not _dynamic(body):
        return Found(f"module '{spec.name}' has no '{'.'.join(attributes)}'")
    return UNREADABLE


def _follow(node: ast.ImportFrom, spec: ModuleSpec, attributes: list[str], hops: int) -> Found:
    original = next(a.name for a in node.names if (a.asname or a.name) == attributes[0])
    module = node.module or ""
    if node.level:
        package = spec.name if spec.submodule_search_locations is not None else spec.name.rpartition(".")[0]
        for _ in range(node.level - 1):
            package = package.rpartition(".")[0]
        module = f"{package}.{module}".strip(".")
    if not hops or _spec(module) is None:
        return UNREADABLE
    found = _look_up(module, [original, *attributes[1:]], hops - 1)
    # `from package import submodule` binds a name that the package's source doesn't.
    return found if not found.cause or _spec(f"{module}.{original}") is None else UNREADABLE


_HEADER = "^class {name}\\b"


def _quickly(source: str, attributes: list[str]) -> Found | None:
    """The class's summary from its own lines alone, or None where the whole source has to be parsed.

    Parsing every plugin's module costs more than all else in ``plugins list``.
    """
    if len(attributes) > 1:
        return None
    matches = list(re.finditer(_HEADER.format(name=re.escape(attributes[0])), source, re.MULTILINE))
    if len(matches) != 1:
        return None
    start = matches[0].start()
    if source.count('"""', 0, start) % 2 or source.count("'''", 0, start) % 2:
        return None  # within a text
    rest = re.compile(r"^[^\s#)\]}]", re.MULTILINE).search(source, matches[0].end())
    try:
        node = ast.parse(source[start : rest.start() if rest else len(source)]).body[0]
    except SyntaxError:
        return None  # a text in the class reaches the left edge, or the source is wrong: the parser will say
    return Found(summary=_first_line(ast.get_docstring(node))) if isinstance(node, ast.ClassDef) else None


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


def _spec(module: str) -> ModuleSpec | None:
    """The module's spec, step by step: `importlib.util.find_spec` would import the packages above it."""
    spec: ModuleSpec | None = None
    path: list[str] | None = None
    name = ""
    for part in module.split("."):
        name = f"{name}.{part}" if name else part
        loaded = sys.modules.get(name)
        spec = loaded.__spec__ if loaded is not None else _find(name, path)
        if spec is None:
            return None
        locations = getattr(loaded, "__path__", None) or spec.submodule_search_locations
        # A module that isn't a package has nothing under it.
        path = list(locations) if locations is not None else []
    return spec


def _find(name: str, path: list[str] | None) -> ModuleSpec | None:
    for finder in sys.meta_path:
        find_spec = getattr(finder, "find_spec", None)
        spec: ModuleSpec | None = find_spec(name, path) if find_spec is not None else None
        if spec is not None:
            return spec
    return None
