"""What matching one topic against wildcard patterns can cost at most. Pure.

A match walks a tree of the patterns' tokens (:class:`trunkline_protocol.topics.TopicIndex`), and at each token it may
have to go on twice: by the token itself and by ``*``. Whatever was subscribed, it meets at most ``2 ** n`` nodes at the
n-th token: for the first nine tokens of a topic 1,023 in all, which takes a fraction of a millisecond. Up to there any
patterns may be combined. What patterns longer than that add is counted here, before they are subscribed to.
"""

from __future__ import annotations

from typing import Final

from trunkline_protocol.topics import is_wildcard

FREE_TOKENS: Final = 9
"""Patterns of up to so many tokens (a last ``>`` not counted) are not limited."""


class _Node:
    """A token, and the most steps that any one topic can make from here on.

    ``named`` counts the costs of children other than ``*``: a topic takes one of them, at worst the dearest.
    """

    __slots__ = ("children", "cost", "named", "patterns")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.patterns = 0
        self.cost = 0
        self.named: dict[int, int] = {}


class MatchCost:
    """The steps beyond the ninth token that one topic can cost, for a set of patterns that changes.

    A pattern added twice has to be removed twice.
    """

    __slots__ = ("_root",)

    def __init__(self) -> None:
        self._root = _Node()

    @staticmethod
    def counts(pattern: str) -> bool:
        """Whether a valid pattern is one of those that are limited."""
        return pattern.count(".") >= FREE_TOKENS and is_wildcard(pattern) and len(_path(pattern)) > FREE_TOKENS

    @property
    def steps(self) -> int:
        """The most steps that any topic can cost now."""
        return self._root.cost

    def add(self, pattern: str) -> int:
        """Count a pattern for which :meth:`counts` holds. Returns ``steps``."""
        tokens = _path(pattern)
        nodes = [self._root]
        for token in tokens:
            child = nodes[-1].children.get(token)
            if child is None:
                child = nodes[-1].children[token] = _Node()
            nodes.append(child)
        nodes[-1].patterns += 1
        self._update(nodes, tokens)
        return self.steps

    def remove(self, pattern: str) -> None:
        """Stop counting a pattern that was added."""
        tokens = _path(pattern)
        nodes = [self._root]
        for token in tokens:
            nodes.append(nodes[-1].children[token])
        nodes[-1].patterns -= 1
        self._update(nodes, tokens)

    def __bool__(self) -> bool:
        """Whether there is any pattern."""
        return bool(self._root.children)

    @staticmethod
    def _update(nodes: list[_Node], tokens: list[str]) -> None:
        for level in range(len(nodes) - 1, -1, -1):
            node, before = nodes[level], nodes[level].cost
            star = node.children.get("*")
            node.cost = (level > FREE_TOKENS) + (star.cost if star is not None else 0) + max(node.named, default=0)
            if level == 0:
                return
            parent, name = nodes[level - 1], tokens[level - 1]
            if not node.children and not node.patterns:
                del parent.children[name]
                node.cost = 0
            if name != "*" and node.cost != before:
                _count(parent.named, before, -1)
                _count(parent.named, node.cost, 1)


def _count(costs: dict[int, int], cost: int, by: int) -> None:
    if cost:
        costs[cost] = costs.get(cost, 0) + by
        if not costs[cost]:
            del costs[cost]


def _path(pattern: str) -> list[str]:
    tokens = pattern.split(".")
    return tokens[:-1] if tokens[-1] == ">" else tokens
