"""Files of Office, mails, books, tables and pictures: all their words, each as its program makes it."""

from __future__ import annotations

import csv
import io
import shutil
import zipfile
from email.message import EmailMessage
from typing import Any, cast

import pytest

for library in ("pypdf", "docx", "pptx", "openpyxl", "PIL", "reportlab", "mammoth"):
    pytest.importorskip(library)

import docx  # noqa: E402
import openpyxl  # noqa: E402
import pptx  # noqa: E402
from PIL import Image, ImageDraw, ImageFont  # noqa: E402
from pptx.chart.data import CategoryChartData  # noqa: E402
from pptx.enum.chart import XL_CHART_TYPE  # noqa: E402
from pptx.util import Inches  # noqa: E402
from reportlab.lib.utils import ImageReader  # noqa: E402
from reportlab.pdfgen.canvas import Canvas  # noqa: E402

from tests.methods.document_files import pdf  # noqa: E402
from trunkline.methods.documents import ocr  # noqa: E402
from trunkline.methods.documents.blocks import FileText, Unreadable  # noqa: E402
from trunkline.methods.documents.extract import extract  # noqa: E402
from trunkline.methods.documents.pdf import tidied  # noqa: E402

FOOTNOTE = """<w:footnotes xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:footnote w:id="2">
<w:p><w:r><w:t>Small print.</w:t></w:r></w:p></w:footnote></w:footnotes>"""


def blocks(document: FileText) -> list[tuple[str, str]]:
    return [(block.kind, document.text[block.start : block.end]) for block in document.blocks]


def saved(document: object) -> bytes:
    file = io.BytesIO()
    document.save(file)  # type: ignore[attr-defined]
    return file.getvalue()


