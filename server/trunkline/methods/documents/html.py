"""From a page of HTML to blocks of text: every word of its body, in order, and none that is not there.

Nothing is left out by guess: only scripts, styles, navigation (``nav``), and the page's own header and footer, which an
article's are not. Marks that link a heading to itself, which a reader does not see, go as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from trunkline.methods.documents.blocks import FileText, TextBuilder, Unreadable, clean
from trunkline.methods.documents.spans import MOST_ROWS, Spans

if TYPE_CHECKING:
    from lxml.etree import _Element

HEADINGS: Final = {f"h{level}": level for level in range(1, 7)}
VERBATIM: Final = frozenset({"pre", "listing", "xmp", "plaintext", "textarea"})
SKIPPED: Final = frozenset({"script", "style", "nav", "head", "template", "rp"})
OF_THE_PAGE: Final = frozenset({"header", "footer"})
SECTIONING: Final = frozenset({"article", "section", "main", "aside", "blockquote", "details", "dialog", "td"})
"""In these a header is theirs, not the page's."""
BLOCKS: Final = frozenset({
    *HEADINGS, *VERBATIM, *OF_THE_PAGE, *SECTIONING, "address", "body", "caption", "center", "dd", "dir", "div", "dl",
    "dt", "fieldset", "figcaption", "figure", "form", "hgroup", "hr", "html", "iframe", "legend", "li", "menu",
    "noscript", "ol", "optgroup", "p", "search", "summary", "table", "tbody", "tfoot", "th", "thead", "tr", "ul",
})  # fmt: skip
APART: Final = frozenset({"option", "button", "input", "select", "svg", "text"})
"""Within a line, and apart from the words beside them."""
KNOWN: Final = frozenset({
    *BLOCKS, *SKIPPED, *APART, "a", "abbr", "b", "big", "br", "cite", "code", "col", "colgroup", "del", "dfn", "em",
    "font", "i", "img", "ins", "kbd", "label", "link", "mark", "meta", "picture", "q", "rt", "ruby", "s", "samp",
    "small", "source", "span", "strike", "strong", "sub", "sup", "time", "title", "tt", "u", "var", "video", "wbr",
})  # fmt: skip
"""Names of elements that pages have."""
LISTS: Final = frozenset({"ol", "ul", "menu", "dir"})
ROW_GROUPS: Final = frozenset({"thead", "tbody", "tfoot"})
OPENED: Final = frozenset({*LISTS, *ROW_GROUPS, "table"})
SETTLING: Final = frozenset({*VERBATIM, *LISTS, *HEADINGS, "table", "dl"})
"""What no item or term goes on behind: it stands for itself."""
LAYOUT: Final = frozenset({*HEADINGS, *VERBATIM, "table", "form"})
"""What no cell of data has: a table that has it puts a page in order, and its cells are read one by one."""

_SPACE: Final = re.compile(r"[ \t\n\r\f\xa0]+")
_UNSEEN: Final = re.compile("[\xad\u200b\u2060\ufeff]")
_BREAK: Final = "\x0b"
_BROKEN: Final = re.compile(r"[ \x0b]*\x0b[ \x0b]*")
_SELF_LINKS: Final = frozenset({"¶", "#", "§"})
_XML: Final = re.compile(r"\s*<\?xml\s")


@contextmanager
def reading_as(kind: str) -> Iterator[None]:
    """Raise whatever a library raises on a damaged file, of any type, as :class:`Unreadable`."""
    try:
        yield
    except Unreadable:
        raise
    except MemoryError:
        raise
    except Exception as error:
        raise Unreadable(f"it cannot be read as {kind}: {type(error).__name__}: {error!s:.200}") from error


def read_html(text: str, note: str | None = None) -> FileText:
    """The blocks of a page.

    Raises:
        Unreadable: there are no elements in it.
    """
    with reading_as("HTML"):
        tree = _parsed(clean(text))
        if tree is None:
            raise Unreadable("it cannot be read as HTML: there are no elements in it")
        blocks = TextBuilder()
        _Walk(blocks).over(tree)
        document = blocks.build(_title(tree), note)
        first = next((each for each in document.blocks if each.kind == "heading"), None)
        if document.title is None and first is not None:
            return document.titled(document.text[first.start : first.end])
        return document


