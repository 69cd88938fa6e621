"""The params, chunks and results of ``rag.*``, as callers see them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from trunkline import Chunk
from trunkline.methods.rag.asked import DescribedAs, PipelineConfig
from trunkline.methods.rag.filling import Filling
from trunkline.methods.rag.retrieval import SameText

TechniqueName = str

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
    rerank_time_ms: NotRequired[float]
    completion_time_ms: NotRequired[float]


class RetrievedDocument(TypedDict):
    """A passage that was retrieved, best first: ``rank`` counts from 1, ``score`` is what the technique ranks by.

    ``also_in`` are passages with the same text, which were left out.
    """

    rank: int
    id: str
    score: float
    text: str
    metadata: dict[str, Any]
    also_in: NotRequired[list[SameText]]


FallbackFrom = TypedDict("FallbackFrom", {"from": str, "code": int, "type": str, "message": str})
"""The technique that failed, so that another one answered, and its error."""


class TokenUsage(TypedDict):
    """Tokens that were read and written for an answer; estimates where the language model's endpoint did not tell."""

    prompt_tokens: int
    completion_tokens: int
    estimated: NotRequired[bool]


class FailedEndpoint(TypedDict):
    """An endpoint that was tried before the one that answered, and its error."""

    endpoint: str
    code: int
    message: str


class AnswerMetadata(TypedDict):
    """How an answer was made.

    ``timestamp`` is UTC, ISO 8601; ``generator`` is ``extractive``, or the name of the language model; ``confidence``
    is how likely an extracted answer is one; ``filling`` is there where the collection is still being indexed,
    ``finish_reason`` and what follows it where a language model has written: ``endpoint`` is which one, ``cost`` is in
    the unit of its prices, ``tried`` those that failed before, ``unknown_citations`` ranks that were taken out;
    ``cache`` where the call asked for a kept answer, and ``cached_at`` where it got one; ``technique`` is what the
    technique tells of itself. ``usage`` has the tokens that the language model read and wrote; without one, those that
    the embedding model read. ``rewritten_query`` is what a follow-up was taken to ask, ``rewritten_by`` the language
    model, or ``terms``. ``conversation_id``, ``turn`` and ``answer_id`` say where a conversation has the answer.
    """

    worker_id: str
    timestamp: str
    generator: str
    collection: str
    embedding_model: str
    found: bool
    confidence: NotRequired[float]
    usage: NotRequired[TokenUsage]
    rewritten_query: NotRequired[str]
    rewritten_by: NotRequired[str]
    conversation_id: NotRequired[str]
    turn: NotRequired[int]
    answer_id: NotRequired[str]
    filling: NotRequired[Filling]
    finish_reason: NotRequired[str]
    endpoint: NotRequired[str]
    cost: NotRequired[float]
    tried: NotRequired[list[FailedEndpoint]]
    unknown_citations: NotRequired[list[int]]
    cache: NotRequired[Literal["hit", "miss"]]
    cached_at: NotRequired[str]
    fallback: NotRequired[FallbackFrom]
    technique: NotRequired[dict[str, Any]]


class RetrievalPerformance(TypedDict):
    """Durations in milliseconds: the whole call, and what of it was retrieval, with re-ranking and completions."""

    total_time_ms: float
    retrieval_time_ms: float
    rerank_time_ms: NotRequired[float]
    completion_time_ms: NotRequired[float]


class RetrievalMetadata(TypedDict):
    """How passages were found; the members are those of answers."""

    worker_id: str
    timestamp: str
    collection: str
    embedding_model: str
    filling: NotRequired[Filling]
    technique: NotRequired[dict[str, Any]]


class Retrieved(TypedDict):
    """Passages that a technique found, without an answer."""

    technique: TechniqueName
    query: str
    retrieved_documents: list[RetrievedDocument]
    performance: RetrievalPerformance
    metadata: RetrievalMetadata


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


class UnitSource(TypedDict):
    """Where a part of an answer was taken from.

    ``start`` and ``end`` are offsets into the text of the document of this rank, ``lead`` those of what announces it;
    ``score`` is its own cosine to the question.
    """

    rank: int
    id: str
    score: float
    start: int
    end: int
    kind: Literal["sentence", "list_item", "table_row", "code", "definition"]
    lead: NotRequired[list[int]]


class PartialAnswer(TypedDict):
    """A piece of an answer: the texts, joined, are the answer.

    ``source`` comes with extracted units; it is null where nothing was found.
    """

    text: str
    source: NotRequired[UnitSource | None]


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
    """What the endpoint of a language model answered; ``partial_answer`` is what came before it was cut off."""

    http_status: int
    partial_answer: str