def with_footnote(data: bytes) -> bytes:
    """A Word document, of which the word MARK has a footnote."""
    changed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(changed, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "word/document.xml":
                content = content.replace(b"MARK</w:t>", b'MARK</w:t></w:r><w:r><w:footnoteReference w:id="2"/>')
            if name == "[Content_Types].xml":
                kind = b"application/vnd.openxmlformats-officedocument.wordprocessingml.footnotes+xml"
                part = b'<Override PartName="/word/footnotes.xml" ContentType="' + kind + b'"/></Types>'
                content = content.replace(b"</Types>", part)
            if name == "word/_rels/document.xml.rels":
                kind = b"http://schemas.openxmlformats.org/officeDocument/2006/relationships/footnotes"
                part = b'<Relationship Id="rId99" Type="' + kind + b'" Target="footnotes.xml"/></Relationships>'
                content = content.replace(b"</Relationships>", part)
            target.writestr(name, content)
        target.writestr("word/footnotes.xml", FOOTNOTE)
    return changed.getvalue()


def test_a_word_document_has_headers_notes_comments_and_tables() -> None:
    document = docx.Document()
    document.sections[0].header.paragraphs[0].text = "Confidential draft"
    document.sections[0].footer.paragraphs[0].text = "Version 7"
    document.add_heading("Ovens", 1)
    paragraph = document.add_paragraph("Hot MARK")
    document.add_paragraph("first", style="List Bullet")
    document.add_comment(paragraph.runs, text="Really?", author="Ann", initials="A")
    table = document.add_table(1, 2)
    table.cell(0, 0).text, table.cell(0, 1).text = "a", "b"
    found = extract(with_footnote(saved(document)), "a.docx")
    words = found.text
    assert ("table_row", "a | b") in blocks(found)
    assert ("list_item", "- first") in blocks(found)
    for part in ("Confidential draft", "Version 7", "Small print.", "Really?", "Hot MARK"):
        assert words.count(part) == 1, part


def test_a_presentation_has_titles_shapes_tables_and_notes() -> None:
    presentation = pptx.Presentation()
    slide = presentation.slides.add_slide(presentation.slide_layouts[1])
    slide.shapes.title.text = "Ovens"
    slide.placeholders[1].text = "Hot\nCold"
    table = slide.shapes.add_table(1, 2, Inches(1), Inches(1), Inches(2), Inches(1)).table
    table.cell(0, 0).text, table.cell(0, 1).text = "a", "b"
    group = slide.shapes.add_group_shape()
    group.shapes.add_textbox(0, 0, 100, 100).text_frame.text = "In a group"
    slide.notes_slide.notes_text_frame.text = "Speak slowly."
    presentation.slides.add_slide(presentation.slide_layouts[5]).shapes.title.text = "Second"
    found = extract(saved(presentation), "a.pptx")
    assert blocks(found) == [
        ("heading", "Ovens"), ("paragraph", "Hot"), ("paragraph", "Cold"), ("table_row", "a | b"),
        ("paragraph", "In a group"), ("paragraph", "Speak slowly."), ("heading", "Second"),
    ]  # fmt: skip
    assert found.page_at(found.text.index("Second")) == 2


def test_slides_of_rows_alone_are_told_apart_and_charts_are_told() -> None:
    presentation = pptx.Presentation()
    for word in ("one", "two"):
        slide = presentation.slides.add_slide(presentation.slide_layouts[6])
        table = slide.shapes.add_table(1, 1, Inches(1), Inches(1), Inches(2), Inches(1)).table
        table.cell(0, 0).text = word
    data: Any = cast("Any", CategoryChartData)()
    data.add_category("a")
    data.add_series("s", (1.0,))
    slide.shapes.add_chart(XL_CHART_TYPE.COLUMN_CLUSTERED, Inches(1), Inches(3), Inches(2), Inches(2), data)
    found = extract(saved(presentation), "a.pptx")
    assert [found.page_at(found.text.index(word)) for word in ("one", "two")] == [1, 2]
    assert found.note == "charts and diagrams are not read, on slides 2"


def test_a_workbook_has_its_sheets_and_rows() -> None:
    book = openpyxl.Workbook()
    book.active.title = "Prices"
    book.active.append(["name", None, "price"])
    book.active.append(["a\nb", 1.5, None])
    book.create_sheet("More").append([True])
    found = extract(saved(book), "a.xlsx")
    assert blocks(found) == [
        ("heading", "Prices"), ("table_row", "name |  | price"), ("table_row", "a b | 1.5"), ("heading", "More"),
        ("table_row", "True"),
    ]  # fmt: skip


def test_a_table_of_text_has_its_rows() -> None:
    file = io.StringIO()
    csv.writer(file, delimiter=";").writerows([["name", "said"], ["a", 'he; "x"\nand']])
    assert blocks(extract(file.getvalue().encode("windows-1252"), "a.csv")) == [
        ("table_row", "name | said"), ("table_row", 'a | he; "x" and'),
    ]  # fmt: skip


def test_a_mail_has_who_when_and_what_and_its_attachments_are_named() -> None:
    mail = EmailMessage()
    mail["From"], mail["Subject"] = "Ann <ann@example.org>", "Größe"
    mail.set_content("Dear Bob,\n\nit is big.\n")
    mail.add_alternative("<p>Dear Bob", subtype="html")
    mail.add_attachment(b"x", maintype="application", subtype="pdf", filename="plan.pdf")
    found = extract(mail.as_bytes(), "a.eml")
    assert blocks(found) == [
        ("definition", "From: Ann <ann@example.org>"), ("definition", "Subject: Größe"), ("paragraph", "Dear Bob,"),
        ("paragraph", "it is big."),
    ]  # fmt: skip
    assert (found.title, found.note) == ("Größe", "attachments are not read: plan.pdf")
    with pytest.raises(Unreadable, match="it is no mail"):
        extract(b"words\nof none\n", "a.eml")


def epub(**more: str) -> bytes:
    opf = """<package xmlns="http://www.idpf.org/2007/opf"><metadata xmlns:dc="http://purl.org/dc/elements/1.1/"
      ><dc:title>On Bread</dc:title></metadata><manifest><item id="b" href="b%20c.xhtml"/><item id="a" href="a.xhtml"/>
      </manifest><spine><itemref idref="a"/><itemref idref="b"/><itemref idref="gone"/></spine></package>"""
    container = """<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>
      <rootfile full-path="OPS/x.opf"/></rootfiles></container>"""
    page = '<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><head><title/></head><body>{}</body></html>'
    files = {
        "mimetype": "application/epub+zip", "META-INF/container.xml": container, "OPS/x.opf": opf,
        "OPS/a.xhtml": page.format("<h1>One</h1><p>Dough.</p>"), "OPS/b c.xhtml": page.format("<h1>Two</h1>"), **more,
    }  # fmt: skip
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


def test_a_book_has_its_chapters_in_order() -> None:
    found = extract(epub(), "book")
    assert (found.title, found.text) == ("On Bread", "One\n\nDough.\n\nTwo")
    assert found.note == "chapters are missing in it: "
    with pytest.raises(Unreadable, match="encrypted"):
        extract(epub(**{"META-INF/encryption.xml": "<EncryptedData/>"}), "a.epub")


def test_letters_of_a_pdf_are_letters_and_words_are_whole() -> None:
    assert tidied("The \ufb01rst e\ufb03cient hy-\nphenation, well-\nKnown and 3-\n4") == (
        "The first efficient hyphenation, well-\nKnown and 3-\n4"
    )


def test_a_pdf_without_spaces_says_so() -> None:
    found = extract(pdf("Somewords", "Thisisarunofverymanywordsthathavenospacesbetweenthematall"), "a.pdf")
    assert found.note == "there are no spaces between words on pages 2: they may not be found by words"


def test_what_is_written_into_a_form_is_text() -> None:
    file = io.BytesIO()
    canvas = Canvas(file)
    canvas.drawString(72, 700, "Please fill in")
    canvas.acroForm.textfield(name="town", value="Uppsala", x=72, y=600)
    canvas.showPage()
    canvas.save()
    assert ("definition", "town: Uppsala") in blocks(extract(file.getvalue(), "a.pdf"))


def picture(words: str) -> Image.Image:
    image = Image.new("RGB", (900, 160), "white")
    ImageDraw.Draw(image).text((20, 40), words, fill="black", font=ImageFont.load_default(size=60))
    return image


def scanned(words: str) -> bytes:
    file = io.BytesIO()
    canvas = Canvas(file)
    canvas.drawImage(ImageReader(picture(words)), 50, 500, 450, 80)
    canvas.showPage()
    canvas.save()
    return file.getvalue()


@pytest.mark.skipif(shutil.which("tesseract") is None, reason="tesseract is not installed")
def test_words_of_pictures_and_scans_are_recognised() -> None:
    file = io.BytesIO()
    picture("Reset button").save(file, "PNG")
    for data, name in ((file.getvalue(), "a.png"), (scanned("Reset button"), "a.pdf")):
        found = extract(data, name)
        assert "Reset button" in found.text
        assert found.note == ocr.NOTE
    empty = io.BytesIO()
    picture("").save(empty, "PNG")
    with pytest.raises(Unreadable, match="no words were recognised"):
        extract(empty.getvalue(), "a.png")


def test_without_the_program_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ocr, "is_installed", lambda: False)
    file = io.BytesIO()
    picture("Reset").save(file, "PNG")
    for data, name in ((file.getvalue(), "a.png"), (scanned("Reset"), "a.pdf")):
        with pytest.raises(Unreadable, match="install tesseract"):
            extract(data, name)


