"""What changes the items of a collection. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Item(msgspec.Struct, frozen=True, gc=False):
    """An item of a collection, without its vector.

    Nothing in it refers to an item, so the garbage collector need not look at what may be millions of them.
    """

    id: str
    text: str | None = None
    metadata: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Upsert:
    """Items and their vectors, a row an item. Their ids differ."""

    items: Sequence[Item]
    vectors: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Delete:
    """Items to remove; those that are not there do not matter."""

    ids: Sequence[str]


Change = Upsert | Delete
