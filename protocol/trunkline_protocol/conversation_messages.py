"""Params and results of ``conversations.*``, ``rag.feedback`` and ``rag.unanswered``."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

MAX_TITLE: Final = 200
MAX_QUESTION: Final = 20_000
MAX_COMMENT: Final = 4_000
MAX_PAGE: Final = 200
MAX_DAYS: Final = 366

TurnStatus = Literal["open", "answered", "failed", "cancelled"]
Rating = Literal["up", "down"]
Id = Annotated[str, Meta(min_length=1, max_length=64)]
TurnNumber = Annotated[int, Meta(ge=1)]


class Turn(msgspec.Struct, kw_only=True):
    """A question and what became of it. Times are milliseconds since 1970.

    ``answer`` of a turn that ``failed`` or was ``cancelled`` is what there was of it; ``found`` says whether anything
    was found, ``code`` which error it was, ``rewritten_query`` what a follow-up was taken to ask.
    """

    turn: TurnNumber
    answer_id: str
    question: str
    asked_at: int
    status: TurnStatus = "open"
    answer: str = ""
    answered_at: int | None = None
    found: bool | None = None
    code: int | None = None
    rewritten_query: str | None = None
    collection: str | None = None
    technique: str | None = None
    rating: Rating | None = None
    comment: str | None = None


class ConversationView(msgspec.Struct, kw_only=True):
    """A conversation as its owner sees it. ``updated_at`` is when it was made, or last asked."""

    conversation_id: str
    title: str
    created_at: int
    updated_at: int
    turns: int
    principal: str
    tenant: str


class ConversationCreateParams(msgspec.Struct, forbid_unknown_fields=True):
    """Params of ``conversations.create``."""

    title: Annotated[str, Meta(max_length=MAX_TITLE)] = ""


class ConversationParams(msgspec.Struct, forbid_unknown_fields=True):
    """Params of ``conversations.get``."""

    conversation_id: Id


class ConversationWithTurns(ConversationView, kw_only=True):
    """A conversation and its turns, the oldest first."""

    history: list[Turn]


class ConversationListParams(msgspec.Struct, forbid_unknown_fields=True):
    """Params of ``conversations.list``; ``cursor`` is the one of the page before."""

    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = 50
    cursor: str | None = None


class ConversationPage(msgspec.Struct):
    """Conversations, those made last first. ``cursor`` is for the next page; null where this is the last."""

    conversations: list[ConversationView]
    cursor: str | None


class ConversationAppendParams(msgspec.Struct, forbid_unknown_fields=True):
    """Params of ``conversations.append``."""

    conversation_id: Id
    question: Annotated[str, Meta(min_length=1, max_length=MAX_QUESTION)]


class Appended(msgspec.Struct):
    """The turn that a question has begun, and the turns before it that were answered, the oldest first."""

    turn: int
    answer_id: str
    history: list[Turn]


class ConversationAnswerParams(msgspec.Struct, forbid_unknown_fields=True):
    """Params of ``conversations.answer``: what became of an open turn."""

    conversation_id: Id
    turn: TurnNumber
    status: Literal["answered", "failed", "cancelled"]
    answer: str = ""
    found: bool | None = None
    code: int | None = None
    rewritten_query: str | None = None
    collection: str | None = None
    technique: str | None = None


class WhoseParams(msgspec.Struct, forbid_unknown_fields=True):
    """Params of ``conversations.delete``: one conversation, or with ``*`` everything of the caller.

    With ``*`` an admin may name another principal, and its tenant.
    """

    conversation_id: Id
    principal: str | None = None
    tenant: str | None = None


class DeletedConversations(msgspec.Struct):
    """How many conversations were deleted, with all that was in them."""

    deleted: int


class ConversationExportParams(msgspec.Struct, forbid_unknown_fields=True):
    """Params of ``conversations.export``: everything of the caller, or for an admin of a principal it names."""

    principal: str | None = None
    tenant: str | None = None
    cursor: str | None = None


class ExportedConversations(msgspec.Struct):
    """A page of JSON Lines, a line a conversation with its turns. ``cursor`` is for the next; null at the end."""

    lines: str
    conversations: int
    cursor: str | None


class FeedbackParams(msgspec.Struct, forbid_unknown_fields=True):
    """Params of ``rag.feedback``: about an answer, by its id or by its place. What was said before is replaced."""

    rating: Rating
    comment: Annotated[str, Meta(max_length=MAX_COMMENT)] | None = None
    answer_id: Id | None = None
    conversation_id: Id | None = None
    turn: TurnNumber | None = None


class UnansweredParams(msgspec.Struct, forbid_unknown_fields=True):
    """Params of ``rag.unanswered``. An admin sees all tenants, or the one it names; others see what they asked."""

    days: Annotated[int, Meta(ge=1, le=MAX_DAYS)] = 30
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = 50
    tenant: str | None = None


class UnansweredQuestion(msgspec.Struct, kw_only=True):
    """A question to which nothing was found, or whose answer failed or was rated ``down``."""

    conversation_id: str
    turn: int
    question: str
    asked_at: int
    why: Literal["not_found", "failed", "rated_down"]
    tenant: str
    principal: str


class AskedOnDay(msgspec.Struct, kw_only=True):
    """Questions of a tenant on a day (UTC), by what became of them."""

    day: str
    tenant: str
    questions: int = 0
    answered: int = 0
    not_found: int = 0
    failed: int = 0
    cancelled: int = 0
    rated_up: int = 0
    rated_down: int = 0


class Unanswered(msgspec.Struct):
    """Questions without a good answer, the latest first, and the counts of each day."""

    questions: list[UnansweredQuestion]
    days: list[AskedOnDay]
