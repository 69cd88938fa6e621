"""Tests of Word documents: no words are lost, whatever form they have in the file."""

from __future__ import annotations

import io

import pytest

for library in ("docx", "mammoth"):
    pytest.importorskip(library)

import docx  # noqa: E402
from docx.oxml import parse_xml  # noqa: E402

from trunkline.methods.documents.extract import extract  # noqa: E402

NAMESPACES = " ".join(
    f'xmlns:{prefix}="http://schemas.{address}"'
    for prefix, address in {
        "w": "openxmlformats.org/wordprocessingml/2006/main",
        "m": "openxmlformats.org/officeDocument/2006/math",
        "mc": "openxmlformats.org/markup-compatibility/2006",
        "wp": "openxmlformats.org/drawingml/2006/wordprocessingDrawing",
        "a": "openxmlformats.org/drawingml/2006/main",
        "wps": "microsoft.com/office/word/2010/wordprocessingShape",
    }.items()
)
RUN = "<w:r><w:t>{}</w:t></w:r>"
BOX = (
    "<w:r>{}<w:drawing><wp:inline><a:graphic><a:graphicData><wps:wsp><wps:txbx><w:txbxContent><w:p>"
    "<w:r><w:t>boxed</w:t></w:r></w:p></w:txbxContent></wps:txbx></wps:wsp></a:graphicData></a:graphic>"
    "</wp:inline></w:drawing>{}</w:r>"
)


def read(xml: str) -> str:
    document = docx.Document()
    document.add_paragraph("before")
    document.element.body.insert(1, parse_xml(f"<w:p {NAMESPACES}>{xml}</w:p>"))
    file = io.BytesIO()
    document.save(file)
    return extract(file.getvalue(), "a.docx").text


@pytest.mark.parametrize(
    ("xml", "text"),
    [
        ('<w:fldSimple w:instr="AUTHOR">' + RUN.format("Ann") + "</w:fldSimple>", "Ann"),
        ('<w:moveTo w:id="1">' + RUN.format("moved") + "</w:moveTo>", "moved"),
        ('<w:moveFrom w:id="1">' + RUN.format("moved") + "</w:moveFrom>" + RUN.format("stays"), "stays"),
        (
            "<m:oMath><m:r><m:t>e=m</m:t></m:r><m:sSup><m:e><m:r><m:t>c</m:t></m:r></m:e><m:sup><m:r><m:t>2</m:t>"
            "</m:r></m:sup></m:sSup></m:oMath>",
            "e=mc^2",
        ),
        (
            "<w:r><w:ruby><w:rt>" + RUN.format("kan") + "</w:rt><w:rubyBase>" + RUN.format("漢")
            + "</w:rubyBase></w:ruby></w:r>",
            "漢",
        ),
        (BOX.format("", ""), "boxed"),
        (BOX.format('<mc:AlternateContent><mc:Choice Requires="wps">', "</mc:Choice></mc:AlternateContent>"), "boxed"),
    ],
)  # fmt: skip
def test_words_in_any_form_are_read_once(xml: str, text: str) -> None:
    assert read(xml) == f"before\n\n{text}"


def test_a_table_keeps_its_rows_where_a_cell_has_a_table() -> None:
    document = docx.Document()
    table = document.add_table(2, 2)
    for at, word in enumerate(("a", "b", "c", "d")):
        table.cell(at // 2, at % 2).text = word
    inner = table.cell(1, 1).add_table(1, 2)
    inner.cell(0, 0).text, inner.cell(0, 1).text = "in", "side"
    file = io.BytesIO()
    document.save(file)
    found = extract(file.getvalue(), "a.docx")
    assert found.text == "a | b\nc | d in side"
    assert {block.kind for block in found.blocks} == {"table_row"}


def test_merged_cells_are_repeated_in_the_rows_that_they_span() -> None:
    document = docx.Document()
    table = document.add_table(2, 2)
    for at, word in enumerate(("a", "b", "", "d")):
        table.cell(at // 2, at % 2).text = word
    table.cell(0, 0).merge(table.cell(1, 0))
    file = io.BytesIO()
    document.save(file)
    assert extract(file.getvalue(), "a.docx").text == "a | b\na | d"
