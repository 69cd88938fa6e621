"""``embeddings.create`` that tells what it was asked and may be held up; and stands in for the hub's jobs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from tests.methods.packs.word_embeddings import WordEmbeddings
from trunkline.methods.declaration import method

QUERY = "part"
"""What tests search for; not recorded."""

embedded: list[str] = []
"""Texts that were embedded, in order."""
calls: list[int] = []
"""How many in each call: there is one before each write of new passages."""
before_write: Callable[[], Awaitable[None]] | None = None
jobs: list[Any] = []

JOB = {
    "id": "1", "method": "documents.process", "status": "queued", "progress": None, "error": None, "last_error": None,
    "attempts": 0, "priority": "low", "principal": "anonymous", "tenant": "default", "created_at": 1,
    "started_at": None, "finished_at": None,
}  # fmt: skip


class RecordedEmbeddings(WordEmbeddings):
    @method("embeddings.create", idempotent=True)
    async def create(self, input: list[str], encoding_format: str = "float") -> dict[str, Any]:
        if input not in ([QUERY], ["dimension"]):
            if before_write is not None:
                await before_write()
            embedded.extend(input)
            calls.append(len(input))
        return await super().create(input, encoding_format)


def create_job(params: Any) -> dict[str, Any]:
    """What stands in for ``jobs.create`` of the hub."""
    jobs.append({"method": params["method"], "params": params["params"]})
    return JOB | {"id": str(len(jobs))}


STUBS = {"jobs.create": create_job}


def reset() -> None:
    global before_write
    before_write = None
    embedded.clear()
    calls.clear()
    jobs.clear()
