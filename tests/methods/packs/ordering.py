"""What events of orders carry."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from pydantic import BaseModel
from typing_extensions import TypedDict

from trunkline import event


class State(Enum):
    """How far an order is."""

    OPEN = "open"
    SENT = "sent"


@event("orders.*")
@event("archive.orders.>")
class Order(TypedDict):
    """When an order changes.

    More is said of it elsewhere.
    """

    id: str
    lines: list[Line]


class Line(TypedDict):
    """One item of an order."""

    item: str
    count: int


class Special(Order):
    """A subclass declares nothing by itself."""

    why: str


@event("orders.total")
@dataclass(slots=True)
class Total:
    """Once a minute."""

    count: int
    state: State


@event("orders.seen")
class Seen(BaseModel):
    at: float | None = None


@event("orders.gone")
class Gone(NamedTuple):
    id: str
