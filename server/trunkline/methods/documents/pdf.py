"""From a PDF to blocks of text, page by page."""

from __future__ import annotations

import io
import logging
import re
from typing import Any, Final

from trunkline.methods.documents.blocks import FileText, TextBuilder, Unreadable, clean, paragraphs_of
from trunkline.methods.documents.html import reading_as
from trunkline.methods.documents.ocr import read_scanned

MAX_PAGES: Final = 20_000
MAX_PDF_TEXT: Final = 32 * 2**20
LONG_WORD: Final = 40
"""Letters of a run on end that no word has: its file has no spaces, which is told."""

_LIGATURES: Final = str.maketrans(
    {"\ufb00": "ff", "\ufb01": "fi", "\ufb02": "fl", "\ufb03": "ffi", "\ufb04": "ffl", "\ufb05": "st", "\ufb06": "st"}
)
_HYPHENATED: Final = re.compile(r"(?<=[^\W\d_]{2})[-\xad\u2010]\n[ \t]*(?=[a-zà-öø-ÿœšžß])")
_RUN: Final = re.compile(rf"[A-Za-zÀ-ÿ,.;:]{{{LONG_WORD},}}")


def read_pdf(data: bytes) -> FileText:
    """The text of a PDF, page by page, and what is written into the fields of its form.

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
    built, starts = TextBuilder(), []
    unspaced: list[int] = []
    for number in range(count):
        with reading_as("PDF"):
            text = tidied(clean(reader.pages[number].extract_text()))
        starts.append(built.length + 1 if built.blocks else 0)
        for block in paragraphs_of(text):
            built.add("paragraph", text[block.start : block.end])
        if _RUN.search(text):
            unspaced.append(number + 1)
        if built.length > MAX_PDF_TEXT:
            raise Unreadable(f"its first {number + 1} pages have more than {MAX_PDF_TEXT:,} characters: split it")
    _add_fields(reader, built)
    if not built.blocks and (scanned := read_scanned(reader)) is not None:
        return scanned.titled(clean(str(title)) if title else None)
    document = built.build(clean(str(title)) if title else None, pages=starts)
    return document.noted(_without_spaces(unspaced))


def tidied(text: str) -> str:
    """The text with ligatures as letters, and words that were hyphenated at the end of a line in one piece."""
    return _HYPHENATED.sub("", text.translate(_LIGATURES)).replace("\xad", "")


def _without_spaces(pages: list[int]) -> str | None:
    if not pages:
        return None
    few = ", ".join(map(str, pages[:5])) + (", ..." if len(pages) > 5 else "")
    return f"there are no spaces between words on pages {few}: they may not be found by words"


def _add_fields(reader: Any, built: TextBuilder) -> None:
    """Add what was written into the fields of a form: it is in no page's own text."""
    with reading_as("PDF"):
        fields = reader.get_fields() or {}
    for name, each in fields.items():
        value = each.get("/V")
        if isinstance(value, str) and (value := clean(value.removeprefix("/"))).strip() and value != "Off":
            built.add("definition", f"{clean(str(each.get('/TU') or name))}: {value}")
