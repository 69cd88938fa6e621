"""Decides which of several versions of one document may be written, where some are processed at the same time.

The items of a document have its name in their metadata's ``source``. Whoever is to process one draws a turn (a number
higher than any before), and before the first write claims the document for it. From then on only the highest turn that
has claimed a document writes it: writes that name a lower one are left out, and their writer is told. Claiming also
marks the document's first item, durably, so that after a crash everybody sees that it is not as it should be.

Pure: all of it is asked on the executor's one thread, by the collection's owner.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, NotRequired

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from trunkline import ErrorCode, RpcError
from trunkline.methods.vectors.changes import Item

MAX_REMEMBERED: Final = 100_000
"""Documents of a collection whose last turn is known. Of one that is forgotten no claim is valid any more."""
UNFINISHED: Final = "unfinished:"
"""What ``document``, in a first item's metadata, begins with while a version is put in; the turn follows."""

Turn = Annotated[int, Field(ge=1)]
Source = Annotated[str, Field(min_length=1, max_length=1024)]


class Begun(BaseModel):
    """A document that is about to be written.

    Attributes:
        first: the id of its first item, whatever the version.
        turn: as it was drawn.
        again: it was claimed for this turn before, at an earlier opening of the collection.
    """

    model_config = ConfigDict(extra="forbid")

    first: Annotated[str, Field(min_length=1, max_length=512)]
    turn: Turn
    again: bool = False


class Claim(BaseModel):
    """The turns that documents are written for. ``opening`` is the collection's: turns are not kept on disk."""

    model_config = ConfigDict(extra="forbid")

    opening: str
    turns: dict[Source, Turn]


class Claimed(TypedDict):
    """A new turn; ``superseded`` are documents of which a later version has begun or is in."""

    turn: int
    opening: str
    superseded: list[str]


class Upserted(TypedDict):
    """The numbers of items written and deleted; ``superseded`` are claimed documents that were left out."""

    upserted: int
    deleted: NotRequired[int]
    superseded: NotRequired[list[str]]


class Versions:
    """The turns of one collection, as long as it is open.

    Args:
        generation: of its owner: turns grow with it.
    """

    def __init__(self, generation: int) -> None:
        self.opening = secrets.token_hex(8)
        self._turn = generation << 32
        self._latest: OrderedDict[str, int] = OrderedDict()

    def draw(self) -> int:
        """Draw a turn, which is higher than any before."""
        self._turn += 1
        return self._turn

    def claim(self, source: str, begun: Begun, first: Item | None) -> bool:
        """Claim a document for a turn. Returns whether it may be written for that turn from now on.

        Args:
            first: its first item, as it is now.
        """
        document = None if first is None else first.metadata.get("document")
        marked = _turn_of(document)
        if begun.again and first is not None and marked != begun.turn:
            return False  # whoever came in between has marked it, or finished it
        if max(marked, self._latest.get(source, 0)) > begun.turn:
            return False
        self._latest[source] = begun.turn
        self._latest.move_to_end(source)
        if len(self._latest) > MAX_REMEMBERED:
            self._latest.popitem(last=False)
        return True

    def superseded(self, claim: Claim) -> list[str]:
        """The documents of a claim that a later turn has claimed since.

        Raises:
            RpcError: 5001, with ``data.claim_again``: the claim is of an earlier opening.
        """
        if claim.opening != self.opening:
            raise RpcError(
                ErrorCode.DATABASE_CONNECTION_ERROR,
                "vectors.upsert: claim: the collection was opened anew since: call vectors.claim again",
                retry_after_ms=0,
                data={"claim_again": True},
            )
        return [source for source, turn in claim.turns.items() if self._latest.get(source) != turn]


def marked(item: Item, turn: int) -> Item:
    """A first item, marked as that of a document which is being written."""
    return Item(item.id, item.text, item.metadata | {"document": f"{UNFINISHED}{turn}"})


def of_valid(claim: Claim, superseded: list[str], matches: Callable[[Item], bool]) -> Callable[[Item], bool]:
    """A filter restricted to the documents for which a claim is valid."""
    valid = claim.turns.keys() - set(superseded)

    def meets(item: Item) -> bool:
        source = _source_of(item.metadata)
        return source in valid and matches(item)

    return meets


def is_of(item: Item, sources: list[str]) -> bool:
    """Whether an item belongs to one of some documents."""
    return bool(sources) and _source_of(item.metadata) in sources


def _source_of(metadata: Mapping[str, Any]) -> str | None:
    source = metadata.get("source")
    return source if isinstance(source, str) else None


def _turn_of(document: object) -> int:
    """The turn a document is marked with; 0 where it is not."""
    if not isinstance(document, str) or not document.startswith(UNFINISHED):
        return 0
    digits = document.removeprefix(UNFINISHED)
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 20 else 0
