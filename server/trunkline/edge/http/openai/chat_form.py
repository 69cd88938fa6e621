"""The answer to a chat completion: whole, or as server-sent events that end with ``[DONE]`` where all went well."""

from __future__ import annotations

import time
from typing import Any, Final, Literal

import msgspec
from typing_extensions import override

from trunkline.edge.http.answer import HttpAnswer
from trunkline.edge.http.exchange import decode_notification, decode_reply
from trunkline.edge.http.http_exchange import Form
from trunkline.edge.http.openai.chat_request import ChatCall, ChatRequest
from trunkline.edge.http.openai.errors import error_answer, error_body, no_model, param_of
from trunkline.edge.http.rpc import one_line
from trunkline_protocol.errors import ErrorCode, RpcError, limit_error

DONE: Final = b"data: [DONE]\n\n"
EXTRACTIVE: Final = "extractive"
OF_COLLECTION: Final = ("options.collection", "name")
"""The param that has a collection's name, of ``rag.*`` and of the methods that these call."""

_encode: Final = msgspec.json.Encoder().encode


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    estimated: bool = False

    def to_wire(self) -> dict[str, int]:
        total = self.prompt_tokens + self.completion_tokens
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": total,
        }


class _End(msgspec.Struct):
    """The result of a method that is declared as a chat and streams, where it gives one."""

    finish_reason: Literal["stop", "length", "content_filter"] = "stop"
    usage: _Usage | None = None


class _RagMetadata(msgspec.Struct):
    generator: str = ""
    finish_reason: str = "stop"
    usage: _Usage | None = None


class _RagResult(msgspec.Struct):
    answer: str
    metadata: _RagMetadata


class _Part(msgspec.Struct):
    text: str


_rag_result: Final = msgspec.json.Decoder(_RagResult).decode
_result: Final = msgspec.json.Decoder(str | _End | None).decode
_text: Final = msgspec.json.Decoder(str).decode
_part: Final = msgspec.json.Decoder(_Part).decode


class _Ending(msgspec.Struct):
    """How an answer ended.

    Attributes:
        text: all of it, where it did not come in chunks.
        more: the member ``trunkline``.
    """

    text: str | None
    finish_reason: str
    usage: _Usage | None
    more: dict[str, Any]


