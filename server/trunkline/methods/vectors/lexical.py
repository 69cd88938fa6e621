"""Finding texts by their words: BM25, with the words' stems. Pure: no file, no clock, no thread of its own.

The scores are Lucene's variant of BM25 (Kamphuis et al., "Which BM25 do you mean?", ECIR 2020), k1 = 1.5, b = 0.75.
bm25s keeps a table of all words' scores in all texts, which makes searching quick and cannot be changed. So texts that
came since it was made are scored one by one from their word counts, with the table's statistics, and when there are
many of them the table is made anew: beside (:class:`Building`), while this one answers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from math import log
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from trunkline.methods.languages import DEFAULT_LANGUAGE, language_of, stems

if TYPE_CHECKING:
    from numpy.typing import NDArray

K1: Final = 1.5
B: Final = 0.75
RECENT: Final = 500
"""Texts that may be scored one by one, at least; scoring one takes a few microseconds."""
RECENT_SHARE: Final = 0.05
"""Of all texts."""
ARRAYS: Final = ("data", "indices", "indptr")
"""Of bm25s' table: the scores, the rows that have them, and where those of each word begin."""


FORM: Final = "2"
"""Of what :func:`words` makes of a text: what is kept of another form is counted anew."""
SAMPLED: Final = 64
"""Texts that tell the language of all."""
SAMPLED_CHARACTERS: Final = 200
"""Of each of them."""
_RUN: Final = re.compile(r"\w+")
_JOINED: Final = re.compile(r"_|[a-z][A-Z]")
_PARTS: Final = re.compile(r"[A-Z]?[^\W_A-Z]+|[A-Z]+(?![^\W_A-Z])")


def words(texts: Sequence[str], language: str) -> list[list[str]]:
    """The stems of the words of each text, without those that mean nothing by themselves (``the``, ``of``).

    Identifiers are found as a whole and by their parts: ``sqlite3_open_v2`` by ``open``, ``readWrite`` by ``write``.
    Scripts without spaces give pairs of characters.

    Args:
        language: whose stems and stop words; one for texts and queries, whatever single texts are in.
    """
    return [stems(_with_parts(text), language) for text in texts]


def language_of_texts(texts: Iterable[str]) -> str:
    """The language of most of the first texts."""
    told = Counter(language_of(text[:SAMPLED_CHARACTERS]) for text in islice(texts, SAMPLED))
    return told.most_common(1)[0][0] if told else DEFAULT_LANGUAGE


def _with_parts(text: str) -> str:
    """A text, and behind it the parts of its identifiers."""
    parts = [part for run in _RUN.findall(text) if _JOINED.search(run) for part in _PARTS.findall(run)]
    return f"{text}\n{' '.join(parts)}" if parts else text


class Statistics(NamedTuple):
    """What was counted in all texts when an index was made: it stays as it is from then on.

    Attributes:
        ids: of the texts, a row of the table each.
        lengths_sum: the number of words in all of them.
        frequencies: in how many texts each word is.
        vocabulary: the number of each word in the table.
        scores: by their names, the arrays of bm25s' table: a score for each word of each text.
        language: whose stems the words are.
    """

    ids: list[str]
    lengths_sum: int
    frequencies: Counter[str]
    vocabulary: dict[str, int]
    scores: dict[str, NDArray[Any]]
    language: str = DEFAULT_LANGUAGE


