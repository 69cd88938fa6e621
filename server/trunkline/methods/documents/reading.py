"""How the documents of a call are read: by which model's tokens they are split, and on which threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from trunkline.methods.documents.parsers import AT_ONCE, Parsers
from trunkline.methods.documents.parsing import Request
from trunkline.methods.documents.split import Parsed
from trunkline.methods.documents.tokens import ModelTokens, load_tokens


class Reader:
    """What reads documents for all calls of an executor. Its threads are not those that methods run on.

    Args:
        model: the embedding model, as ``TRUNKLINE_MODEL`` names it.
        seconds: for one document.
        megabytes: of memory for one document.
    """

    def __init__(self, model: str, seconds: float, megabytes: int) -> None:
        self._model = model
        self._tokens: ModelTokens | None = None
        self._parsers = Parsers(seconds, megabytes)
        self._files = ThreadPoolExecutor(max_workers=1, thread_name_prefix="files")
        self._waiting = ThreadPoolExecutor(max_workers=AT_ONCE, thread_name_prefix="parsers")

    async def reading(self, chunk_tokens: int | None, overlap_tokens: int) -> Reading:
        """How documents are read with these sizes.

        Raises:
            RpcError: -32602, the model does not read such sizes; 4001 or 3002, there is no tokenizer.
        """
        tokens, overlap = await in_thread(self._files, self._sizes, chunk_tokens, overlap_tokens)
        return Reading(self._model, tokens, overlap, self._files, self._waiting, self._parsers)

    def _sizes(self, chunk_tokens: int | None, overlap_tokens: int) -> tuple[int, int]:
        if self._tokens is None:
            self._tokens = load_tokens(self._model)
        return self._tokens.sizes(chunk_tokens, overlap_tokens)

    def close(self) -> None:
        """End the processes, without waiting for what is being read."""
        self._parsers.close()
        for threads in (self._files, self._waiting):
            threads.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True, slots=True)
class Reading:
    """How the documents of one call are read: as passages of ``tokens`` tokens, of which ``overlap`` are shared."""

    model: str
    tokens: int
    overlap: int
    files: Executor
    waiting: Executor
    parsers: Parsers

    @property
    def settings(self) -> dict[str, Any]:
        """What passages depend on beside their document."""
        return {"chunk_tokens": self.tokens, "overlap_tokens": self.overlap}

    async def in_thread(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run what reads files, one after the other for all calls."""
        return await in_thread(self.files, function, *args)

    async def read(self, data: bytes, name: str | None, title: str | None, check: Callable[[], None]) -> Parsed:
        """Read and split a document in a process of its own (:meth:`Parsers.parse`)."""
        request = Request(data, name, title, self.model, self.tokens, self.overlap)
        found: Parsed = await in_thread(self.waiting, self.parsers.parse, request, check)
        return found


async def in_thread(threads: Executor, function: Callable[..., Any], *args: Any) -> Any:
    """The result of a function that runs on one of some threads."""
    return await asyncio.get_running_loop().run_in_executor(threads, partial(function, *args))
