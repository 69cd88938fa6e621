"""What a peer that polls has not fetched yet, and the bodies of long polling."""

from __future__ import annotations

import base64
import json
import random
from typing import Any

import pytest

from trunkline_protocol.codecs.dialect import Frame
from trunkline_protocol.codecs.phoenix_polls import (
    GONE,
    MESSAGES,
    Mailbox,
    PollToken,
    decode_token,
    encode_answer,
    encode_refusal,
    frames_of,
)
from trunkline_protocol.errors import ErrorCode, RpcError

SECRET = "DFVMVLOxB7HXUnPEk4Tl5A"


def box(*messages: bytes, answer_bytes: int = 100) -> Mailbox:
    mailbox = Mailbox(answer_bytes)
    for message in messages:
        mailbox.add(message)
    return mailbox


def test_a_poll_gets_what_waits_and_the_next_one_what_came_since() -> None:
    mailbox = box(b"a", b"b")
    assert (mailbox.fetch(0), mailbox.turn) == ([b"a", b"b"], 1)
    assert (mailbox.fetch(1), mailbox.turn) == ([], 1)
    mailbox.add(b"c")
    assert (mailbox.fetch(1), mailbox.turn, mailbox.waiting_bytes) == ([b"c"], 2, 0)


def test_a_poll_that_is_sent_again_gets_the_same_answer_until_the_next_one_says_that_it_arrived() -> None:
    mailbox = box(b"a")
    first = list(mailbox.fetch(0))
    mailbox.add(b"b")
    assert mailbox.knows(0)
    assert mailbox.fetch(0) == first
    assert mailbox.turn == 1
    assert mailbox.fetch(1) == [b"b"]
    assert not mailbox.knows(0)
    assert mailbox.knows(1)


def test_after_an_empty_answer_the_one_before_is_known_to_have_arrived() -> None:
    mailbox = box(b"a")
    mailbox.fetch(0)
    mailbox.fetch(1)
    assert [mailbox.knows(turn) for turn in (0, 1, 2, 7)] == [False, True, False, False]


def test_an_answer_is_bounded_but_a_message_is_never_cut() -> None:
    mailbox = box(b"x" * 60, b"y" * 60, b"z" * 500, b"a")
    answers = [list(mailbox.fetch(turn)) for turn in range(4)]
    assert answers == [[b"x" * 60], [b"y" * 60], [b"z" * 500], [b"a"]]
    assert mailbox.fetch(4) == []


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_lost_on_the_way_every_message_arrives_once_and_in_order(seed: int) -> None:
    """The peer shows the last token that it has; answers and repetitions are lost, or come late and twice."""
    choose = random.Random(seed)
    mailbox, sent, token = box(answer_bytes=3), 0, 0
    got: list[int] = []
    while sent < 40 or len(got) < sent:
        if sent < 40 and choose.random() < 0.6:
            mailbox.add(b"%d" % sent)
            sent += 1
        shown = token if choose.random() < 0.8 else token - 1
        if not mailbox.knows(shown):
            assert shown != token, "the peer itself is always known"
            continue
        answer = [int(message) for message in mailbox.fetch(shown)]
        if shown == token and choose.random() < 0.7:
            token = mailbox.turn
            got += answer
    assert got == list(range(40))


def test_tokens() -> None:
    token = PollToken(SECRET, 41)
    assert decode_token(token.encode()) == token


@pytest.mark.parametrize(
    "text",
    ["", "null", SECRET, f"longpoll.{SECRET}", f"longpoll.{SECRET}.-1", f"longpoll.{SECRET}.x",
     f"longpoll.{SECRET}.1\n", f"longpoll.{SECRET}x.1", f"longpoll.{SECRET}.{'9' * 16}", "eyJhbGciOiJIUzI1NiJ9.e30.a"],
)  # fmt: skip
def test_a_users_token_is_none_of_the_hubs(text: str) -> None:
    assert decode_token(text) is None


def test_bodies_of_answers() -> None:
    message = '[null,null,"t","é",{}]'
    answer = json.loads(encode_answer(MESSAGES, PollToken(SECRET, 1), [message.encode()]))
    assert answer == {"status": 200, "token": f"longpoll.{SECRET}.1", "messages": [message]}
    assert json.loads(encode_answer(GONE)) == {"status": 410, "token": None, "messages": []}


@pytest.mark.parametrize(
    ("code", "status"),
    [(ErrorCode.UNAUTHENTICATED, 403), (ErrorCode.FORBIDDEN, 403), (ErrorCode.RESOURCE_EXHAUSTED, 500)],
)  # fmt: skip
def test_a_refusal_has_a_status_that_phoenix_js_knows(code: ErrorCode, status: int) -> None:
    body = json.loads(encode_refusal(RpcError(code, "why")))
    assert (body["status"], body["error"]["code"], body["error"]["message"]) == (status, code, "why")


def frames(body: bytes, *, is_lines: bool = True) -> list[Any]:
    found = frames_of(body, is_lines=is_lines)
    return [each.code if isinstance(each, RpcError) else (each.payload, each.binary) for each in found]


def test_lines_are_texts_or_base64_of_binary_messages() -> None:
    binary = base64.b64encode(b"\x00\x01")
    assert frames(b'["1"]\n' + binary + b"\r\n\n  [2] \n") == [(b'["1"]', False), (b"\x00\x01", True), (b"[2]", False)]
    assert frames(b"") == []


def test_a_line_that_is_neither_stands_in_its_place() -> None:
    assert frames(b'[1]\n{"a":1}\n=\n[2]') == [
        (b"[1]", False), ErrorCode.INVALID_REQUEST, ErrorCode.INVALID_REQUEST, (b"[2]", False),
    ]  # fmt: skip


def test_without_lines_the_body_is_one_message() -> None:
    assert list(frames_of(b"[1,\n2]", is_lines=False)) == [Frame(b"[1,\n2]")]
