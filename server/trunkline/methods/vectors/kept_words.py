"""The words of a collection's texts, kept in the file ``index-words``, so that they need not be counted anew.

The file has a digest of each text: one that is another now, or gone, is found by comparing all of them.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

import msgspec
import numpy as np

from trunkline.methods.vectors.derived_file import DerivedFile, GivenUp, reading_derived, write_derived
from trunkline.methods.vectors.lexical import ARRAYS, FORM, K1, B, LexicalIndex, Statistics
from trunkline.methods.vectors.row_format import as_text
from trunkline.methods.vectors.rows import CollectionFile
from trunkline.methods.vectors.touched import Unusable, encoded

NAME: Final = "index-words"
LEAST: Final = 20_000
"""Texts whose words are kept; those of fewer are counted in a second or two."""
MOST_CHANGED: Final = 0.2
"""Of the texts: with more that are others now, all are counted anew."""
TYPES: Final = ("<f4", "<i4", "<i8")
"""Of the table's arrays as they are kept."""

logger = logging.getLogger("trunkline.vectors")


class Counts(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """What a file holds beside the arrays of the table."""

    ids: list[bytes]
    digests: list[bytes]
    lengths_sum: int
    words: list[bytes]
    numbers: list[int]
    frequencies: list[int]
    language: str


_counts: Final = msgspec.msgpack.Decoder(Counts)


class KeptWords:
    """What is known of the kept words of a collection.

    Args:
        file: the collection's, which is open.
    """

    def __init__(self, file: CollectionFile) -> None:
        self._file = file
        self.path = file.folder / NAME

    @property
    def position(self) -> int:
        """Of the last commit, for :meth:`keep`. To be read on the collection's thread."""
        return self._file.position

    def restored(self, texts: Mapping[str, str]) -> LexicalIndex | None:
        """The index of all texts, from the file, with what has changed since; None: it is to be made. Takes long."""
        try:
            with reading_derived(self.path, _made_of()) as file:
                statistics, digests = _read(file)
                same = {
                    each: text
                    for each, digest in zip(statistics.ids, digests, strict=True)
                    if (text := texts.get(each)) is not None and _digest(text) == digest
                }
                changed = len(texts) + len(statistics.ids) - 2 * len(same)
                if changed > MOST_CHANGED * len(texts):
                    raise Unusable(f"too much has changed since commit {file.position}")
        except FileNotFoundError:
            return None
        except (Unusable, OSError) as error:
            logger.warning("%s: the words that were kept are not used, they are counted anew: %s", self.path, error)
            return None
        index = LexicalIndex(same, statistics)
        index.put({each: text for each, text in texts.items() if each not in same})
        return index

    def keep(self, statistics: Statistics, texts: Mapping[str, str], position: int, go_on: Callable[[], bool]) -> None:
        """Write what was counted in these texts, if they are many. Takes long."""
        if len(texts) < LEAST or not statistics.scores:
            return
        counts = msgspec.msgpack.encode(
            Counts(
                [encoded(each) for each in statistics.ids],
                [_digest(texts[each]) for each in statistics.ids],
                statistics.lengths_sum,
                [encoded(each) for each in statistics.vocabulary],
                [*statistics.vocabulary.values()],
                [statistics.frequencies[each] for each in statistics.vocabulary],
                statistics.language,
            )
        )
        arrays = [statistics.scores[name].astype(type_, copy=False) for name, type_ in zip(ARRAYS, TYPES, strict=True)]
        room = len(counts) + sum(each.nbytes for each in arrays)
        try:
            parts = (counts, *(each.tobytes() for each in arrays))
            write_derived(self.path, _made_of(), position, parts, room, go_on)
        except GivenUp:
            return
        except (Unusable, OSError) as error:
            words = "%s: the words are not kept; after the next opening they are counted anew: %s"
            logger.warning(words, self.path, error)


def _made_of() -> dict[str, str]:
    import bm25s
    import Stemmer

    versions = {"bm25s": str(bm25s.__version__), "stemmer": str(Stemmer.version()), "form": FORM}
    return {"k1": str(K1), "b": str(B), **versions}


def _digest(text: str) -> bytes:
    return hashlib.blake2b(encoded(text), digest_size=16).digest()


def _read(file: DerivedFile) -> tuple[Statistics, list[bytes]]:
    try:
        counts = _counts.decode(file.part(0))
        words = [as_text(each) for each in counts.words]
        data, indices, indptr = (np.frombuffer(file.part(number), dtype=type_) for number, type_ in enumerate(TYPES, 1))
        vocabulary = dict(zip(words, counts.numbers, strict=True))
        frequencies = Counter({word: count for word, count in zip(words, counts.frequencies, strict=True) if count})
    except (msgspec.MsgspecError, ValueError) as error:
        raise Unusable(f"its parts are not what this version of Trunkline writes: {error}") from error
    scores = dict(zip(ARRAYS, (data, indices, indptr), strict=True))
    ids = [as_text(each) for each in counts.ids]
    statistics = Statistics(ids, counts.lengths_sum, frequencies, vocabulary, scores, counts.language)
    return statistics, counts.digests