def _parsed(text: str) -> _Element | None:
    """The tree of a page; that of XHTML by the rules of XML, where it keeps them."""
    from lxml import etree

    data = text.encode()
    if _XML.match(text):
        strict = etree.XMLParser(
            resolve_entities=False, no_network=True, huge_tree=True, encoding="utf-8", remove_comments=True,
            remove_pis=True,
        )  # fmt: skip
        try:
            tree: _Element = etree.fromstring(data, strict)
        except etree.XMLSyntaxError:
            pass
        else:
            if _name(tree) == "html" and next(tree.iter(etree.Entity), None) is None:
                return tree
    parser = etree.HTMLParser(huge_tree=True, encoding="utf-8", remove_comments=True, remove_pis=True)
    try:
        return etree.fromstring(data, parser)
    except etree.XMLSyntaxError:  # of an empty page
        return None


def _name(element: _Element) -> str:
    """The name of an element without its namespace; empty for comments and the like."""
    tag: Any = element.tag
    return tag.rpartition("}")[2].lower() if isinstance(tag, str) else ""


def _title(tree: _Element) -> str | None:
    for element in tree.iter("{*}title"):
        parent = element.getparent()
        if parent is not None and _name(parent) != "svg":
            return _SPACE.sub(" ", "".join(map(str, element.itertext()))).strip() or None
    return None


def _layout_tables(tree: _Element) -> set[_Element]:
    """Tables that put a page in order."""
    from lxml import etree

    found: set[_Element] = set()
    around: list[_Element] = []
    for event, element in etree.iterwalk(tree, events=("start", "end")):
        name = _name(element)
        if event == "end":
            if name == "table":
                around.pop()
            continue
        if around and name in LAYOUT:  # the tables further out have this one in them
            found.add(around[-1])
        if name == "table":
            around.append(element)
    return found


