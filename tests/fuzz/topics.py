"""Target: topics, patterns and the index, against a plain recursive reading of the rules (SPEC.md, section 4).

The input is UTF-8, one name a line: subscribers' patterns, and the topics to look up.
"""

from __future__ import annotations

import unicodedata
from typing import Final

from trunkline_protocol import topics

TOKENS: Final = (b"system", b"system.", b"*", b".*", b">", b".>", b".", b"\n", b"a.b", "\u00a0".encode(), b"\x7f")
SEEDS: Final = (
    b"a.b\na.*\na.>\n*.b\n>\n*\nsystem.x\nsystem.>\nsystem",
    b"jobs.42.progress\njobs.*.progress\njobs.>\n*.*.progress\n>",
    b"system\n>\n*\nsystem.*\nsystem.*.>",
    b"a..b\n.a\na.\n>.a\na*\n\xc2\xa0\n\n ",
    b"a." * 31 + b"a\n" + b"a." * 32 + b"a\n" + b"x" * 257,
)
MAX_NAMES: Final = 9


def check(data: bytes) -> None:
    """Validity, matching, covering and the index agree with the model."""
    names = data.decode("utf-8", "replace").split("\n")[:MAX_NAMES]
    for name in names:
        assert topics.valid_topic(name) == is_topic(name), name
        assert topics.valid_pattern(name) == is_pattern(name), name
    _check_index([name for name in names if is_pattern(name)], [name for name in names if is_topic(name)])


def _check_index(patterns: list[str], published: list[str]) -> None:
    index: topics.TopicIndex[int] = topics.TopicIndex()
    for subscriber, pattern in enumerate(patterns):
        index.add(pattern, subscriber % 3)
    _compare(index, [(pattern, subscriber % 3) for subscriber, pattern in enumerate(patterns)], published)
    gone = [(pattern, subscriber % 3) for subscriber, pattern in enumerate(patterns) if subscriber % 2]
    for pattern, subscriber in gone:
        index.remove(pattern, subscriber)
    left = [(pattern, number % 3) for number, pattern in enumerate(patterns) if (pattern, number % 3) not in gone]
    _compare(index, left, published)
    for pattern, subscriber in left:
        index.remove(pattern, subscriber)
    _compare(index, [], published)
    assert len(index) == 0
    for wide in patterns:
        for topic in published:
            assert topics.matches(wide, topic) == reaches(wide, topic), (wide, topic)
        for narrow in patterns:
            if topics.covers(wide, narrow):
                for topic in published:
                    assert reaches(wide, topic) or not reaches(narrow, topic), (wide, narrow, topic)


def _compare(index: topics.TopicIndex[int], subscriptions: list[tuple[str, int]], published: list[str]) -> None:
    for topic in published:
        wanted = {subscriber for pattern, subscriber in subscriptions if reaches(pattern, topic)}
        found = index.match(topic)
        assert len(found) == len(set(found)), "somebody is found twice"
        assert set(found) == wanted, (topic, subscriptions)


def _is_token(token: str) -> bool:
    return bool(token) and not any(
        char in ".*>" or char.isspace() or unicodedata.category(char) == "Cs" or char < " " or char == "\x7f"
        for char in token
    )


def _is_short(name: str) -> bool:
    return len(name) <= 256 and len(name.split(".")) <= 32


def is_topic(name: str) -> bool:
    return _is_short(name) and all(_is_token(token) for token in name.split("."))


def is_pattern(name: str) -> bool:
    *path, last = name.split(".")
    return _is_short(name) and all(token == "*" or _is_token(token) for token in path) and (
        last in ("*", ">") or _is_token(last)
    )  # fmt: skip


def reaches(pattern: str, topic: str) -> bool:
    """Token by token; a leading wildcard stops at ``system``."""
    tokens = topic.split(".")
    if pattern[0] in "*>" and tokens[0] == "system":
        return False
    return _fits(pattern.split("."), tokens)


def _fits(pattern: list[str], tokens: list[str]) -> bool:
    if not pattern or not tokens:
        return not pattern and not tokens
    if pattern[0] == ">":
        return True
    return pattern[0] in ("*", tokens[0]) and _fits(pattern[1:], tokens[1:])
