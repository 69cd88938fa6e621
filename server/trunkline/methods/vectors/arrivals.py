"""The order of changes on their way. None waits for another: texts take long to embed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from trunkline.methods.vectors.log import Item


@dataclass(slots=True, eq=False)
class Arrival:
    """A change on its way.

    Attributes:
        items: what it puts in, by id; none where it deletes.
        superseded: ids that a later change has already put in or deleted: that must not be undone.
    """

    collection: str
    items: Mapping[str, Item]
    superseded: set[str] = field(default_factory=set)


class Arrivals:
    """Changes on their way, in the order they came in. Of those that touch one item the last that came in counts."""

    def __init__(self) -> None:
        self._changes: list[Arrival] = []

    @contextmanager
    def enter(self, collection: str, items: Iterable[Item] = ()) -> Iterator[Arrival]:
        """Take a place in the order, until the block is left."""
        arrival = Arrival(collection, {item.id: item for item in items})
        self._changes.append(arrival)
        try:
            yield arrival
        finally:
            self._changes.remove(arrival)

    def applied(self, arrival: Arrival, ids: Iterable[str], matches: Callable[[Item], bool] | None = None) -> None:
        """Tell those before it. On the executor's thread.

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
