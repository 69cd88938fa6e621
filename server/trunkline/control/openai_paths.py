"""The part of the OpenAPI document that describes ``/v1/``: what is served there of OpenAI's API."""

from __future__ import annotations

from typing import Any, Final

from trunkline.control.schemas import ERROR, INTEGER, STRING, array, record, ref
from trunkline_protocol.json_schema import Schema

_JSON: Final = "application/json"
_NULLABLE_STRING: Final[Schema] = {"type": ["string", "null"]}
_OBJECT: Final[Schema] = {"type": "object"}


def _model() -> Schema:
    return record({"id": STRING, "object": {"const": "model"}, "created": INTEGER, "owned_by": STRING})


def _usage(*names: str) -> Schema:
    return record(dict.fromkeys((*names, "total_tokens"), INTEGER))


SCHEMAS: Final[dict[str, Schema]] = {
    "OpenAIError": record(
        {
            "error": record(
                {"message": STRING, "type": STRING, "param": _NULLABLE_STRING, "code": STRING, "trunkline": ERROR}
            )
        }
    ),
    "OpenAIModel": _model(),
    "OpenAIModels": record({"object": {"const": "list"}, "data": array(_model())}),
    "ChatCompletion": record(
        {
            "id": STRING,
            "object": {"const": "chat.completion"},
            "created": INTEGER,
            "model": STRING,
            "choices": array(
                record(
                    {"index": INTEGER, "message": record({"role": STRING, "content": STRING}), "finish_reason": STRING}
                )
            ),
            "usage": {"anyOf": [_usage("prompt_tokens", "completion_tokens"), {"type": "null"}]},
            "trunkline": _OBJECT,
        }
    ),
    "EmbeddingList": record(
        {"object": {"const": "list"}, "data": array(_OBJECT), "model": STRING, "usage": _usage("prompt_tokens")}
    ),
}
"""By their names among the document's components."""

_MESSAGE: Final[Schema] = {
    "type": "object",
    "properties": {
        "role": {"enum": ["system", "developer", "user", "assistant"]},
        "content": {"anyOf": [STRING, array(record({"type": {"const": "text"}, "text": STRING})), {"type": "null"}]},
        "name": STRING,
    },
    "required": ["role"],
}

_CHAT: Final[Schema] = {
    "type": "object",
    "properties": {
        "model": STRING | {"description": "A collection, a pipeline's id, or a method with openai='chat'"},
        "messages": array(_MESSAGE) | {"minItems": 1},
        "stream": {"type": ["boolean", "null"]},
        "stream_options": {"anyOf": [record({"include_usage": {"type": "boolean"}}), {"type": "null"}]},
        "temperature": {"type": ["number", "null"], "minimum": 0, "maximum": 2},
        "max_tokens": {"type": ["integer", "null"], "minimum": 1},
        "max_completion_tokens": {"type": ["integer", "null"], "minimum": 1},
        "trunkline": {"type": ["object", "null"], "description": "Further params of rag.execute"},
    },
    "required": ["model", "messages"],
}

_TOKENS: Final[Schema] = array(INTEGER) | {"minItems": 1}

_EMBEDDINGS: Final[Schema] = {
    "type": "object",
    "properties": {
        "model": STRING,
        "input": {"anyOf": [STRING, array(STRING), _TOKENS, array(_TOKENS)]},
        "encoding_format": {"enum": ["float", "base64"]},
        "dimensions": {"type": "integer", "minimum": 1},
        "user": STRING,
    },
    "required": ["model", "input"],
    "additionalProperties": False,
}

_STATUSES: Final = {
    "400": "A parameter is wrong, or not served; `param` names it",
    "401": "Missing or invalid credentials",
    "403": "Host, origin or role not allowed",
    "404": "Unknown model",
    "408": "The body did not arrive in time",
    "413": "The body is too large",
    "415": "The body is not declared as JSON, or compressed",
    "429": "Too many calls; see Retry-After",
    "500": "The method failed",
    "501": "A package is not installed",
    "502": "The executor died during the call",
    "503": "Overloaded, starting or stopping; see Retry-After",
    "504": "The deadline passed",
}


def openai_paths() -> dict[str, Any]:
    """The paths below ``/v1/``, with their operations."""
    chat = _posted(
        "createChatCompletion", "A chat over a collection, by a pipeline or a method", _CHAT, "ChatCompletion"
    )
    chat["responses"]["200"]["content"]["text/event-stream"] = {"schema": STRING}
    one = _operation("retrieveModel", "One model", "OpenAIModel")
    one["parameters"] = [{"name": "model", "in": "path", "required": True, "schema": STRING}]
    return {
        "/v1/chat/completions": {"post": chat},
        "/v1/embeddings": {"post": _posted("createEmbedding", "Vectors of texts", _EMBEDDINGS, "EmbeddingList")},
        "/v1/models": {"get": _operation("listModels", "The models that the caller may use", "OpenAIModels")},
        "/v1/models/{model}": {"get": one},
    }


def _posted(operation: str, summary: str, body: Schema, answer: str) -> dict[str, Any]:
    described = _operation(operation, summary, answer)
    described["requestBody"] = {"required": True, "content": {_JSON: {"schema": body}}}
    return described


def _operation(operation: str, summary: str, answer: str) -> dict[str, Any]:
    refused = {"content": {_JSON: {"schema": ref("OpenAIError")}}}
    return {
        "operationId": operation,
        "summary": summary,
        "tags": ["openai"],
        "responses": {"200": {"description": summary, "content": {_JSON: {"schema": ref(answer)}}}}
        | {status: {"description": words} | refused for status, words in _STATUSES.items()},
    }
