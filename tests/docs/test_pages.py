"""What the pages show works: every command, program and configuration, in the order of the page."""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from alpha_forge.cli import COMMANDS
from alpha_forge.dsl.document import STEP_KINDS, Scheduling, Training, Warmup
from alpha_forge.dsl.shape import TOP_KEYS
from alpha_forge_sdk.conformance.suite import all_checks
from tests.docs.fragments import compiled
from tests.docs.markdown import Block, blocks, links
from tests.docs.reader import ROOT, Reader

TYPED = ("bash", "python")
OTHERS = {"text", "toml", "json", "csv", ""}


def _is_done(block: Block) -> bool:
    """Whether a reader does something with it."""
    return block.word != "specimen" and (block.language in TYPED or bool(block.word))


# errors.md is tested with the codes it explains, example packs where they are built and installed.
PAGES = sorted(
    page
    for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md"))
    if page.name != "errors.md" and "plugin_packs" not in page.parts
)
ACTED = [page for page in PAGES if any(_is_done(b) for b in blocks(page))]


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where trained checkpoints are kept for the next page."""
    return tmp_path_factory.mktemp("checkpoints")


@pytest.mark.parametrize("page", ACTED, ids=_name)
def test_what_a_page_tells_to_do_works(page: Path, tmp_path: Path, store: Path) -> None:
    Reader(tmp_path / "reader", store).follow(blocks(page))


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_configuration_shown_compiles(page: Path, tmp_path: Path) -> None:
    for block in blocks(page):
        if block.language == "yaml" and block.word not in ("skip", "file"):
            compiled(block.text, tmp_path)


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_block_is_run_or_is_no_code(page: Path) -> None:
    known = {*TYPED, "yaml", *OTHERS}
    assert {block.language for block in blocks(page)} <= known


def test_few_blocks_are_skipped_and_each_says_why() -> None:
    every = [(_name(page), block) for page in PAGES for block in blocks(page)]
    skipped = [(name, block) for name, block in every if block.word == "skip"]
    for name, block in skipped:
        assert len(block.value.split()) >= 3, f"{name}:{block.line} does not say why"
    assert len(skipped) <= 12


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_lead_somewhere(page: Path) -> None:
    dead = [target for target in links(page) if not (page.parent / target).exists()]
    assert not dead


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_pages_know_no_machine_but_the_readers(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"\.\./shared|/(?:work|home|root|tmp)/|index-url", text)


def test_every_page_can_be_found_from_the_index() -> None:
    index = ROOT / "docs" / "index.md"
    checks = ROOT / "docs" / "checks" / "index.md"
    listed = {(page.parent / target).resolve() for page in (index, checks) for target in links(page)}
    missing = {page.resolve() for page in ROOT.glob("docs/**/*.md")} - listed - {index.resolve()}
    assert not missing


def test_the_reference_pages_are_those_of_this_code() -> None:
    """``python docs/generate.py`` writes them anew."""
    pages = _generator("generate").pages().items()
    stale = [_name(path) for path, text in pages if not path.exists() or path.read_text("utf-8") != text]
    assert not stale, f"stale: {', '.join(stale)}; run: python docs/generate.py"


def test_the_pages_of_the_checks_are_those_of_this_kit() -> None:
    """Each check has a docstring that says why it exists, and a plugin that fails it; or no page can be made."""
    stale = [_name(path) for path in _generator("generate_checks").stale()]
    assert not stale, f"stale: {', '.join(stale)}; run: python docs/generate_checks.py"


@pytest.mark.parametrize("page", sorted(ROOT.glob("docs/authors/*.md")), ids=_name)
def test_a_link_to_a_check_means_the_check_of_that_number(page: Path) -> None:
    """Its title stands in the link: a number that has gone to another check is found."""
    titles = {c.id: c.title.replace("`", "") for c in all_checks()}
    for found, title in re.findall(r'checks/(AF-\w+)\.md(?: "([^"]*)")?\)', page.read_text(encoding="utf-8")):
        assert title == titles[found], found


def _specimens() -> Iterator[tuple[str, Block]]:
    for page in PAGES:
        yield from ((_name(page), block) for block in blocks(page) if block.word == "specimen")


def test_a_specimen_is_in_the_zoo_as_it_is_shown() -> None:
    source_of = _generator("generate_checks").source_of
    for name, block in _specimens():
        module, _, found = block.value.partition(":")
        cls = getattr(importlib.import_module(module), found)
        assert block.text == source_of(cls), f"{name}:{block.line}"


def _generator(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"docs_{name}", ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_dsl_reference_has_every_key() -> None:
    text = (ROOT / "docs" / "reference" / "dsl.md").read_text(encoding="utf-8")
    keys = {*TOP_KEYS, *STEP_KINDS}
    for shape in (Warmup, Scheduling, Training):
        keys |= set(shape.__dataclass_fields__)
    # Keys of step, sink and delivery stand in the shape's functions alone; an unknown one lists them.
    keys |= {"mode", "on_prediction", "delivery", "catch_up", "inputs", "outputs", "params", "on", "emits"}
    keys |= {"column", "durability", "max_backlog", "on_backlog", "drain_seconds"}
    keys |= {"timeout", "max_batch", "retries", "capabilities"}
    assert not {key for key in keys if f"`{key}`" not in text}


def test_the_readme_shows_the_example_that_ships() -> None:
    shown = next(b.text for b in blocks(ROOT / "README.md") if b.language == "yaml")
    example = ROOT / "examples" / "08_signal_generation" / "minimal_signal_generation.yaml"
    ships = yaml.safe_load(example.read_text(encoding="utf-8"))
    ships.pop("training")
    assert yaml.safe_load(shown) == ships


def test_the_readme_names_every_command() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert not {name for name in COMMANDS if f"`alpha_forge {name}" not in text}


class TestMarkdown:
    """The reader of pages itself: a block that it doesn't see is a block that isn't tested."""

    def read(self, tmp_path: Path, text: str) -> list[Block]:
        page = tmp_path / "page.md"
        page.write_text(text)
        return blocks(page)

    def test_blocks_in_lists_lose_their_indentation(self, tmp_path: Path) -> None:
        found = self.read(tmp_path, "1. do\n\n   ```bash\n   ls\n     -l\n   ```\n")
        assert found == [Block("bash", "ls\n  -l\n", 3)]

    def test_the_comment_before_a_block_belongs_to_it_alone(self, tmp_path: Path) -> None:
        text = "<!-- test: file a/b.py -->\n```python\nx = 1\n```\n\n```bash\nls\n```\n"
        found = self.read(tmp_path, text)
        assert [(b.word, b.value) for b in found] == [("file", "a/b.py"), ("", "")]

    @pytest.mark.parametrize("comment", ["<!-- test: skip -->", "<!-- test: skp it takes long -->"])
    def test_a_comment_that_means_nothing_is_an_error(self, tmp_path: Path, comment: str) -> None:
        with pytest.raises(ValueError, match="means nothing"):
            self.read(tmp_path, f"{comment}\n```bash\nls\n```\n")

    def test_a_comment_that_lost_its_block_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="right before a block"):
            self.read(tmp_path, "<!-- test: exits 2 -->\nSome text.\n```bash\nls\n```\n")


class TestReader:
    """What a page promises and does not keep is found."""

    @pytest.mark.parametrize(
        ("made", "complaint"),
        [
            ([Block("bash", "false\n", 1)], "line 1: exit code 1"),
            ([Block("bash", "true\n", 1, "exits", "2")], "line 1"),
            ([Block("python", "raise SystemExit(3)\n", 1)], "line 1"),
            (
                [Block("bash", "echo a 1\n", 1), Block("text", "a 2\n", 3, "output")],
                "line 3: not printed: a 2",
            ),
        ],
    )
    def test_a_broken_promise_is_named_by_its_line(
        self, tmp_path: Path, made: list[Block], complaint: str
    ) -> None:
        with pytest.raises(AssertionError, match=complaint):
            Reader(tmp_path / "reader", tmp_path).follow(made)

    def test_folder_and_variables_last_from_block_to_block(self, tmp_path: Path) -> None:
        made = [
            Block("bash", "mkdir a && cd a\nx=5\n", 1),
            Block("python", "open('b', 'w').write('6')\n", 5),
            Block("bash", "echo $x $(cat b)\n", 9),
            Block("text", "5 …\n", 12, "output"),
        ]
        Reader(tmp_path / "reader", tmp_path).follow(made)
