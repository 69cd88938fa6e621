"""The messages of the DSPy bridge, and large ones in chunks."""

from __future__ import annotations

import base64
import json
import random
import tracemalloc
import zlib
from typing import Any

import pytest

from trunkline_protocol.codecs import jsonrpc
from trunkline_protocol.codecs.dialect import DialectViolation, Frame
from trunkline_protocol.codecs.dspy_port import DspyPortDialect
from trunkline_protocol.codecs.transfer import CHUNK_BYTES, MAX_TRANSFERS
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.values import MAX_MEMBERS

LIMIT = 4 * 1024 * 1024
NOW = "2026-11-21T12:00:00+00:00"


class Port:
    """A dialect and what it makes of things, decoded."""

    def __init__(self, limit: int = LIMIT) -> None:
        self.dialect = DspyPortDialect(limit, "9.9", 4711, lambda: NOW)

    def received(self, message: Any) -> tuple[list[Any], list[Any]]:
        payload = message if isinstance(message, bytes) else json.dumps(message).encode()
        received = self.dialect.receive(Frame(payload))
        return [json.loads(m) for m in received.to_hub], [json.loads(f.payload) for f in received.to_peer]

    def asked(self, message: Any) -> Any:
        (request,), said = self.received(message)
        assert not said
        return request

    def refused(self, message: Any) -> Any:
        requests, (answer,) = self.received(message)
        assert not requests
        return answer

    def answers(self, message: bytes) -> list[Any]:
        return [json.loads(frame.payload) for frame in self.dialect.send(message)]


def message(kind: str = "optimize_signature", id: Any = "m-1", **payload: Any) -> dict[str, Any]:
    about = {"source": "pipeline_ex", "version": "1.0.0"}
    return {"message_id": id, "request_type": kind, "payload": payload, "timestamp": NOW, "metadata": about}


def chunk(index: int, data: bytes, *, final: bool = False, **more: Any) -> dict[str, Any]:
    return {
        "type": "data_chunk", "chunk_index": index, "data": base64.b64encode(data).decode(), "is_final": final, **more
    }  # fmt: skip


def chunks(message: Any, size: int = CHUNK_BYTES, **more: Any) -> list[dict[str, Any]]:
    packed = zlib.compress(json.dumps(message).encode())
    parts = [packed[begin : begin + size] for begin in range(0, len(packed), size)]
    return [chunk(index, part, final=index == len(parts) - 1, **more) for index, part in enumerate(parts)]


# --- messages ---


def test_the_first_word_is_ours() -> None:
    (hello,) = (json.loads(frame.payload) for frame in Port().dialect.greet([]))
    assert (hello["type"], hello["status"], hello["pid"], hello["version"]) == ("init", "ready", 4711, "9.9")
    assert {"optimize_signature", "evaluate_pipeline", "train_model", "health_check", "shutdown"} <= {
        *hello["request_types"]
    }


def test_a_hub_that_cannot_serve_says_so_at_once() -> None:
    (hello,) = (json.loads(frame.payload) for frame in Port().dialect.greet(["no module dspy"]))
    assert (hello["type"], hello["status"]) == ("init", "error")
    assert (hello["error_type"], hello["recovery_strategy"]) == ("import_error", "fatal")
    assert "no module dspy" in hello["message"]


def test_a_request_and_its_answer() -> None:
    port = Port()
    request = port.asked(message(signature={"a": 1}, training_data=[1, 2], config={}))
    assert request["method"] == "dspy.optimize_signature"
    assert request["params"] == {"signature": {"a": 1}, "training_data": [1, 2], "config": {}}
    assert request["metadata"] == {"source": "pipeline_ex", "version": "1.0.0"}
    assert port.answers(jsonrpc.encode_result(b"1", b'{"status":"success"}')) == [
        {
            "message_id": "m-1",
            "request_type": "optimize_signature",
            "payload": {"status": "success"},
            "timestamp": NOW,
            "metadata": {"source": "trunkline", "version": "9.9"},
        }
    ]


@pytest.mark.parametrize(("payload", "method"), [({}, "health.check"), ({"detailed": True}, "health.detailed")])
def test_health(payload: dict[str, Any], method: str) -> None:
    request = Port().asked(message("health_check", **payload))
    assert (request["method"], request["params"]) == (method, {})


