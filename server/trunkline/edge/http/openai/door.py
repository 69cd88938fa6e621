"""``/v1/...``: OpenAI's API, each request a call like any other, with its rights, limits, deadline and audit line."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from trunkline.edge.context import EdgeContext
from trunkline.edge.http.answer import HttpAnswer, Refused, send_answer
from trunkline.edge.http.body import PeerLeft, read_body
from trunkline.edge.http.exchange import Exchange, ExchangeServices, Notification, decode_reply
from trunkline.edge.http.http_exchange import Form, HttpExchange
from trunkline.edge.http.named_requests import request_id_of
from trunkline.edge.http.openai.chat_form import ChatForm
from trunkline.edge.http.openai.chat_request import (
    ChatCall,
    ChatRequest,
    call_of_method,
    call_of_rag,
    members_of,
    read_chat,
)
from trunkline.edge.http.openai.errors import NOT_FOUND, bad_request, error_answer, no_model
from trunkline.edge.http.request import admit, peer_of, require_json, require_method
from trunkline.edge.http.tasks import metadata_of
from trunkline.hub.principal import Principal
from trunkline_protocol.catalogue import MethodInfo
from trunkline_protocol.codecs import jsonrpc
from trunkline_protocol.errors import ErrorCode, RpcError

PREFIX: Final = "/v1/"
OWNER: Final = "trunkline"
EMBEDDINGS: Final = frozenset({"input", "model", "encoding_format", "dimensions", "user"})

_PIPELINE: Final = re.compile(r"[0-9a-f]{32}")
_ID: Final = "0"
_encode: Final = msgspec.json.Encoder().encode

Methods = Callable[[], Mapping[str, MethodInfo]]


class OpenAIEndpoint:
    """The ASGI application at ``/v1/``.

    Args:
        context: what all connections of the hub share.
        services: see :func:`trunkline.edge.http.exchange.exchange_services`.
        methods: the methods that executors serve now, by name.
    """

    def __init__(self, context: EdgeContext, services: ExchangeServices, methods: Methods) -> None:
        self._context = context
        self._services = services
        self._methods = methods
        self._since = int(time.time())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request below ``/v1/``."""
        headers = Headers(scope=scope)
        echoed: dict[str, str] = {}
        path = scope["path"].removeprefix(PREFIX)
        try:
            principal = await admit(self._context, scope, headers)
            metadata = metadata_of(headers, echoed) | {"request_id": request_id_of(scope)}
            if path == "models" or path.startswith("models/"):
                require_method(scope, "GET")
                answer = await self._models(principal, scope, metadata, path.removeprefix("models").removeprefix("/"))
                await send_answer(send, answer)
            elif path in ("chat/completions", "embeddings"):
                require_method(scope, "POST")
                require_json(headers)
                with HttpExchange(self._context, self._services.of(True), principal, scope, True) as exchange:
                    body = await read_body(self._context, principal, headers, receive)
                    read = self._chat if path == "chat/completions" else _embeddings
                    method, params, form = read(body, metadata["request_id"], echoed)
                    message = jsonrpc.encode_request(_ID, method, _encode(params), _encode(metadata))
                    await exchange.run(message, form, receive, send)
            else:
                served = "/v1/chat/completions, /v1/embeddings and /v1/models"
                words = f"{PREFIX}{path:.200} is not served; there are {served}"
                raise Refused(RpcError(ErrorCode.METHOD_NOT_FOUND, words), NOT_FOUND)
        except PeerLeft:
            pass
        except Refused as refused:
            await send_answer(send, error_answer(refused.error, refused.headers | echoed, refused.status))

    # --- chat ---

    def _chat(self, body: bytes, request_id: str, headers: dict[str, str]) -> tuple[str, dict[str, Any], Form]:
        request = read_chat(body)
        call = self._call_of(request)
        form = ChatForm(request, call, request_id, headers, self._context.max_message_bytes)
        return call.method, call.params, form

    def _call_of(self, request: ChatRequest) -> ChatCall:
        """What answers: a method of that name, a pipeline of that id, or a collection."""
        methods = self._methods()
        info = methods.get(request.model)
        if info is not None and info.openai == "chat":
            return call_of_method(request, info)
        call = call_of_rag(request, is_pipeline=_PIPELINE.fullmatch(request.model) is not None)
        if methods and call.method not in methods:
            raise _no_model(request.model)
        return call

    # --- models ---

    async def _models(self, principal: Principal, scope: Scope, metadata: Mapping[str, Any], wanted: str) -> HttpAnswer:
        found = {name: self._model(name) for name in await self._names(principal, scope, metadata)}
        if not wanted:
            return HttpAnswer(200, _encode({"object": "list", "data": list(found.values())}))
        if wanted not in found:
            raise _no_model(wanted)
        return HttpAnswer(200, _encode(found[wanted]))

    def _model(self, name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": self._since, "owned_by": OWNER}

    async def _names(self, principal: Principal, scope: Scope, metadata: Mapping[str, Any]) -> list[str]:
        """The models that a principal may use: methods, collections, pipelines, and that of the embeddings."""
        served = self._methods()
        names = [info.name for info in served.values() if info.openai == "chat" and principal.may_call(info.name)]
        if "embeddings.create" in served and principal.may_call("embeddings.create"):
            names += (
                [found["model"]] if (found := await self._ask(principal, scope, metadata, "embeddings.model")) else []
            )
        if "rag.execute" in served and principal.may_call("rag.execute"):
            listed = await self._ask(principal, scope, metadata, "collections.list") or {"collections": []}
            names += [each["name"] for each in listed["collections"] if "error" not in each]
            names += await self._ask(principal, scope, metadata, "pipeline.list") or []
        return sorted({*names})

    async def _ask(self, principal: Principal, scope: Scope, metadata: Mapping[str, Any], method: str) -> Any:
        """The result of a method; None where this hub has it not, or the principal has no right to it."""
        exchange = Exchange(
            self._context, self._services.of(False), principal, peer_of(scope), "http", takes_events=False
        )
        reply = await exchange.call(method, {}, metadata, _dropped)
        if reply.error is None:
            return msgspec.json.decode(reply.result)
        error = RpcError.from_wire(reply.error)
        if error.code in (ErrorCode.METHOD_NOT_FOUND, ErrorCode.FORBIDDEN):
            return None
        raise Refused(error)


def _no_model(name: str) -> Refused:
    return Refused(no_model(name), NOT_FOUND)


async def _dropped(_notification: Notification) -> None:
    """Drop what comes before a result."""


# --- embeddings ---


class _EmbeddingForm(Form):
    """The result as it is: ``embeddings.create`` answers in OpenAI's form."""

    gathers = True

    def __init__(self, headers: dict[str, str]) -> None:
        self._headers = headers

    @override
    def answer(self, reply: bytes | None) -> HttpAnswer:
        assert reply is not None, "the call has an id"
        found = decode_reply(reply)
        if found.error is not None:
            return error_answer(RpcError.from_wire(found.error), self._headers)
        return HttpAnswer(200, bytes(found.result), self._headers)

    @override
    def instead(self, reply: bytes) -> HttpAnswer | None:
        return self.answer(reply)

    @override
    def event(self, message: bytes) -> bytes:
        return b""


def _embeddings(body: bytes, _request_id: str, headers: dict[str, str]) -> tuple[str, dict[str, Any], Form]:
    members = {name: value for name, value in members_of(body).items() if value is not None}
    for name in members:
        if name not in EMBEDDINGS:
            raise bad_request(f"{name:.80}", "there is no such parameter")
    for name in ("input", "model"):
        if name not in members:
            raise bad_request(name, "is missing")
    given = members["input"]
    if isinstance(given, list) and any(isinstance(each, int | list) for each in given):
        # Small numbers of a foreign tokenizer read back well: no check by the model's own one could tell.
        words = "token numbers are not served here: send texts (LangChain: check_embedding_ctx_length=False)"
        raise bad_request("input", words)
    members.pop("user", None)  # whose request it is, the credentials say
    return "embeddings.create", members, _EmbeddingForm(headers)
