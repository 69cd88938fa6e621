"""The sources that callers give, and the documents that they stand for."""

from __future__ import annotations

import builtins
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Self

import orjson
from pydantic import BaseModel, ConfigDict, Field, model_validator

from trunkline import ErrorCode, RpcError
from trunkline.methods.documents.blocks import Unreadable
from trunkline.methods.documents.folders import FoundFile, Roots, read_file, source_name, walk
from trunkline.methods.documents.plan import MAX_SOURCE, RESERVED

MAX_DOCUMENTS: Final = 10_000
MAX_METADATA: Final = 16_384
MAX_PATH: Final = 4_200
"""Characters: Linux takes 4,096, and a name that cannot be sent as it is gets a digest (:func:`source_name`)."""


Globs = Annotated[list[str], Field(max_length=100)]
Text = Annotated[str, Field(min_length=1, max_length=MAX_SOURCE)]


class Source(BaseModel):
    """A document, or a folder of them: a ``text``, a ``path`` on the hub's machine, or ``bytes`` with a ``name``."""

    model_config = ConfigDict(extra="forbid")

    text: str | None = Field(None, description="plain text or Markdown")
    path: str | None = Field(None, description="a file or folder inside the hub's documents root")
    bytes: builtins.bytes | None = Field(None, description="a file's content")
    name: Text | None = Field(None, description="the file's name, with bytes")
    file: Annotated[str, Field(min_length=1, max_length=MAX_PATH)] | None = Field(
        None, description="the whole path of the caller's file, with bytes; `documents.list` tells it"
    )
    source: Text | None = Field(None, description="what it is called in the collection")
    title: Text | None = None
    metadata: dict[str, Any] = {}
    include: Globs = Field([], description="globs of the files to take, with a folder")
    exclude: Globs = Field([], description="globs of the files and folders to leave out, with a folder")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if sum(given is not None for given in (self.text, self.path, self.bytes)) != 1:
            raise ValueError("give one of text, path and bytes")
        if (self.bytes is None) != (self.name is None):
            raise ValueError("bytes and name belong together")
        if self.file is not None and self.bytes is None:
            raise ValueError("file is for bytes: it tells where they come from")
        if self.path is not None and (self.source or self.title):
            raise ValueError("source and title are for text and bytes: files are called by their path")
        if self.path is None and (self.include or self.exclude):
            raise ValueError("include and exclude are for a path")
        if reserved := RESERVED & self.metadata.keys():
            raise ValueError(f"metadata: {', '.join(sorted(reserved))} are names of the passage's own")
        try:
            size = len(orjson.dumps(self.metadata, option=orjson.OPT_STRICT_INTEGER))
        except TypeError as error:
            raise ValueError(f"metadata cannot be kept as they are: {error}") from error
        if size > MAX_METADATA:
            raise ValueError(f"metadata have {size:,} bytes as JSON, and each passage carries at most {MAX_METADATA:,}")
        return self


@dataclass(slots=True)
class Pending:
    """A document that is yet to be read.

    Attributes:
        source: what it is called in the collection.
        content: text, a file's content, or where that is.
        name: the file's, whose suffix may say what it is.
        file: where the caller has it, as far as it is told.
    """

    source: str
    content: str | bytes | FoundFile
    name: str
    title: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    file: str | None = None

    def load(self, roots: Roots) -> bytes:
        """Load the content.

        Raises:
            Unreadable: a file cannot be read.
            RpcError: 6002, a link leads outside.
        """
        if isinstance(self.content, FoundFile):
            return read_file(roots.resolve(self.content))
        return self.content.encode() if isinstance(self.content, str) else self.content


def pending(sources: Sequence[Source], roots: Roots, ignored: list[str]) -> list[Pending]:
    """All documents that the sources stand for, each once.

    Args:
        ignored: gets the names of files in folders that are no documents.

    Raises:
        RpcError: 6002, -32602 or 4001 for a path (see :meth:`Roots.find`); -32602, too many.
    """
    found: dict[str, Pending] = {}
    for source in sources:
        for each in _documents(source, roots, ignored):
            known = found.setdefault(each.source, each)
            is_file = isinstance(each.content, FoundFile) and isinstance(known.content, FoundFile)
            if known is not each and not is_file:
                raise RpcError(ErrorCode.INVALID_PARAMS, f"sources: {each.source!r:.300} is given twice")
            if len(found) > MAX_DOCUMENTS:
                raise RpcError(
                    ErrorCode.INVALID_PARAMS,
                    f"sources: more than {MAX_DOCUMENTS:,} documents: process the folders below in several calls",
                )
    return [*found.values()]


def _documents(source: Source, roots: Roots, ignored: list[str]) -> Iterator[Pending]:
    if source.text is not None:
        name = source.source or f"text:{hashlib.sha256(source.text.encode()).hexdigest()[:16]}"
        yield Pending(name, source.text, name, source.title, source.metadata)
    elif source.bytes is not None:
        assert source.name is not None
        yield Pending(
            source.source or source.name, source.bytes, source.name, source.title, source.metadata, source.file
        )
    else:
        assert source.path is not None
        found = roots.find(source.path)
        for file in walk(found, source.include, source.exclude, ignored.append, roots.resolve):
            yield Pending(source_name(file.name), file, file.name, None, source.metadata)


def as_error(error: Unreadable | RpcError) -> RpcError:
    """The RpcError of a document that cannot be processed."""
    return error if isinstance(error, RpcError) else RpcError(ErrorCode.INVALID_PARAMS, str(error))