def test_shutdown_is_confirmed_and_ends_the_input() -> None:
    with pytest.raises(DialectViolation) as raised:
        Port().received(message("shutdown"))
    assert raised.value.code == 1000
    (frame,) = raised.value.last
    assert json.loads(frame.payload)["payload"] == {"status": "shutting_down"}


@pytest.mark.parametrize(
    ("code", "error_type", "recovery"),
    [
        (ErrorCode.METHOD_NOT_FOUND, "import_error", "fatal"),
        (ErrorCode.MISSING_DEPENDENCIES, "import_error", "fatal"),
        (ErrorCode.PIPELINE_EXECUTION_ERROR, "dspy_optimization_error", "fallback"),
        (ErrorCode.COMMUNICATION_TIMEOUT, "timeout_error", "retry"),
        (ErrorCode.WORKER_CRASHED, "process_crashed", "restart_process"),
        (ErrorCode.SERIALIZATION_ERROR, "serialization_error", "fatal"),
        (ErrorCode.INVALID_PARAMS, "serialization_error", "fatal"),
        (ErrorCode.INTERNAL_ERROR, "python_runtime_error", "fatal"),
        (ErrorCode.WORKER_OVERLOADED, "python_runtime_error", "retry"),
    ],
)
def test_errors_by_class(code: ErrorCode, error_type: str, recovery: str) -> None:
    port = Port()
    port.asked(message("train_model", id=9))
    wire = jsonrpc.encode_error_object(RpcError(code, "why", data={"traceback": ["File ", "x"]}))
    (answer,) = port.answers(jsonrpc.encode_error(b"1", wire))
    assert (answer["message_id"], answer["request_type"]) == (9, "train_model")
    assert (answer["error_type"], answer["recovery_strategy"]) == (error_type, recovery)
    assert answer["context"]["code"] == code
    if code == ErrorCode.METHOD_NOT_FOUND:
        assert "train_model needs the method dspy.train_model" in answer["message"]
    else:
        assert (answer["message"], answer["traceback"]) == ("why", "File x")


@pytest.mark.parametrize(
    ("payload", "message_id"),
    [
        (b"", None),
        (b"{", None),
        (b"[" * 100_000, None),
        (b"5", None),
        (b'{"message_id":"m"}', "m"),
        (b'{"message_id":"m","request_type":5}', "m"),
        (b'{"message_id":"m","request_type":"health_check","payload":[]}', "m"),
        (b'{"message_id":[],"request_type":"health_check"}', None),
        (b'{"message_id":"m","request_type":"explode"}', "m"),
        (b'{"message_id":"m","type":"data_chunk"}', "m"),
        (b'{"message_id":"m","type":"data_chunk","chunk_index":-1,"data":""}', "m"),
        (b'{"type":"data_chunk","chunk_index":0,"data":"?"}', None),
        (b'{"request_type":"\xff"}', None),
    ],
)
def test_what_is_no_message(payload: bytes, message_id: Any) -> None:
    answer = Port().refused(payload)
    assert answer["message_id"] == message_id
    assert {"error_type", "message", "traceback", "context", "recovery_strategy"} <= answer.keys()
    assert answer["error_type"] == "serialization_error"


# --- chunks in ---


def test_a_message_in_chunks() -> None:
    port = Port()
    noise = random.Random(1).randbytes(CHUNK_BYTES * 3 // 2).hex()
    parts = chunks(message(signature={}, training_data=[noise]))
    assert len(parts) > 1
    for part in parts[:-1]:
        assert port.received(part) == ([], [])
    assert port.asked(parts[-1])["params"]["training_data"] == [noise]


def test_two_messages_in_chunks_at_once() -> None:
    port = Port()
    one, two = (chunks(message(id=id, training_data=["x" * 500]), 40, message_id=id) for id in ("a", "b"))
    got = []
    for pair in zip(one, two, strict=True):
        for part in pair:
            requests, said = port.received(part)
            assert not said
            got += requests
    assert len(got) == 2


def test_a_chunk_out_of_order_gives_its_message_up() -> None:
    port = Port()
    first, second, *_ = chunks(message(training_data=["x" * 500]), 20)
    port.received(first)
    assert "chunk 0 came where 1 was due" in port.refused(first)["message"]
    assert "chunk 1 came where 0 was due" in port.refused(second)["message"]
    assert port.asked(message("health_check")), "the port goes on"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"no zlib", "no zlib stream"),
        (zlib.compress(b"{}")[:-2], "no whole"),
        (zlib.compress(b"{}") + b"x", "no whole"),
    ],
)
def test_chunks_that_are_damaged(data: bytes, words: str) -> None:
    assert words in Port().refused(chunk(0, data, final=True, message_id=3))["message"]


