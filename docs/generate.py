"""Writes the pages that come from the code: ``python docs/generate.py``. Those of the checks: `generate_checks`.

``reference/cli.md`` from the commands' help, ``reference/plugins.md`` from the installed built-in packs,
``reference/contracts.md`` from the docstrings of what ``alpha_forge_sdk`` offers, ``reference/faults.md`` from the
vocabulary of the sandbox's fault scripts. A test fails if the pages in the
repository are not what this makes.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

REFERENCE = Path(__file__).resolve().parent / "reference"
NOTE = "<!-- Made by docs/generate.py; do not edit. -->\n"
WIDTH = 100

KINDS = {
    "data": "Data sources",
    "transforms": "Transforms",
    "features": "Features",
    "models": "Models",
    "sinks": "Sinks",
}
SECTIONS = {
    "Every plugin": ("Plugin", "Params", "hookimpl"),
    "Features": ("Feature", "feature", "RecursiveFeature"),
    "Transforms": ("Transform", "Interval"),
    "Models": ("Model", "ModelSpec"),
    "Data sources": ("DataSource", "SourceContext", "Clock", "MarketEvent", "Bar", "BarBlock"),
    "Sinks": ("Sink", "Prediction", "RetryLater", "Rejected"),
    "Errors": ("AlphaForgeError", "MissingExtraError", "ModelError", "PluginError", "SourceError"),
}


def pages() -> dict[Path, str]:
    """Path → text of every page."""
    return {
        REFERENCE / "cli.md": cli(),
        REFERENCE / "plugins.md": plugins(),
        REFERENCE / "contracts.md": contracts(),
        REFERENCE / "faults.md": faults(),
    }


def cli() -> str:
    """Help of every command, as ``-h`` prints it."""
    import click

    from alpha_forge.cli import main

    parts = [
        "# Command line\n",
        NOTE,
        "Results go to standard output, logs and errors to standard error. `-h` works everywhere.\n",
        "| exit code | meaning |\n| --- | --- |\n"
        "| 0 | done |\n"
        "| 1 | it ran, and something it checked does not hold |\n"
        "| 2 | wrong usage, or a configuration that does not compile |\n"
        "| 3 | a source, a service or a sink failed for good |\n"
        "| 130 | interrupted by Ctrl-C |\n",
    ]

    def add(command: click.Command, path: str, parent: click.Context | None) -> None:
        context = click.Context(
            command,
            parent=parent,
            info_name=path.split()[-1],
            terminal_width=WIDTH,
            max_content_width=WIDTH,
            **command.context_settings,
        )
        help = command.get_help(context).replace(context.command_path, path, 1)
        parts.append(f"## {path}\n\n```text\n{help.rstrip()}\n```\n")
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                below = command.get_command(context, name)
                assert below is not None
                add(below, f"{path} {name}", context)

    add(main, "alpha_forge", None)
    return "\n".join(parts)


def faults() -> str:
    """Every kind of fault that a script of the sandbox may name."""
    from alpha_forge_sdk.sandbox.hostile.examples import EXAMPLES
    from alpha_forge_sdk.sandbox.hostile.kinds import EFFECTS, KINDS, SECTIONS

    parts = [
        "# Faults of the sandbox\n",
        NOTE,
        "The kinds that a rule of a [fault script](../sandbox.md) may name. The effect says what a client can be "
        "expected to make of a fault:\n",
        "\n".join(f"- `{name}`: {about}" for name, about in EFFECTS.items()) + "\n",
    ]
    for title, names in SECTIONS.items():
        parts.append(f"## {title}\n")
        for name in names:
            kind = KINDS[name]
            parts.append(f"### {name}\n\n{kind.about} Effect: `{kind.effect}`.\n")
            rows = [
                f"| `{key}` | {o.values()} | {o.default_text()} | {o.about} |"
                for key, o in kind.options.items()
            ]
            if rows:
                head = "| option | value | default | meaning |\n| --- | --- | --- | --- |\n"
                parts.append(head + "\n".join(rows) + "\n")
            parts.append(f"```text\n- {EXAMPLES[name]}\n```\n")
    return "\n".join(parts)


def plugins() -> str:
    """Parameters and guarantees of every built-in plugin."""
    from alpha_forge.cli.plugins import describe
    from alpha_forge.registry import discover

    catalogue = discover(capabilities=("shared", "middlefreq"))
    parts = [
        "# Built-in plugins\n",
        NOTE,
        "The packs `shared` (data sources, transforms, sinks) and `middlefreq` (features, models) come with Alpha "
        "Forge. `alpha_forge plugins list` shows what is installed, third-party packs included; `alpha_forge plugins "
        "show NAME` prints what stands here, for any of them. Look-backs are those of the example's parameters.\n",
    ]
    for kind, title in KINDS.items():
        parts.append(f"## {title}\n")
        for record in catalogue.plugins:
            if record.kind == kind:
                parts.append(_plugin(describe(record, catalogue.load(record), catalogue)))
    return "\n".join(parts)


def _plugin(said: Mapping[str, Any]) -> str:
    parts = [f"### {said['name']}\n\nPack `{said['pack']}`.\n", f"{_prose(said['doc'])}\n"]
    if said["parameters"]:
        rows = [(f"`{p['name']}`", _type(p), _default(p), p["description"]) for p in said["parameters"]]
        parts.append(_table(("parameter", "type", "default", "meaning"), rows))
    else:
        parts.append("No parameters.\n")
    promises = "; ".join(f"{key} {_shown(value)}" for key, value in said["guarantees"].items())
    parts.append(f"Guarantees: {promises}.\n")
    parts.append(f"```yaml\n{said['example'].rstrip()}\n```\n")
    return "\n".join(parts)


def _type(parameter: Mapping[str, Any]) -> str:
    notes = [parameter["type"], parameter["bounds"], "secret" if parameter["secret"] else ""]
    return ", ".join(filter(None, notes))


def _default(parameter: Mapping[str, Any]) -> str:
    if parameter["required"]:
        return "required"
    return "-" if parameter["default"] is None else f"`{parameter['default']}`"


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(f"`{item}`" for item in value) or "nothing"
    return f"`{value}`"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(" ".join(c.replace("|", "\\|").split()) for c in cells) + " |"

    head = tuple(head)
    return "\n".join((line(head), line("---" for _ in head), *(line(row) for row in rows))) + "\n"


def contracts() -> str:
    """Signatures and docstrings of the public base classes, of what passes between them, and of the kernels."""
    import alpha_forge_sdk
    from alpha_forge.contracts.hookspecs import KIND_OF_HOOK, PackHooks

    parts = [
        "# Contracts\n",
        NOTE,
        "What a plugin author may rely on. Everything here is imported from `alpha_forge_sdk`.\n",
    ]
    for title, names in SECTIONS.items():
        parts.append(f"## {title}\n")
        if title == "Every plugin":
            hooks = [
                (f"`{hook}`", f"`{kind}.*`", _prose(inspect.getdoc(getattr(PackHooks, hook)) or ""))
                for hook, kind in KIND_OF_HOOK.items()
            ]
            parts.append('A pack\'s hooks return `{name: "module:attribute"}`:\n')
            parts.append(_table(("hook", "named in the DSL", "what"), hooks))
        parts += [_public(name, getattr(alpha_forge_sdk, name)) for name in names]
    parts.append("## Kernels\n")
    parts.append(f"{_prose(inspect.getdoc(alpha_forge_sdk.kernels) or '')}\n")
    for name in alpha_forge_sdk.kernels.__all__:
        parts.append(_public(name, getattr(alpha_forge_sdk.kernels, name)))
    return "\n".join(parts)


def _public(name: str, value: Any) -> str:
    doc = f"{_prose(inspect.getdoc(value) or '')}\n"
    if name == "hookimpl":
        return f"### {name}\n\nMarks a function of a pack's `__init__` as a hook: `@hookimpl`.\n"
    value = inspect.unwrap(value)
    if not inspect.isclass(value):
        return f"### {name}\n\n```text\n{name}{_signature(value)}\n```\n\n{doc}"
    bases = ", ".join(b.__name__ for b in value.__bases__ if b not in (object, tuple, Exception))
    parts = [f"### {name}{f' ({bases})' if bases else ''}\n", doc]
    rows = list(_members(value))
    if rows:
        parts.append(_table(("member", "what"), rows))
    return "\n".join(parts)


def _signature(function: Any) -> str:
    try:
        text = str(inspect.signature(function))
    except ValueError:
        return "(…)"
    text = re.sub(r"npt\.NDArray\[[^\]]*\]+|ndarray\[[^>]*?\]\]", "Array", text.replace("'", ""))
    return re.sub(r"\b(?:[a-z_]+\.)+(?=[A-Za-z])", "", text)


def _members(cls: type) -> Iterable[tuple[str, str]]:
    """(name, text) of a class's own public attributes and methods, in the order of the source."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    body = tree.body[0].body  # type: ignore[attr-defined]
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            name = node.target.id
            if name.startswith("_"):
                continue
            default = f" = {ast.unparse(node.value)}" if node.value is not None else ""
            text = ""
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                text = inspect.cleandoc(str(after.value.value))
            kind = ast.unparse(node.annotation).removeprefix("ClassVar[")
            kind = kind.removesuffix("]") if kind != ast.unparse(node.annotation) else kind
            yield f"`{name}: {kind}{default}`".replace("_params.", ""), _prose(text)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            doc = ast.get_docstring(node) or ""
            word = "async " if isinstance(node, ast.AsyncFunctionDef) else ""
            arguments = ast.unparse(node.args).replace("self, ", "").replace("cls, ", "")
            arguments = arguments if arguments not in ("self", "cls") else ""
            returns = f" → {ast.unparse(node.returns)}" if node.returns is not None else ""
            call = f"({arguments})" if not _is_property(node) else ""
            yield f"`{word}{node.name}{call}{returns}`", _prose(doc)


def _is_property(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(isinstance(d, ast.Name) and d.id == "property" for d in node.decorator_list)


def _prose(text: str) -> str:
    """A docstring as Markdown: ``code`` as `code`."""
    return re.sub(r"``([^`]+)``", r"`\1`", text).strip()


def write() -> None:
    """Write every page, those of the conformance kit's checks too."""
    import generate_checks  # beside this file, which is where Python looks when this is run

    REFERENCE.mkdir(exist_ok=True)
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
        print(path)
    generate_checks.write()


if __name__ == "__main__":
    sys.exit(write())
