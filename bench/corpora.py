"""Question sets that nobody here wrote: the FAQs of Debian's documentation packages, answered from those packages.

A question is a heading of a FAQ; what answers it is the text of the section below that heading, from which the heading
is held out. The other pages of the same documentation are there to be mistaken for it. Sections are cut into
passages by the embedding model's own tokens; a passage found counts for the section it is from.

Packages: ``python3.11-doc`` (Sphinx), ``debian-faq`` and ``debian-reference-en`` (DocBook). ``make deps-debian``
installs them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lxml import html

PYTHON: Final = Path("/usr/share/doc/python3.11/html")
DEBIAN_FAQ: Final = Path("/usr/share/doc/debian/FAQ")
DEBIAN_REFERENCE: Final = Path("/usr/share/debian-reference")

PYTHON_PAGES: Final = ("faq", "tutorial", "howto", "reference", "using", "extending", "installing", "distributing")
LIBRARY_PAGES: Final = 3
"""Of the library's pages every third is taken: all of them would take half an hour to embed."""

_SPACE: Final = re.compile(r"\s+")
_NUMBER: Final = re.compile(r"^[\dA-Z]+(\.\d+)*\.\s+")


class CorpusMissing(Exception):
    """A documentation package is not installed; the message names it."""


@dataclass(frozen=True, slots=True)
class Section:
    """One section's own text, without its heading and its subsections."""

    id: str
    heading: str
    text: str


@dataclass(frozen=True, slots=True)
class QuestionSet:
    """Sections to index, and questions: text and the id of the section that answers it."""

    name: str
    sections: list[Section]
    questions: list[tuple[str, str]]


def python_faq() -> QuestionSet:
    """The FAQ pages of Python's documentation among its other pages.

    Raises:
        CorpusMissing: python3.11-doc is not installed.
    """
    _need(PYTHON, "python3.11-doc")
    pages = [page for folder in PYTHON_PAGES for page in sorted((PYTHON / folder).glob("*.html"))]
    pages += sorted((PYTHON / "library").glob("*.html"))[::LIBRARY_PAGES]
    sections = [
        section for page in pages for section in _sections(page, f"{page.parent.name}/{page.stem}", _sphinx_sections)
    ]
    return _question_set("python-faq", sections, lambda section: section.id.startswith("faq/"))


def debian_faq() -> QuestionSet:
    """The Debian FAQ among the Debian Reference.

    Raises:
        CorpusMissing: debian-faq or debian-reference-en is not installed.
    """
    _need(DEBIAN_FAQ, "debian-faq")
    _need(DEBIAN_REFERENCE, "debian-reference-en")
    faq = [(page, f"faq/{page.name.partition('.')[0]}") for page in sorted(DEBIAN_FAQ.glob("*.en.html"))]
    reference = [
        (page, f"reference/{page.name.partition('.')[0]}") for page in sorted(DEBIAN_REFERENCE.glob("*.en.html"))
    ]
    sections = [section for page, name in faq + reference for section in _sections(page, name, _docbook_sections)]
    return _question_set("debian-faq", sections, lambda section: section.id.startswith("faq/"))


def _need(folder: Path, package: str) -> None:
    if not folder.is_dir():
        raise CorpusMissing(f"{package} is not installed: make deps-debian (or apt-get install {package})")


def _question_set(name: str, sections: list[Section], is_faq: Callable[[Section], bool]) -> QuestionSet:
    kept = [section for section in sections if len(section.text) > 20]
    questions = [(section.heading, section.id) for section in kept if is_faq(section) and section.heading.endswith("?")]
    return QuestionSet(name, kept, questions)


def _sections(page: Path, name: str, find: Callable[[Any], Iterator[tuple[str, Any, Any]]]) -> Iterator[Section]:
    tree = html.parse(str(page), html.HTMLParser(encoding="utf-8"))
    for anchor, heading, node in find(tree):
        yield Section(f"{name}#{anchor}", _heading(heading), _own_text(node, heading))


def _sphinx_sections(tree: Any) -> Iterator[tuple[str, Any, Any]]:
    for noise in tree.xpath('//a[@class="headerlink"] | //nav | //div[@class="topic"]'):
        noise.drop_tree()
    for node in tree.xpath("//section[@id]"):
        headings = node.xpath("./h1|./h2|./h3|./h4|./h5|./h6")
        if headings:
            yield node.get("id"), headings[0], node


def _docbook_sections(tree: Any) -> Iterator[tuple[str, Any, Any]]:
    for noise in tree.xpath('//div[@class="toc" or @class="navheader" or @class="navfooter"]'):
        noise.drop_tree()
    for node in tree.xpath('//div[@class="section" or @class="chapter"]'):
        headings = node.xpath('./div[@class="titlepage"]//*[self::h1 or self::h2 or self::h3 or self::h4 or self::h5]')
        anchors = node.xpath('./div[@class="titlepage"]//a/@id')
        if headings and anchors:
            yield anchors[0], headings[0], node


def _heading(node: Any) -> str:
    return _NUMBER.sub("", _SPACE.sub(" ", node.text_content()).strip())


_NESTED: Final = "self::section or (self::div and (@class='section' or @class='chapter' or @class='titlepage'))"


def _own_text(node: Any, heading: Any) -> str:
    """The blocks right below a section, a line each; code keeps its lines."""
    parts = []
    for child in node:
        if child is heading or not isinstance(child.tag, str) or child.xpath(_NESTED):
            continue
        content = child.text_content()
        parts.append(
            content.strip() if child.tag == "pre" or child.xpath(".//pre") else _SPACE.sub(" ", content).strip()
        )
    return "\n\n".join(part for part in parts if part)
