"""From files of Office to blocks of text."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from typing import Any, Final
from xml.etree import ElementTree

from trunkline.methods.documents.blocks import FileText, TextBuilder, Unreadable
from trunkline.methods.documents.html import reading_as

MAX_UNPACKED: Final = 256 * 2**20
MAX_UNPACKED_XML: Final = 32 * 2**20
"""Of a file: what is in it unpacked, and the part of that which becomes a tree in memory."""
_DUBLIN_CORE: Final = "{http://purl.org/dc/elements/1.1/}"


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


def read_pptx(data: bytes) -> FileText:
    """The text of a presentation, slide by slide: titles, words of shapes and tables, and the speaker's notes.

    Raises:
        Unreadable: damaged, or more than it seems.
    """
    import pptx

    built, starts = TextBuilder(), []
    drawn: list[int] = []
    with reading_as("pptx"), open_archive(data):
        presentation = pptx.Presentation(io.BytesIO(data))
        for slide in presentation.slides:
            starts.append(built.length + 1 if built.blocks else 0)  # of rows there is one line end between
            heading = slide.shapes.title
            if heading is not None:
                built.add("heading", heading.text_frame.text.replace("\v", " "), 1)
            for shape in _shapes(slide.shapes):
                if heading is None or shape.shape_id != heading.shape_id:
                    _add_shape(built, shape)
                    drawn += [len(starts)] if _is_drawn(shape) else []
            if slide.has_notes_slide and (notes := slide.notes_slide.notes_text_frame) is not None:
                built.add("paragraph", notes.text.replace("\v", "\n"))
        title = presentation.core_properties.title or None
    slides = ", ".join(map(str, dict.fromkeys(drawn)))
    note = f"charts and diagrams are not read, on slides {slides:.200}" if drawn else None
    return built.build(title, note, pages=starts)


def _shapes(shapes: Any) -> Iterator[Any]:
    """Shapes, those of groups among them; groups within groups as deep as a stack takes them."""
    waiting = [*reversed(list(shapes))]
    while waiting:
        shape = waiting.pop()
        if hasattr(shape, "shapes"):
            waiting += reversed(list(shape.shapes))
        else:
            yield shape


def _is_drawn(shape: Any) -> bool:
    """Whether it is a chart or a diagram, whose words are in a file of their own."""
    kinds = shape.element.xpath(".//a:graphicData/@uri")
    return any(kind.endswith(("/chart", "/chartex", "/diagram")) for kind in kinds)


def _add_shape(built: TextBuilder, shape: Any) -> None:
    if getattr(shape, "has_table", False):
        for row in shape.table.rows:
            built.add("table_row", row_of([cell.text for cell in row.cells]))
    elif shape.has_text_frame:
        for paragraph in shape.text_frame.paragraphs:
            built.add("paragraph", paragraph.text.replace("\v", "\n"))


def row_of(cells: list[str]) -> str:
    """The cells of a row in one line."""
    texts = [" ".join(cell.split()) for cell in cells]
    while texts and not texts[-1]:
        texts.pop()
    return " | ".join(texts)