def test_a_picture_of_too_many_points_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ocr, "MAX_PIXELS", 1000)
    monkeypatch.setattr(ocr, "is_installed", lambda: True)
    file = io.BytesIO()
    picture("Reset").save(file, "PNG")
    with pytest.raises(Unreadable, match="900 x 160 pixels"):
        extract(file.getvalue(), "a.png")


@pytest.mark.parametrize(
    ("data", "name", "text", "note"),
    [
        ('<?xml version="1.0" encoding="ISO-8859-2"?><p>źdźbło</p>'.encode("iso-8859-2"), "a.html", "źdźbło", None),
        ('<meta charset="gb2312"><p>朱镕基</p>'.encode("gbk"), "a.html", "朱镕基", None),
        ("<!-- <meta charset=koi8-r> --><meta charset=utf-8><p>Größe</p>".encode(), "a.html", "Größe", None),
        (
            '<meta http-equiv=content-type content="text/html; charset=koi8-r"><p>мир'.encode("koi8-r"),
            "a.htm",
            "мир",
            None,
        ),
        (
            "Größe, naïve".encode() + b" \xff ",
            "a.txt",
            "Größe, naïve \ufffd",
            "bytes of it that are no utf-8 were replaced by \ufffd: 1, the first in line 1",
        ),
        (
            b'<meta charset="gb2312"><p>a \xff b',
            "a.html",
            "a \ufffd b",
            "bytes of it that are no gb18030 were replaced by \ufffd: 1",
        ),
        ('<meta charset="gb2312"><p>𠀀'.encode("gb18030"), "a.html", "𠀀", None),
        ("“x”".encode("windows-1252"), "a.txt", "“x”", "it is not UTF-8, and was read as windows-1252"),
    ],
)
def test_bytes_are_decoded_as_browsers_do_it(data: bytes, name: str, text: str, note: str | None) -> None:
    found = extract(data, name)
    assert found.text.strip() == text
    assert (found.note or "").startswith(note or "")
    assert (found.note is None) == (note is None)
