"""From the bytes of a file to its text: what kind of file it is, and who reads it.

Pure but for the libraries that read files, which are imported at the first such file.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Final, Literal

from trunkline.methods.documents.blocks import FileText, Unreadable
from trunkline.methods.documents.encodings import SNIFFED, declared_encoding, decode
from trunkline.methods.documents.html import read_html
from trunkline.methods.documents.mail import read_csv, read_eml, read_epub
from trunkline.methods.documents.markdown import is_markdown, read_markdown, read_plain
from trunkline.methods.documents.ocr import read_image
from trunkline.methods.documents.office import read_pptx
from trunkline.methods.documents.pdf import read_pdf
from trunkline.methods.documents.word import read_docx
from trunkline.methods.documents.workbook import read_xlsx

Kind = Literal["text", "markdown", "html", "csv", "eml", "pdf", "docx", "pptx", "xlsx", "epub", "picture"]

MAX_FILE_BYTES: Final = 64 * 2**20
MAX_TEXT_BYTES: Final = 32 * 2**20
"""Of what is text, which costs more by the byte."""
MAX_TITLE: Final = 200

KINDS: Final[dict[str, Kind]] = {
    ".txt": "text", ".text": "text", ".rst": "text",
    ".md": "markdown", ".markdown": "markdown",
    ".html": "html", ".htm": "html", ".xhtml": "html",
    ".csv": "csv", ".tsv": "csv", ".eml": "eml",
    ".pdf": "pdf", ".docx": "docx", ".pptx": "pptx", ".xlsx": "xlsx", ".epub": "epub",
}  # fmt: skip
"""By suffix: what a folder is searched for. Pictures, which seldom are documents, are read where they are asked for."""
PICTURES: Final = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff"})
READERS: Final[dict[Kind, Callable[[bytes], FileText]]] = {
    "pdf": read_pdf, "docx": read_docx, "pptx": read_pptx, "xlsx": read_xlsx, "epub": read_epub, "eml": read_eml,
    "picture": read_image,
}  # fmt: skip
"""Of what is no text."""
OF_TEXT: Final[dict[Kind, Callable[[str, str | None], FileText]]] = {
    "text": read_plain, "markdown": read_markdown, "html": read_html, "csv": read_csv,
}  # fmt: skip
ARCHIVES: Final[dict[bytes, Kind]] = {
    b"word/": "docx", b"ppt/": "pptx", b"xl/": "xlsx", b"application/epub+zip": "epub",
}  # fmt: skip
"""What an archive of each kind has in it."""
_PICTURES: Final = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\x00", b"MM\x00*")

_HTML: Final = re.compile(rb"<(?:!doctype\s+html|html[\s>])", re.IGNORECASE)


def extract(data: bytes, name: str) -> FileText:
    """Read a document.

    Args:
        data: the file's content.
        name: its name; the suffix counts where the content does not say what it is.

    Raises:
        Unreadable: the file is too large, binary, damaged, encrypted, or has no text.
    """
    kind = kind_of(data, name)
    check_size(len(data), kind)
    if (read := READERS.get(kind)) is not None:
        document = read(data)
    else:
        text, note = decode(data, declared_encoding(data) if kind == "html" else None)
        document = OF_TEXT[kind](text, note)
    if len(document.text) > MAX_TEXT_BYTES:
        raise Unreadable(f"it has {len(document.text):,} characters of text, more than {MAX_TEXT_BYTES:,}: split it")
    return require_text(document)


def from_text(text: str) -> FileText:
    """The document in a text that a caller gives: Markdown where it has signs of that, else kept as it is.

    Raises:
        Unreadable: there is no text in it.
    """
    return require_text(read_markdown(text) if is_markdown(text) else read_plain(text))


def require_text(document: FileText) -> FileText:
    """The document, its title in one line.

    Raises:
        Unreadable: there is no text in it.
    """
    if not document.blocks:
        raise Unreadable("there is no text in it")
    title = " ".join((document.title or "").split())[:MAX_TITLE]
    return document.titled(title or None)


def is_html(data: bytes) -> bool:
    """Whether it begins with what only a page begins with; white space, comments and an XML declaration aside."""
    begun = data[:SNIFFED].lstrip()
    for opening, closing in ((b"<?xml", b"?>"), (b"<!--", b"-->")):
        while begun.startswith(opening):
            _, closed, begun = begun.partition(closing)
            begun = begun.lstrip() if closed else b""
    return _HTML.match(begun) is not None


def kind_of(data: bytes, name: str) -> Kind:
    """The kind of a file, by what it begins with, else by its suffix, else text.

    Raises:
        Unreadable: the content is not what the name says.
    """
    suffix = PurePosixPath(name).suffix.lower()
    said: Kind | None = "picture" if suffix in PICTURES else KINDS.get(suffix)
    if b"%PDF-" in data[:1024]:  # PDF 1.7 (ISO 32000-1), appendix H.3, note 13: within the first 1024 bytes
        return "pdf"
    if data.startswith(b"PK\x03\x04"):
        if said is not None and said in ARCHIVES.values():
            return said
        if (found := next((kind for mark, kind in ARCHIVES.items() if mark in data), None)) is not None:
            return found
        raise Unreadable("it is a zip archive that holds no document: unpack it and process what is in it")
    if data.startswith(_PICTURES):
        return "picture"
    if data.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
        raise Unreadable(
            "it has the old format of Microsoft Office (or is an encrypted docx): save it as docx, pptx or xlsx"
        )
    if said in READERS and said != "eml":
        raise Unreadable(f"it is no {said}, although its name says so: it begins with {data[:8]!r}")
    if said in (None, "text") and is_html(data):
        return "html"
    return said or "text"


def check_size(size: int, kind: Kind | None = None) -> None:
    """Refuse a file that is too large.

    Raises:
        Unreadable: with the limit.
    """
    limit = MAX_FILE_BYTES if kind is None or kind in READERS else MAX_TEXT_BYTES
    if size > limit:
        what = f"{kind} files are" if kind else "files are"
        raise Unreadable(f"it has {size:,} bytes, and {what} read up to {limit:,}: split it")
