"""JSON-RPC in frames: nothing is translated, and what is no text is refused."""

from __future__ import annotations

import json

import pytest

from trunkline_protocol.codecs.dialect import Frame
from trunkline_protocol.codecs.plain import PlainDialect
from trunkline_protocol.errors import ErrorCode, RpcError


def test_messages_pass_as_they_are() -> None:
    dialect = PlainDialect()
    for message in (b'{"jsonrpc":"2.0","id":1,"method":"a"}', '["ü"]'.encode(), b"{"):
        assert dialect.receive(Frame(message)).to_hub == (message,)
        assert dialect.send(message) == [Frame(message)]
    assert dialect.greet([]) == dialect.greet(["executors are starting"]) == []


@pytest.mark.parametrize("payload", [b"\xff", b'{"a":"\xc3"}', b'"\xed\xa0\x80"'])
def test_what_is_no_utf8_is_told(payload: bytes) -> None:
    received = PlainDialect().receive(Frame(payload))
    assert not received.to_hub
    (answer,) = (json.loads(frame.payload) for frame in received.to_peer)
    assert answer["id"] is None
    assert answer["error"]["code"] == ErrorCode.PARSE_ERROR
    assert "at byte" in answer["error"]["message"]


def test_a_refusal_answers_nothing_that_was_asked() -> None:
    (frame,) = PlainDialect().refuse(RpcError(ErrorCode.RESOURCE_EXHAUSTED, "full"))
    assert json.loads(frame.payload)["id"] is None
