"""What texts from outside are looked through with takes time in proportion to their length, whatever is in them."""

from __future__ import annotations

import time
from collections.abc import Callable
from fnmatch import fnmatchcase

import pytest

from tests.support.libraries import skip_without

skip_without("bm25s", "semantic_text_splitter")

from tests.support.timing import SCALE  # noqa: E402
from trunkline import Passage  # noqa: E402
from trunkline.edge.http import tasks as http_tasks  # noqa: E402
from trunkline.methods.documents import extract  # noqa: E402
from trunkline.methods.documents.blocks import clean  # noqa: E402
from trunkline.methods.documents.encodings import declared_encoding  # noqa: E402
from trunkline.methods.documents.markdown import front_matter, is_markdown, read_plain  # noqa: E402
from trunkline.methods.documents.pdf import tidied  # noqa: E402
from trunkline.methods.languages import count_words, language_of, stems  # noqa: E402
from trunkline.methods.rag.blocks import blocks_of  # noqa: E402
from trunkline.methods.rag.graph import entities  # noqa: E402
from trunkline.methods.rag.units import units_of  # noqa: E402
from trunkline.methods.vectors.lexical import words  # noqa: E402
from trunkline.observe.secrets import SecretMask  # noqa: E402
from trunkline_protocol import topics, traces  # noqa: E402

TIMES = 8
"""By how much a text is made longer."""
LINEAR = 3 * TIMES
"""How much longer that may take: what is quadratic takes ``TIMES**2``."""
SHORT = 0.02
"""Seconds that say nothing of how they grow."""

PATIENCE = 30 * SCALE
"""Seconds after which a text is taken for one that never ends. Regular expressions look after signals now and then."""

LINES: dict[str, Callable[[int], str]] = {
    "comments": lambda n: "<!-- -->" * n + "x",
    "comments apart": lambda n: "<!-- --> \n" * n + "x",
    "comments left open": lambda n: "<!--" * n,
    "white space": lambda n: " " * n + "x",
    "metas": lambda n: "<meta " * n,
    "a charset of nothing": lambda n: "<meta charset=" + " " * n + "\x01",
    "charsets of nothing": lambda n: "<meta " + ("charset=" + " " * 50) * (n // 50) + "\x01",
    "a heading that goes on": lambda n: "# a" + " " * n + "b" + "# " * n + "c",
    "many hashes": lambda n: "# a" + "#" * n + "b",
    "headings of nothing": lambda n: ("# " + " " * 50 + "\n") * (n // 50),
    "fences": lambda n: "```\n~~~\n" * n,
    "a fence left open": lambda n: "~~~\n" + "```" * n + "\n" * n,
    "a title that goes on": lambda n: "---\ntitle: a" + " " * n + "b" + " \t" * n + "c\n---\n",
    "front matter left open": lambda n: "---\n" + ("---" + " " * 50 + "x\n") * (n // 50),
    "a word of quotes": lambda n: "A word. " + "a" + "'" * n + "!!" + " is not one of them here.",
    "words of quotes": lambda n: ("a" + "'" * 50 + "!! ") * (n // 50),
    "quotes": lambda n: "One sentence. " + "(" * n + ". Two of them." + "\")" * n + "x",
    "rules": lambda n: "*" * n + "x\n" + "\t" * n + "*\n",
    "ends": lambda n: "One sentence" + ".'" * n + "x",
    "blank lines": lambda n: "a\n" + " \t" * n + "b" + "\n " * n,
    "numbers": lambda n: "1" * n + ". " + "1) " * n,
    "a word without end": lambda n: "running" * n,
    "surrogates": lambda n: "\ud800" * n,
    "tokens": lambda n: "eyJ-" * n,
    "tokens in two parts": lambda n: ("eyJ" + "a" * 8 + "-") * n + "." + "eyJ-" * n,
    "tokens in many parts": lambda n: "eyJaaaaaaaa." * n,
    "bearers": lambda n: ("bearer" + " " * 50) * (n // 50),
    "queries": lambda n: "?token=" * n,
    "dots": lambda n: "a." * n + "*.",
    "waits": lambda n: ("wait" + " " * 50) * (n // 50),
    "a trace": lambda n: "00-" + "0" * 32 + "-" + "0" * 16 + "-00" + "-" * n + "\n",
}  # fmt: skip

READERS: dict[str, Callable[[str], object]] = {
    "kind_of": lambda text: extract.kind_of(text.encode(errors="replace"), "notes.txt"),
    "declared_encoding": lambda text: declared_encoding(text.encode(errors="replace")),
    "read_plain": read_plain,
    "front_matter": front_matter,
    "is_markdown": is_markdown,
    "tidied": tidied,
    "clean": clean,
    "units": lambda text: units_of(text, blocks_of(text, {}), "en"),
    "languages": lambda text: (language_of(text), stems(text), count_words(text)),
    "words": lambda text: words([text], "en"),
    "entities": lambda text: entities(Passage("a", 1.0, text)),
    "glob": lambda text: fnmatchcase(text, "*a" * 20 + "*#"),
    "secrets": SecretMask(["a secret"]),
    "topic": topics._TOPIC.fullmatch,
    "pattern": topics._PATTERN.fullmatch,
    "traceparent": traces.parse,
    "prefer": http_tasks._WAIT.search,
}


def seconds(read: Callable[[str], object], text: str) -> float:
    """The least of a few tries, in CPU time of this thread: two where that is long, for the first finds cold memory."""
    least = float("inf")
    for number in range(3):
        began = time.thread_time()
        read(text)
        least = min(least, time.thread_time() - began)
        if number and least > 1:
            break
    return least


@pytest.mark.timeout(PATIENCE)
@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("line", LINES)
def test_time_grows_with_the_text_and_not_faster(reader: str, line: str) -> None:
    read, make = READERS[reader], LINES[line]
    size = 64
    before = seconds(read, make(size))
    while size < 10_000:
        size *= TIMES
        after = seconds(read, make(size))
        assert after < max(LINEAR * before, SHORT), f"{size} take {after:.3g} s, an eighth of it {before:.3g} s"
        before = after
