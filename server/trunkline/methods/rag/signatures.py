"""The params, chunks and results of ``rag.*``, as callers see them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from trunkline import Chunk
from trunkline.methods.rag.asked import DescribedAs, PipelineConfig
from trunkline.methods.rag.retrieval import Filling

TechniqueName = Literal["basic", "hybrid", "extractive"]

Query = Annotated[str, Field(min_length=1, max_length=20_000, pattern=r"\S")]


class Turn(TypedDict):
    """A message of the conversation that a question belongs to."""

    role: Literal["user", "assistant"]
    content: str


History = Annotated[list[Turn], Field(max_length=1_000)]
"""The messages before a question, the oldest first."""


GivenConfig = Annotated[dict[str, Any], DescribedAs(PipelineConfig)]


class Checked(TypedDict):
    """A technique and a config that go together, as they were given."""

    technique: TechniqueName
    config: dict[str, Any]


class Performance(TypedDict):
    """Durations in milliseconds. The total exceeds the sum by the time a slow reader took."""

    total_time_ms: float
    retrieval_time_ms: float
    generation_time_ms: float


class RetrievedDocument(TypedDict):
    """A passage that was retrieved, best first: ``rank`` counts from 1, ``score`` is what the technique ranks by."""

    rank: int
    id: str
    score: float
    text: str
    metadata: dict[str, Any]


FallbackFrom = TypedDict("FallbackFrom", {"from": str, "code": int, "type": str, "message": str})
"""The technique that failed, so that another one answered, and its error."""


class TokenUsage(TypedDict):
    """Tokens that were read and written for an answer."""

    prompt_tokens: int
    completion_tokens: int


class AnswerMetadata(TypedDict):
    """How an answer was made.

    ``timestamp`` is UTC, ISO 8601; ``generator`` is ``extractive``, or the name of the language model; ``filling`` is
    there where the collection is still being indexed, ``finish_reason`` where a language model gave one, ``cache``
    where the call asked for a kept answer, and ``cached_at`` where it got one. ``usage`` has the tokens that the
    language model read and wrote, where its endpoint tells; without one, those that the embedding model read.
    ``rewritten_query`` is what a follow-up was taken to ask, ``rewritten_by`` the language model, or ``terms``.
    ``conversation_id``, ``turn`` and ``answer_id`` say where a conversation has the answer.
    """

    worker_id: str
    timestamp: str
    generator: str
    collection: str
    embedding_model: str
    found: bool
    usage: NotRequired[TokenUsage]
    rewritten_query: NotRequired[str]
    rewritten_by: NotRequired[str]
    conversation_id: NotRequired[str]
    turn: NotRequired[int]
    answer_id: NotRequired[str]
    filling: NotRequired[Filling]
    finish_reason: NotRequired[str]
    cache: NotRequired[Literal["hit", "miss"]]
    cached_at: NotRequired[str]
    fallback: NotRequired[FallbackFrom]


class Answer(TypedDict):
    """An answer and where it comes from.

    ``success`` says that the technique ran; whether anything was found, ``metadata.found`` says. Failures are errors,
    not results. A citation ``[n]`` in the answer is the document of rank n.
    """

    success: bool
    technique: TechniqueName
    query: str
    answer: str
    retrieved_documents: list[RetrievedDocument]
    performance: Performance
    metadata: AnswerMetadata


class AnswerBegun(TypedDict):
    """What an answer is made from: the first chunk of ``rag.stream``. ``documents`` is how many were retrieved."""

    technique: TechniqueName
    query: str
    collection: str
    embedding_model: str
    generator: str
    documents: int
    worker_id: str
    retrieval_time_ms: float
    cache: NotRequired[Literal["hit"]]


class SentenceSource(TypedDict):
    """The document that a sentence was taken from; ``score`` is the sentence's own."""

    rank: int
    id: str
    score: float


class PartialAnswer(TypedDict):
    """A piece of an answer: the texts, joined, are the answer.

    ``source`` comes with extracted sentences; it is null where nothing was found.
    """

    text: str
    source: NotRequired[SentenceSource | None]


AnswerChunk = (
    Chunk[Literal["metadata"], AnswerBegun]
    | Chunk[Literal["document"], RetrievedDocument]
    | Chunk[Literal["partial_answer"], PartialAnswer]
)


class Problem(TypedDict):
    """What is wrong with a config, and where: names joined by dots."""

    path: str
    message: str


class InvalidConfig(TypedDict, total=False):
    """All that is wrong with a config."""

    errors: list[Problem]


class EndpointFailure(TypedDict, total=False):
    """What the endpoint of a language model answered."""

    http_status: int
