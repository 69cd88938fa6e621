"""Methods whose types are more than JSON's: each gives back what it is given."""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, NamedTuple
from uuid import UUID

from pydantic import Base64Bytes, BaseModel, ConfigDict, Field, Strict, computed_field, field_serializer
from typing_extensions import TypedDict

from trunkline import Chunk, Context, InputStream, RpcError, method


class Colour(enum.Enum):
    RED = "red"


class Point(NamedTuple):
    x: int
    mark: bytes = b"\xff"


@dataclass
class Sized:
    data: bytes
    parts: list[bytes]


class Entry(TypedDict):
    key: bytes
    at: dt.datetime


class Aliased(BaseModel):
    user_id: int = Field(1, validation_alias="userId", serialization_alias="userID")


class ByAlias(Aliased):
    model_config = ConfigDict(serialize_by_alias=True)


class Rich(BaseModel):
    data: bytes
    price: Decimal
    anything: Any = None
    took: dt.timedelta = dt.timedelta(seconds=1)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def size(self) -> int:
        return len(self.data)

    @field_serializer("price")
    def _in_cents(self, price: Decimal) -> int:
        return int(price * 100)


@method("typed.data")
def data(value: bytes) -> bytes:
    """The same bytes."""
    return value


@method("typed.text")
def text(value: str) -> str:
    """The same text."""
    return value


@method("typed.optional")
async def optional(value: bytes | None = None) -> bytes | None:
    """The same bytes, or none."""
    return value


@method("typed.any")
async def anything(value: Any) -> Any:
    """The same."""
    return value


@method("typed.types")
async def types(value: Any) -> list[str]:
    """The names of the Python types of what is in a list."""
    return [type(item).__name__ for item in value]


@method("typed.decimal")
def decimal(value: Decimal) -> Decimal:
    """The same number."""
    return value


@method("typed.path")
def path(value: Path) -> Path:
    """The same path."""
    return value


@method("typed.uuid")
def uuid(value: UUID) -> UUID:
    """The same id."""
    return value


@method("typed.span")
def span(value: dt.timedelta) -> dt.timedelta:
    """The same time span."""
    return value


@method("typed.day")
def day(value: Annotated[dt.date, Strict()]) -> dt.date:
    """The same day."""
    return value


@method("typed.colour")
def colour(value: Colour) -> Colour:
    """The same colour."""
    return value


@method("typed.point")
def point(value: Point) -> Point:
    """The same point."""
    return value


@method("typed.sized")
def sized(value: Sized) -> Sized:
    """The same."""
    return value


@method("typed.entry")
def entry(value: Entry) -> Entry:
    """The same."""
    return value


@method("typed.aliased")
def aliased(value: Aliased) -> Aliased:
    """The same."""
    return value


@method("typed.by_alias")
def by_alias(value: ByAlias) -> ByAlias:
    """The same."""
    return value


@method("typed.rich")
def rich(value: Rich) -> Rich:
    """The same."""
    return value


@method("typed.encoded")
def encoded(value: Base64Bytes) -> Base64Bytes:
    """The same, in a form that pydantic has for it."""
    return value


@method("typed.numbers")
def numbers(value: Iterable[int]) -> Iterable[int]:
    """The same numbers."""
    return value


@method("typed.undeclared")
async def undeclared(which: str) -> Any:
    """Values of which nothing is declared, of types that JSON has not."""
    made: dict[str, Callable[[], Any]] = {
        "rich": lambda: Rich(data=b"\xff", price=Decimal("1.5"), anything=[b"\xfe"]),
        "sized": lambda: Sized(b"\xff", [b"\xfe"]),
        "point": lambda: [Point(1)],
        "set": lambda: {Decimal("1.50")},
        "span": lambda: {"span": dt.timedelta(days=1), "path": Path("/tmp"), "colour": Colour.RED},
        "at": lambda: dt.datetime(2020, 1, 1, tzinfo=dt.UTC),
        "complex": lambda: 1j,
        "generator": lambda: iter([1]),
        "model_of_nan": lambda: {"a": None, "b": Rich(data=b"", price=Decimal(1), anything=float("nan"))},
    }
    return made[which]()


@method("typed.lies")
async def lies(which: str) -> bytes:
    """What is not what was promised."""
    return {"text": "abc", "number": 3}[which]  # type: ignore[return-value]


@method("typed.chunks")
async def chunks(values: list[Any]) -> AsyncIterator[int]:
    """The values, of which each should be an integer."""
    for value in values:
        yield value


@method("typed.plain_chunks")
def plain_chunks(values: list[Any]) -> Iterator[Chunk | int]:
    """The values, and a chunk that may carry anything."""
    yield Chunk("note", {"data": b"\xff"})
    yield from values


@method("typed.fed")
async def fed(items: InputStream[Sized]) -> list[bytes]:
    """The bytes of what is fed."""
    return [item.data async for item in items]


@method("typed.nested")
async def nested(value: Any, ctx: Context) -> list[str]:
    """What another method's result and chunks are here, and what they were published as."""
    result = await ctx.call("typed.any", {"value": value})
    chunks = [chunk async for chunk in ctx.stream("typed.plain_chunks", {"values": []})]
    ctx.progress(value)
    await ctx.publish("typed.news", value)
    return [type(result).__name__, *(type(chunk.data["data"]).__name__ for chunk in chunks)]


@method("typed.refused")
async def refused() -> None:
    """An error whose data are no JSON."""
    raise RpcError(404, "no", data={"at": dt.date(2020, 1, 1), "key": b"\xff", "price": Decimal("1.50")})
