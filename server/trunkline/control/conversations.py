"""``conversations.*``, ``rag.feedback`` and ``rag.unanswered``: each caller's own, but for admins where it says so."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final

from trunkline.conversations.service import Conversations
from trunkline.hub.dispatch import Handlers, answering_later
from trunkline.hub.principal import ADMIN, HUB
from trunkline_protocol import conversation_messages as talks
from trunkline_protocol import hub_methods as rows
from trunkline_protocol.calls import Call, Caller
from trunkline_protocol.errors import ErrorCode, RpcError

ALL: Final = "*"
"""In place of a conversation's id."""


class ConversationCalls:
    """Answers the calls about conversations."""

    def __init__(self, conversations: Conversations) -> None:
        self._conversations = conversations

    def methods(self) -> Handlers:
        """The handlers."""
        return (
            answering_later(rows.CONVERSATIONS_CREATE, self._create)
            | answering_later(rows.CONVERSATIONS_GET, self._get)
            | answering_later(rows.CONVERSATIONS_LIST, self._list)
            | answering_later(rows.CONVERSATIONS_APPEND, self._append)
            | answering_later(rows.CONVERSATIONS_ANSWER, self._answer)
            | answering_later(rows.CONVERSATIONS_EXPORT, self._export)
            | answering_later(rows.CONVERSATIONS_DELETE, self._delete)
            | answering_later(rows.RAG_FEEDBACK, self._rate)
            | answering_later(rows.RAG_UNANSWERED, self._unanswered)
        )

    def _create(self, call: Call, params: talks.ConversationCreateParams) -> Awaitable[talks.ConversationView]:
        return self._conversations.create(_caller(call), params.title)

    def _get(self, call: Call, params: talks.ConversationParams) -> Awaitable[talks.ConversationWithTurns]:
        return self._conversations.get(_caller(call), params.conversation_id)

    def _list(self, call: Call, params: talks.ConversationListParams) -> Awaitable[talks.ConversationPage]:
        return self._page(_caller(call), params.limit, _before(call, params.cursor))

    async def _page(self, who: Caller, limit: int, before: int | None) -> talks.ConversationPage:
        found, following = await self._conversations.page(who, limit, before)
        return talks.ConversationPage(found, _cursor(following))

    def _append(self, call: Call, params: talks.ConversationAppendParams) -> Awaitable[talks.Appended]:
        return self._conversations.append(call, _caller(call), params.conversation_id, params.question)

    def _answer(self, call: Call, params: talks.ConversationAnswerParams) -> Awaitable[talks.Turn]:
        return self._conversations.answer(_caller(call), params)

    def _export(self, call: Call, params: talks.ConversationExportParams) -> Awaitable[talks.ExportedConversations]:
        tenant, principal = _whose(call, params.tenant, params.principal)
        before = _before(call, params.cursor)
        return self._exported(tenant, principal, before, named=params.principal is not None and before is None)

    async def _exported(
        self, tenant: str, principal: str, before: int | None, *, named: bool
    ) -> talks.ExportedConversations:
        lines, following = await self._conversations.export(tenant, principal, before)
        if named and not lines:
            raise _nothing_of(tenant, principal)
        text = "".join(line.decode() + "\n" for line in lines)
        return talks.ExportedConversations(text, len(lines), _cursor(following))

    def _delete(self, call: Call, params: talks.WhoseParams) -> Awaitable[talks.DeletedConversations]:
        if params.conversation_id == ALL:
            tenant, principal = _whose(call, params.tenant, params.principal)
            return self._deleted_of(tenant, principal, named=params.principal is not None)
        if params.principal is not None or params.tenant is not None:
            words = f'{call.method}: principal and tenant are for conversation_id "{ALL}", everything of a principal'
            raise RpcError(ErrorCode.INVALID_PARAMS, words)
        return _deleted(self._conversations.delete(_caller(call), params.conversation_id))

    async def _deleted_of(self, tenant: str, principal: str, *, named: bool) -> talks.DeletedConversations:
        deleted = await self._conversations.delete_of(tenant, principal)
        if named and not deleted:
            raise _nothing_of(tenant, principal)
        return talks.DeletedConversations(deleted)

    def _rate(self, call: Call, params: talks.FeedbackParams) -> Awaitable[talks.Turn]:
        by_place = params.conversation_id is not None and params.turn is not None
        if (params.answer_id is not None) == by_place:
            words = f"{call.method}: give either answer_id, or conversation_id and turn"
            raise RpcError(ErrorCode.INVALID_PARAMS, words)
        return self._conversations.rate(_caller(call), params)

    def _unanswered(self, call: Call, params: talks.UnansweredParams) -> Awaitable[talks.Unanswered]:
        return self._conversations.unanswered(_caller(call), params)


async def _deleted(deleting: Awaitable[int]) -> talks.DeletedConversations:
    return talks.DeletedConversations(await deleting)


def _nothing_of(tenant: str, principal: str) -> RpcError:
    """The error of a principal that is named and has nothing: its name may be meant in another tenant."""
    words = f"{principal!r:.80} has no conversations in tenant {tenant!r:.80}: name tenant where another one is meant"
    return RpcError(ErrorCode.INVALID_PARAMS, words, data={"no_such": "principal", "tenant": tenant})


def _caller(call: Call) -> Caller:
    return call.caller() or HUB


def _whose(call: Call, tenant: str | None, principal: str | None) -> tuple[str, str]:
    """Tenant and principal that a call is about: its caller, or whom an admin names.

    Raises:
        RpcError: 6002, another one is named, by somebody who is no admin.
    """
    who = _caller(call)
    asked = (tenant or who.tenant, principal or who.name)
    if asked != (who.tenant, who.name) and ADMIN not in who.roles:
        raise RpcError(ErrorCode.FORBIDDEN, f"{who.name} may not use {call.method} for others (role admin)")
    return asked


def _cursor(following: int | None) -> str | None:
    return None if following is None else str(following)


def _before(call: Call, cursor: str | None) -> int | None:
    if cursor is None:
        return None
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):
        raise RpcError(ErrorCode.INVALID_PARAMS, f"{call.method}: cursor: {cursor!r:.50} is not one of a page")
    return int(cursor)
