from __future__ import annotations

import json
from typing import Any

import pytest

from tests.hub.doors import Door, FakeBackend, connection, services
from tests.support.match import require
from trunkline.hub.connection import GRANT_STEP
from trunkline.hub.limits import ConnectionLimits
from trunkline.hub.router import Router
from trunkline_protocol.errors import ErrorCode, RpcError


class Rig:
    """A connection between a door and a backend that only remember."""

    def __init__(self) -> None:
        self.door, self.backend = Door(limit=10**7), FakeBackend()
        self.router = Router(self.backend, lambda *_: None)
        self.router.handle({"hub.now": lambda call: call.settle_result(b"5")})
        self.connection = connection(services(self.router, ConnectionLimits(max_batch=10)), self.door)

    def receive(self, message: Any) -> None:
        self.connection.receive(json.dumps(message).encode())

    def request(self, method: str, request_id: Any = 1, **more: Any) -> None:
        self.receive({"jsonrpc": "2.0", "id": request_id, "method": method, **more})

    def cancel(self, request_id: Any, method: str = "$/cancelRequest", member: str = "id") -> None:
        self.receive({"jsonrpc": "2.0", "method": method, "params": {member: request_id}})

    @property
    def said(self) -> list[Any]:
        return self.door.said()


@pytest.fixture
async def rig() -> Rig:
    return Rig()


async def test_reply_under_the_id(rig: Rig) -> None:
    rig.request("work.do", "a", params={"x": 1})
    assert rig.backend.calls[0].params == b'{"x": 1}', "untouched"
    rig.backend.calls[0].settle_result(b'{"y":2}')
    assert rig.said == [{"jsonrpc": "2.0", "id": "a", "result": {"y": 2}}]
    assert rig.connection.calls == {}


async def test_ids_are_typed(rig: Rig) -> None:
    rig.request("work.do", 1)
    rig.request("work.do", "1")
    rig.request("work.do", None)
    assert len(rig.backend.calls) == 3
    for call in rig.backend.calls:
        call.settle_result(b"0")
    assert [reply["id"] for reply in rig.said] == [1, "1", None]


async def test_a_duplicate_does_not_touch_the_first(rig: Rig) -> None:
    rig.request("work.do", 1)
    rig.request("work.do", 1)
    rig.request("hub.now", 1)
    assert len(rig.backend.calls) == 1
    require([{"id": None, "error": {"data": {"duplicate_id": 1}}}] * 2, rig.said)
    rig.backend.calls[0].settle_result(b"0")
    assert rig.said[-1] == {"jsonrpc": "2.0", "id": 1, "result": 0}


async def test_notifications_run_in_silence(rig: Rig) -> None:
    rig.receive({"jsonrpc": "2.0", "method": "work.do"})
    rig.receive({"jsonrpc": "2.0", "method": "work.stream"})
    rig.receive({"jsonrpc": "2.0", "method": "nobody"})
    done, stream = rig.backend.calls
    done.settle_error(RpcError(ErrorCode.INTERNAL_ERROR, "no matter"))
    stream.stream(b'"data"', b"1")
    stream.settle_result(b"1")
    assert rig.said == []
    assert rig.router.in_flight == 0


async def test_cancel_answers_first_and_drops_what_comes_later(rig: Rig) -> None:
    rig.request("work.do", 1)
    rig.cancel(1)
    require([{"id": 1, "error": {"code": ErrorCode.CANCELLED, "data": {"maybe_executed": True}}}], rig.said)
    (call,) = rig.backend.calls
    assert rig.backend.cancelled == [call]
    call.settle_result(b"late")
    rig.cancel(1)
    rig.cancel(99)
    assert len(rig.said) == 1


async def test_mcps_cancel_is_silent(rig: Rig) -> None:
    rig.request("work.do", 1)
    rig.cancel(1, "notifications/cancelled", "requestId")
    assert rig.said == []
    assert rig.backend.cancelled == rig.backend.calls
    rig.request("hub.now", 1)
    assert len(rig.said) == 1


