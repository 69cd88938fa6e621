"""The order in which changes arrived. No change waits for an earlier one, whose texts may take long to embed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from trunkline.methods.vectors.changes import Item


@dataclass(slots=True, eq=False)
class Arrival:
    """A change that has arrived and is not applied yet.

    Attributes:
        collection: its key.
        items: what it puts in, by id; none where it deletes.
        superseded: ids that a later change has already put in or deleted: that must not be undone.
    """

    collection: str
    items: Mapping[str, Item]
    superseded: set[str] = field(default_factory=set)


class Arrivals:
    """Changes that are not applied yet, in order of arrival. Of those that touch one item the last one counts."""

    def __init__(self) -> None:
        self._changes: list[Arrival] = []

    @contextmanager
    def enter(self, collection: str, items: Iterable[Item] = ()) -> Iterator[Arrival]:
        """Register a change as the last one that arrived, until the block is left."""
        arrival = Arrival(collection, {item.id: item for item in items})
        self._changes.append(arrival)
        try:
            yield arrival
        finally:
            self._changes.remove(arrival)

    def applied(self, arrival: Arrival, ids: Iterable[str], matches: Callable[[Item], bool] | None = None) -> None:
        """Mark its ids as superseded in changes that arrived before. On the executor's thread.

        Args:
            ids: of the items that it put in or deleted.
            matches: it deleted all for which this is true: also such as were still to be put in.
        """
        touched = set(ids)
        for earlier in tuple(self._changes):
            if earlier is arrival:
                break
            if earlier.collection == arrival.collection:
                earlier.superseded |= touched
                if matches is not None:
                    earlier.superseded.update(each for each, item in earlier.items.items() if matches(item))
