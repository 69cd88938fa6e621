"""The file of the conversations: what is damaged is told, and a second hub is refused."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from trunkline.conversations.store import FILE, ConversationStore, Head, check_copy
from trunkline_protocol.conversation_messages import Turn
from trunkline_protocol.errors import ErrorCode, RpcError

HEAD = Head("c" * 32, "acme", "ann", "title", 5)
TURN = Turn(turn=1, answer_id="a" * 32, question="why?", asked_at=6)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "conversations"
    store = ConversationStore(folder)
    assert store.ready(make=True)
    store.create(HEAD)
    store.put(HEAD.id, TURN, 7)
    store.close()
    return folder


def test_it_is_as_it_was_written(folder: Path) -> None:
    store = ConversationStore(folder)
    assert store.ready(make=False)
    found = store.find(HEAD.id)
    assert found is not None
    assert (found.head, found.updated_at, found.turns) == (HEAD, 7, 1)
    assert store.turns(HEAD.id) == [TURN]
    store.close()
    assert check_copy(folder / FILE, folder / FILE) == 1


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE turns SET data = replace(data, 'why', 'who')",
        "UPDATE turns SET crc = crc + 1",
        "UPDATE turns SET turn = 2",
        "UPDATE conversations SET head = replace(head, 'title', 'other')",
        "UPDATE conversations SET principal = 'eve'",
        "UPDATE conversations SET tenant = 'bolt'",
    ],
)
def test_what_is_not_what_was_written_is_refused(folder: Path, damage: str) -> None:
    with sqlite3.connect(folder / FILE) as connection:
        connection.execute(damage)
    connection.close()
    with pytest.raises(RpcError) as told:
        check_copy(folder / FILE, folder / FILE)
    assert told.value.code == ErrorCode.PIPELINE_INITIALIZATION_FAILED
    store = ConversationStore(folder)
    store.ready(make=False)
    with pytest.raises(RpcError) as caught:
        (store.turns if "turns" in damage else store.find)(HEAD.id)
    assert caught.value.code == ErrorCode.PIPELINE_INITIALIZATION_FAILED
    store.close()


def test_one_hub_has_it(folder: Path) -> None:
    first, second = ConversationStore(folder), ConversationStore(folder)
    first.ready(make=True)
    with pytest.raises(RpcError) as caught:
        second.ready(make=True)
    assert caught.value.code == ErrorCode.DATABASE_CONNECTION_ERROR
    first.close()
