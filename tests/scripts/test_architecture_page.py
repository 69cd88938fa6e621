"""The page that is drawn from the import graph, and the files that pages name."""

from __future__ import annotations

import re

import pytest
from scripts.architecture import BEGIN, END, arrows, picture, renewed
from scripts.sources import ROOT

NAMED = re.compile(r"`((?:[a-z_0-9]+/)+[a-z_0-9]+\.(?:py|toml|yml))`")
HOMES = ("", "server/trunkline/", "protocol/")
PAGES = ("CONTRIBUTING.md", "docs/architecture.md")


def test_what_stands_around_the_generated_part_stays() -> None:
    page = renewed(f"before\n{BEGIN}\noutdated\n{END}\nafter")
    assert page.startswith("before\n")
    assert page.endswith("\nafter")
    assert "outdated" not in page


def test_a_page_without_the_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="lacks"):
        renewed("nothing of that kind")


def test_arrows_are_drawn_as_the_sources_have_them() -> None:
    found = arrows()
    assert ("edge", "hub") in found
    assert not {(importer, room) for importer, room in found if (room, importer) in found}, "rooms import each other"
    assert "  edge --> hub" in picture(found).splitlines()


@pytest.mark.parametrize("page", PAGES)
def test_files_that_a_page_names_are_there(page: str) -> None:
    named = NAMED.findall((ROOT / page).read_text())
    assert named, "this test looks for nothing"
    missing = [name for name in named if not any((ROOT / home / name).exists() for home in HOMES)]
    assert not missing
