"""Reading pdf, docx and html. The libraries are imported at the first such file: together they take a second."""

from __future__ import annotations

import io
import logging
import re
import zipfile
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final
from xml.etree import ElementTree

MAX_UNPACKED: Final = 256 * 2**20
MAX_UNPACKED_XML: Final = 32 * 2**20
"""Of a docx: what is in it unpacked, and the part of that which becomes a tree in memory."""
MAX_PAGES: Final = 20_000
MAX_PDF_TEXT: Final = 32 * 2**20
MAX_ARTICLE: Final = 20_000
"""Elements of a page in which an article is looked for, which takes quadratic time."""
BETWEEN_PAGES: Final = "\n\n"

_UNSENDABLE: Final = re.compile("[\ud800-\udfff\x00]")
_DUBLIN_CORE: Final = "{http://purl.org/dc/elements/1.1/}"


class Unreadable(Exception):
    """A file no text can be had from; the message begins with "it" and says why, and what to do."""


@dataclass(frozen=True, slots=True)
class FileText:
    """The text of a file, and what is known of it.

    Attributes:
        title: what it calls itself, if it does.
        text: offsets of passages count its characters.
        body: where what is worth splitting begins.
        pages: where in ``text`` each page begins, for files that have pages.
        note: something its owner should know, such as a guessed encoding.
    """

    title: str | None
    text: str
    is_markdown: bool = True
    body: int = 0
    pages: tuple[int, ...] = ()
    note: str | None = None

    def titled(self, title: str | None) -> FileText:
        """A copy with another title."""
        return replace(self, title=title)

    def page_at(self, offset: int) -> int | None:
        """The page a place in the text is on, from 1; None where there are no pages."""
        return bisect_right(self.pages, offset) or None


def clean(text: str) -> str:
    """The text, of the same length, without what JSON cannot carry (lone surrogates) or tokenizers stumble over."""
    return _UNSENDABLE.sub("\N{REPLACEMENT CHARACTER}", text)


@contextmanager
def reading_as(kind: str) -> Iterator[None]:
    """Raise whatever a library raises on a damaged file, of any type, as :class:`Unreadable`."""
    try:
        yield
    except Unreadable:
        raise
    except Exception as error:
        raise Unreadable(f"it cannot be read as {kind}: {type(error).__name__}: {error!s:.200}") from error


def read_pdf(data: bytes, check: Callable[[], None]) -> FileText:
    """The text of a PDF, page by page.

    Args:
        check: called before each page; what it raises ends it.

    Raises:
        Unreadable: damaged, encrypted, or too much.
    """
    import pypdf
    from pypdf.errors import DependencyError

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # it comments on what it repairs
    with reading_as("PDF"):
        reader = pypdf.PdfReader(io.BytesIO(data))
        try:
            if reader.is_encrypted and not reader.decrypt(""):
                raise Unreadable("it is encrypted: save it without a password")
        except DependencyError as error:
            raise Unreadable(f"it is encrypted: save it without a password ({error})") from error
        count = len(reader.pages)
        title = reader.metadata.get("/Title") if reader.metadata is not None else None
    if count > MAX_PAGES:
        raise Unreadable(f"it has {count:,} pages, more than {MAX_PAGES:,}: split it")
    texts: list[str] = []
    starts: list[int] = []
    length = 0
    for number in range(count):
        check()
        with reading_as("PDF"):
            texts.append(clean(reader.pages[number].extract_text()))
        starts.append(length)
        length += len(texts[-1]) + len(BETWEEN_PAGES)
        if length > MAX_PDF_TEXT:
            raise Unreadable(f"its first {len(texts)} pages have more than {MAX_PDF_TEXT:,} characters: split it")
    text = BETWEEN_PAGES.join(texts)
    return FileText(clean(str(title)) if title else None, text, is_markdown=False, pages=tuple(starts))


def read_docx(data: bytes, check: Callable[[], None]) -> FileText:
    """The text of a Word document as Markdown.

    Raises:
        Unreadable: damaged, or more than it seems (a zip bomb).
    """
    with reading_as("docx"):
        title = _check_docx(data)
    check()
    from markitdown import StreamInfo
    from markitdown.converters import DocxConverter

    with reading_as("docx"):
        converter: Any = DocxConverter()  # type: ignore[no-untyped-call]
        markdown = converter.convert(io.BytesIO(data), StreamInfo(extension=".docx")).markdown
    return FileText(title, clean(markdown))


def _check_docx(data: bytes) -> str | None:
    """Look at the archive before anything is unpacked; returns the title in its properties.

    No more than the sizes that are declared is unpacked later, which ``zipfile`` sees to.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
        unpacked = sum(member.file_size for member in members)
        xml = sum(member.file_size for member in members if member.filename.endswith((".xml", ".rels")))
        for size, limit in ((unpacked, MAX_UNPACKED), (xml, MAX_UNPACKED_XML)):
            if size > limit:
                raise Unreadable(
                    f"it unpacks to {size:,} bytes, more than {limit:,}: split it, or take its pictures out"
                )
        names = archive.namelist()
        if "word/document.xml" not in names:
            raise Unreadable("it is a zip archive that holds no Word document")
        return _docx_title(archive.read("docProps/core.xml")) if "docProps/core.xml" in names else None


def _docx_title(core: bytes) -> str | None:
    try:
        # Bounded above; entities that multiply are refused by expat 2.4 and later.
        return ElementTree.fromstring(core).findtext(f"{_DUBLIN_CORE}title")  # noqa: S314
    except ElementTree.ParseError:
        return None  # the properties are damaged, and the document need not be


def read_html(text: str, note: str | None = None) -> FileText:
    """The article of a page, without navigation and the like, as Markdown; all its text where none is found.

    Raises:
        Unreadable: there are no elements in it.
    """
    import trafilatura

    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)  # it complains of each page without an article
    with reading_as("HTML"):
        tree = trafilatura.load_html(clean(text))
        if tree is None:
            raise Unreadable("it cannot be read as HTML: there are no elements in it")
        title = tree.findtext(".//title") or tree.findtext(".//h1")
        found = None
        if sum(1 for _ in tree.iter()) <= MAX_ARTICLE:
            found = trafilatura.extract(tree, output_format="markdown", include_comments=False, include_formatting=True)
        if not found:
            found = trafilatura.baseline(text)[1] or trafilatura.html2txt(text)
    return FileText(title, clean(found), note=note)
