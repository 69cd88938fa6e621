"""The words of a collection's texts, in step with its items. No file and no thread of its own."""

from __future__ import annotations

from collections.abc import Mapping

from trunkline.methods.vectors.changes import Change, Delete
from trunkline.methods.vectors.lexical import LexicalIndex


class Lexicon:
    """A lexical index that is made beside, while texts come and go.

    Its owner calls, on the thread of the collection, :meth:`begin` with all texts; on any thread :class:`LexicalIndex`
    of them, which takes seconds where they are many; then on the collection's thread :meth:`finish`. Meanwhile, and
    afterwards, the collection tells it of each change.

    Attributes:
        index: None until it was made once.
    """

    def __init__(self) -> None:
        self.index: LexicalIndex | None = None
        self._missed: dict[str, str | None] | None = None

    @property
    def is_building(self) -> bool:
        """Whether an index is being made."""
        return self._missed is not None

    @property
    def due(self) -> bool:
        """Whether an index should be made."""
        return not self.is_building and (self.index is None or self.index.due)

    def begin(self) -> None:
        """Note changes from now on, for the index that is being made."""
        self._missed = {}

    def finish(self, index: LexicalIndex | None) -> None:
        """Take over the index, with what has changed meanwhile; None: it could not be made."""
        missed, self._missed = self._missed or {}, None
        if index is not None:
            _put(index, missed)
            self.index = index

    def changed(self, change: Change) -> None:
        """Apply a change of the collection's items."""
        texts: dict[str, str | None] = (
            dict.fromkeys(change.ids) if isinstance(change, Delete) else {item.id: item.text for item in change.items}
        )
        if self._missed is not None:
            self._missed.update(texts)
        if self.index is not None:
            _put(self.index, texts)


def _put(index: LexicalIndex, texts: Mapping[str, str | None]) -> None:
    index.remove([each for each, text in texts.items() if text is None])
    index.put({each: text for each, text in texts.items() if text is not None})
