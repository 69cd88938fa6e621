from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts import write_tables as writer
from trunkline_protocol.errors import ERROR_TABLE, ErrorCode, RpcError

SHARED = Path(__file__).parents[2] / "protocol" / "conformance" / "errors.json"
SPEC = SHARED.parents[1] / "SPEC.md"


def test_the_shared_table_is_the_table() -> None:
    assert json.loads(SHARED.read_text()) == [msgspec.to_builtins(row) for row in ERROR_TABLE.values()]
    assert SHARED.read_text() == writer.errors(), "run python -m scripts.write_tables"


def test_the_javascript_client_has_the_codes() -> None:
    text = writer.CODES.read_text()
    assert writer.codes(text) == text, "run python -m scripts.write_tables"


def test_every_code_has_a_row_of_its_own_name() -> None:
    assert {code: row.name for code, row in ERROR_TABLE.items()} == {int(code): code.name for code in ErrorCode}
    assert all(row.code == code for code, row in ERROR_TABLE.items())


def test_the_specification_lists_the_same_table() -> None:
    rows = {}
    for line in SPEC.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 6 and cells[0].lstrip("-").isdigit():
            rows[int(cells[0])] = (cells[1], cells[2], cells[3] == "yes", int(cells[4]))
    assert rows == {c: (row.name, row.recovery, row.retryable, row.http_status) for c, row in ERROR_TABLE.items()}


@pytest.mark.parametrize("row", ERROR_TABLE.values(), ids=lambda row: row.name)
def test_wire_form_follows_the_row(row: Any) -> None:
    wire = RpcError(row.code, "what happened").to_wire()
    assert wire == {
        "code": row.code,
        "message": "what happened",
        "data": {"type": row.name, "recovery": row.recovery, "retryable": row.retryable, "maybe_executed": False},
    }


@given(
    code=st.sampled_from(list(ERROR_TABLE)) | st.integers(-(2**31), 2**31),
    message=st.text(),
    maybe_executed=st.booleans(),
    retry_after_ms=st.none() | st.integers(0, 10**6),
    data=st.dictionaries(st.sampled_from(["chunks", "errors", "trace_id", "x"]), st.integers() | st.text()),
)
def test_round_trip(
    code: int, message: str, maybe_executed: bool, retry_after_ms: int | None, data: dict[str, Any]
) -> None:
    error = RpcError(code, message, maybe_executed=maybe_executed, retry_after_ms=retry_after_ms, data=data)
    back = RpcError.from_wire(json.loads(json.dumps(error.to_wire())))
    assert back.to_wire() == error.to_wire()
    assert (back.code, back.message, back.maybe_executed) == (code, message, maybe_executed)
    assert (back.retry_after_ms, back.data) == (retry_after_ms, data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(json_values | st.fixed_dictionaries({}, optional=dict.fromkeys(("code", "message", "data"), json_values)))
def test_whatever_a_peer_sends_becomes_an_error(rubbish: Any) -> None:
    error = RpcError.from_wire(rubbish)
    assert isinstance(error.code, int)
    assert isinstance(error.message, str)
    assert str(error)
    assert error.to_wire()["code"] == error.code


@pytest.mark.parametrize("code", [True, False])
def test_a_boolean_is_no_code(code: bool) -> None:
    assert RpcError.from_wire({"code": code, "message": "x"}).code == ErrorCode.INTERNAL_ERROR


def test_data_that_is_no_object_is_kept() -> None:
    assert RpcError.from_wire({"code": 1, "message": "m", "data": [1]}).data == {"value": [1]}


def test_an_unknown_code_is_an_application_error() -> None:
    error = RpcError(7, "mine")
    assert (error.name, error.retryable, str(error)) == ("APPLICATION_ERROR", False, "mine (APPLICATION_ERROR 7)")


def test_survives_pickling() -> None:
    error = RpcError(ErrorCode.WORKER_CRASHED, "gone", maybe_executed=True, retry_after_ms=5, data={"chunks": 2})
    assert pickle.loads(pickle.dumps(error)).to_wire() == error.to_wire()


def test_two_errors_do_not_share_their_data() -> None:
    first, second = RpcError(1, "a"), RpcError(2, "b")
    first.data["x"] = 1
    assert second.data == {}