class LexicalIndex:
    """Texts by id, and those that have the words of a query.

    Args:
        texts: to begin with.
        made: what was counted in texts before, of which these are those that are still there; by default it is counted.
    """

    def __init__(self, texts: Mapping[str, str], made: Statistics | None = None) -> None:
        self.statistics = made = _counted(texts) if made is None else made
        self._ids, self._lengths_sum, self._frequencies = made.ids, made.lengths_sum, made.frequencies
        self._table = _table(made)
        self._rows = {each: row for row, each in enumerate(self._ids) if each in texts}
        self._recent: dict[str, Counter[str]] = {}
        self._gone = np.array([each not in self._rows for each in self._ids], dtype=np.bool_)

    @property
    def due(self) -> bool:
        """Whether so much has changed that the index should be made anew from all texts."""
        changed = len(self._recent) + int(self._gone.sum())
        return changed > max(RECENT, RECENT_SHARE * len(self._ids))

    def put(self, texts: Mapping[str, str]) -> None:
        """Add texts; those whose id is known replace what is there."""
        self.remove(texts)
        for each, tokens in zip(texts, words([*texts.values()], self.statistics.language), strict=True):
            self._recent[each] = Counter(tokens)

    def remove(self, ids: Iterable[str]) -> None:
        """Take texts out; ids that are not there are passed over."""
        for each in ids:
            self._recent.pop(each, None)
            row = self._rows.pop(each, None)
            if row is not None:
                self._gone[row] = True

    def search(self, query: str) -> Scores:
        """The scores of all texts for a query."""
        tokens = list(dict.fromkeys(words([query], self.statistics.language)[0]))
        return Scores(self._ids, self._rows, self._in_table(tokens), self._in_recent(tokens))

    def _in_table(self, tokens: list[str]) -> NDArray[np.float32]:
        known = [token for token in tokens if token in self._frequencies]
        if self._table is None or not known:
            return np.zeros(len(self._ids), dtype=np.float32)
        scores: NDArray[np.float32] = self._table.get_scores(known)
        scores[self._gone] = 0
        return scores

    def _in_recent(self, tokens: list[str]) -> dict[str, float]:
        count = len(self._ids)
        mean = self._lengths_sum / count if count else 0.0
        weights = {
            token: log(1 + (count - self._frequencies[token] + 0.5) / (self._frequencies[token] + 0.5))
            for token in tokens
        }
        scores = {}
        for each, counts in self._recent.items():
            length = counts.total()
            damping = K1 * (1 - B + B * (length / mean if mean else 1.0))
            score = sum(weight * counts[t] / (counts[t] + damping) for t, weight in weights.items() if t in counts)
            if score:
                scores[each] = score
        return scores


class Scores:
    """The scores of texts for a query; 0 for a text that has none of its words."""

    def __init__(
        self,
        ids: list[str],
        rows: Mapping[str, int],
        table: NDArray[np.float32],
        recent: Mapping[str, float],
    ) -> None:
        self._ids = ids
        self._rows = rows
        self._table = table
        self._recent = recent

    @property
    def best(self) -> float:
        """The highest score of any text; 0 where no text has a word of the query."""
        return max(float(self._table.max(initial=0.0)), max(self._recent.values(), default=0.0))

    def of(self, id: str) -> float:
        """The score of one text; 0 where the text is unknown."""
        row = self._rows.get(id)
        return self._recent.get(id, 0.0) if row is None else float(self._table[row])

    def top(self, count: int, matches: Callable[[str], bool] | None = None) -> list[tuple[str, float]]:
        """The ids with the highest scores, best first, zeros left out.

        Args:
            matches: leave out ids for which this is false.
        """
        found = [*self._recent.items(), *self._top_of_table(count, matches)]
        if matches is not None:
            found = [each for each in found if matches(each[0])]
        found.sort(key=lambda each: -each[1])
        return found[:count]

    def _top_of_table(self, count: int, matches: Callable[[str], bool] | None) -> list[tuple[str, float]]:
        scores = self._table
        rows = np.flatnonzero(scores > 0)
        if matches is not None:
            rows = np.array([row for row in rows.tolist() if matches(self._ids[row])], dtype=np.int64)
        if len(rows) > count:
            rows = rows[np.argpartition(-scores[rows], count - 1)[:count]]
        return [(self._ids[row], float(scores[row])) for row in rows.tolist()]


def _counted(texts: Mapping[str, str]) -> Statistics:
    """The statistics of some texts. Takes long for many."""
    import bm25s

    language = language_of_texts(texts.values())
    tokens = words([*texts.values()], language)
    frequencies: Counter[str] = Counter()
    for each in tokens:
        frequencies.update(set(each))
    vocabulary, scores = {}, {}
    if frequencies:  # bm25s cannot take texts without one word
        table = bm25s.BM25(k1=K1, b=B, method="lucene")
        table.index(tokens, show_progress=False)
        vocabulary = table.vocab_dict
        scores = {name: table.scores[name] for name in ARRAYS}
    return Statistics([*texts], sum(map(len, tokens)), frequencies, vocabulary, scores, language)


def _table(made: Statistics) -> Any:
    """bm25s' table; None where there is not one word in all texts."""
    import bm25s

    if not made.scores:
        return None
    table = bm25s.BM25(k1=K1, b=B, method="lucene")
    numbers = set(made.vocabulary.values())  # all of these are what its own load() sets
    scores = {**made.scores, "num_docs": len(made.ids)}
    vars(table).update(
        scores=scores, vocab_dict=made.vocabulary, unique_token_ids_set=numbers, nonoccurrence_array=None
    )
    return table
