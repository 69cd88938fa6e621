"""Conversations on disk, with one owner; what is acknowledged is on disk. All of this blocks: call it from one thread.

::

    <data>/conversations/conversations.sqlite    made by TABLES
    <data>/conversations/lock                    flock of the hub that keeps them, and its process id

Each row has a CRC-32 of its JSON and of where it belongs. What is not what was written is refused (3002), and stays.
"""

from __future__ import annotations

import logging
import sqlite3
import zlib
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from trunkline.storage.database import Database
from trunkline.storage.failures import damaged
from trunkline.storage.snapshot import copy_of
from trunkline_protocol.conversation_messages import ConversationView, Turn
from trunkline_protocol.errors import ErrorCode, RpcError

FILE: Final = "conversations.sqlite"

TABLES: Final = """
CREATE TABLE conversations (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    tenant TEXT NOT NULL,
    principal TEXT NOT NULL,
    updated_at INTEGER NOT NULL,
    head BLOB NOT NULL,
    crc INTEGER NOT NULL
);
CREATE INDEX conversations_by_owner ON conversations (tenant, principal, number);
CREATE INDEX conversations_by_age ON conversations (updated_at);
CREATE TABLE turns (
    conversation TEXT NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    turn INTEGER NOT NULL,
    answer_id TEXT NOT NULL UNIQUE,
    asked_at INTEGER NOT NULL,
    data BLOB NOT NULL,
    crc INTEGER NOT NULL,
    PRIMARY KEY (conversation, turn)
) WITHOUT ROWID;
CREATE INDEX turns_by_time ON turns (asked_at)
"""

_HEADS: Final = """
SELECT number, id, tenant, principal, updated_at, head, crc,
    (SELECT count(*) FROM turns WHERE conversation = id)
FROM conversations
"""
_TURNS: Final = "SELECT conversation, turn, answer_id, data, crc FROM turns"
_TURNS_OF: Final = f"{_TURNS} WHERE conversation = ? ORDER BY turn"

logger = logging.getLogger("trunkline.conversations")
_turn: Final = msgspec.json.Decoder(Turn)
_encode: Final = msgspec.json.Encoder().encode


class Head(msgspec.Struct):
    """What does not change of a conversation."""

    id: str
    tenant: str
    principal: str
    title: str
    created_at: int


_head: Final = msgspec.json.Decoder(Head)


class Stored(NamedTuple):
    """A conversation as it is stored."""

    number: int
    head: Head
    updated_at: int
    turns: int

    def view(self) -> ConversationView:
        """The conversation as its owner sees it."""
        head = self.head
        return ConversationView(
            conversation_id=head.id,
            title=head.title,
            created_at=head.created_at,
            updated_at=self.updated_at,
            turns=self.turns,
            principal=head.principal,
            tenant=head.tenant,
        )


class Asked(NamedTuple):
    """A turn, and whose it is."""

    conversation: str
    tenant: str
    principal: str
    turn: Turn


