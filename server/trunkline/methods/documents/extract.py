"""From the bytes of a file to its text: what kind of file it is, how it is decoded, where its title is.

Pure but for the libraries that read pdf, docx and html (:mod:`trunkline.methods.documents.formats`).
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Final, Literal

from trunkline.methods.documents.formats import FileText, Unreadable, clean, read_docx, read_html, read_pdf

Kind = Literal["text", "markdown", "html", "pdf", "docx"]

MAX_FILE_BYTES: Final = 64 * 2**20
MAX_TEXT_BYTES: Final = 32 * 2**20
"""Of text, markdown and html, which cost more by the byte than pdf and docx."""
MAX_TITLE: Final = 200

KINDS: Final[dict[str, Kind]] = {
    ".txt": "text", ".text": "text", ".rst": "text",
    ".md": "markdown", ".markdown": "markdown",
    ".html": "html", ".htm": "html", ".xhtml": "html",
    ".pdf": "pdf", ".docx": "docx",
}  # fmt: skip
"""By suffix: what a folder is searched for."""

_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# None of these looks at a character more than a few times, whatever the text (tests/methods/test_linear_time.py): no
# two parts that follow each other may both take the same character, and what a search can begin with ends it.
_META: Final = re.compile(rb"<meta\s([^<>]*)", re.IGNORECASE)
_CHARSET: Final = re.compile(rb"charset\s*=\s*(?:[\"']\s*)?([\w.:-]+)", re.IGNORECASE)
_HTML: Final = re.compile(rb"<(?:!doctype\s+html|html[\s>])", re.IGNORECASE)
_FRONT_MATTER: Final = re.compile(r"---[ \t]*\r?\n(.*?\r?\n)?(---|\.\.\.)[ \t]*(\r?\n|\Z)", re.DOTALL)
_TITLE: Final = re.compile(r"^title:(.*)$", re.MULTILINE | re.IGNORECASE)
_HEADING: Final = re.compile(r"^ {0,3}#{1,6}[ \t](.*)$", re.MULTILINE)
_FENCED: Final = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
_CONTROLS: Final = re.compile(rb"[\x01-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_SNIFFED: Final = 4096


def extract(data: bytes, name: str, check: Callable[[], None] = lambda: None) -> FileText:
    """Read a document.

    Args:
        data: the file's content.
        name: its name; the suffix counts where the content does not say what it is.
        check: called now and then while this takes long; what it raises ends it.

    Raises:
        Unreadable: the file is too large, binary, damaged, encrypted, or has no text.
    """
    kind = kind_of(data, name)
    check_size(len(data), kind)
    if kind == "pdf":
        document = read_pdf(data, check)
    elif kind == "docx":
        document = read_docx(data, check)
        document = document.titled(document.title or heading_of(document.text))
    elif kind == "html":
        text, note = decode(data, declared=charset_of(data))
        document = read_html(text, note)
    else:
        text, note = decode(data)
        document = from_text(text, is_markdown=kind == "markdown", note=note)
    if len(document.text) > MAX_TEXT_BYTES:
        raise Unreadable(f"it has {len(document.text):,} characters of text, more than {MAX_TEXT_BYTES:,}: split it")
    return require_text(document)


def from_text(text: str, *, is_markdown: bool = True, note: str | None = None) -> FileText:
    """A document of text. Its offsets are those of ``text``: front matter stays, and is not split."""
    text = clean(text)
    if not is_markdown:
        return FileText(None, text, is_markdown=False, note=note)
    front = _FRONT_MATTER.match(text)
    titles = (found[1].strip(" \t\r") for found in _TITLE.finditer(front[0])) if front is not None else ()
    title = next((each.strip("\"'") for each in titles if each), None)
    body = front.end() if front is not None else 0
    return FileText(title or heading_of(text[body:]), text, body=body, note=note)


def require_text(document: FileText) -> FileText:
    """The document, its title in one line.

    Raises:
        Unreadable: there is no text in it.
    """
    if not document.text[document.body :].strip():
        hint = ": its pages are pictures; recognise their text first (OCR)" if document.pages else ""
        raise Unreadable(f"there is no text in it{hint}")
    title = " ".join((document.title or "").split())[:MAX_TITLE]
    return document.titled(title or None)


def heading_of(markdown: str) -> str | None:
    """The first heading of a Markdown text outside of code; None where there is none."""
    for found in _HEADING.finditer(_FENCED.sub("", markdown[: 16 * _SNIFFED])):
        words = found[1].strip(" \t\r")
        if heading := words.rstrip("#").rstrip(" \t") or words:
            return heading
    return None


def charset_of(page: bytes) -> bytes | None:
    """The encoding that a page says it has."""
    for meta in _META.finditer(page[:_SNIFFED]):
        if (found := _CHARSET.search(meta[1])) is not None:
            return found[1]
    return None


def _is_html(data: bytes) -> bool:
    """Whether it begins with what only a page begins with, comments and white space aside."""
    begun = data[:_SNIFFED].lstrip()
    while begun.startswith(b"<!--"):
        _comment, closed, begun = begun.partition(b"-->")
        begun = begun.lstrip() if closed else b""
    return _HTML.match(begun) is not None


def kind_of(data: bytes, name: str) -> Kind:
    """The kind of a file, by what it begins with, else by its suffix, else text.

    Raises:
        Unreadable: the content is not what the name says.
    """
    said = KINDS.get(PurePosixPath(name).suffix.lower())
    if b"%PDF-" in data[:1024]:  # PDF 1.7 (ISO 32000-1), appendix H.3, note 13: within the first 1024 bytes
        return "pdf"
    if data.startswith(b"PK\x03\x04"):
        if said == "docx" or b"word/" in data:
            return "docx"
        raise Unreadable("it is a zip archive that holds no Word document: unpack it and process what is in it")
    if data.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
        raise Unreadable("it has the old format of Microsoft Office (or is an encrypted docx): save it as docx")
    if said in ("pdf", "docx"):
        raise Unreadable(f"it is no {said}, although its name says so: it begins with {data[:8]!r}")
    if said in (None, "text") and _is_html(data):
        return "html"
    return said or "text"


def check_size(size: int, kind: Kind | None = None) -> None:
    """Refuse a file that is too large.

    Raises:
        Unreadable: with the limit.
    """
    limit = MAX_FILE_BYTES if kind in (None, "pdf", "docx") else MAX_TEXT_BYTES
    if size > limit:
        what = f"{kind} files are" if kind else "files are"
        raise Unreadable(f"it has {size:,} bytes, and {what} read up to {limit:,}: split it")


def decode(data: bytes, declared: bytes | None = None) -> tuple[str, str | None]:
    """Bytes as text, and a note where the encoding was a guess.

    By the byte order mark, by what the document declares, as UTF-8, and else as Windows-1252 or Latin-1, which
    always succeeds.

    Raises:
        Unreadable: the data are binary.
    """
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            try:
                return data[len(mark) :].decode(encoding), None
            except UnicodeDecodeError as error:
                raise Unreadable(f"it has the mark of {encoding} and is damaged at byte {error.start}") from error
    refuse_binary(data)
    said = _known(declared) if declared is not None else None
    for encoding in (*([said] if said is not None else []), "utf-8", "windows-1252", "latin-1"):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        is_guess = encoding not in (said, "utf-8")
        return text, f"it is not UTF-8, and was read as {encoding}" if is_guess else None
    raise AssertionError("latin-1 decodes everything")


def refuse_binary(data: bytes) -> None:
    """Refuse what cannot be text in an encoding of single bytes.

    Raises:
        Unreadable: with the place of a NUL, or with the share of control characters.
    """
    if (place := data.find(b"\x00")) >= 0:
        raise Unreadable(f"it is binary: there is a NUL at byte {place} (save UTF-16 with its mark, or as UTF-8)")
    sample = data[: 16 * _SNIFFED]
    controls = len(_CONTROLS.findall(sample))
    if controls * 50 > len(sample):
        raise Unreadable(f"it is binary: {controls} of its first {len(sample)} bytes are control characters")


def _known(name: bytes) -> str | None:
    """An encoding that a document declared, if it is one of text. In HTML latin-1 means windows-1252 (WHATWG)."""
    try:
        found = codecs.lookup(name.decode("ascii"))
    except (LookupError, UnicodeDecodeError):
        return None
    if not getattr(found, "_is_text_encoding", True) or found.name.startswith("utf-16"):
        return None
    return "windows-1252" if found.name in ("iso8859-1", "ascii") else found.name
