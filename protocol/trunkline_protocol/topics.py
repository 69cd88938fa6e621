"""Topics, patterns over them, and an index that finds the subscribers of a topic.

A topic is tokens joined by dots (``jobs.42.progress``). In a pattern ``*`` stands for exactly one token and a last
``>`` for one or more. A pattern that begins with a wildcard does not reach into ``system.``: what the hub says of
itself is only for those who ask for it by name. Methods are named, and allowed, by the same rules.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator
from typing import Final, Generic, TypeVar

MAX_TOPIC_CHARS: Final = 256
MAX_TOKENS: Final = 32
SYSTEM: Final = "system"
JOBS: Final = "jobs"

_NAME: Final = r"[^\s.*>\x00-\x1f\x7f\ud800-\udfff]+"
_TOPIC: Final = re.compile(rf"{_NAME}(?:\.{_NAME})*")
_JOB: Final = re.compile(rf"{JOBS}\.[0-9a-f]{{32}}")
_PATTERN: Final = re.compile(rf"(?:(?:{_NAME}|\*)\.)*(?:{_NAME}|\*|>)")

S = TypeVar("S", bound=Hashable)


def valid_topic(topic: str) -> bool:
    """Whether a text is a topic: non-empty tokens without wildcards, blanks or control characters."""
    return _is_short(topic) and _TOPIC.fullmatch(topic) is not None


def valid_pattern(pattern: str) -> bool:
    """Whether a text is a pattern: a topic, or one with ``*`` for tokens and perhaps ``>`` as the last."""
    return _is_short(pattern) and _PATTERN.fullmatch(pattern) is not None


def _is_short(text: str) -> bool:
    return len(text) <= MAX_TOPIC_CHARS and text.count(".") < MAX_TOKENS


def is_wildcard(pattern: str) -> bool:
    """Whether a valid pattern can match more than one topic."""
    return "*" in pattern or ">" in pattern


def is_system(name: str) -> bool:
    """Whether the first token is ``system``, which is the hub's own."""
    return name == SYSTEM or name.startswith("system.")


def is_job(topic: str) -> bool:
    """Whether a topic is that of a job: ``jobs.`` and 32 hexadecimal digits.

    Who knows the id may listen; so that nobody learns others' ids, patterns with wildcards do not get these events.
    """
    return topic.startswith("jobs.") and _JOB.fullmatch(topic) is not None


def is_hubs_own(topic: str) -> bool:
    """Whether a topic is one that only the hub itself publishes to."""
    return is_system(topic) or is_job(topic)


def matches(pattern: str, topic: str) -> bool:
    """Whether a valid pattern reaches a valid topic."""
    return covers(pattern, topic)


def covers(allowed: str, requested: str) -> bool:
    """Whether every topic that ``requested`` (a pattern or a topic) reaches is reached by ``allowed``, too."""
    wide, narrow = allowed.split("."), requested.split(".")
    if wide[0] in ("*", ">") and narrow[0] == SYSTEM:
        return False
    for position, part in enumerate(wide):
        if part == ">":
            return len(narrow) > position
        if position >= len(narrow) or narrow[position] == ">":
            return False
        if part not in ("*", narrow[position]):
            return False
    return len(wide) == len(narrow)


def overlap(one: str, other: str) -> bool:
    """Whether there is a topic that two patterns (or topics) both reach."""
    tokens, others = one.split("."), other.split(".")
    if (tokens[0] == SYSTEM) != (others[0] == SYSTEM):  # no wildcard reaches the hub's own
        return False
    for mine, theirs in zip(tokens, others, strict=False):
        if ">" in (mine, theirs):
            return True
        if mine != theirs and "*" not in (mine, theirs):
            return False
    return len(tokens) == len(others)


class PatternSet:
    """The wildcard patterns of one subscriber. A look-up takes a few operations a token, however many there are.

    Each pattern has a bit. For each place and token there are the bits of the patterns that accept it there: ``*`` and
    ``>`` stand for themselves, and ``.`` for the end.
    """

    __slots__ = ("_accepting", "_bits", "_free")

    def __init__(self) -> None:
        self._bits: dict[str, int] = {}
        self._free: list[int] = []
        self._accepting: dict[tuple[int, str], int] = {}

    def __len__(self) -> int:
        """The number of patterns."""
        return len(self._bits)

    def add(self, pattern: str) -> None:
        """Add a valid pattern. Doing it twice is the same as once."""
        if pattern not in self._bits:
            self._bits[pattern] = bit = self._free.pop() if self._free else 1 << len(self._bits)
            self._flip(pattern, bit)

    def remove(self, pattern: str) -> None:
        """Remove a pattern; an unknown one is ignored."""
        if (bit := self._bits.pop(pattern, None)) is not None:
            self._free.append(bit)
            self._flip(pattern, bit)

    def _flip(self, pattern: str, bit: int) -> None:
        for place in enumerate((*pattern.split("."), ".")):
            if bits := self._accepting.get(place, 0) ^ bit:
                self._accepting[place] = bits
            else:
                del self._accepting[place]

    def reaches(self, topic: str) -> bool:
        """Whether one of the patterns reaches the topic."""
        accepting, tokens = self._accepting, topic.split(".")
        left, wild = -1, tokens[0] != SYSTEM
        for at, token in enumerate(tokens):
            if wild and left & accepting.get((at, ">"), 0):
                return True
            left &= accepting.get((at, token), 0) | (accepting.get((at, "*"), 0) if wild else 0)
            if not left:
                return False
            wild = True
        return left & accepting.get((len(tokens), "."), 0) != 0


