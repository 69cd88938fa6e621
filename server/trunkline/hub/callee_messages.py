"""What goes to callees and comes from them, beside plain responses: requests' metadata, chunks, progress. Pure."""

from __future__ import annotations

import time
from typing import Any, Final

import msgspec

from trunkline_protocol.calls import NO_DEADLINE, Call
from trunkline_protocol.codecs.answers import unreadable
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.messages import CALLERS_OWN

CALLEE_WINDOW: Final = 256
"""Chunks that a callee may send ahead of their reader: with more the call fails (1003)."""

_encoder: Final = msgspec.json.Encoder()
_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


class CalleeChunk(msgspec.Struct):
    """The params of a chunk."""

    request_id: str
    index: int
    data: msgspec.Raw = msgspec.Raw(b"null")
    chunk_type: str = "data"
    is_final: bool = False


class NamedChunk(msgspec.Struct):
    """The part of a chunk that names its call."""

    request_id: str


class CalleeProgress(msgspec.Struct):
    """The params of a progress report."""

    token: str
    value: msgspec.Raw = msgspec.Raw(b"null")


def problem_of(chunk: CalleeChunk, call: Call, granted: int, streaming: bool) -> str | None:
    """Why a chunk cannot be passed on, in words; None where it can.

    Args:
        granted: chunks that the reader has consumed.
        streaming: whether the method is registered as a stream.
    """
    if not streaming:
        return "a stream_chunk, but the method is registered without streaming"
    if chunk.index != call.chunks:
        return f"chunk {chunk.index} came where {call.chunks} was expected"
    if call.chunks - granted >= CALLEE_WINDOW:
        return f"more than {CALLEE_WINDOW} chunks ahead of the reader; wait for stream.credit"
    problem = unreadable(chunk.data)
    return None if problem is None else f"chunk {chunk.index}: {problem}"


def require_readable(call: Call) -> None:
    """Refuse params or metadata that are no valid JSON: a callee could only close its connection (executors check).

    Raises:
        RpcError: -32602, names the member.
    """
    for member, data in (("params", call.params), ("metadata", call.metadata)):
        if (problem := unreadable(data)) is not None:
            raise RpcError(ErrorCode.INVALID_PARAMS, f"{member} of {call.method}: {problem}")


def metadata_for(call: Call, request_id: str) -> bytes:
    """The metadata for the callee: the caller's, with the time that is left and the token for progress."""
    metadata: dict[str, Any] = dict(_members.decode(call.metadata)) if call.metadata else {}
    for member in (*CALLERS_OWN, "timeout_ms"):
        metadata.pop(member, None)
    if call.idle_timeout:
        metadata["timeout_ms"] = int(call.idle_timeout * 1000)
    elif call.deadline != NO_DEADLINE:
        metadata["timeout_ms"] = max(1, int((call.deadline - time.monotonic()) * 1000))
    if call.progress_token is not None:
        metadata["progress_token"] = request_id
    return _encoder.encode(metadata)
