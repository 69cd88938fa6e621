"""The command bus of an Elixir/Python RAG platform: ``{id, command, params}``, answered under ``query_id``.

=====================  ==========================================================================================
``query``              ``rag.execute``; with ``stream: true`` ``rag.stream``
``process_documents``  ``documents.process``
``create_tenant``      ``tenants.create``; the param ``tenant`` is its name, and ``name`` then what it is called
``manage_collections`` ``collections.<action>``: ``create``, ``list``, ``stats``, ``delete``
``auth``               ``auth``, where the hub wants a token
=====================  ==========================================================================================

Answers: ``{type: "result", query_id, data}``; of a stream ``{type: "chunk", query_id, content}`` for each piece of the
answer's text and ``{type: "complete", query_id, data}``, the data being what ``result`` would have; and
``{type: "error", query_id, error, details}``, where ``error`` is text. ``tenant``, ``user`` and ``language`` of
queries, documents and collections are metadata of the call, and one with a ``tenant`` is made in it, by ``act_as``.
``id`` is a string or an integer; without one ``query_id`` is null.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgspec
from typing_extensions import override

from trunkline_protocol.codecs.dialect import Frame, Received
from trunkline_protocol.codecs.plain import FramedDialect
from trunkline_protocol.codecs.requests import (
    Members,
    Outstanding,
    context_of,
    encode,
    error_type_of,
    not_served,
    read,
    read_chunk,
    recovery_of,
)
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.messages import UNREADABLE
from trunkline_protocol.values import has_too_many_members, too_much

COMMANDS: Final = ("query", "process_documents", "create_tenant", "manage_collections", "auth")
ACTIONS: Final = ("create", "list", "stats", "delete")

COMMANDER: Final = "command-bus"
"""The principal of commands that name a tenant, and no user."""

_IN_TENANT: Final = ("query", "process_documents", "manage_collections")
_ABOUT: Final = ("tenant", "user", "language")
"""Params that say for whom, and not what."""


class _Command(msgspec.Struct):
    command: str
    id: int | str | None = None
    params: Members = {}
    metadata: Members = {}


class _IdOnly(msgspec.Struct):
    id: int | str | None = None


class _Text(msgspec.Struct):
    text: str


@dataclass(frozen=True, slots=True)
class _Asked:
    query_id: int | str | None
    command: str
    method: str
    streaming: bool


_command_decoder: Final = msgspec.json.Decoder(_Command)
_id_decoder: Final = msgspec.json.Decoder(_IdOnly)
_text_decoder: Final = msgspec.json.Decoder(_Text)


class CommandBusDialect(FramedDialect):
    """Translates the commands of one peer."""

    kept: Final = 0

    def __init__(self) -> None:
        self._asked: Outstanding[_Asked] = Outstanding()
        self._ids: set[int | str | None] = set()  # in flight; none is not

    @override
    def greet(self, causes: list[str]) -> list[Frame]:
        return []

    @override
    def receive(self, frame: Frame) -> Received:
        if has_too_many_members(frame.payload):
            return _refused(_id_of(frame.payload), too_much("the command", ErrorCode.INVALID_REQUEST))
        try:
            command = _command_decoder.decode(frame.payload)
        except UNREADABLE as error:
            code = ErrorCode.INVALID_REQUEST if isinstance(error, msgspec.ValidationError) else ErrorCode.PARSE_ERROR
            return _refused(_id_of(frame.payload), RpcError(code, f"no command: {_words(error)}"))
        if command.id in self._ids:
            # Under its own id the refusal would end the command that is in flight.
            return _refused(None, RpcError(ErrorCode.INVALID_REQUEST, f"id {command.id!r:.200} is in flight"))
        try:
            return Received(to_hub=(self._call(command),))
        except RpcError as error:
            return _refused(command.id, error)

    def _call(self, command: _Command) -> bytes:
        params, metadata = dict(command.params), dict(command.metadata)
        name, streaming = command.command, False
        if name in _IN_TENANT:
            metadata |= {about: params.pop(about) for about in _ABOUT if about in params}
            if "tenant" in metadata and "act_as" not in metadata:
                metadata["act_as"] = _acting(metadata)
        if name == "query":
            streaming = _pop(params, "stream", bool, False)
            method = "rag.stream" if streaming else "rag.execute"
        elif name == "manage_collections":
            action = _pop(params, "action", str, "")
            if action not in ACTIONS:
                raise RpcError(ErrorCode.INVALID_PARAMS, f"params.action must be one of {', '.join(ACTIONS)}")
            method = f"collections.{action}"
        elif name in _METHODS:
            method = _METHODS[name]
            if name == "create_tenant" and "tenant" in params:
                params = _named_tenant(params)
        else:
            raise RpcError(ErrorCode.INVALID_REQUEST, f"no command {name!r:.200}; there are: {', '.join(COMMANDS)}")
        if command.id is not None:
            self._ids.add(command.id)
        return self._asked.call(_Asked(command.id, name, method, streaming), method, params, metadata)

    @override
    def send(self, message: bytes) -> list[Frame]:
        answer = read(message)
        chunk = read_chunk(answer)
        if chunk is not None:
            asked = self._asked.find(chunk.request_id)
            if asked is None or chunk.chunk_type != "partial_answer" or chunk.is_final:
                return []  # documents and metadata come with `complete`
            return [_frame({"type": "chunk", "query_id": asked.query_id, "content": _text_of(chunk.data)})]
        if answer.method is not None:
            return []
        asked = self._asked.settle(answer.id)
        if asked is not None:
            self._ids.discard(asked.query_id)
        if answer.error is not None:
            return [_error_frame(None if asked is None else asked.query_id, _error_of(answer.error, asked))]
        if asked is None:
            return []
        kind = "complete" if asked.streaming else "result"
        return [_frame({"type": kind, "query_id": asked.query_id, "data": answer.result})]

    @override
    def refuse(self, error: RpcError) -> list[Frame]:
        return [_error_frame(None, error)]


_METHODS: Final = {"process_documents": "documents.process", "create_tenant": "tenants.create", "auth": "auth"}


def _acting(about: Members) -> msgspec.Raw:
    """The ``act_as`` of a call that names the tenant it is made in, and maybe the user."""
    tenant = _pop(dict(about), "tenant", str, "")
    user = msgspec.json.decode(about["user"]) if "user" in about else None
    user = str(user) if isinstance(user, str | int) else COMMANDER
    return msgspec.Raw(encode({"principal": user, "tenant": tenant}))


def _named_tenant(params: Members) -> Members:
    """The params of ``tenants.create`` for those of a command that calls the name ``tenant``."""
    renamed = {"tenant": "name", "name": "display_name"}
    return {renamed.get(member, member): value for member, value in params.items()}


def _pop(params: Members, name: str, kind: type[Any], default: Any) -> Any:
    if name not in params:
        return default
    try:
        return msgspec.json.decode(params.pop(name), type=kind)
    except UNREADABLE as error:
        raise RpcError(ErrorCode.INVALID_PARAMS, f"params.{name}: {error}") from error


def _error_of(wire: dict[str, Any], asked: _Asked | None) -> RpcError:
    error = RpcError.from_wire(wire)
    if error.code == ErrorCode.METHOD_NOT_FOUND and asked is not None:
        return not_served(asked.command, asked.method)
    return error


def _text_of(data: msgspec.Raw) -> Any:
    """The text of a piece of an answer; whatever else a method sends goes out as it is."""
    try:
        return _text_decoder.decode(data).text
    except UNREADABLE:
        return data


def _words(error: Exception) -> str:
    return "the JSON is nested too deeply" if isinstance(error, RecursionError) else str(error)


def _id_of(payload: bytes) -> int | str | None:
    try:
        return _id_decoder.decode(payload).id
    except UNREADABLE:
        return None


def _frame(answer: dict[str, Any]) -> Frame:
    return Frame(encode(answer))


def _error_frame(query_id: int | str | None, error: RpcError) -> Frame:
    details = {"error_type": error_type_of(error), "recovery_strategy": recovery_of(error), **context_of(error)}
    return _frame({"type": "error", "query_id": query_id, "error": error.message, "details": details})


def _refused(query_id: int | str | None, error: RpcError) -> Received:
    return Received(to_peer=(_error_frame(query_id, error),))
