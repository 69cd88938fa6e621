"""From a Word document to blocks of text; what mammoth passes over is put before into a form that it reads."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING, Any, Final

from trunkline.methods.documents.blocks import FileText, TextBuilder, Unreadable, clean
from trunkline.methods.documents.html import read_html, reading_as
from trunkline.methods.documents.office import open_archive, title_of

if TYPE_CHECKING:
    from lxml.etree import _Element

_WORDS: Final = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_MATH: Final = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
_CHOICES: Final = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
_STRICT: Final = {
    b"http://purl.oclc.org/ooxml/wordprocessingml/main": _WORDS[1:-1].encode(),
    b"http://purl.oclc.org/ooxml/officeDocument/math": _MATH[1:-1].encode(),
}
_PARTS: Final = tuple(f"word/{name}" for name in ("document", "footnotes", "endnotes", "comments", "header", "footer"))
_WRAPPERS: Final = tuple(f"{_WORDS}{name}" for name in ("fldSimple", "moveTo", "customXml", "dir", "bdo", "rubyBase"))
_MARKS: Final = {f"{_MATH}den": "/", f"{_MATH}sup": "^", f"{_MATH}sub": "_"}
"""What a formula has before a part of it that is above or below the line."""


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
        parts = {name: _prepared(archive.read(name)) for name in archive.namelist() if _is_text(name)}
        page: Any = mammoth.convert_to_html(
            _with_parts(archive, parts),
            style_map="comment-reference => sup",
            convert_image=mammoth.images.img_element(_no_image),
        )
        body = read_html(f"<!doctype html><body>{page.value}</body>") if page.value.strip() else FileText(None, "")
    built = TextBuilder()
    built.extend(body)
    for text in _headers(parts):
        built.add("paragraph", text)
    return built.build(title or body.title)


def _no_image(_image: Any) -> dict[str, str]:
    return {}


def _is_text(name: str) -> bool:
    return name.startswith(_PARTS) and name.endswith(".xml")


def _with_parts(archive: zipfile.ZipFile, parts: dict[str, _Element]) -> io.BytesIO:
    """The document with these parts, and without its pictures, which nobody looks at."""
    from lxml import etree

    changed = io.BytesIO()
    with zipfile.ZipFile(changed, "w") as target:
        for name in dict.fromkeys(archive.namelist()):
            if not name.startswith("word/media/"):
                target.writestr(name, etree.tostring(parts[name]) if name in parts else archive.read(name))
    changed.seek(0)
    return changed


def _headers(parts: dict[str, _Element]) -> list[str]:
    """The texts of headers and footers, each once."""
    found: dict[str, None] = {}
    for name in sorted(parts):
        if name.startswith(("word/header", "word/footer")):
            for paragraph in parts[name].iter(f"{_WORDS}p"):
                text = clean("".join(part.text or "" for part in paragraph.iter(f"{_WORDS}t")))
                if text.strip():
                    found[text] = None
    return list(found)


def _prepared(xml: bytes) -> _Element:
    """A part of the document, with all its words where mammoth looks for them."""
    from lxml import etree

    for strict, usual in _STRICT.items():
        xml = xml.replace(strict, usual)
    # Bounded by open_archive.
    root = etree.fromstring(xml, etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=True))
    for formula in list(root.iter(f"{_MATH}oMath")):
        run = etree.Element(f"{_WORDS}r")
        etree.SubElement(run, f"{_WORDS}t").text = _formula(formula)
        _replace(formula, [run])
    for ruby in list(root.iter(f"{_WORDS}ruby")):
        _replace(ruby, ruby.findall(f"{_WORDS}rubyBase"))
    for paragraphs in list(root.iter(f"{_MATH}oMathPara")):
        paragraphs.tag = f"{_WORDS}smartTag"
    for wrapper in list(root.iter(*_WRAPPERS)):
        wrapper.tag = f"{_WORDS}smartTag"  # of which the children are read
    _text_boxes(root)
    for table in reversed(list(root.iterfind(f".//{_WORDS}tc//{_WORDS}tbl"))):
        _replace(table, [each for cell in table.iter(f"{_WORDS}tc") for each in cell if each.tag == f"{_WORDS}p"])
    return root


def _text_boxes(root: _Element) -> None:
    """Have each text box once, as VML has it: of two forms mammoth reads the older one alone."""
    from lxml import etree

    boxes = f"{_WORDS}txbxContent"
    for choice in list(root.iter(f"{_CHOICES}AlternateContent")):
        fallback = choice.find(f"{_CHOICES}Fallback")
        chosen = choice.find(f"{_CHOICES}Choice")
        if chosen is not None and (fallback is None or next(fallback.iter(boxes), None) is None):
            _replace(choice, list(chosen))
    for drawing in list(root.iter(f"{_WORDS}drawing")):
        if any(True for _ in drawing.iterancestors(f"{_CHOICES}Choice")):
            continue
        found = [box for box in drawing.iter(boxes) if next(box.iterancestors(boxes), None) is None]
        if found:
            picture = etree.Element(f"{_WORDS}pict")
            picture.extend(found)
            _replace(drawing, [picture])


def _formula(formula: _Element) -> str:
    """The text of a formula in one line."""
    from lxml import etree

    parts: list[str] = []
    for event, element in etree.iterwalk(formula, events=("start",)):
        del event
        if element.tag in _MARKS:
            parts.append(_MARKS[element.tag])
        elif element.tag == f"{_MATH}t":
            parts.append(element.text or "")
    return "".join(parts)


def _replace(element: _Element, others: list[_Element]) -> None:
    """Put others into the place of an element."""
    parent = element.getparent()
    if parent is None:
        return
    at = parent.index(element)
    parent[at : at + 1] = others
