"""From bytes to text: every kind of file, good and bad."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest

from tests.support.libraries import skip_without

skip_without("pypdf", "docx", "reportlab")

from tests.methods.document_files import bomb, pdf, word_document  # noqa: E402
from trunkline.methods.documents import pdf as pdf_reader  # noqa: E402
from trunkline.methods.documents.blocks import FileText, Unreadable  # noqa: E402
from trunkline.methods.documents.extract import MAX_TEXT_BYTES, extract, from_text, kind_of  # noqa: E402
from trunkline.methods.documents.folders import read_file  # noqa: E402

PAGE = """<!DOCTYPE html><html><head><title>On  bread
 &amp; ovens</title></head><body><nav><a href="/">Home</a> <a href="/shop">Shop</a></nav><article><h1>Bread</h1>
<p>Bread is baked from dough, and the oven has to be hot, as every baker who ever lived will tell you.</p>
<h2>Größe</h2><p>The size of a loaf (日本語: パン) is a matter of taste, and of the size of the oven it has to
fit into.</p></article><footer>Imprint</footer></body></html>"""


def refused(data: bytes, name: str) -> str:
    with pytest.raises(Unreadable) as caught:
        extract(data, name)
    return str(caught.value)


def kinds(document: FileText) -> list[tuple[str, str]]:
    return [(block.kind, document.text[block.start : block.end]) for block in document.blocks]


def test_text_is_kept_as_it_is() -> None:
    document = extract("Größe\r\n\r\nzwei 😀".encode(), "a.txt")
    assert (document.title, document.text) == (None, "Größe\r\n\r\nzwei 😀")
    assert kinds(document) == [("paragraph", "Größe"), ("paragraph", "zwei 😀")]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_byte_order_marks_are_understood(encoding: str) -> None:
    assert extract("naïve 日本".encode(encoding), "a.txt").text == "naïve 日本"


def test_a_guessed_encoding_is_announced() -> None:
    document = extract("Größe “eins”".encode("windows-1252"), "a.txt")
    assert document.text == "Größe “eins”"
    assert document.note == "it is not UTF-8, and was read as windows-1252"
    assert extract(b"caf\xe9 \x81 bar", "a.txt").text == "café \x81 bar"


def test_front_matter_is_no_text_and_has_the_title() -> None:
    document = extract(b'---\ntags: [a]\ntitle: "On Bread"\n---\n# Baking\n\nDough.', "a.md")
    assert (document.title, document.text) == ("On Bread", "Baking\n\nDough.")


@pytest.mark.parametrize("between", ["Words that are no YAML mapping.", "- a\n- list", "a: b: c", "1: [", "@"])
def test_what_stands_between_rules_is_text_where_it_is_no_mapping(between: str) -> None:
    text = extract(f"---\n{between}\n\n---\n\nAnd more.".encode(), "a.md").text
    assert between.rsplit(maxsplit=1)[-1] in text
    assert "And more." in text


def test_markdown_without_front_matter_has_the_title_of_its_first_heading() -> None:
    assert extract(b"~~~\n# no heading\n~~~\n\nwords\n\n## The  Heading ##\n", "a.md").title == "The Heading"
    assert extract(b"no heading at all\n\n---\n\ntitle: none", "a.md").title is None


def test_html_is_read_without_its_navigation() -> None:
    document = extract(PAGE.encode(), "a.html")
    assert document.title == "On bread & ovens"
    assert ("heading", "Bread") in kinds(document)
    assert "日本語: パン" in document.text
    assert "Shop" not in document.text
    assert "Imprint" not in document.text


def test_html_in_a_declared_encoding() -> None:
    page = PAGE.replace("<head>", '<head><meta charset="Shift_JIS">').replace("Größe", "大きさ")
    assert "日本語: パン" in extract(page.encode("shift_jis"), "a.html").text


def test_html_is_known_by_its_content() -> None:
    assert kind_of(PAGE.encode(), "page") == "html"
    assert kind_of(PAGE.encode(), "page.md") == "markdown"


def test_a_page_without_an_article_gives_all_its_text() -> None:
    document = extract(b"<html><head><title>T</title></head><body><div>tiny words</div></body></html>", "a.html")
    assert (document.title, document.text) == ("T", "tiny words")


def test_pages_of_a_pdf_are_known() -> None:
    document = extract(pdf("One cat", "Two dogs", title="Animals"), "a.pdf")
    assert document.title == "Animals"
    assert "One cat" in document.text
    assert document.page_at(document.text.index("One cat")) == 1
    assert document.page_at(document.text.index("Two dogs")) == 2


def test_a_pdf_is_known_by_its_content() -> None:
    assert "One cat" in extract(pdf("One cat"), "download").text


def test_docx_is_read_with_its_headings() -> None:
    document = extract(word_document("Hello wörld.", heading="Head"), "a.docx")
    assert (document.title, document.text) == ("Head", "Head\n\nHello wörld.")
    assert extract(word_document("x", heading="Head", title="Set"), "a.docx").title == "Set"


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("a.pdf", os.urandom(1000).replace(b"%PDF-", b""), "it is no pdf, although its name says so"),
        ("a.pdf", b"%PDF-1.7\n" + bytes(range(256)) * 20, "it cannot be read as PDF"),
        ("a.pdf", pdf("words " * 10)[:300], "it cannot be read as PDF|there is no text in it"),
        ("a.pdf", pdf(""), r"there is no text in it"),
        ("a.pdf", pdf("secret", password="x"), "it is encrypted: save it without a password"),
        ("a.docx", b"no zip", "it is no docx, although its name says so"),
        ("a.docx", word_document("words")[:2000], "it cannot be read as docx"),
        ("a.doc", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "old format of Microsoft Office"),
        ("a.zip", b"PK\x03\x04" + bytes(600), "zip archive that holds no document"),
        ("a.txt", b"words\x00words", "it is binary: there is a NUL at byte 5"),
        ("a.txt", bytes(range(1, 32)) * 9, "it is binary: .* control characters"),
        ("a.txt", b"\xff\xfea", "it has the mark of utf-16-le and is damaged at byte 0"),
        ("a.txt", b" \n\t ", "there is no text in it"),
        ("a.md", b"---\ntitle: T\n---\n", "there is no text in it"),
        ("a.html", b"<html><body></body></html>", "there is no text in it"),
        ("a.html", b"", "cannot be read as HTML|there is no text in it"),
    ],
)
def test_what_is_no_document_is_refused_with_the_reason(name: str, data: bytes, says: str) -> None:
    import re

    assert re.search(says, refused(data, name))


@pytest.mark.parametrize(
    "page", ["<div>" * 100_000, "<table><tr><td>" * 5_000 + "words", "<!doctype html>" + "&" * 10**5]
)
def test_pages_of_a_strange_shape_are_read_or_refused(page: str) -> None:
    try:
        document = extract(page.encode(), "a.html")
    except Unreadable:
        return
    assert document.text


def test_a_zip_bomb_is_refused_before_it_is_unpacked() -> None:
    data = bomb()
    tracemalloc.start()
    try:
        assert "it unpacks to 314,572,8" in refused(data, "a.docx")
        assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    finally:
        tracemalloc.stop()


def test_a_text_of_100_megabytes_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "big.txt"
    with path.open("wb") as file:
        file.truncate(100 * 10**6)
    tracemalloc.start()
    try:
        with pytest.raises(Unreadable, match="it has 100,000,000 bytes, and files are read up to 67,108,864: split it"):
            read_file(path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    assert "text files are read up to" in refused(b"a" * (MAX_TEXT_BYTES + 1), "a.txt")


def test_the_text_of_a_pdf_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf_reader, "MAX_PDF_TEXT", 100)
    assert "its first 3 pages have more than 100 characters" in refused(pdf(*["x" * 40] * 9), "a.pdf")


def test_what_json_cannot_carry_is_replaced_in_place() -> None:
    assert from_text("a\ud800b\x00c").text == "a\ufffdb\ufffdc"
