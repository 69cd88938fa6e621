"""What a JSON Schema says, as far as types can say it. Values, equal when they mean the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

ScalarKind = Literal["string", "number", "integer", "boolean", "null", "bytes"]


@dataclass(frozen=True, slots=True)
class Unknown:
    """Any JSON."""


@dataclass(frozen=True, slots=True)
class Never:
    """Nothing at all: the schema ``false``."""


@dataclass(frozen=True, slots=True)
class Scalar:
    """Any value of a simple JSON type."""

    kind: ScalarKind


@dataclass(frozen=True, slots=True)
class Constant:
    """One constant value. ``kind`` keeps True apart from 1."""

    kind: ScalarKind
    value: str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Array:
    """A list of any number of items."""

    item: Type


@dataclass(frozen=True, slots=True)
class Sequence:
    """Items by position: of ``items`` the first ``required`` must be there; ``rest`` may follow, None = nothing."""

    items: tuple[Type, ...]
    required: int
    rest: Type | None


@dataclass(frozen=True, slots=True)
class Field:
    """One property of an object."""

    name: str
    type: Type
    required: bool
    description: str = ""


@dataclass(frozen=True, slots=True)
class Object:
    """Properties by name, in the schema's order; ``extra`` is what others may be, None = nothing is said of others."""

    fields: tuple[Field, ...]
    extra: Type | None = None

    @property
    def is_any(self) -> bool:
        """Whether any object fits."""
        return not self.fields and self.extra == UNKNOWN


@dataclass(frozen=True, slots=True)
class Union:
    """A value of one of these types, two or more."""

    members: tuple[Type, ...]


@dataclass(frozen=True, slots=True)
class Intersection:
    """A value of all of these types at once, two or more."""

    members: tuple[Type, ...]


@dataclass(frozen=True, slots=True)
class Named:
    """A definition of the document, which may contain itself."""

    name: str


Type: TypeAlias = Unknown | Never | Scalar | Constant | Array | Sequence | Object | Union | Intersection | Named

UNKNOWN = Unknown()
NEVER = Never()
NULL = Scalar("null")
BYTES = Scalar("bytes")
ANY_OBJECT = Object((), UNKNOWN)


def union_of(members: list[Type]) -> Type:
    """The union of types, flat and without repetitions."""
    flat: list[Type] = []
    for member in members:
        flat += member.members if isinstance(member, Union) else [member]
    kept = [member for member in dict.fromkeys(flat) if member != NEVER]
    if UNKNOWN in kept:
        return UNKNOWN
    if not kept:
        return NEVER
    return kept[0] if len(kept) == 1 else Union(tuple(kept))


def intersection_of(members: list[Type]) -> Type:
    """The intersection of types, flat; types that say nothing are left out."""
    flat: list[Type] = []
    for member in members:
        flat += member.members if isinstance(member, Intersection) else [member]
    said = [member for member in dict.fromkeys(flat) if member != UNKNOWN]
    if NEVER in said:
        return NEVER
    # That it is an object goes without saying where more is said.
    kept = [member for member in said if not (isinstance(member, Object) and member.is_any)] or said[:1]
    if not kept:
        return UNKNOWN
    return kept[0] if len(kept) == 1 else Intersection(tuple(kept))
