"""Pages as blocks: every word in its place, and what is no text left out."""

from __future__ import annotations

import pytest

for library in ("lxml", "markdown_it", "yaml"):
    pytest.importorskip(library)

from trunkline.methods.documents.html import read_html  # noqa: E402
from trunkline.methods.documents.markdown import is_markdown, read_markdown  # noqa: E402


def blocks(page: str) -> list[tuple[str, str]]:
    document = read_html(page)
    return [(block.kind, document.text[block.start : block.end]) for block in document.blocks]


def test_items_with_links_and_emphasis_are_whole() -> None:
    page = """<ul><li><a href="x">Transactions</a> are atomic, <b>consistent</b>.<li>Zero-configuration
    <ul><li>no setup</ul></li></ul><ol start=3><li>three<li value=7><p>seven</p><p>more</p><li>eight</ol>"""
    assert blocks(page) == [
        ("list_item", "- Transactions are atomic, consistent."), ("list_item", "- Zero-configuration"),
        ("list_item", "- no setup"), ("list_item", "3. three"), ("list_item", "7. seven\nmore"),
        ("list_item", "8. eight"),
    ]  # fmt: skip


def test_sentences_are_neither_cut_nor_joined() -> None:
    page = """<div class="para">The list of <em>a</em> pairs (example: <code>b.c</code>). An asterisk ends it.</div
    ><div class="para">Next<br>line.</div>tail<p>One<span>Two</span></p>"""
    assert blocks(page) == [
        ("paragraph", "The list of a pairs (example: b.c). An asterisk ends it."), ("paragraph", "Next\nline."),
        ("paragraph", "tail"), ("paragraph", "OneTwo"),
    ]  # fmt: skip


def test_names_are_written_as_a_reader_sees_them() -> None:
    page = "<h2>(1) What is <code>sqlite3_open_v2()</code>?<a class=headerlink href='#x'>¶</a></h2><p>*.txt and a_b_c"
    assert blocks(page) == [("heading", "(1) What is sqlite3_open_v2()?"), ("paragraph", "*.txt and a_b_c")]


def test_code_is_verbatim() -> None:
    page = "<p>So:<pre>\n  if x:\n      <b>go</b>()\n\n  end\n</pre>"
    assert blocks(page) == [("paragraph", "So:"), ("code", "  if x:\n      go()\n\n  end")]


def test_terms_stand_above_what_they_mean() -> None:
    page = "<dl><dt>-v<dt>--verbose<dd><p>Say more.</p><p>Much.</p><dt>-q<dd><pre>quiet</pre><dt>alone</dl>"
    assert blocks(page) == [
        ("definition", "-v\n--verbose\nSay more."), ("paragraph", "Much."), ("definition", "-q"), ("code", "quiet"),
        ("definition", "alone"),
    ]  # fmt: skip


def test_cells_that_span_rows_are_repeated_in_these() -> None:
    page = """<table><tr><th colspan=2>Oven<th>Heat<tr><td rowspan=2>A<td>low<td>90<tr><td>high<td>220
    <tr><td>B<td rowspan=0>any<td>1<tr><td>C<td>2<tbody><tr><td>D<td>x</table>"""
    assert [text for _, text in blocks(page)] == [
        "Oven |  | Heat", "A | low | 90", "A | high | 220", "B | any | 1", "C | any | 2", "D | x",
    ]  # fmt: skip


def test_a_long_cell_is_not_repeated() -> None:
    page = f"<table><tr><td rowspan=3>{'long ' * 100}<td>1<tr><td>2<tr></tr></table>"
    assert [text for _, text in blocks(page)] == [f"{('long ' * 100).strip()} | 1", " | 2"]


def test_rows_of_data_are_lines_and_layout_is_none() -> None:
    data = "<table><tr><th>Name<th>Use</tr><tr><td><p>a</p><td>b<br>c<td></tr></table>"
    assert blocks(data) == [("table_row", "Name | Use"), ("table_row", "a | b c")]
    layout = "<table><tr><td><h1>Title</h1><ul><li>one</ul><td>side</table>"
    assert blocks(layout) == [("heading", "Title"), ("list_item", "- one"), ("paragraph", "side")]
    assert blocks(f"<table><tr><td>{data}</td></tr></table>") == blocks(data)


def test_only_what_is_no_content_is_left_out() -> None:
    page = """<body><header>Banner</header><nav>Home</nav><script>x()</script><style>y</style>
    <article><header><h1>Title</h1></header><p>Words.</p><footer>By her</footer></article><noscript>Off</noscript>
    <form><select><option>One</option><option>Two</option></select></form><footer>Imprint</footer>"""
    assert [text for _, text in blocks(page)] == ["Title", "Words.", "By her", "Off", "One Two"]


def test_xhtml_is_read_by_its_own_rules() -> None:
    page = '<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><head><title/></head><body><p>Words<b/>.</p></body></html>'
    assert blocks(page) == [("paragraph", "Words.")]
    assert blocks("<?xml version='1.0'?><p>not closed &nbsp; here") == [("paragraph", "not closed here")]


def test_markdown_is_what_its_reader_sees() -> None:
    document = read_markdown(
        "A \\*star\\* and **bold** [link](http://x) call <method> now<br>next\n\n```py\nx = '*'\n```\n\n1. one\n2. two"
    )
    assert document.text == "A *star* and bold link call <method> now\nnext\n\nx = '*'\n\n1. one\n2. two"


@pytest.mark.parametrize("text", ["__init__ and *.txt *", "a - b\n- c", "---\nno mapping\n---\n", "2 * 3 * 4"])
def test_a_text_without_signs_of_markdown_is_none(text: str) -> None:
    assert not is_markdown(text)
