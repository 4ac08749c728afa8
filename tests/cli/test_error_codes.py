"""Every code in the source has its entry in the documentation, and the other way round."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXAMPLES = {"AF1234"}
"""Stands for any code where the form of a message is shown."""


def codes_in_source() -> dict[str, str]:
    """Code → a file that has it."""
    found: dict[str, str] = {}
    for folder in ("core", "sdk", "plugins_builtin"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            for code in re.findall(r"\bAF\d{4}\b", file.read_text(encoding="utf-8")):
                found.setdefault(code, str(file.relative_to(ROOT)))
    return {code: file for code, file in found.items() if code not in EXAMPLES}


def test_every_code_is_explained() -> None:
    headings = re.findall(
        r"^## (AF\d{4})$", (ROOT / "docs/errors.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert headings == sorted(set(headings)), "one entry for each code, in order"
    source = codes_in_source()
    missing = {code: file for code, file in sorted(source.items()) if code not in headings}
    assert not missing, f"docs/errors.md lacks {missing}"
    assert not set(headings) - set(source), "explained, but raised nowhere"
