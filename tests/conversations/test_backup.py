"""``trunkline backup`` and ``restore``: conversations are in the archive, each row checked."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from tests.support.command import trunkline
from trunkline.conversations.store import FILE, ConversationStore, Head
from trunkline.storage.archive import Archive
from trunkline_protocol.conversation_messages import Turn

HEAD = Head("c" * 32, "acme", "ann", "title", 5)
TURN = Turn(turn=1, answer_id="a" * 32, question="why?", asked_at=6)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    store = ConversationStore(tmp_path / "data" / "conversations")
    store.ready(make=True)
    store.create(HEAD)
    store.put(HEAD.id, TURN, 7)
    store.close()
    return tmp_path / "data"


def test_they_are_there_again(data: Path, tmp_path: Path) -> None:
    archive, new = tmp_path / "archive.tar", tmp_path / "new"
    done = trunkline("backup", str(archive), "--data", str(data))
    assert done.returncode == 0, done
    assert "jobs 0, conversations 1" in done.stderr
    with archive.open("rb") as file:
        assert [(each.kind, each.items) for each in Archive(file).contents.files] == [("conversations", 1)]
    done = trunkline("restore", str(archive), "--data", str(new))
    assert (done.returncode, done.stderr) == (0, "restored the conversations: 1\n")
    store = ConversationStore(new / "conversations")
    assert store.ready(make=False)
    assert store.turns(HEAD.id) == [TURN]
    store.close()


def test_a_part_of_it_alone_has_none(data: Path, tmp_path: Path) -> None:
    done = trunkline("backup", str(tmp_path / "archive.tar"), "--data", str(data), "--tenant", "acme")
    assert done.returncode != 0
    assert "acme" in done.stderr


def test_what_is_damaged_is_left_out_and_named(data: Path, tmp_path: Path) -> None:
    with sqlite3.connect(data / "conversations" / FILE) as connection:
        connection.execute("UPDATE turns SET crc = 1")
    connection.close()
    done = trunkline("backup", str(tmp_path / "archive.tar"), "--data", str(data))
    assert done.returncode == 1
    assert "left out: the conversations" in done.stderr
