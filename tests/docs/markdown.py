"""Code blocks of a Markdown page, and what a comment right before one tells the tests about it.

A comment is ``<!-- test: WORD -->`` or ``<!-- test: WORD VALUE -->``; it doesn't show on the rendered page.

==================  ==========================================================================================
``file PATH``       the block is the content of a file of the reader's: it is written there
``exits N``         the commands of the block end with exit code N
``output``          every line of the block was printed by the block before it; ``…`` stands for anything
``installs PATH``   ``pip install`` of the project in PATH: its metadata is put on the path, nothing is downloaded
``specimen NAME``   the source of a broken plugin of the kit's zoo, ``module:class``: its self-test runs it
``skip REASON``     the block is not run, because REASON
==================  ==========================================================================================
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

WORDS = ("file", "exits", "output", "installs", "specimen", "skip")
_COMMENT = re.compile(r"<!-- test: (\w+)(?: (.*?))? -->")
_FENCE = re.compile(r"(\s*)```(\w*)\s*")


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block: its language, its text, the line it begins at, and the word before it, if any."""

    language: str
    text: str
    line: int
    word: str = ""
    value: str = ""


def blocks(page: Path) -> list[Block]:
    """Every fenced block of `page`, in order. Raises ValueError for a comment that means nothing."""
    found: list[Block] = []
    lines = page.read_text(encoding="utf-8").splitlines()
    at, word, value = 0, "", ""
    while at < len(lines):
        comment = _COMMENT.fullmatch(lines[at].strip())
        fence = _FENCE.fullmatch(lines[at])
        if comment is not None:
            word, value = comment[1], comment[2] or ""
            if word not in WORDS or (word != "output" and not value):
                raise ValueError(f"{page}:{at + 1}: '{lines[at].strip()}' means nothing")
        elif fence is not None:
            end = at + 1
            while lines[end].strip() != "```":
                end += 1
            text = "\n".join(line.removeprefix(fence[1]) for line in lines[at + 1 : end]) + "\n"
            found.append(Block(fence[2], text, at + 1, word, value))
            at, word, value = end, "", ""
        elif lines[at].strip() and word:
            raise ValueError(f"{page}:{at + 1}: a test comment must stand right before a block")
        at += 1
    return found


def links(page: Path) -> list[str]:
    """Targets of the page's links that are files, without their anchors; code is left out."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)(?: \"[^\"]*\")?\)", text)
    return [t.partition("#")[0] for t in targets if "://" not in t and not t.startswith("#")]
