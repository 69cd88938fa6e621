"""From Markdown to blocks of text: rendered as CommonMark says, with tables, and then read like any page."""

from __future__ import annotations

import html
import re
from typing import Any, Final

from trunkline.methods.documents.blocks import FileText, clean, paragraphs_of
from trunkline.methods.documents.html import KNOWN, read_html

MAX_MARKDOWN: Final = 8 * 2**20
"""Characters that are rendered: longer texts are no documents that somebody wrote, and are read as they are."""

_FRONT_MATTER: Final = re.compile(r"---[ \t]*\r?\n(.*?\r?\n)?(---|\.\.\.)[ \t]*(\r?\n|\Z)", re.DOTALL)
_SIGNS: Final = re.compile(r"^(?: {0,3}#{1,6}[ \t]|```|~~~| {0,3}\|? ?:?-{3,}:? ?\|)", re.MULTILINE)
"""What is written by nobody who does not mean Markdown: headings, fences, tables."""

_ELEMENT: Final = re.compile(r"</?([a-zA-Z][\w.:-]*)")


def is_markdown(text: str) -> bool:
    """Whether a text that says nothing of its kind is Markdown: stars and underscores alone do not make it that."""
    return _SIGNS.search(text) is not None or front_matter(text)[0] is not None


def read_plain(text: str, note: str | None = None) -> FileText:
    """A text without markup; it is kept as it is, and its offsets are those of the file."""
    text = clean(text)
    return FileText(None, text, paragraphs_of(text), note=note)


def read_markdown(text: str, note: str | None = None) -> FileText:
    """The blocks of a Markdown text, its front matter aside.

    Raises:
        Unreadable: it has no text.
    """
    text = clean(text)
    if len(text) > MAX_MARKDOWN:
        return read_plain(text, note).noted(f"it has more than {MAX_MARKDOWN:,} characters, and is read as plain text")
    front, body = front_matter(text)
    titles = (front or {}).get("title")
    title = str(titles).strip() if isinstance(titles, str | int | float) else None
    if not text[body:].strip():
        return FileText(title, "", note=note)
    document = read_html(f"<!doctype html><body>{_rendered(text[body:])}</body>", note)
    return document.titled(title or document.title)


def _rendered(text: str) -> str:
    """The text as HTML. What looks like an element and is none, as in ``call <method>``, is text."""
    from markdown_it import MarkdownIt

    markdown = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    for rule in ("html_inline", "html_block"):
        markdown.add_render_rule(rule, _html)
    rendered: str = markdown.render(text)
    return rendered


def _html(_renderer: Any, tokens: Any, at: int, _options: Any, _env: Any) -> str:
    content: str = tokens[at].content
    found = _ELEMENT.match(content.lstrip())
    if found is not None and found[1].lower() not in KNOWN:
        return html.escape(content)
    return content


def front_matter(text: str) -> tuple[dict[str, Any] | None, int]:
    """The front matter of a text, if what two rules have between them is YAML; and where its body begins."""
    found = _FRONT_MATTER.match(text)
    if found is None:
        return None, 0
    import yaml

    try:
        said = yaml.safe_load(found[1] or "")
    except (yaml.YAMLError, ValueError, RecursionError):  # dates that are none are ValueErrors
        return None, 0
    if said is None and not (found[1] or "").strip():
        return {}, found.end()
    return (said, found.end()) if isinstance(said, dict) else (None, 0)