def test_a_bomb_is_not_unpacked() -> None:
    packer = zlib.compressobj(9)
    bomb = b"".join(packer.compress(bytes(2**20)) for _ in range(128)) + packer.flush()
    assert len(bomb) < 2 * CHUNK_BYTES
    port = Port()
    tracemalloc.start()
    answer = port.refused(chunk(0, bomb, final=True))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert f"unpacks to more than {LIMIT} bytes" in answer["message"]
    assert answer["context"]["limit"] == "TRUNKLINE_MAX_MESSAGE_BYTES"
    assert peak < 4 * LIMIT


def test_what_waits_to_be_completed_is_bounded() -> None:
    port = Port(limit=1000)
    port.received(chunk(0, b"x" * 600, message_id=1))
    assert "more than 1000 bytes" in port.refused(chunk(0, b"x" * 600, message_id=2))["message"]
    for id in range(2, MAX_TRANSFERS + 1):
        assert port.received(chunk(0, b"x", message_id=id)) == ([], [])
    assert "finish one" in port.refused(chunk(0, b"x", message_id=99))["message"]


# --- chunks out ---


def test_a_large_answer_goes_out_in_chunks() -> None:
    port = Port()
    port.asked(message(id="big"))
    noise = random.Random(2).randbytes(CHUNK_BYTES * 3 // 2).hex()
    parts = port.answers(jsonrpc.encode_result(b"1", json.dumps(noise).encode()))
    assert len(parts) > 1
    assert [part["chunk_index"] for part in parts] == [*range(len(parts))]
    assert [part["is_final"] for part in parts] == [False] * (len(parts) - 1) + [True]
    assert {part["message_id"] for part in parts} == {"big"}
    assert {part["type"] for part in parts} == {"data_chunk"}
    data = [base64.b64decode(part["data"]) for part in parts]
    assert max(map(len, data)) == CHUNK_BYTES
    whole = json.loads(zlib.decompress(b"".join(data)))
    assert (whole["message_id"], whole["payload"]) == ("big", noise)


def test_chunks_out_are_chunks_in() -> None:
    """The two directions are one format: what the hub sends, a peer of the same kind takes."""
    port = Port()
    port.asked(message(id=1))
    (only,) = port.answers(jsonrpc.encode_result(b"1", json.dumps({"x": "x" * 2 * CHUNK_BYTES}).encode()))
    assert only["is_final"]
    answer = Port().asked(only | {"message_id": 1})
    assert answer["method"] == "dspy.optimize_signature"


def test_what_nobody_waits_for_is_not_sent() -> None:
    port = Port()
    port.asked(message())
    assert port.answers(b'{"jsonrpc":"2.0","method":"event","params":{}}') == []
    assert port.answers(b'{"jsonrpc":"2.0","id":99,"result":1}') == []
    (told,) = port.answers(b'{"jsonrpc":"2.0","id":99,"error":{"code":2001,"message":"gone"}}')
    assert (told["message_id"], told["message"]) == (None, "gone")


def test_a_method_that_nothing_serves_is_named_with_what_would() -> None:
    port = Port()
    request = port.asked(message())
    gone = {"jsonrpc": "2.0", "id": request["id"], "error": {"code": -32601, "message": "no such method"}}
    (told,) = port.answers(json.dumps(gone).encode())
    assert (told["message_id"], request["method"] in told["message"]) == ("m-1", True)


def test_a_message_with_more_than_can_be_told_apart_is_refused() -> None:
    told = Port().refused(b'{"payload":{%b}}' % b",".join(b'"%d":0' % number for number in range(MAX_MEMBERS + 1)))
    assert "the message holds too much" in told["message"]


def test_a_refusal_before_any_message_is_for_nobody_by_name() -> None:
    (frame,) = Port().dialect.refuse(RpcError(ErrorCode.WORKER_OVERLOADED, "too many"))
    told = json.loads(frame.payload)
    assert (told["message_id"], told["message"]) == (None, "too many")