class ChatForm(Form):
    """The form of one chat completion.

    Args:
        call: what answers the request.
        request_id: of the HTTP request.
        headers: further ones of the response.
        limit: bytes of a text that is put together here.
    """

    heartbeat = b":\n"  # some clients take a blank line behind a comment for an event without data

    def __init__(
        self, request: ChatRequest, call: ChatCall, request_id: str, headers: dict[str, str], limit: int
    ) -> None:
        self.gathers = not request.stream
        self._request = request
        self._call = call
        self._id = f"chatcmpl-{request_id}"
        self._created = int(time.time())
        self._headers = headers
        self._room = limit
        self._texts: list[str] = []
        self._begun = False
        self._failure: RpcError | None = None

    # --- in one piece ---

    @override
    def take(self, message: bytes) -> None:
        text = self._text_of(message)
        self._room -= len(text.encode())
        if self._room < 0:
            self._texts.clear()
            words = "the answer is too long for one piece: ask for it as a stream"
            self._failure = limit_error("max_message_bytes", words, retry_after_ms=None)
        elif text:
            self._texts.append(text)

    @override
    def answer(self, reply: bytes | None) -> HttpAnswer:
        assert reply is not None, "the call has an id"
        ending = self._ending(reply)
        if isinstance(ending, RpcError):
            return error_answer(ending, self._headers)
        text = "".join(self._texts) if ending.text is None else ending.text
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": ending.finish_reason}
        usage = None if ending.usage is None else ending.usage.to_wire()
        body = self._head("chat.completion") | {"choices": [choice], "usage": usage} | ending.more
        return HttpAnswer(200, _encode(body), self._headers)

    # --- as events ---

    @override
    def instead(self, reply: bytes) -> HttpAnswer | None:
        ending = self._ending(reply)
        return error_answer(ending, self._headers) if isinstance(ending, RpcError) else None

    @override
    def event(self, message: bytes) -> bytes:
        if b'"method":' in message[:32]:
            text = self._text_of(message)
            return self._opening() + (self._delta({"content": text}) if text else b"")
        ending = self._ending(message)
        if isinstance(ending, RpcError):
            return b"data: %b\n\n" % error_body(ending)  # and no [DONE]: who overlooks it must not take this for all
        said = self._delta({"content": ending.text}) if ending.text else b""
        end = self._delta({}, ending.finish_reason, ending.more)
        return self._opening() + said + end + self._usage(ending.usage) + DONE

    def _opening(self) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        return self._delta({"role": "assistant", "content": ""})

    def _delta(
        self, delta: dict[str, Any], finish_reason: str | None = None, more: dict[str, Any] | None = None
    ) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        chunk = self._head("chat.completion.chunk") | {"choices": [choice]}
        if self._request.include_usage:
            chunk["usage"] = None
        return b"data: %b\n\n" % one_line(_encode(chunk | (more or {})))

    def _usage(self, usage: _Usage | None) -> bytes:
        if usage is None or not self._request.include_usage:
            return b""
        chunk = self._head("chat.completion.chunk") | {"choices": [], "usage": usage.to_wire()}
        return b"data: %b\n\n" % _encode(chunk)

    # --- what the method says ---

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": self._request.model,
            "system_fingerprint": None,
        }

    def _text_of(self, message: bytes) -> str:
        """The text in a chunk; empty for other messages."""
        said = decode_notification(message)
        params = said.params
        if said.method == "$/progress" or params.is_final:
            return ""
        try:
            if not self._call.is_rag:
                return _text(params.data)
            return _part(params.data).text if params.chunk_type == "partial_answer" else ""
        except msgspec.ValidationError as error:
            self._failure = _not_a_chat(self._call.method, error)
            return ""

    def _ending(self, reply: bytes) -> _Ending | RpcError:
        found = decode_reply(reply)
        if found.error is not None:
            error = RpcError.from_wire(found.error)
            return no_model(self._request.model) if self._is_about_the_model(error) else error
        if self._failure is not None:
            return self._failure
        try:
            return self._rag_ending(found.result) if self._call.is_rag else self._own_ending(found.result)
        except msgspec.ValidationError as error:
            return _not_a_chat(self._call.method, error)

    def _is_about_the_model(self, error: RpcError) -> bool:
        """Whether a collection that was asked for by its name as a model is not there, or has a name that none has."""
        if not self._call.is_rag or "pipeline_id" in self._call.params:
            return False
        return error.data.get("no_such") == "collection" or param_of(error) in OF_COLLECTION

    def _rag_ending(self, result: msgspec.Raw) -> _Ending:
        found = _rag_result(result)
        unwritten = self._call.unwritten if found.metadata.generator == EXTRACTIVE else []
        whole = msgspec.json.decode(result, type=dict[str, msgspec.Raw])
        shown = ("technique", "query", "retrieved_documents", "performance", "metadata")
        ignored = unwritten + self._call.ignored
        more = {name: whole[name] for name in shown if name in whole} | {"ignored": ignored}
        text = None if self._request.stream else found.answer
        usage = found.metadata.usage
        told = None if usage is None or usage.estimated else usage  # clients take it for what they pay
        return _Ending(text, found.metadata.finish_reason, told, {"trunkline": more})

    def _own_ending(self, result: msgspec.Raw) -> _Ending:
        found = _result(result)
        more = {"trunkline": {"ignored": self._call.ignored}}
        if isinstance(found, str):
            return _Ending(found, "stop", None, more)
        end = found or _End()
        return _Ending(None, end.finish_reason, end.usage, more)


def _not_a_chat(method: str, error: Exception) -> RpcError:
    words = f"{method} does not say what a method with openai='chat' says: {error}"
    return RpcError(ErrorCode.SERIALIZATION_ERROR, words, maybe_executed=True)
