"""A user's module from the working directory: every kind of method, checked at both ends."""

from __future__ import annotations

import pytest

from tests.support.hub import RunningHub
from tests.support.match import require
from tests.support.peer import Peer
from trunkline_protocol.errors import ErrorCode


async def test_coroutine(lab_peer: Peer) -> None:
    assert await lab_peer.result("lab.upper", {"text": "ü"}) == "Ü"


async def test_plain_function_runs_off_the_loop(lab_peer: Peer) -> None:
    assert (await lab_peer.result("lab.alone", {"seconds": 0}))["thread"].startswith("method")


async def test_class_with_load_step(lab_peer: Peer) -> None:
    assert "data_dir" in await lab_peer.result("lab.store.settings")
    assert await lab_peer.result("lab.store.add", {"left": 2}) == 3
    assert await lab_peer.result("lab.store.add", [2, 5]) == 7


async def test_plain_generator_with_a_return_value(lab_peer: Peer) -> None:
    assert await lab_peer.result("lab.counted", {"n": 3}) == {"counted": 3}
    chunks = [message["params"] for message in lab_peer.others]
    assert [chunk["data"] for chunk in chunks] == [0, 1, 2, None]
    assert [chunk["index"] for chunk in chunks] == [0, 1, 2, 3]


async def test_chunks_with_types_and_a_summary(lab_peer: Peer) -> None:
    assert await lab_peer.result("lab.typed") == {"answer": "hello"}
    kinds = [message["params"]["chunk_type"] for message in lab_peer.others]
    assert kinds[:3] == ["metadata", "document", "partial_answer"]
    assert lab_peer.others[-1]["params"]["is_final"] is True


async def test_models_in_and_out(lab_peer: Peer) -> None:
    params = {"point": {"x": 1, "born": "2020-02-29"}, "by": {"x": 2, "y": 3}}
    assert await lab_peer.result("lab.move", params) == {"x": 3.0, "y": 3.0, "born": "2020-02-29"}


async def test_a_fault_inside_a_model_names_its_path(lab_peer: Peer) -> None:
    error = await lab_peer.error("lab.move", {"point": {"x": "east"}, "by": {}})
    require(
        {
            "code": ErrorCode.INVALID_PARAMS,
            "message": {"$contains": "point.x"},
            "data": {"errors": [{"field": "point.x"}, {"field": "by.x"}]},
        },
        error,
    )


async def test_a_result_that_breaks_its_promise(lab_peer: Peer) -> None:
    error = await lab_peer.error("lab.lies")
    assert error["code"] in (ErrorCode.SERIALIZATION_ERROR, ErrorCode.INTERNAL_ERROR), (
        "lab.lies promises int and returned a string: a caller who believes rpc.discover must not get it"
    )


@pytest.mark.parametrize("kind", ["dict", "model", "dataclass", "set", "dataclass_in_list"])
async def test_a_float_that_is_not_finite_is_never_sent_as_null(lab_peer: Peer, kind: str) -> None:
    reply = await lab_peer.call("lab.nan_inside", {"kind": kind})
    require({"error": {"code": ErrorCode.SERIALIZATION_ERROR, "message": {"$contains": "finite"}}}, reply)


async def test_typed_errors_arrive_as_raised(lab_peer: Peer) -> None:
    error = await lab_peer.error("lab.typed_error")
    assert (error["code"], error["message"]) == (ErrorCode.INVALID_CONFIGURATION, "dimension 3 does not fit 384")
    assert error["data"] == {
        "type": "INVALID_CONFIGURATION",
        "recovery": "fatal",
        "retryable": False,
        "maybe_executed": True,
        "expected": 384,
    }


async def test_codes_of_an_applications_own(lab_peer: Peer) -> None:
    require({"code": 4242, "data": {"type": "APPLICATION_ERROR"}}, await lab_peer.error("lab.own_code"))


async def test_the_callers_metadata_reaches_the_method(lab_peer: Peer) -> None:
    sent = {"tenant": {"id": 7}, "request_id": "r", "timeout_ms": 5000}
    assert (await lab_peer.result("lab.where", metadata=sent))["metadata"] == sent


async def test_a_method_has_its_own_default_deadline(lab_peer: Peer) -> None:
    assert (await lab_peer.error("lab.short", {"seconds": 20}))["code"] == ErrorCode.COMMUNICATION_TIMEOUT
    assert await lab_peer.result("lab.short", {"seconds": 0.3}, metadata={"timeout_ms": 5000}) == "done"


async def test_a_method_caps_the_deadline_of_callers(lab_peer: Peer) -> None:
    error = await lab_peer.error("lab.capped", {"seconds": 20}, metadata={"timeout_ms": 60_000})
    assert error["code"] == ErrorCode.COMMUNICATION_TIMEOUT


async def test_what_methods_print_stays_off_the_hubs_stdout(lab_peer: Peer, lab_hub: RunningHub) -> None:
    await lab_peer.result("lab.print", {"text": "said by a method"})
    lab_hub.wait_for("said by a method")
    assert not any("said by a method" in line for line in lab_hub.stdout)


async def test_discover_describes_it(lab_peer: Peer) -> None:
    document = await lab_peer.result("rpc.discover")
    described = {method["name"]: method for method in document["methods"]}
    require(
        {
            "summary": "Upper case.",
            "params": [{"name": "text", "required": True, "schema": {"type": "string"}}],
            "result": {"schema": {"type": "string"}},
            "x-trunkline": {"pack": "lab", "idempotent": True, "streaming": False},
        },
        described["lab.upper"],
    )
    require({"x-trunkline": {"streaming": True, "idempotent": False}}, described["lab.counted"])
    require({"x-trunkline": {"routing_key": "key"}}, described["lab.owned"])
    assert described["lab.counted"]["params"][0]["schema"]["minimum"] == 0
