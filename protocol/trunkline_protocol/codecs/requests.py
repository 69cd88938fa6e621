"""Shared by dialects that have requests of their own: ids towards the hub, pending requests, error details."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Generic, Literal, TypeVar

import msgspec

from trunkline_protocol.errors import ErrorCode, Recovery, RpcError

Members = dict[str, msgspec.Raw]
"""A JSON object whose values are not looked into."""

ErrorType = Literal[
    "dspy_optimization_error",
    "python_runtime_error",
    "serialization_error",
    "timeout_error",
    "process_crashed",
    "import_error",
]

_ERROR_TYPES: Final[dict[int, ErrorType]] = {
    ErrorCode.PARSE_ERROR: "serialization_error",
    ErrorCode.INVALID_REQUEST: "serialization_error",
    ErrorCode.INVALID_PARAMS: "serialization_error",
    ErrorCode.SERIALIZATION_ERROR: "serialization_error",
    ErrorCode.METHOD_NOT_FOUND: "import_error",
    ErrorCode.MISSING_DEPENDENCIES: "import_error",
    ErrorCode.COMMUNICATION_TIMEOUT: "timeout_error",
    ErrorCode.WORKER_CRASHED: "process_crashed",
    ErrorCode.PIPELINE_NOT_FOUND: "dspy_optimization_error",
    ErrorCode.PIPELINE_INITIALIZATION_FAILED: "dspy_optimization_error",
    ErrorCode.PIPELINE_EXECUTION_ERROR: "dspy_optimization_error",
}

T = TypeVar("T")
_encoder: Final = msgspec.json.Encoder()
encode = _encoder.encode


class FromHub(msgspec.Struct):
    """A message of the hub: a reply, or a notification."""

    id: int | str | None = None
    method: str | None = None
    params: msgspec.Raw = msgspec.Raw(b"null")
    result: msgspec.Raw = msgspec.Raw(b"null")
    error: dict[str, Any] | None = None


class ChunkParams(msgspec.Struct):
    """Params of ``stream_chunk``."""

    request_id: int | str | None
    data: msgspec.Raw
    chunk_type: str = "data"
    is_final: bool = False


_from_hub_decoder: Final = msgspec.json.Decoder(FromHub)
_chunk_decoder: Final = msgspec.json.Decoder(ChunkParams)


def read(message: bytes) -> FromHub:
    """Read a message of the hub."""
    return _from_hub_decoder.decode(message)


def read_chunk(message: FromHub) -> ChunkParams | None:
    """The params of a ``stream_chunk`` notification; None for any other message."""
    return _chunk_decoder.decode(message.params) if message.method == "stream_chunk" else None


class Outstanding(Generic[T]):
    """Pending requests to the hub by id, with what the dialect has to remember of each."""

    def __init__(self) -> None:
        self._last = 0
        self._asked: dict[int, T] = {}

    def call(self, about: T, method: str, params: Mapping[str, Any], metadata: Mapping[str, Any]) -> bytes:
        """A JSON-RPC request with a new id, under which ``about`` is remembered."""
        self._last += 1
        self._asked[self._last] = about
        message = {"jsonrpc": "2.0", "id": self._last, "method": method, "params": params}
        return encode(message | {"metadata": metadata} if metadata else message)

    def find(self, number: int | str | None) -> T | None:
        """What was remembered of a pending request; None if there is none with this id."""
        return self._asked.get(number) if isinstance(number, int) else None

    def settle(self, number: int | str | None) -> T | None:
        """As :meth:`find`, and forget the request: it has its response."""
        return self._asked.pop(number, None) if isinstance(number, int) else None


def error_type_of(error: RpcError) -> ErrorType:
    """The class of an error among those of the Elixir bridge."""
    return _ERROR_TYPES.get(error.code, "python_runtime_error")


def recovery_of(error: RpcError) -> Recovery:
    """The recovery strategy that the error table gives."""
    return error.row.recovery


def context_of(error: RpcError) -> dict[str, Any]:
    """The code of an error and the other members of its data, without the traceback."""
    data = error.to_wire()["data"]
    return {"code": error.code} | {name: data[name] for name in data if name not in {"recovery", "traceback"}}


def not_served(what: str, method: str) -> RpcError:
    """The error (-32601) for a request of the dialect whose method nobody serves."""
    return RpcError(ErrorCode.METHOD_NOT_FOUND, f"{what} needs the method {method}, which nothing serves on this hub")
