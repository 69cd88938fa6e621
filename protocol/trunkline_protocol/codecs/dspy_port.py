"""The messages of an Elixir bridge to DSPy: ``{message_id, request_type, payload, timestamp, metadata}`` both ways.

======================  ===========================================================
``optimize_signature``  ``dspy.optimize_signature``
``evaluate_pipeline``   ``dspy.evaluate_pipeline``
``train_model``         ``dspy.train_model``
``health_check``        ``health.check``; with ``detailed: true`` ``health.detailed``
``auth``                ``auth``, where the hub wants a token
``shutdown``            the end of input: what runs is answered, then the stream ends
======================  ===========================================================

The first frame comes from the hub: ``{type: "init", status: "ready" | "error", pid, version, request_types, ...}``. A
failure is answered ``{message_id, request_type, error_type, message, traceback, context, recovery_strategy}``. What is
larger than 1 MiB may come, and goes, in chunks (:mod:`trunkline_protocol.codecs.transfer`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from typing_extensions import override

from trunkline_protocol.codecs.dialect import DialectViolation, Frame, Received
from trunkline_protocol.codecs.plain import FramedDialect
from trunkline_protocol.codecs.requests import (
    Members,
    Outstanding,
    context_of,
    encode,
    error_type_of,
    not_served,
    read,
    recovery_of,
)
from trunkline_protocol.codecs.transfer import CHUNK_BYTES, DataChunk, MessageId, Transfers, in_chunks
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.messages import UNREADABLE
from trunkline_protocol.values import has_too_many_members, too_much

SHUTDOWN: Final = "shutdown"
NORMAL_CLOSURE: Final = 1000

METHODS: Final = {
    "optimize_signature": "dspy.optimize_signature",
    "evaluate_pipeline": "dspy.evaluate_pipeline",
    "train_model": "dspy.train_model",
    "health_check": "health.check",
    "auth": "auth",
}


class _Message(msgspec.Struct):
    request_type: str
    message_id: MessageId = None
    payload: Members | None = None
    metadata: Members | None = None


class _Any(msgspec.Struct):
    type: str | None = None
    message_id: MessageId = None


@dataclass(frozen=True, slots=True)
class _Asked:
    message_id: MessageId
    request_type: str
    method: str


_message_decoder: Final = msgspec.json.Decoder(_Message)
_chunk_decoder: Final = msgspec.json.Decoder(DataChunk)
_any_decoder: Final = msgspec.json.Decoder(_Any)


class DspyPortDialect(FramedDialect):
    """Translates the messages of one bridge.

    Args:
        max_bytes: how large a message may be, in one frame or unpacked from chunks.
        version: of the hub.
        pid: of the hub's process.
        now: the time, as ISO 8601.
    """

    def __init__(self, max_bytes: int, version: str, pid: int, now: Callable[[], str]) -> None:
        self._asked: Outstanding[_Asked] = Outstanding()
        self._transfers = Transfers(max_bytes)
        self._about = {"source": "trunkline", "version": version}
        self._pid = pid
        self._now = now

    @property
    @override
    def kept(self) -> int:
        return self._transfers.kept

    @override
    def greet(self, causes: list[str]) -> list[Frame]:
        hello: dict[str, Any] = {
            "type": "init",
            "status": "error" if causes else "ready",
            "pid": self._pid,
            "version": self._about["version"],
            "request_types": [*METHODS, SHUTDOWN],
        }
        if causes:
            hello |= _error_members(RpcError(ErrorCode.MISSING_DEPENDENCIES, "; ".join(causes)))
        return [Frame(encode(hello | {"timestamp": self._now(), "metadata": self._about}))]

    @override
    def receive(self, frame: Frame) -> Received:
        message_id: MessageId = None
        try:
            head = _read(_any_decoder, frame.payload)
            message_id = head.message_id
            if head.type != "data_chunk":
                return self._receive(frame.payload)
            whole = self._transfers.take(_read(_chunk_decoder, frame.payload))
            return Received() if whole is None else self._receive(whole)
        except RpcError as error:
            return Received(to_peer=(self._error_frame(message_id, None, error),))

    def _receive(self, payload: bytes) -> Received:
        message = _read(_message_decoder, payload)
        kind, about = message.request_type, message.payload or {}
        method = METHODS.get(kind)
        if kind == SHUTDOWN:
            farewell = self._message(message.message_id, kind, {"status": "shutting_down"})
            raise DialectViolation(NORMAL_CLOSURE, SHUTDOWN, (Frame(farewell),))
        if method is None:
            known = ", ".join((*METHODS, SHUTDOWN))
            error = RpcError(ErrorCode.INVALID_REQUEST, f"no request_type {kind!r:.200}; there are: {known}")
            return Received(to_peer=(self._error_frame(message.message_id, kind, error),))
        if kind == "health_check":
            method = "health.detailed" if bytes(about.get("detailed", b"")) == b"true" else method
            about = {}
        asked = _Asked(message.message_id, kind, method)
        return Received(to_hub=(self._asked.call(asked, method, about, message.metadata or {}),))

    @override
    def send(self, message: bytes) -> list[Frame]:
        answer = read(message)
        if answer.method is not None:
            return []
        asked = self._asked.settle(answer.id)
        if answer.error is not None:
            return [self._failure(answer.error, asked)]
        if asked is None:
            return []
        reply = self._message(asked.message_id, asked.request_type, answer.result)
        if len(reply) > CHUNK_BYTES:
            return [Frame(chunk) for chunk in in_chunks(reply, asked.message_id)]
        return [Frame(reply)]

    @override
    def refuse(self, error: RpcError) -> list[Frame]:
        return [self._error_frame(None, None, error)]

    def _failure(self, wire: dict[str, Any], asked: _Asked | None) -> Frame:
        error = RpcError.from_wire(wire)
        if asked is None:
            return self._error_frame(None, None, error)
        if error.code == ErrorCode.METHOD_NOT_FOUND:
            error = not_served(asked.request_type, asked.method)
        return self._error_frame(asked.message_id, asked.request_type, error)

    def _message(self, message_id: MessageId, kind: str, payload: Any) -> bytes:
        return encode(
            {
                "message_id": message_id,
                "request_type": kind,
                "payload": payload,
                "timestamp": self._now(),
                "metadata": self._about,
            }
        )

    def _error_frame(self, message_id: MessageId, kind: str | None, error: RpcError) -> Frame:
        return Frame(encode({"message_id": message_id, "request_type": kind, **_error_members(error)}))


def _error_members(error: RpcError) -> dict[str, Any]:
    traceback = error.data.get("traceback")
    return {
        "error_type": error_type_of(error),
        "message": error.message,
        "traceback": "".join(traceback) if isinstance(traceback, list) else traceback,
        "context": context_of(error),
        "recovery_strategy": recovery_of(error),
    }


def _read(decoder: msgspec.json.Decoder[Any], payload: bytes) -> Any:
    """Decode, or say what is wrong.

    Raises:
        RpcError: -32700 for what is no JSON, -32600 for what is no message.
    """
    if has_too_many_members(payload):
        raise too_much("the message", ErrorCode.INVALID_REQUEST)
    try:
        return decoder.decode(payload)
    except RecursionError as error:
        raise RpcError(ErrorCode.PARSE_ERROR, "the JSON is nested too deeply") from error
    except msgspec.ValidationError as error:
        raise RpcError(ErrorCode.INVALID_REQUEST, f"no message: {error}") from error
    except UNREADABLE as error:
        raise RpcError(ErrorCode.PARSE_ERROR, f"not valid JSON: {error}") from error
