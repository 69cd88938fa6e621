"""Methods of random types, each of which gives back what it is given; the same types in each process."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any, Final, Literal, NamedTuple, Optional
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, create_model
from typing_extensions import TypedDict

from trunkline import method

COUNT: Final = 60


Tint = enum.Enum("Tint", {"RED": "red", "SEVEN": 7})


class Aliased(BaseModel):
    """A model whose members have other names outside."""

    model_config = ConfigDict(serialize_by_alias=True)

    user_id: int = Field(alias="userId")
    data: bytes = b"\xff"


class Pair(NamedTuple):
    left: bytes
    right: Decimal = Decimal("1.5")


SCALARS: Final[tuple[Any, ...]] = (
    int, float, str, bool, bytes, None, Decimal, UUID, dt.date, dt.datetime, dt.time, dt.timedelta, Path, Tint,
    Literal["a", 1], Aliased, Pair, int | str | bytes,
)  # fmt: skip
HASHABLE: Final[tuple[Any, ...]] = (int, str, bytes, UUID, dt.date, Tint)
KEYS: Final[tuple[Any, ...]] = (str, int, UUID, dt.date)


def hint_of(random: Random, depth: int = 3) -> Any:
    """A random annotation, nested at most so deep."""
    if depth == 0 or random.random() < 0.3:
        return random.choice(SCALARS)
    kind = random.choice(["list", "dict", "tuple", "tuple_of", "set", "optional", *["record"] * 4])
    inner = [hint_of(random, depth - 1) for _ in range(random.randint(1, 3))]
    match kind:
        case "list":
            return list[inner[0]]  # type: ignore[valid-type]
        case "dict":
            return dict[random.choice(KEYS), inner[0]]  # type: ignore[misc]
        case "tuple":
            return tuple[tuple(inner)]  # type: ignore[misc]
        case "tuple_of":
            return tuple[inner[0], ...]  # type: ignore[valid-type]
        case "set":
            return set[random.choice(HASHABLE)]  # type: ignore[misc]
        case "optional":
            return Optional[inner[0]]  # noqa: UP045  of a type known here only
    fields = {f"f{index}": hint for index, hint in enumerate(inner)}
    return record_of(random.choice(["dataclass", "model", "typed_dict", "named_tuple"]), fields)


def record_of(kind: str, fields: dict[str, Any]) -> Any:
    """A type with these members."""
    if kind == "dataclass":
        return dataclasses.make_dataclass("Drawn", list(fields.items()))
    if kind == "model":
        return create_model("Drawn", **{name: (hint, ...) for name, hint in fields.items()})  # type: ignore[call-overload]
    if kind == "typed_dict":
        kind_of_dict: Any = TypedDict
        return kind_of_dict("Drawn", fields)
    kind_of_tuple: Any = NamedTuple
    return kind_of_tuple("Drawn", list(fields.items()))


def identity(hint: Any, name: str) -> Any:
    """A method that gives back its ``value``, of this type."""

    def function(value: Any) -> Any:
        return value

    function.__annotations__ = {"value": hint, "return": hint}
    return method(name, idempotent=True)(function)


HINTS: Final = [hint_of(Random(seed)) for seed in range(COUNT)]

for _index, _hint in enumerate(HINTS):
    globals()[f"method_{_index}"] = identity(_hint, f"drawn.m{_index}")