class _Walk:
    """Goes over a tree, and gathers the words of each block until it ends."""

    def __init__(self, blocks: TextBuilder) -> None:
        self._blocks = blocks
        self._words: list[str] = []
        self._verbatim: list[str] | None = None
        self._item: list[str] | None = None
        self._terms: list[str] = []
        self._cells: list[str] | None = None
        self._sizes: list[tuple[int, int]] = []
        self._spans = Spans()
        self._counts: list[int | None] = []
        self._tables: list[bool] = []
        self._marker = ""
        self._in_term = False

    def over(self, tree: _Element) -> None:
        """Add all blocks of a tree."""
        from lxml import etree

        layout = _layout_tables(tree)
        skipped: _Element | None = None
        within = 0
        walk = etree.iterwalk(tree, events=("start", "end"))
        for event, element in walk:
            name = _name(element)
            if event == "start":
                if name in SKIPPED or (name in OF_THE_PAGE and not within) or _links_to_itself(element, name):
                    skipped = element
                    walk.skip_subtree()
                    if name in BLOCKS:
                        self._flush()
                    continue
                within += name in SECTIONING
                self._begin(element, name, element in layout)
                self._take(element.text)
                continue
            if skipped is None:
                within -= name in SECTIONING
                self._end(name)
            skipped = None
            if element is not tree:
                self._take(element.tail)
        self._settle()

    def _take(self, text: str | None) -> None:
        if text:
            (self._words if self._verbatim is None else self._verbatim).append(text)

    def _begin(self, element: _Element, name: str, is_layout: bool) -> None:
        if name == "br":
            self._take("\n" if self._verbatim is not None else _BREAK)
        if self._verbatim is not None or self._is_inline(name):
            return
        if name in ("dt", "dd"):  # a term may be left open
            self._end_term()
            self._in_term = name == "dt"
        self._flush()
        if name in SETTLING:
            self._settle()
        if name in VERBATIM:
            self._verbatim = []
        elif name in OPENED:
            self._open(element, name, is_layout)
        elif name == "li" and self._cells is None:
            self._settle()
            self._item, self._marker = [], self._next_marker(element)
        elif name == "tr" and self._is_data:
            self._settle()
            self._cells, self._sizes = [], []
        elif name in ("td", "th") and self._cells is not None:
            self._cells.append("")
            self._sizes.append((_number(element.get("rowspan"), 1) or MOST_ROWS, _number(element.get("colspan"), 1)))

    def _is_inline(self, name: str) -> bool:
        """Whether an element is within a line; that which stands apart is given its space."""
        if name not in BLOCKS and (name in APART or "-" in name):
            self._take(" ")
        return name not in BLOCKS

    def _open(self, element: _Element, name: str, is_layout: bool) -> None:
        if name == "table":
            self._tables.append(not is_layout)
            self._spans = Spans()
        elif name in ROW_GROUPS:
            self._spans = Spans()  # no cell goes on from one to the next
        elif name in LISTS:
            self._counts.append(_number(element.get("start"), 1) if name == "ol" else None)

    @property
    def _is_data(self) -> bool:
        return bool(self._tables) and self._tables[-1]

    def _next_marker(self, element: _Element) -> str:
        if not self._counts or (count := self._counts[-1]) is None:
            return "- "
        count = _number(element.get("value"), count)
        self._counts[-1] = count + 1
        return f"{count}. "

    def _end(self, name: str) -> None:
        if name in VERBATIM and self._verbatim is not None:
            text, self._verbatim = "".join(self._verbatim).replace("\r\n", "\n").replace("\r", "\n"), None
            self._blocks.add("code", text.strip("\n").rstrip())
        elif self._verbatim is not None or self._is_inline(name):
            return
        elif name in HEADINGS:
            self._heading(HEADINGS[name])
        elif name == "dt":
            self._end_term()
        else:
            self._flush()
            self._close(name)

    def _close(self, name: str) -> None:
        if name == "tr" and self._cells is not None and self._is_data:
            own, self._cells = self._cells, None
            cells = self._spans.row(own, self._sizes)
            while cells and not cells[-1]:
                cells.pop()
            self._blocks.add("table_row", " | ".join(cells) if any(own) else "")
        elif name == "table" and self._tables:
            self._tables.pop()
        elif name in LISTS and self._counts:
            self._settle()
            self._counts.pop()
        elif name in ("li", "dl", "dd"):
            self._settle()

    def _heading(self, level: int) -> None:
        if text := self._taken().replace("\n", " "):
            if self._cells is not None or self._item is not None:
                self._settle()
            self._blocks.add("heading", text, level)

    def _end_term(self) -> None:
        if self._in_term and (text := self._taken()):
            self._terms.append(text)
        self._in_term = False

    def _taken(self) -> str:
        """The words that were gathered, as a reader sees them, in one line but for the breaks in it."""
        text = _UNSEEN.sub("", _SPACE.sub(" ", "".join(self._words)))
        self._words.clear()
        return _BROKEN.sub("\n", text).strip()

    def _flush(self) -> None:
        """End a run of words: it belongs to a cell, an item or a term where one is open."""
        if not (text := self._taken()):
            return
        if self._cells is not None:
            text = text.replace("\n", " ")
            if self._cells:
                self._cells[-1] = f"{self._cells[-1]} {text}".strip()
            else:
                self._cells.append(text)
        elif self._terms:
            self._blocks.add("definition", "\n".join([*self._terms, text]))
            self._terms = []
        elif self._item is not None:
            self._item.append(text if self._item else f"{self._marker}{text}")
        else:
            self._blocks.add("paragraph", text)

    def _settle(self) -> None:
        """End the item or term that is open: what follows stands for itself."""
        self._flush()
        if self._item is not None:
            self._blocks.add("list_item", "\n".join(self._item))
            self._item = None
        if self._terms:
            self._blocks.add("definition", "\n".join(self._terms))
            self._terms = []


def _links_to_itself(element: _Element, name: str) -> bool:
    """Whether it is the mark beside a heading that is a link to it."""
    if name != "a" or not (element.get("href") or "").startswith("#") or len(element):
        return False
    return (element.text or "").strip() in _SELF_LINKS


def _number(text: str | None, default: int) -> int:
    text = (text or "").strip()
    return int(text) if text.isascii() and text.lstrip("-").isdigit() and len(text) < 10 else default