async def test_batch_is_one_frame_when_all_are_settled(rig: Rig) -> None:
    members = [{"jsonrpc": "2.0", "id": n, "method": "work.do"} for n in (1, 2)]
    rig.receive(
        [*members, {"jsonrpc": "2.0", "method": "work.do"}, 5, {"jsonrpc": "2.0", "id": 3, "method": "hub.now"}]
    )
    first, second, _notification = rig.backend.calls
    second.settle_result(b'"b"')
    assert rig.said == []
    first.settle_error(RpcError(ErrorCode.INTERNAL_ERROR, "a"))
    (batch,) = rig.said
    assert [reply["id"] for reply in batch] == [None, 3, 2, 1]


async def test_a_batch_whose_last_member_is_silently_cancelled(rig: Rig) -> None:
    rig.receive([{"jsonrpc": "2.0", "id": n, "method": "work.do"} for n in (1, 2)])
    rig.backend.calls[0].settle_result(b"1")
    rig.cancel(2, "notifications/cancelled", "requestId")
    require([[{"id": 1, "result": 1}]], rig.said)


async def test_stream(rig: Rig) -> None:
    rig.request("work.stream", "s")
    (call,) = rig.backend.calls
    call.stream(b'"document"', b'{"id":1}')
    call.stream(b'"partial_answer"', b'{"text":"x"}')
    call.settle_result(b'{"done":true}')
    require(
        [
            {"params": {"request_id": "s", "chunk_type": "document", "index": 0, "is_final": False}},
            {"params": {"request_id": "s", "chunk_type": "partial_answer", "index": 1, "is_final": False}},
            {"params": {"request_id": "s", "data": None, "index": 2, "is_final": True}},
            {"id": "s", "result": {"done": True}},
        ],
        rig.said,
    )
    assert rig.connection.streams == {}


async def test_a_failed_stream_has_no_final_chunk(rig: Rig) -> None:
    rig.request("work.stream")
    (call,) = rig.backend.calls
    call.stream(b'"data"', b"1")
    call.settle_error(RpcError(ErrorCode.PIPELINE_EXECUTION_ERROR, "broke"))
    require([{"params": {"is_final": False}}, {"error": {"data": {"chunks": 1}}}], rig.said)


async def test_credit_is_granted_as_chunks_go_out(rig: Rig) -> None:
    rig.request("work.stream")
    (call,) = rig.backend.calls
    for _ in range(GRANT_STEP * 2):
        call.stream(b'"data"', b"1")
    rig.door.flusher.end_of_turn()
    assert rig.backend.grants == [GRANT_STEP, GRANT_STEP * 2]


async def test_a_slow_peer_grants_nothing_until_it_reads(rig: Rig) -> None:
    rig.request("work.stream")
    (call,) = rig.backend.calls
    rig.door.outbox.pause()
    for _ in range(GRANT_STEP * 3):
        call.stream(b'"data"', b"1")
    assert rig.backend.grants == []
    assert not call.writable()
    rig.door.outbox.resume()
    assert rig.backend.grants == [GRANT_STEP * 3]
    assert call.writable()


async def test_progress_only_where_it_was_asked_for(rig: Rig) -> None:
    rig.request("work.do", 1)
    rig.request("work.do", 2, metadata={"progress_token": 0})
    for call in rig.backend.calls:
        call.progress(b'{"step":1}')
    assert rig.said == [{"jsonrpc": "2.0", "method": "$/progress", "params": {"token": 0, "value": {"step": 1}}}]


async def test_a_peer_that_leaves_leaves_nothing_behind(rig: Rig) -> None:
    rig.request("work.do", 1)
    rig.request("work.stream", 2)
    rig.receive([{"jsonrpc": "2.0", "id": 3, "method": "work.do"}])
    rig.connection.disconnected()
    assert rig.backend.cancelled == rig.backend.calls
    assert rig.router.in_flight == 0
    for call in rig.backend.calls:
        call.settle_result(b"late")
        call.stream(b'"data"', b"1")
    assert rig.said == []


async def test_responses_are_ignored(rig: Rig) -> None:
    rig.receive({"jsonrpc": "2.0", "id": 1, "result": 1})
    rig.receive([{"jsonrpc": "2.0", "id": 1, "result": 1}])
    assert rig.said == []


@pytest.mark.parametrize("method", ["session.open", "subscribe", "method.register"])
async def test_what_cannot_be_in_a_batch(rig: Rig, method: str) -> None:
    rig.receive([{"jsonrpc": "2.0", "id": 1, "method": method}])
    require([[{"id": 1, "error": {"code": ErrorCode.INVALID_REQUEST, "message": {"$contains": method}}}]], rig.said)
