"""Methods that declare types of chunks, the result of a stream, and errors, and do as they are told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal

from typing_extensions import TypedDict

from trunkline import Chunk, Context, ErrorCode, RpcError, method


class Note(TypedDict):
    """What is said beside the words."""

    text: str


class Told(TypedDict):
    """What a story ends with."""

    words: int


class Missing(TypedDict):
    """Why there is no such thing."""

    known: list[str]


Piece = Chunk[Literal["note", "aside"], Note] | Chunk[Literal["number"], int]


@method("declared.story", result=Told, idempotent=True)
async def story(ctx: Context, pieces: list[Any], told: Any = None) -> AsyncIterator[str | Piece]:
    """A story: words, and the pieces that are given, ``[type, data]`` each."""
    for kind, data in pieces:
        yield data if kind == "data" else Chunk(kind, data)
    ctx.set_result(told)


@method("declared.plainly")
def plainly(kind: Literal["number"]) -> Iterator[Chunk[Literal["number"], int]]:
    """Chunks of one type only."""
    yield Chunk(kind, 1)


@method("declared.open")
async def any_kind() -> AsyncIterator[int | Chunk]:
    """Chunks of any type."""
    yield Chunk("whatever", {})


@method("declared.find", errors={404: Missing, ErrorCode.RATE_LIMITED: None})
def find(code: int, data: dict[str, Any]) -> int:
    """Fails as it is told to."""
    raise RpcError(code, "not found", data=data)
