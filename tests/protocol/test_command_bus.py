"""The command bus: commands in, JSON-RPC out, and back."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from trunkline_protocol.codecs import jsonrpc
from trunkline_protocol.codecs.command_bus import COMMANDS, CommandBusDialect
from trunkline_protocol.codecs.dialect import Frame
from trunkline_protocol.errors import ErrorCode, RpcError


class Bus:
    """A dialect and what it makes of things, decoded."""

    def __init__(self) -> None:
        self.dialect = CommandBusDialect()

    def asked(self, command: Any) -> dict[str, Any]:
        """The request that a command becomes."""
        received = self.dialect.receive(Frame(json.dumps(command).encode()))
        assert not received.to_peer, received
        (message,) = received.to_hub
        return dict(json.loads(message))

    def refused(self, payload: bytes) -> dict[str, Any]:
        """The error that answers what is no command."""
        received = self.dialect.receive(Frame(payload))
        assert not received.to_hub, received
        (frame,) = received.to_peer
        return dict(json.loads(frame.payload))

    def answers(self, *messages: bytes) -> list[Any]:
        return [json.loads(frame.payload) for message in messages for frame in self.dialect.send(message)]


def error(number: int, code: int, message: str, **options: Any) -> bytes:
    wire = jsonrpc.encode_error_object(RpcError(code, message, **options))
    return jsonrpc.encode_error(b"%d" % number, wire)


def test_a_query() -> None:
    bus = Bus()
    params = {"tenant": "t1", "user": 7, "language": "hr", "query": "what?", "options": {"top_k": 2}}
    request = bus.asked({"id": "q-1", "command": "query", "params": params})
    assert request == {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "rag.execute",
        "params": {"query": "what?", "options": {"top_k": 2}},
        "metadata": {"tenant": "t1", "user": 7, "language": "hr", "act_as": {"principal": "7", "tenant": "t1"}},
    }
    assert bus.answers(jsonrpc.encode_result(b"1", b'{"answer":"this"}')) == [
        {"type": "result", "query_id": "q-1", "data": {"answer": "this"}}
    ]


def test_a_streamed_query() -> None:
    bus = Bus()
    request = bus.asked({"id": 5, "command": "query", "params": {"query": "what?", "stream": True}})
    assert request["method"] == "rag.stream"
    assert "stream" not in request["params"]
    said = bus.answers(
        jsonrpc.encode_chunk(b"1", b'"metadata"', b"{}", 0),
        jsonrpc.encode_chunk(b"1", b'"document"', b'{"text":"source"}', 1),
        jsonrpc.encode_chunk(b"1", b'"partial_answer"', b'{"text":"th"}', 2),
        jsonrpc.encode_chunk(b"1", b'"partial_answer"', b'"is"', 3),
        jsonrpc.encode_final_chunk(b"1", b'"partial_answer"', 4),
        jsonrpc.encode_result(b"1", b'{"answer":"this"}'),
    )
    assert said == [
        {"type": "chunk", "query_id": 5, "content": "th"},
        {"type": "chunk", "query_id": 5, "content": "is"},
        {"type": "complete", "query_id": 5, "data": {"answer": "this"}},
    ]


def test_collections() -> None:
    bus = Bus()
    params = {"tenant": "t", "action": "create", "name": "docs", "dimension": 3}
    request = bus.asked({"id": 1, "command": "manage_collections", "params": params})
    assert (request["method"], request["params"]) == ("collections.create", {"name": "docs", "dimension": 3})
    assert request["metadata"] == {"tenant": "t", "act_as": {"principal": "command-bus", "tenant": "t"}}


def test_whose_a_query_is() -> None:
    for params, acting in (
        ({}, None),
        ({"user": "ann"}, None),
        ({"tenant": "t", "user": "ann"}, {"principal": "ann", "tenant": "t"}),
        ({"tenant": "t", "user": {"id": 1}}, {"principal": "command-bus", "tenant": "t"}),
    ):
        request = Bus().asked({"id": 1, "command": "query", "params": {"query": "?", **params}})
        assert request.get("metadata", {}).get("act_as") == acting
    own = {"principal": "bob", "tenant": "u"}
    asked = {"id": 1, "command": "query", "params": {"tenant": "t", "query": "?"}, "metadata": {"act_as": own}}
    assert Bus().asked(asked)["metadata"]["act_as"] == own
    for wrong in (5, None, ["t"]):
        answer = Bus().refused(json.dumps({"id": 1, "command": "query", "params": {"tenant": wrong}}).encode())
        assert "params.tenant" in answer["error"]


def test_a_tenant_is_made_by_its_name() -> None:
    request = Bus().asked({"id": 1, "command": "create_tenant", "params": {"tenant": "t", "name": "T Ltd"}})
    assert (request["method"], request["params"]) == ("tenants.create", {"name": "t", "display_name": "T Ltd"})
    request = Bus().asked({"id": 1, "command": "create_tenant", "params": {"name": "t"}})
    assert request["params"] == {"name": "t"}


@pytest.mark.parametrize("params", [{}, {"action": "drop"}, {"action": 5}, {"action": None}])
def test_an_action_that_is_none(params: dict[str, Any]) -> None:
    answer = Bus().refused(json.dumps({"id": 1, "command": "manage_collections", "params": params}).encode())
    assert (answer["type"], answer["query_id"]) == ("error", 1)
    assert "action" in answer["error"]


@pytest.mark.parametrize(
    ("command", "method"), [("process_documents", "documents.process"), ("create_tenant", "tenants.create")]
)
def test_what_no_pack_serves_is_an_import_error_by_name(command: str, method: str) -> None:
    bus = Bus()
    request = bus.asked({"id": "c", "command": command, "params": {"tenant": "t", "documents": ["a"]}})
    assert request["method"] == method
    said = request["params"]["name"] if command == "create_tenant" else request["metadata"]["tenant"]
    assert said == "t"
    (answer,) = bus.answers(error(1, ErrorCode.METHOD_NOT_FOUND, "no method"))
    assert (answer["type"], answer["query_id"]) == ("error", "c")
    assert command in answer["error"]
    assert method in answer["error"]
    assert answer["details"]["error_type"] == "import_error"
    assert answer["details"]["recovery_strategy"] == "fatal"


def test_an_error_says_what_may_be_done() -> None:
    bus = Bus()
    bus.asked({"id": "q", "command": "query", "params": {"query": "?"}})
    (answer,) = bus.answers(error(1, ErrorCode.WORKER_CRASHED, "the executor died", maybe_executed=True))
    assert answer["error"] == "the executor died"
    assert answer["details"] == {
        "error_type": "process_crashed",
        "recovery_strategy": "restart_process",
        "code": 2001,
        "type": "WORKER_CRASHED",
        "retryable": True,
        "maybe_executed": True,
    }


def test_a_command_without_an_id_is_answered_under_null() -> None:
    bus = Bus()
    for number in (1, 2):
        assert bus.asked({"command": "query", "params": {"query": "?"}})["id"] == number
    assert [
        answer["query_id"] for answer in bus.answers(*(jsonrpc.encode_result(b"%d" % n, b"1") for n in (2, 1)))
    ] == [
        None,
        None,
    ]


def test_an_id_in_flight_is_refused_so_that_the_first_is_unharmed() -> None:
    bus = Bus()
    command = {"id": "q", "command": "query", "params": {"query": "?"}}
    bus.asked(command)
    answer = bus.refused(json.dumps(command).encode())
    assert answer["query_id"] is None
    assert "'q' is in flight" in answer["error"]
    bus.answers(jsonrpc.encode_result(b"1", b"1"))
    assert bus.asked(command)["id"] == 2, "free again"


@pytest.mark.parametrize(
    ("payload", "query_id", "words"),
    [
        (b"", None, "JSON|empty|truncated"),
        (b"{", None, ""),
        (b'{"id":1,"command":"\xff"}', 1, ""),
        (b'{"id":1,"command":"query","params":{"a":' + b"[" * 100_000, None, "deep"),
        (b"[]", None, "object"),
        (b'{"id":7}', 7, "command"),
        (b'{"id":7,"command":5}', 7, "command"),
        (b'{"id":7,"command":"query","params":[]}', 7, "params"),
        (b'{"id":1.5,"command":"query"}', None, "id"),
        (b'{"id":"x","command":"query","params":{"query":"?","stream":"yes"}}', "x", "stream"),
        (b'{"id":"x","command":"explode"}', "x", "explode.*" + ", ".join(COMMANDS)),
        (b'{"jsonrpc":"2.0","id":3,"method":"rpc.ping"}', 3, "command"),
    ],
)
def test_what_is_no_command(payload: bytes, query_id: Any, words: str) -> None:
    answer = Bus().refused(payload)
    assert (answer["type"], answer["query_id"]) == ("error", query_id)
    assert isinstance(answer["error"], str)
    assert re.search(words, answer["error"]), answer


def test_what_the_hub_says_of_itself_is_not_for_the_bus() -> None:
    bus = Bus()
    assert bus.answers(b'{"jsonrpc":"2.0","method":"event","params":{}}') == []
    assert bus.answers(jsonrpc.encode_result(b"99", b"1")) == []
    (answer,) = (json.loads(frame.payload) for frame in bus.dialect.refuse(RpcError(2003, "full")))
    assert (answer["type"], answer["query_id"], answer["error"]) == ("error", None, "full")
    assert bus.dialect.greet([]) == []
