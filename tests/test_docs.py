"""What every Markdown page keeps: short lines, links that lead somewhere, a place in the index; and what pages have."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from typer.core import TyperGroup
from typer.main import get_group

from tests.support.pages import REPOSITORY, anchors_of, blocks_of, links_of, pages
from trunkline.cli.main import app

PAGES: Final = pages()
WIDTH: Final = 140
INDEX: Final = REPOSITORY / "docs" / "index.md"

each_page = pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(REPOSITORY)) for page in PAGES])


@each_page
def test_lines_are_short(page: Path) -> None:
    lines = page.read_text().splitlines()
    long = [number for number, line in enumerate(lines, 1) if len(line) > WIDTH]
    assert long == []


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    for link in links_of(page):
        name, _, anchor = link.partition("#")
        if name.startswith(("https://", "http://")):
            continue
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors_of(target), link


@each_page
def test_json_parses(page: Path) -> None:
    for block in blocks_of(page):
        if block.language == "json":
            assert values_of(block.code), str(block)


def values_of(code: str) -> list[object]:
    """One JSON value, or one a line."""
    try:
        return [json.loads(code)]
    except json.JSONDecodeError:
        return [json.loads(line) for line in code.splitlines()]


def test_tests_that_security_names_are_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", (REPOSITORY / "SECURITY.md").read_text()))
    sources = [path.read_text() for path in (REPOSITORY / "tests").rglob("test_*.py")]
    there = {name for text in sources for name in re.findall(r"^(?:async )?def (test_\w+)", text, re.MULTILINE)}
    assert len(named) > 30
    assert named - there == set()


def test_the_index_has_every_page() -> None:
    linked = {(INDEX.parent / link.partition("#")[0]).resolve() for link in links_of(INDEX)}
    wanted = {page for page in PAGES if page.parent == INDEX.parent and page != INDEX}
    others = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "protocol/SPEC.md", "clients/js/README.md")
    assert (wanted | {REPOSITORY / name for name in others}) - linked == set()
    assert "docs/index.md" in links_of(REPOSITORY / "README.md")


def commands(group: TyperGroup, name: str = "trunkline") -> Iterator[tuple[str, str | None]]:
    """Each command of a group as it is typed, and its help."""
    for word, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from commands(command, f"{name} {word}")
        else:
            yield f"{name} {word}", command.help


@pytest.mark.parametrize(("command", "words"), list(commands(get_group(app))))
def test_a_command_is_on_a_page_and_has_help(command: str, words: str | None) -> None:
    assert words
    assert any(command in page.read_text() for page in PAGES if page.name != "CHANGELOG.md")
