"""Which types of chunks a stream declares, and what each of them carries: from its annotation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, Union, get_args, get_origin

from trunkline.methods.context import Chunk

DATA: Final = "data"
"""The type of the chunks that a method yields as plain values."""


@dataclass(frozen=True, slots=True)
class ChunkHints:
    """What a stream yields.

    Attributes:
        plain: the annotation of what it yields without a type of its own; Any where nothing is declared.
        typed: the annotation of the data by chunk type, that of plain values among them; None where chunks of any type
            may come.
    """

    plain: Any
    typed: dict[str, Any] | None

    @property
    def any_of(self) -> Any:
        """The annotation of the data of any chunk."""
        return self.plain if self.typed is None else Union[tuple(self.typed.values())]  # noqa: UP007  a number known here only


def chunk_hints(item: Any, name: str) -> ChunkHints:
    """The types of chunks in what a generator is annotated to yield: ``str | Chunk[Literal["note"], Note]``.

    Args:
        name: the method, for error messages.

    Raises:
        TypeError: a type is declared twice, or not as a Literal.
    """
    members = get_args(item) if get_origin(item) is not Chunk and Chunk in map(_bare, get_args(item)) else (item,)
    plain = [member for member in members if _bare(member) is not Chunk]
    hint: Any = Union[tuple(plain)] if plain else Any  # noqa: UP007
    typed: dict[str, Any] = {DATA: hint} if plain else {}
    for member in members:
        if _bare(member) is not Chunk:
            continue
        kind, data = get_args(member) or (str, Any)
        if kind is str and data is Any:
            return ChunkHints(hint, None)
        if get_origin(kind) is not Literal or not all(isinstance(each, str) for each in get_args(kind)):
            raise TypeError(f"{name}: a chunk's type is a Literal: write Chunk[Literal['note'], ...]")
        for each in get_args(kind):
            if each in typed:
                raise TypeError(f"{name}: chunks of type {each!r} are declared twice; declare one with both in a union")
            typed[each] = data
    return ChunkHints(hint, None if typed.keys() <= {DATA} else typed)


def _bare(hint: Any) -> Any:
    return get_origin(hint) or hint
