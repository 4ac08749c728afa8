"""Writes the pages of the conformance kit's checks: ``python docs/generate_checks.py``.

A page for each check, and ``checks/index.md``. Why it exists is the docstring of the check's function, the failing
example is the source of the broken plugin in the kit's zoo that proves the check. A test fails if the pages in the
repository are not what this makes, if a check has no docstring, or no broken plugin.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

CHECKS = Path(__file__).resolve().parent / "checks"
NOTE = "<!-- Made by docs/generate_checks.py; do not edit. -->\n"
SECTIONS = {
    "AF-P": ("Every kind", ""),
    "AF-F": ("Features", "feature.md"),
    "AF-T": ("Transforms", "transform.md"),
    "AF-M": ("Models", "model.md"),
    "AF-D": ("Data sources", "data-source.md"),
    "AF-S": ("Sinks", "sink.md"),
}
"""What an id begins with → the title of its section, and the page of that kind among the authors' pages."""


def pages() -> dict[Path, str]:
    """Path → text of every page. Raises ValueError for a check that can't be explained."""
    from alpha_forge_sdk.conformance.suite import all_checks

    specimens = _specimens()
    checks = sorted(all_checks(), key=lambda c: [*SECTIONS].index(c.id[:4]) * 1000 + int(c.id[4:]))
    made = {CHECKS / f"{c.id}.md": _page(c, specimens.get(c.id, ())) for c in checks}
    return {CHECKS / "index.md": _index(checks), **made}


def _specimens() -> Mapping[str, Sequence[Any]]:
    """Check → the broken plugins that prove it, in the order of the zoo."""
    from alpha_forge_sdk.conformance.zoo import MODULES

    found: defaultdict[str, list[Any]] = defaultdict(list)
    for name in MODULES:
        for specimen in import_module(f"alpha_forge_sdk.conformance.zoo.{name}").BROKEN:
            found[specimen.check].append(specimen)
    return found


def _index(checks: Sequence[Any]) -> str:
    parts = [
        "# Checks of the conformance kit\n",
        NOTE,
        f"{len(checks)} checks. Each page says why the check exists, shows a plugin that fails it, and how to mend it. "
        "Which checks run follows from what a plugin declares; [how to validate a plugin](../authors/validate.md) says "
        "more.\n",
    ]
    for prefix, (title, about) in SECTIONS.items():
        own = [c for c in checks if c.id.startswith(prefix)]
        told = f": [the contract](../authors/{about})" if about else ""
        parts.append(f"## {title}\n\n{len(own)} checks{told}.\n")
        rows = "".join(f"| [{c.id}]({c.id}.md) | {_cell(c.title)} |\n" for c in own)
        parts.append(f"| check | what must hold |\n| --- | --- |\n{rows}")
    return "\n".join(parts)


def _page(check: Any, specimens: Sequence[Any]) -> str:
    why = inspect.getdoc(check.run)
    if not why:
        raise ValueError(f"{check.id} has no docstring that says why it exists: {check.run.__qualname__}")
    if not specimens:
        raise ValueError(f"{check.id} has no broken plugin in the zoo")
    title, about = SECTIONS[check.id[:4]]
    parts = [f"# {check.id}: {check.title}\n", NOTE]
    parts.append(
        f"{title}: [the contract](../authors/{about}).\n" if about else "For every kind of plugin.\n"
    )
    parts.append(f"## Why\n\n{_prose(why)}\n")
    count = len(specimens)
    heading = "A plugin that fails it" if count == 1 else f"{count} plugins that fail it"
    parts.append(f"## {heading}\n")
    parts += [_failing(check, specimen) for specimen in specimens]
    parts.append(f"## Mend\n\n{check.remedy[0].upper()}{check.remedy[1:].rstrip('.')}.\n")
    if check.needs:
        needed = ", ".join(f"[{id}]({id}.md)" for id in check.needs)
        parts.append(f"Skipped where one of these fails, because nothing could be judged then: {needed}.\n")
    return "\n".join(parts)


def _failing(check: Any, specimen: Any) -> str:
    plugin = specimen.case.plugin_class()
    # What is wrong may be the case, and the plugin a correct one.
    shown = specimen.case if _is_written(specimen.case) else plugin
    parts = [
        f"<!-- test: specimen {shown.__module__}:{shown.__qualname__} -->\n```python\n{source_of(shown)}```\n"
    ]
    base = shown.__mro__[1]
    if base.__module__.startswith("alpha_forge_sdk.conformance.zoo"):
        said = _prose((inspect.getdoc(base) or "").splitlines()[0])
        parts.append(f"It derives from `{base.__name__}`: {said}\n")
    parts.append(f"The kit says:\n\n```text\nFAIL {check.id} {check.title}\n    … {specimen.says} …\n```\n")
    return "\n".join(parts)


def _is_written(case: type) -> bool:
    """Whether the case itself is part of the example: written for it, not made by a function for many."""
    return f"class {case.__name__}(" in Path(inspect.getfile(case)).read_text(encoding="utf-8")


def source_of(cls: type) -> str:
    """The source of a class of the zoo; of a module that is there for the class alone, all but its docstring."""
    path = Path(inspect.getfile(cls))
    if path.stem.startswith("imports_"):
        return path.read_text(encoding="utf-8").partition('"""\n')[2].lstrip()
    return inspect.getsource(cls)


def _prose(text: str) -> str:
    return re.sub(r"``([^`]+)``", r"`\1`", text).strip()


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def stale() -> Iterator[Path]:
    """Pages in the repository that are not what this makes; those that are no longer made, too."""
    made = pages()
    yield from (p for p, text in made.items() if not p.exists() or p.read_text(encoding="utf-8") != text)
    yield from (p for p in CHECKS.glob("*.md") if p not in made)


def write() -> None:
    """Write every page, and remove those of checks that are gone."""
    CHECKS.mkdir(exist_ok=True)
    made = pages()
    for path in CHECKS.glob("*.md"):
        if path not in made:
            path.unlink()
    for path, text in made.items():
        path.write_text(text, encoding="utf-8")
    print(f"{len(made)} pages in {CHECKS}")


if __name__ == "__main__":
    sys.exit(write())
