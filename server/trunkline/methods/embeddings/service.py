"""Embedding on behalf of many calls at once: tokens when a text comes in, passes over whatever waits, results kept."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeVar

from trunkline import ErrorCode, RpcError
from trunkline.methods.batching import LEVELS, Batcher, BatchItem, BatchLimits
from trunkline.methods.caching import JobCache
from trunkline.methods.embeddings.encoder import Text
from trunkline_protocol.principals import DEFAULT_TENANT

if TYPE_CHECKING:
    from trunkline.methods.embeddings.model import LoadedModel

BATCH_TOKENS: Final = 1024
"""Tokens that are taken at once: what bounds how long a newcomer, or a cancel, waits. A core needs 0.1 to 0.3 s."""

PASS_TOKENS: Final = {"cpu": 16}
"""What a pass costs beside its tokens, in tokens, by device."""

PASS_TOKENS_ACCELERATED: Final = 4096
BATCH_TOKENS_ACCELERATED: Final = 32_768
"""A device that computes much at once: large passes are what makes it quick, and padding is nearly free."""

INLINE_CHARACTERS: Final = 4000
"""Texts up to this size together get their tokens on the loop, which takes less than handing them to a thread."""

SLICE: Final = 64
"""Texts that get their tokens at once on the thread: the first are being embedded while the next are read."""

ENTRY_BYTES: Final = 256
"""What a kept vector takes beside its numbers: key, entry, objects."""


@dataclass(frozen=True, slots=True)
class Embedding:
    """A vector of length 1 as little-endian float32, and the tokens the model read for it.

    Attributes:
        cut: the model has read the beginning of the text only.
    """

    vector: bytes
    tokens: int
    cut: bool = False

    @property
    def size(self) -> int:
        """The size of the cache entry, in bytes."""
        return len(self.vector) + ENTRY_BYTES


R = TypeVar("R")
V = TypeVar("V")
EmbeddingJob = BatchItem[Text, Embedding]


class EmbeddingService:
    """One model, its batcher and its cache. Belongs to the event loop it is made on.

    Args:
        cache_bytes: what kept vectors may take; 0 keeps none.
        cache_seconds: how long they are kept.
    """

    def __init__(self, model: LoadedModel, cache_bytes: int, cache_seconds: float) -> None:
        self.model = model
        self.cache: JobCache[bytes, Text, Embedding] = JobCache(
            "embeddings", lambda embedding: embedding.size, cache_bytes, cache_seconds
        )
        self._batcher: Batcher[Text, Embedding] = Batcher("embeddings.create", self._run, limits_of(model.device))
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tokenizer")

    def close(self) -> None:
        """Stop the threads; what waits is cancelled."""
        self._reader.shutdown(wait=True, cancel_futures=True)
        self._batcher.close()

    async def on_thread(self, function: Callable[[Sequence[V]], R], values: Sequence[V]) -> R:
        """Run a function on the tokenizer's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._reader, function, values)

    def shortened(self, found: Sequence[Embedding], dimension: int) -> list[Embedding]:
        """Vectors cut to their first components, and made as long as 1 again."""
        import numpy as np

        rows = np.stack([np.frombuffer(each.vector, "<f4")[:dimension] for each in found])
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo("<f4").tiny)
        return [replace(each, vector=row.tobytes()) for each, row in zip(found, rows, strict=True)]

    async def embed(
        self, texts: Sequence[str], deadline: float, priority: str = "normal", tenant: str = DEFAULT_TENANT
    ) -> list[Embedding]:
        """Embed texts, in their order. A text that is given twice, or by two calls at a time, is computed once.

        What another tenant has had embedded takes as long as what nobody has.

        Raises:
            RpcError: 3003, the model makes vectors that are not finite; 1002, the deadline passed before it began.
        """
        found: list[Embedding | EmbeddingJob] = []
        new: list[EmbeddingJob] = []
        salt = b"" if tenant == DEFAULT_TENANT else _key(tenant, b"")
        for text in texts:
            asked, is_new = self.cache.get(_key(text, salt), Text(text), deadline)
            found.append(asked)
            if is_new and isinstance(asked, BatchItem):
                new.append(asked)
        jobs = [each for each in found if isinstance(each, BatchItem)]
        try:
            if new:
                self._start(new, LEVELS.get(priority, LEVELS["normal"]))
            if jobs:
                await _all_of(jobs)
        finally:
            for job in jobs:
                job.leave()
        return [each.future.result() if isinstance(each, BatchItem) else each for each in found]

    def _start(self, jobs: Sequence[EmbeddingJob], level: int) -> None:
        """Start jobs, which from here on do not depend on the call that asked for them: others may have joined."""
        flow = object()
        if sum(len(job.value.text) for job in jobs) <= INLINE_CHARACTERS:
            self._read_and_put(jobs, flow, level)
            return
        for start in range(0, len(jobs), SLICE):
            self._reader.submit(self._read_and_put, jobs[start : start + SLICE], flow, level)

    def _read_and_put(self, jobs: Sequence[EmbeddingJob], flow: object, level: int) -> None:
        """Tokenize and queue jobs, on the loop or on the reader's thread."""
        wanted = [job for job in jobs if not job.future.done()]
        if not wanted:
            return
        try:
            self.model.tokenizer.read([job.value for job in wanted])
            for job in wanted:
                job.cost = job.value.count
        except Exception as error:
            words = f"{self.model.name}: the tokenizer failed: {type(error).__name__}: {error}"
            self._batcher.fail(wanted, RpcError(ErrorCode.PIPELINE_EXECUTION_ERROR, words))
            return
        self._batcher.put(wanted, flow, level)

    def _run(self, texts: list[Text]) -> list[Embedding | BaseException]:
        """Run one pass, on the batcher's thread."""
        import numpy as np

        vectors = self.model.run(texts).astype("<f4", copy=False)
        finite = np.isfinite(vectors).all(axis=1)
        return [
            Embedding(vectors[row].tobytes(), text.count, text.cut) if finite[row] else _not_finite(self.model.name)
            for row, text in enumerate(texts)
        ]


def _key(text: str, salt: bytes) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16, key=salt).digest()


def limits_of(device: str) -> BatchLimits:
    """The limits of a batch on a device, in tokens."""
    if device in PASS_TOKENS:
        return BatchLimits(BATCH_TOKENS, PASS_TOKENS[device])
    return BatchLimits(BATCH_TOKENS_ACCELERATED, PASS_TOKENS_ACCELERATED)


async def _all_of(jobs: Sequence[EmbeddingJob]) -> None:
    """Wait until all are done, or one has failed. A cancel of the waiting task leaves the jobs as they are."""
    done, _pending = await asyncio.wait({job.future for job in jobs}, return_when=asyncio.FIRST_EXCEPTION)
    for future in done:
        future.result()


def _not_finite(name: str) -> RpcError:
    return RpcError(ErrorCode.PIPELINE_EXECUTION_ERROR, f"{name} made a vector that is not finite")