class ConversationStore:
    """The folder of the conversations, which is made with the first one.

    Args:
        folder: ``<data>/conversations``.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._database = Database(folder / FILE, "the conversations", [TABLES], shared=True)
        self._is_open = False

    def ready(self, *, make: bool) -> bool:
        """Open the folder where it is there, or is to be made; returns whether it is open.

        Raises:
            RpcError: as :meth:`Database.open`.
        """
        if self._is_open:
            return True
        if not make and not self._folder.is_dir():
            return False
        self._database.open()
        try:
            self._database.note_opening()
        except BaseException:
            self._database.close()
            raise
        self._is_open = True
        return True

    def close(self) -> None:
        """Release the folder."""
        self._is_open = False
        self._database.close()

    # --- reading ---

    def find(self, conversation: str) -> Stored | None:
        """A conversation by its id.

        Raises:
            RpcError: 3002, it is not what was written; 5001, it cannot be read.
        """
        rows = self._read(f"{_HEADS} WHERE id = ?", [conversation])
        return self._stored(rows[0]) if rows else None

    def listed(self, tenant: str, principal: str, limit: int, before: int | None) -> list[Stored]:
        """Some conversations of a principal, those made last first.

        Raises:
            RpcError: as :meth:`find`.
        """
        query = f"{_HEADS} WHERE tenant = ? AND principal = ? AND number < ? ORDER BY number DESC LIMIT ?"
        return [*map(self._stored, self._read(query, [tenant, principal, before or 2**62, limit]))]

    def turns(self, conversation: str) -> list[Turn]:
        """The turns of a conversation, the oldest first.

        Raises:
            RpcError: as :meth:`find`.
        """
        return [self._checked(row) for row in self._read(_TURNS_OF, [conversation])]

    def place_of(self, answer_id: str) -> tuple[str, int] | None:
        """The conversation and turn of an answer."""
        rows = self._read("SELECT conversation, turn FROM turns WHERE answer_id = ?", [answer_id])
        return (rows[0][0], rows[0][1]) if rows else None

    def size_of(self, conversation: str) -> tuple[int, int]:
        """How many turns a conversation has, and their bytes."""
        query = "SELECT count(*), coalesce(sum(length(data)), 0) FROM turns WHERE conversation = ?"
        ((count, size),) = self._read(query, [conversation])
        return count, size

    def count_of(self, tenant: str, principal: str | None = None) -> int:
        """How many conversations a tenant has, or one of its principals."""
        query = "SELECT count(*) FROM conversations WHERE tenant = ?1 AND principal = coalesce(?2, principal)"
        ((count,),) = self._read(query, [tenant, principal])
        return int(count)

    def asked_since(self, since: int, tenant: str | None, principal: str | None) -> list[Asked]:
        """The turns that began since a time, the latest first: of all, of a tenant, or of one of its principals.

        Raises:
            RpcError: as :meth:`find`.
        """
        query = """
            SELECT conversation, turn, answer_id, data, t.crc, tenant, principal
            FROM turns AS t JOIN conversations ON id = conversation
            WHERE asked_at >= ?1 AND tenant = coalesce(?2, tenant) AND principal = coalesce(?3, principal)
            ORDER BY asked_at DESC
        """
        rows = self._read(query, [since, tenant, principal])
        return [Asked(row[0], row[5], row[6], self._checked(row[:5])) for row in rows]

    def _read(self, query: str, values: Iterable[object]) -> list[Sequence[Any]]:
        return self._database.read(f"the conversations in {self._folder} cannot be read", query, values)

    def _stored(self, row: Sequence[Any]) -> Stored:
        return stored(row, self._database.path)

    def _checked(self, row: Sequence[Any]) -> Turn:
        return checked(row, self._database.path)

    # --- writing: on disk when it returns; where it raises, nothing has changed ---

    def create(self, head: Head) -> None:
        """Write a new conversation.

        Raises:
            RpcError: 5002, the disk is full; 5001, other trouble.
        """
        data = _encode(head)
        with self._writing("the conversation was not made") as transaction:
            transaction.execute(
                "INSERT INTO conversations (id, tenant, principal, updated_at, head, crc) VALUES (?, ?, ?, ?, ?, ?)",
                (head.id, head.tenant, head.principal, head.created_at, data, _crc_of_head(head.id, data)),
            )

    def put(self, conversation: str, turn: Turn, now: int) -> None:
        """Write a turn, in the place of what it was before.

        Raises:
            RpcError: as :meth:`create`.
        """
        data = _encode(turn)
        crc = _crc_of_turn(conversation, turn.turn, turn.answer_id, data)
        with self._writing(f"a turn of conversation {conversation} was not kept") as transaction:
            transaction.execute(
                "INSERT OR REPLACE INTO turns (conversation, turn, answer_id, asked_at, data, crc) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (conversation, turn.turn, turn.answer_id, turn.asked_at, data, crc),
            )
            transaction.execute("UPDATE conversations SET updated_at = ? WHERE id = ?", (now, conversation))

    def remove(self, conversation: str) -> None:
        """Remove a conversation with its turns.

        Raises:
            RpcError: as :meth:`create`.
        """
        with self._writing(f"conversation {conversation} was not deleted") as transaction:
            transaction.execute("DELETE FROM conversations WHERE id = ?", (conversation,))
        self._shrink()

    def remove_of(self, tenant: str, principal: str | None) -> int:
        """Remove all conversations of a principal, or of a tenant; returns how many there were.

        Raises:
            RpcError: as :meth:`create`.
        """
        query = "DELETE FROM conversations WHERE tenant = ?1 AND principal = coalesce(?2, principal)"
        with self._writing("conversations were not deleted") as transaction:
            count = transaction.execute(query, (tenant, principal)).rowcount
        self._shrink()
        return count

    def forget(self, before: int) -> None:
        """Remove conversations in which nothing was asked since a time.

        Raises:
            RpcError: as :meth:`create`.
        """
        with self._writing("old conversations were not removed") as transaction:
            gone = transaction.execute("DELETE FROM conversations WHERE updated_at < ?", (before,)).rowcount
        if gone:
            logger.info("old conversations are removed", extra={"conversations": gone})
            self._shrink()

    def _shrink(self) -> None:
        """Give the room of what was removed back, and take it out of the log: what is deleted is to be gone."""
        try:
            self._database.shrink()
            self._database.write_back()
        except RpcError as error:
            logger.warning("%s", error)

    def _writing(self, what: str) -> AbstractContextManager[sqlite3.Connection]:
        if not self._database.is_ours:
            words = f"{what}: {self._folder} is not this hub's any more: another one has it, or it was moved"
            raise RpcError(ErrorCode.DATABASE_CONNECTION_ERROR, words, retry_after_ms=1000)
        return self._database.writing(what)


def _crc_of_head(conversation: str, data: bytes) -> int:
    return zlib.crc32(data, zlib.crc32(conversation.encode()))


def _crc_of_turn(conversation: str, turn: int, answer_id: str, data: bytes) -> int:
    return zlib.crc32(data, zlib.crc32(f"{conversation}/{turn}/{answer_id}".encode()))


def stored(row: Sequence[Any], path: Path) -> Stored:
    """A row of conversations, checked.

    Raises:
        RpcError: 3002, it is not what was written.
    """
    number, conversation, tenant, principal, updated_at, data, crc, turns = row
    try:
        if not isinstance(data, bytes) or _crc_of_head(str(conversation), data) != crc:
            raise ValueError("its checksum is another")
        head = _head.decode(data)
        if (head.id, head.tenant, head.principal) != (conversation, tenant, principal):
            raise ValueError("it is another's")
    except (ValueError, msgspec.MsgspecError) as error:
        raise damaged(path, f"conversation {conversation}: {error}") from error
    return Stored(number, head, updated_at, turns)


def checked(row: Sequence[Any], path: Path) -> Turn:
    """A row of turns, checked.

    Raises:
        RpcError: 3002, it is not what was written.
    """
    conversation, number, answer_id, data, crc = row
    try:
        if not isinstance(data, bytes) or _crc_of_turn(str(conversation), number, str(answer_id), data) != crc:
            raise ValueError("its checksum is another")
        return _turn.decode(data)
    except (ValueError, msgspec.MsgspecError) as error:
        raise damaged(path, f"turn {number} of conversation {conversation}: {error}") from error


def check_copy(path: Path, original: Path) -> int:
    """Read a copy of the file that nobody writes to; returns the number of conversations.

    Args:
        original: what it is a copy of, for messages.

    Raises:
        RpcError: 3002, a row is damaged; and as :func:`~trunkline.storage.snapshot.copy_of`.
    """
    count = 0
    with copy_of(path, original, [TABLES]) as copy:
        for row in copy.execute(_HEADS):
            stored(row, original)
            count += 1
        for row in copy.execute(_TURNS):
            checked(row, original)
    return count
