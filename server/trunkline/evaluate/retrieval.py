"""Sends questions to a hub, each in several ways, and ranks the documents it found, best first."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from trunkline.evaluate.questions import Question

SEARCHES: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "dense": ("vectors.search", {}),
    "lexical": ("vectors.lexical", {}),
    "hybrid": ("vectors.hybrid", {}),
    "rrf": ("vectors.hybrid", {"fusion": "rrf", "weight": 1.0}),
}
"""Searches without a technique: the method, and its own params. ``rrf`` has equal weights, as is usual."""
DEFAULT_TECHNIQUES: Final = ("dense", "lexical", "hybrid")
PASSAGES: Final = 100
"""Passages asked for: a document has several, and the measures look at 10 documents."""
RETRIEVED: Final = 50
"""Of a technique of ``rag.retrieve``: its ``top_k`` at most."""
AT_ONCE: Final = 4


class HubCaller(Protocol):
    """Calls methods of a hub."""

    async def call(self, method: str, params: Any, *, timeout_ms: int | None = None) -> Any:
        """Call a method and return its result."""


@dataclass(frozen=True, slots=True)
class Retrieved:
    """The results of one technique: documents by question id, best first, and the seconds each question took."""

    rankings: dict[str, list[str]]
    seconds: list[float]


async def retrieve(
    hub: HubCaller,
    technique: str,
    collection: str,
    questions: Sequence[Question],
    field: str,
    advance: Callable[[], None] = lambda: None,
) -> Retrieved:
    """Send all questions by one of :data:`SEARCHES`, or else the technique of ``rag.retrieve`` of that name.

    Args:
        field: what a document is: ``id``, or the member of a passage's metadata that names it.
        advance: called after each question.

    Raises:
        RpcError: the error that a search ended with.
    """
    gate = asyncio.Semaphore(AT_ONCE)
    rankings: dict[str, list[str]] = {}
    seconds = []

    async def ask(question: Question) -> None:
        async with gate:
            began = time.perf_counter()
            found = await _found(hub, technique, collection, question.text)
            seconds.append(time.perf_counter() - began)
        rankings[question.id] = documents(found, field)
        advance()

    asking = [asyncio.ensure_future(ask(question)) for question in questions]
    try:
        await asyncio.gather(*asking)
    finally:
        for each in asking:  # of the others, where one failed
            each.cancel()
    return Retrieved(rankings, seconds)


async def _found(hub: HubCaller, technique: str, collection: str, text: str) -> Any:
    """The passages that one question found, best first."""
    if technique in SEARCHES:
        method, own = SEARCHES[technique]
        params = {"collection": collection, "text": text, "top_k": PASSAGES, **own}
        return (await hub.call(method, params, timeout_ms=120_000))["matches"]
    options = {"collection": collection, "top_k": RETRIEVED}
    params = {"query": text, "technique": technique, "options": options}
    return (await hub.call("rag.retrieve", params, timeout_ms=120_000))["retrieved_documents"]


def documents(matches: Sequence[dict[str, Any]], field: str) -> list[str]:
    """The documents that passages are from, each once, in the order of its best passage."""
    named = (match["id"] if field == "id" else match["metadata"].get(field) for match in matches)
    return [*dict.fromkeys(str(each) for each in named if each is not None)]
