"""Reading pdf, docx and html. The libraries are imported at the first such file: together they take a second."""

from __future__ import annotations

import io
import logging
import re
import zipfile
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final
from xml.etree import ElementTree

MAX_UNPACKED: Final = 256 * 2**20
MAX_UNPACKED_XML: Final = 32 * 2**20
"""Of a docx: what is in it unpacked, and the part of that which becomes a tree in memory."""
MAX_PAGES: Final = 20_000
MAX_PDF_TEXT: Final = 32 * 2**20

_UNSENDABLE: Final = re.compile("[\ud800-\udfff\x00]")
_DUBLIN_CORE: Final = "{http://purl.org/dc/elements/1.1/}"


class Unreadable(Exception):
    """A file no text can be had from; the message begins with "it" and says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Document:
    """What was read of a file.

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

    def titled(self, title: str | None) -> Document:
        """The same with a title."""
        return replace(self, title=title)

    def page_at(self, offset: int) -> int | None:
        """The page a place in the text is on, from 1; None where there are no pages."""
        return bisect_right(self.pages, offset) or None


def clean(text: str) -> str:
    """The text, of the same length, without what JSON cannot carry (lone surrogates) or tokenizers stumble over."""
    return _UNSENDABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def read_pdf(data: bytes, check: Callable[[], None]) -> Document:
    """The text of a PDF, page by page.

    Raises:
        Unreadable: damaged, encrypted, or too much.
    """
    import pypdf
    from pypdf.errors import DependencyError

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # it comments on what it repairs
    try:
        reader = pypdf.PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise Unreadable("it is encrypted: save it without a password")
        texts = _pages(reader, check)
        title = reader.metadata.get("/Title") if reader.metadata is not None else None
    except Unreadable:
        raise
    except DependencyError as error:
        raise Unreadable(f"it is encrypted, and cannot be read here ({error}): save it without a password") from error
    except _damage() as error:
        raise Unreadable(f"it cannot be read as PDF: {type(error).__name__}: {error!s:.200}") from error
    starts = []
    length = 0
    for text in texts:
        starts.append(length)
        length += len(text) + 2
    return Document(clean(str(title)) if title else None, "\n\n".join(texts), is_markdown=False, pages=tuple(starts))


def _pages(reader: Any, check: Callable[[], None]) -> list[str]:
    if len(reader.pages) > MAX_PAGES:
        raise Unreadable(f"it has {len(reader.pages):,} pages, more than {MAX_PAGES:,}: split it")
    texts: list[str] = []
    length = 0
    for page in reader.pages:
        check()
        texts.append(clean(page.extract_text()))
        length += len(texts[-1])
        if length > MAX_PDF_TEXT:
            raise Unreadable(f"its first {len(texts)} pages have more than {MAX_PDF_TEXT:,} characters: split it")
    return texts


def _damage() -> tuple[type[Exception], ...]:
    """What pypdf raises on files that are none: its own errors, and whatever a wrong type deep inside leads to."""
    from pypdf.errors import PyPdfError

    return (PyPdfError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError, OSError,
            AssertionError, NotImplementedError)  # fmt: skip


def read_docx(data: bytes, check: Callable[[], None]) -> Document:
    """The text of a Word document as Markdown.

    Raises:
        Unreadable: damaged, or more than it seems (a zip bomb).
    """
    title = _check_docx(data)
    check()
    from markitdown import StreamInfo
    from markitdown.converters import DocxConverter

    try:
        converter: Any = DocxConverter()  # type: ignore[no-untyped-call]
        markdown = converter.convert(io.BytesIO(data), StreamInfo(extension=".docx")).markdown
    except Exception as error:  # a converter on converters, each with exceptions of its own
        raise Unreadable(f"it cannot be read as docx: {type(error).__name__}: {error!s:.200}") from error
    return Document(title, clean(markdown))


def _check_docx(data: bytes) -> str | None:
    """Look at the archive before anything is unpacked; returns the title in its properties.

    No more than the sizes that are declared is unpacked later, which ``zipfile`` sees to.
    """
    try:
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
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, NotImplementedError, ValueError) as error:
        raise Unreadable(f"it cannot be read as docx: {type(error).__name__}: {error!s:.200}") from error


def _docx_title(core: bytes) -> str | None:
    try:
        # Bounded above; entities that multiply are refused by expat 2.4 and later.
        return ElementTree.fromstring(core).findtext(f"{_DUBLIN_CORE}title")  # noqa: S314
    except ElementTree.ParseError:
        return None  # the properties are damaged, and the document need not be


def read_html(text: str, note: str | None = None) -> Document:
    """What a page says, without navigation and the like, as Markdown; all of its text where no article is found.

    Raises:
        Unreadable: there are no elements in it.
    """
    import trafilatura

    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)  # it complains of each page without an article
    tree = trafilatura.load_html(clean(text))
    if tree is None:
        raise Unreadable("it cannot be read as HTML: there are no elements in it")
    title = tree.findtext(".//title") or tree.findtext(".//h1")
    found = trafilatura.extract(tree, output_format="markdown", include_comments=False, include_formatting=True)
    if not found:
        found = trafilatura.baseline(text)[1] or trafilatura.html2txt(text)
    return Document(title, clean(found), note=note)
