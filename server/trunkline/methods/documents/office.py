"""From files of Office to blocks of text."""

from __future__ import annotations

import io
import zipfile
from typing import Any, Final
from xml.etree import ElementTree

from trunkline.methods.documents.blocks import FileText, TextBuilder, Unreadable, clean
from trunkline.methods.documents.html import read_html, reading_as

MAX_UNPACKED: Final = 256 * 2**20
MAX_UNPACKED_XML: Final = 32 * 2**20
"""Of a file: what is in it unpacked, and the part of that which becomes a tree in memory."""
_DUBLIN_CORE: Final = "{http://purl.org/dc/elements/1.1/}"
_WORDS: Final = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"


def open_archive(data: bytes) -> zipfile.ZipFile:
    """The archive that a file is, looked at before anything is unpacked.

    No more than the sizes that are declared is unpacked later, which ``zipfile`` sees to.

    Raises:
        Unreadable: more than it seems (a zip bomb).
    """
    archive = zipfile.ZipFile(io.BytesIO(data))
    members = archive.infolist()
    unpacked = sum(member.file_size for member in members)
    xml = sum(member.file_size for member in members if member.filename.endswith((".xml", ".rels", ".xhtml", ".html")))
    for size, limit in ((unpacked, MAX_UNPACKED), (xml, MAX_UNPACKED_XML)):
        if size > limit:
            raise Unreadable(f"it unpacks to {size:,} bytes, more than {limit:,}: split it, or take its pictures out")
    return archive


def title_of(archive: zipfile.ZipFile) -> str | None:
    """The title in the properties of a file of Office."""
    if "docProps/core.xml" not in archive.namelist():
        return None
    try:
        # Bounded by open_archive; entities that multiply are refused by expat 2.4 and later.
        core = ElementTree.fromstring(archive.read("docProps/core.xml"))  # noqa: S314
    except ElementTree.ParseError:
        return None  # the properties are damaged, and the document need not be
    return core.findtext(f"{_DUBLIN_CORE}title")


def read_docx(data: bytes) -> FileText:
    """The text of a Word document: body, notes and comments, and what its pages have at their top and bottom.

    Raises:
        Unreadable: damaged, or more than it seems.
    """
    import mammoth

    with reading_as("docx"), open_archive(data) as archive:
        if "word/document.xml" not in archive.namelist():
            raise Unreadable("it is a zip archive that holds no Word document")
        title = title_of(archive)
        around = _headers(archive)
        page: Any = mammoth.convert_to_html(
            io.BytesIO(data), style_map="comment-reference => sup", convert_image=mammoth.images.img_element(_no_image)
        )
        body = read_html(f"<!doctype html><body>{page.value}</body>") if page.value.strip() else FileText(None, "")
    built = TextBuilder()
    built.extend(body)
    for text in around:
        built.add("paragraph", text)
    return built.build(title or body.title)


def _no_image(_image: Any) -> dict[str, str]:
    return {}


def _headers(archive: zipfile.ZipFile) -> list[str]:
    """The texts of headers and footers, each once."""
    found: dict[str, None] = {}
    for name in sorted(archive.namelist()):
        if name.startswith(("word/header", "word/footer")) and name.endswith(".xml"):
            root = ElementTree.fromstring(archive.read(name))  # noqa: S314
            for paragraph in root.iter(f"{_WORDS}p"):
                text = clean("".join(part.text or "" for part in paragraph.iter(f"{_WORDS}t")))
                if text.strip():
                    found[text] = None
    return list(found)