class _Node(Generic[S]):
    """One token of the wildcard patterns: subscribers of patterns that end here or take the tail, and next tokens."""

    __slots__ = ("children", "ends", "tails")

    def __init__(self) -> None:
        self.children: dict[str, _Node[S]] = {}
        self.ends: dict[S, None] = {}
        self.tails: dict[S, None] = {}

    def is_empty(self) -> bool:
        return not (self.children or self.ends or self.tails)


class TopicIndex(Generic[S]):
    """The subscribers of topics and patterns.

    Looking a topic up costs one dictionary access plus, where there are wildcard patterns, a walk that grows with
    the topic's tokens, not with the number of topics or subscribers (its worst case: ``match_cost.py``).
    """

    def __init__(self) -> None:
        self._exact: dict[str, dict[S, None]] = {}
        self._snapshots: dict[str, tuple[S, ...]] = {}
        self._root: _Node[S] = _Node()

    def add(self, pattern: str, subscriber: S) -> None:
        """Add a subscription. Doing it twice is the same as once."""
        if is_wildcard(pattern):
            *path, last = pattern.split(".")
            node = self._root
            for token in path if last == ">" else (*path, last):
                node = node.children.setdefault(token, _Node())
            (node.tails if last == ">" else node.ends)[subscriber] = None
        else:
            self._exact.setdefault(pattern, {})[subscriber] = None
            self._snapshots.pop(pattern, None)

    def remove(self, pattern: str, subscriber: S) -> None:
        """Remove a subscription; an unknown one is ignored."""
        if is_wildcard(pattern):
            self._prune(self._root, pattern.split("."), subscriber)
        elif (subscribers := self._exact.get(pattern)) is not None:
            subscribers.pop(subscriber, None)
            self._snapshots.pop(pattern, None)
            if not subscribers:
                del self._exact[pattern]

    def _prune(self, node: _Node[S], tokens: list[str], subscriber: S) -> None:
        if not tokens:
            node.ends.pop(subscriber, None)
        elif tokens[0] == ">":
            node.tails.pop(subscriber, None)
        elif (child := node.children.get(tokens[0])) is not None:
            self._prune(child, tokens[1:], subscriber)
            if child.is_empty():
                del node.children[tokens[0]]

    def exact(self, topic: str) -> tuple[S, ...]:
        """The subscribers of this very topic, patterns not counted."""
        return tuple(self._exact.get(topic, ()))

    def match(self, topic: str) -> tuple[S, ...]:
        """The subscribers whose topics or patterns reach a topic, each once, as of now."""
        exact = self._snapshots.get(topic)
        if exact is None:
            exact = tuple(self._exact.get(topic, ()))
            if exact:
                self._snapshots[topic] = exact
        if self._root.is_empty():
            return exact
        found = dict.fromkeys(exact)
        for subscribers in self._reached(topic):
            found.update(subscribers)
        return tuple(found) if len(found) > len(exact) else exact

    def _reached(self, topic: str) -> Iterator[dict[S, None]]:
        """The subscribers of each pattern that reaches the topic. How many nodes it meets, see match_cost.py."""
        tokens = topic.split(".")
        level, wild = [self._root], tokens[0] != SYSTEM
        for token in tokens:
            below = []
            for node in level:
                if wild and node.tails:
                    yield node.tails
                if (child := node.children.get(token)) is not None:
                    below.append(child)
                if wild and (child := node.children.get("*")) is not None:
                    below.append(child)
            if not below:
                return
            level, wild = below, True
        for node in level:
            if node.ends:
                yield node.ends

    def reaches(self, topic: str) -> bool:
        """Whether anybody subscribed to the topic."""
        return topic in self._exact or any(True for _ in self._reached(topic))

    def patterns(self) -> Iterator[tuple[str, int]]:
        """Each topic and pattern with subscribers, and how many it has: topics first. Not to be used after a change."""
        for topic, subscribers in self._exact.items():
            yield topic, len(subscribers)
        yield from self._wildcards(self._root, ())

    def _wildcards(self, node: _Node[S], path: tuple[str, ...]) -> Iterator[tuple[str, int]]:
        if node.ends:
            yield ".".join(path), len(node.ends)
        if node.tails:
            yield ".".join((*path, ">")), len(node.tails)
        for token, child in node.children.items():
            yield from self._wildcards(child, (*path, token))

    @property
    def is_empty(self) -> bool:
        """Whether there is no subscription."""
        return not self._exact and self._root.is_empty()

    def __len__(self) -> int:
        """The number of topics that have subscribers of their own (patterns not counted)."""
        return len(self._exact)
