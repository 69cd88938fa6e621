"""All conversations of a hub: made, asked in, answered, rated, exported, deleted, and forgotten when they are old."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn, TypeVar

import msgspec

from trunkline.background import keep_up
from trunkline.conversations.analysis import unanswered
from trunkline.conversations.limits import ConversationLimits
from trunkline.conversations.store import Asked, ConversationStore, Head, Stored
from trunkline.storage.disk_thread import DiskThread
from trunkline_protocol.calls import Call, Caller
from trunkline_protocol.conversation_messages import (
    Appended,
    ConversationAnswerParams,
    ConversationView,
    ConversationWithTurns,
    FeedbackParams,
    Turn,
    Unanswered,
    UnansweredParams,
)
from trunkline_protocol.errors import ErrorCode, RpcError, limit_error

ADMIN: Final = "admin"
FORGET_SECONDS: Final = 600.0
PAGE_BYTES: Final = 4 * 2**20
"""Bytes of one page of an export, from which on it ends."""

T = TypeVar("T")
logger = logging.getLogger("trunkline.conversations")
_encode: Final = msgspec.json.Encoder().encode


def now_ms() -> int:
    """The time, in milliseconds since 1970."""
    return int(time.time() * 1000)


class Conversations:
    """The conversations of one hub. Nothing is on disk before the first one.

    Args:
        folder: ``<data>/conversations``.
        limits: of conversations that are made, or asked in, from now on. They may be changed.
    """

    def __init__(self, folder: Path, limits: ConversationLimits) -> None:
        self.limits = limits
        self._store = ConversationStore(folder)
        self._disk = DiskThread("conversations")
        self._open: dict[tuple[str, int], Call | None] = {}
        self._house: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Forget old conversations now and then."""
        self._house = keep_up(self._keep_house, "conversations")

    async def close(self) -> None:
        """Finish writing and release the folder for the next hub. Nothing may be called after this."""
        if self._house is not None:
            self._house.cancel()
        self._disk.soon(self._store.close)
        await self._disk.stop()

    async def _keep_house(self) -> None:
        while True:
            try:
                await self._do(self._forget_old, None)
            except RpcError as error:
                logger.warning("%s", error)
            await asyncio.sleep(FORGET_SECONDS)

    def _forget_old(self) -> None:
        self._store.forget(now_ms() - int(1000 * self.limits.kept_seconds))

    async def _do(self, function: Callable[[], T], nothing: T, *, make: bool = False) -> T:
        """Run a function on the disk's thread; ``nothing`` where there is no folder, and none is to be made."""
        return await self._disk.do(lambda: function() if self._store.ready(make=make) else nothing)

    # --- conversations ---

    async def create(self, who: Caller, title: str) -> ConversationView:
        """Make a conversation, which is on disk when this returns.

        Raises:
            RpcError: 2003, the principal has too many; 5001 or 5002, it cannot be written.
        """
        head = Head(secrets.token_hex(16), who.tenant, who.name, title, now_ms())

        def make() -> Stored:
            count = self._store.count_of(who.tenant, who.name)
            if count >= self.limits.per_principal:
                words = f"{who.name} has {count} conversations: delete some"
                raise limit_error("conversations_per_principal", words, retry_after_ms=None)
            self._store.create(head)
            return Stored(0, head, head.created_at, 0)

        return (await self._do(make, Stored(0, head, 0, 0), make=True)).view()

    async def get(self, who: Caller, conversation: str) -> ConversationWithTurns:
        """A conversation with its turns.

        Raises:
            RpcError: -32602, there is no such conversation of this caller; 3002, 5001, it cannot be read.
        """

        def read() -> ConversationWithTurns:
            found = self._visible(who, conversation)
            return with_turns(found, self._settled(found.head.id))

        return await self._do(read, None) or _none_such(conversation)

    async def page(self, who: Caller, limit: int, before: int | None) -> tuple[list[ConversationView], int | None]:
        """A page of the caller's conversations, and from where on the next one is.

        Raises:
            RpcError: 3002 or 5001.
        """
        none: list[Stored] = []
        found = await self._do(lambda: self._store.listed(who.tenant, who.name, limit + 1, before), none)
        return [each.view() for each in found[:limit]], found[limit - 1].number if len(found) > limit else None

    async def delete(self, who: Caller, conversation: str) -> int:
        """Delete a conversation; returns 1.

        Raises:
            RpcError: as :meth:`get`.
        """

        def remove() -> int:
            self._store.remove(self._visible(who, conversation).head.id)
            return 1

        return await self._do(remove, 0) or _none_such(conversation)

    async def delete_of(self, tenant: str, principal: str | None) -> int:
        """Delete everything of a principal, or of a tenant; returns how many conversations there were.

        Raises:
            RpcError: 5001 or 5002: all are there.
        """
        return await self._do(lambda: self._store.remove_of(tenant, principal), 0)

    async def count_of(self, tenant: str) -> int:
        """The number of conversations of a tenant.

        Raises:
            RpcError: 5001.
        """
        return await self._do(lambda: self._store.count_of(tenant), 0)

    async def export(self, tenant: str, principal: str, before: int | None) -> tuple[list[bytes], int | None]:
        """A page of everything of a principal: a line of JSON a conversation; and from where on the next one is.

        Raises:
            RpcError: 3002 or 5001.
        """

        def read() -> tuple[list[bytes], int | None]:
            lines: list[bytes] = []
            size = 0
            found = self._store.listed(tenant, principal, 101, before)
            for number, each in enumerate(found[:100]):
                lines.append(_encode(with_turns(each, self._settled(each.head.id))))
                size += len(lines[-1])
                if size > PAGE_BYTES and number + 1 < len(found):
                    return lines, each.number
            return lines, found[99].number if len(found) > 100 else None

        return await self._do(read, ([], None))

    # --- questions and answers ---

    async def append(self, call: Call, who: Caller, conversation: str, question: str) -> Appended:
        """Put a question behind a conversation: its turn is open until it is answered, by whoever has asked.

        Where a method has, the turn is open no longer than the call that the method answers.

        Raises:
            RpcError: as :meth:`get`; 2003, there are too many turns or bytes; 5002, the disk is full.
        """

        def write() -> Appended:
            found = self._visible(who, conversation)
            earlier = self._settled(found.head.id)
            self._require_room(found.head.id, len(question.encode()))
            number = earlier[-1].turn + 1 if earlier else 1
            turn = Turn(turn=number, answer_id=secrets.token_hex(16), question=question, asked_at=now_ms())
            self._store.put(found.head.id, turn, turn.asked_at)
            outermost = call.origin()
            self._open[found.head.id, number] = None if outermost is call else outermost
            return Appended(number, turn.answer_id, [each for each in earlier if each.status == "answered"])

        return await self._do(write, None) or _none_such(conversation)

    def _require_room(self, conversation: str, more: int) -> None:
        turns, size = self._store.size_of(conversation)
        if turns >= self.limits.turns:
            words = f"conversation {conversation} has {turns} turns: begin another one"
            raise limit_error("conversation_turns", words, retry_after_ms=None)
        if size + more > self.limits.bytes:
            words = f"conversation {conversation} has {size} bytes already: begin another one"
            raise limit_error("conversation_bytes", words, retry_after_ms=None)

    async def answer(self, who: Caller, said: ConversationAnswerParams) -> Turn:
        """Keep what became of an open turn. An answer for which there is no room is kept up to there, as failed.

        Raises:
            RpcError: as :meth:`get`; -32602, there is no such turn, or it is not open.
        """

        def write() -> Turn:
            conversation = self._visible(who, said.conversation_id).head.id
            turn = self._turn(conversation, said.turn)
            if turn.status != "open":
                words = f"turn {said.turn} of conversation {conversation} is not open: it is {turn.status}"
                raise RpcError(ErrorCode.INVALID_PARAMS, words)
            turn.answered_at = now_ms()
            for name in ("status", "answer", "found", "code", "rewritten_query", "collection", "technique"):
                setattr(turn, name, getattr(said, name))
            room = self.limits.bytes - self._store.size_of(conversation)[1]
            if len(_encode(turn)) > room:
                turn.answer = turn.answer.encode()[: max(0, room // 2)].decode(errors="ignore")
                turn.status, turn.code = "failed", int(ErrorCode.RESOURCE_EXHAUSTED)
            self._store.put(conversation, turn, turn.answered_at)
            self._open.pop((conversation, said.turn), None)
            return turn

        return await self._do(write, None) or _none_such(said.conversation_id)

    async def rate(self, who: Caller, said: FeedbackParams) -> Turn:
        """Keep what somebody says of an answer.

        Raises:
            RpcError: -32602, there is no such answer of this caller, or it is not there yet.
        """

        def write() -> Turn:
            place = (said.conversation_id or "", said.turn or 0)
            if said.answer_id is not None:
                place = self._store.place_of(said.answer_id) or ("", 0)
            conversation = self._visible(who, place[0], said.answer_id).head.id
            turn = self._turn(conversation, place[1])
            if turn.status == "open":
                raise RpcError(ErrorCode.INVALID_PARAMS, "rag.feedback: the question is not answered yet")
            turn.rating, turn.comment = said.rating, said.comment
            self._store.put(conversation, turn, now_ms())
            return turn

        return await self._do(write, None) or _none_such(said.answer_id or said.conversation_id or "")

    async def unanswered(self, who: Caller, said: UnansweredParams) -> Unanswered:
        """Questions without a good answer, and counts by day: an admin's of all tenants, others' own.

        Raises:
            RpcError: 6002, of another tenant; 3002 or 5001.
        """
        is_admin = ADMIN in who.roles
        if not is_admin and said.tenant not in (None, who.tenant):
            raise RpcError(ErrorCode.FORBIDDEN, f"{who.name} may not see questions of other tenants (role admin)")
        tenant = said.tenant if is_admin else who.tenant
        principal = None if is_admin else who.name
        since = now_ms() - said.days * 86_400_000
        none: list[Asked] = []
        found = await self._do(lambda: self._store.asked_since(since, tenant, principal), none)
        return unanswered(found, said.limit)

    # --- on the disk's thread ---

    def _visible(self, who: Caller, conversation: str, named: str | None = None) -> Stored:
        found = self._store.find(conversation)
        if found is None or (found.head.tenant, found.head.principal) != (who.tenant, who.name):
            _none_such(named or conversation)
        return found

    def _turn(self, conversation: str, number: int) -> Turn:
        for turn in self._store.turns(conversation):
            if turn.turn == number:
                return turn
        raise RpcError(ErrorCode.INVALID_PARAMS, f"conversation {conversation} has no turn {number}")

    def _settled(self, conversation: str) -> list[Turn]:
        """The turns of a conversation; those whose call, or hub, has ended are cancelled, or have failed."""
        turns = self._store.turns(conversation)
        for turn in turns:
            place = (conversation, turn.turn)
            call = self._open.get(place)
            if turn.status == "open" and (place not in self._open or (call is not None and call.settled)):
                failure = getattr(call, "failure", None)
                turn.code = None if failure is None else failure[0]
                turn.status = "cancelled" if turn.code in (None, ErrorCode.CANCELLED) else "failed"
                turn.answered_at = now_ms()
                self._store.put(conversation, turn, turn.answered_at)
                self._open.pop(place, None)
        return turns


def with_turns(found: Stored, turns: list[Turn]) -> ConversationWithTurns:
    """A conversation with its turns."""
    return ConversationWithTurns(**msgspec.structs.asdict(found.view()), history=turns)


def _none_such(named: str) -> NoReturn:
    words = f"no conversation or answer {named!r:.80}: it was deleted, is another principal's, or was never there"
    raise RpcError(ErrorCode.INVALID_PARAMS, words, data={"no_such": "conversation"})
