"""The AsyncAPI 3.0 document: the WebSocket, the messages on it, and the topics the hub itself publishes to."""

from __future__ import annotations

from typing import Any, Final

from trunkline.control.schemas import (
    ANY,
    BOOLEAN,
    ERROR,
    ID,
    INTEGER,
    REQUEST,
    RESPONSE,
    STRING,
    Schema,
    array,
    record,
    ref,
)
from trunkline.control.topics import TOPICS
from trunkline.version import __version__

VERSION: Final = "3.0.0"


def _notification(method: str, required: Schema, optional: Schema | None = None) -> Schema:
    params = record(required, optional)
    return record({"jsonrpc": {"const": "2.0"}, "method": {"const": method}, "params": params}, {"seq": INTEGER})


_CHUNK: Final = _notification(
    "stream_chunk",
    {"request_id": ID, "chunk_type": STRING, "data": ANY, "is_final": BOOLEAN, "index": INTEGER},
)
_CREDIT: Final = _notification("stream.credit", {"request_id": ID, "consumed": INTEGER})
_ACK: Final = _notification("session.ack", {"received": INTEGER})
_PROGRESS: Final = _notification("$/progress", {"token": {"type": ["string", "integer"]}, "value": ANY})
_POSITION: Final = {"topic": STRING, "epoch": STRING}

MESSAGES: Final[dict[str, tuple[str, Schema]]] = {
    "request": ("A request, or a notification where there is no id", REQUEST),
    "requestBatch": ("A batch of them", array(ref("Request")) | {"minItems": 1}),
    "response": ("The one reply to a request", RESPONSE),
    "responseBatch": ("The one reply to a batch", array(ref("Response")) | {"minItems": 1}),
    "streamChunk": ("One chunk of a stream, before its reply", _CHUNK),
    "streamCredit": ("How many chunks, or items of input, were taken so far", _CREDIT),
    "streamPush": (
        "One item of a call's input, or its end",
        _notification("stream.push", {"request_id": ID, "index": INTEGER}, {"data": ANY, "is_final": BOOLEAN}),
    ),
    "progress": ("How far a call is, where its metadata has a progress_token", _PROGRESS),
    "cancelRequest": ("The outcome of a call is not wanted any more", _notification("$/cancelRequest", {"id": ID})),
    "sessionAck": ("Which numbered frames have come", _ACK),
    "event": (
        "An event of a topic that was subscribed to",
        _notification("event", _POSITION | {"data": ANY, "offset": INTEGER, "published_at": INTEGER}),
    ),
    "eventGap": (
        "Events that do not come",
        _notification(
            "event.gap",
            _POSITION | {"from": INTEGER, "to": INTEGER, "reason": {"enum": ["slow_consumer", "history", "epoch"]}},
            {"count": INTEGER},
        ),
    ),
}

FROM_CLIENT: Final = (
    "request", "requestBatch", "response", "streamChunk", "streamCredit", "streamPush", "progress", "cancelRequest",
    "sessionAck",
)  # fmt: skip
FROM_HUB: Final = (
    "request", "response", "responseBatch", "streamChunk", "streamCredit", "progress", "cancelRequest", "sessionAck",
    "event", "eventGap",
)  # fmt: skip


def asyncapi() -> dict[str, Any]:
    """The document. It does not depend on what executors serve: that is in OpenRPC."""
    return {
        "asyncapi": VERSION,
        "info": {
            "title": "Trunkline",
            "version": __version__,
            "description": "JSON-RPC 2.0 in text frames. The methods that can be called are in /openrpc.json",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "hub": {
                "host": "{host}",
                "protocol": "ws",
                "description": "wss behind TLS",
                "variables": {"host": {"default": "127.0.0.1:8765"}},
                "security": [{"$ref": "#/components/securitySchemes/bearer"}],
            }
        },
        "channels": {"ws": _websocket()} | {_key(topic): _topic(topic) for topic in TOPICS},
        "operations": _operations(),
        "components": {
            "schemas": {"Error": ERROR, "Request": REQUEST, "Response": RESPONSE}
            | {_key(topic): schema for topic, (_words, schema) in TOPICS.items()},
            "messages": {
                key: {"name": key, "summary": words, "payload": schema} for key, (words, schema) in MESSAGES.items()
            },
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _key(topic: str) -> str:
    return topic.replace(".", "_")


def _websocket() -> dict[str, Any]:
    return {
        "address": "/ws",
        "servers": [{"$ref": "#/servers/hub"}],
        "messages": {key: {"$ref": f"#/components/messages/{key}"} for key in MESSAGES},
        "bindings": {"ws": {"method": "GET", "bindingVersion": "0.1.0"}},
    }


def _topic(topic: str) -> dict[str, Any]:
    words, _schema = TOPICS[topic]
    return {
        "address": topic,
        "description": f"{words}. Comes as the data of `event` messages on /ws, to those who called subscribe",
        "messages": {"data": {"name": topic, "payload": ref(_key(topic))}},
    }


def _operations() -> dict[str, Any]:
    def messages(keys: tuple[str, ...], channel: str = "ws") -> list[dict[str, str]]:
        return [{"$ref": f"#/channels/{channel}/messages/{key}"} for key in keys]

    channel = {"$ref": "#/channels/ws"}
    operations: dict[str, Any] = {
        "answerCalls": {
            "action": "receive",
            "channel": channel,
            "messages": messages(("request", "requestBatch")),
            "reply": {"channel": channel, "messages": messages(("response", "responseBatch"))},
        },
        "receiveFromClient": {"action": "receive", "channel": channel, "messages": messages(FROM_CLIENT)},
        "sendToClient": {"action": "send", "channel": channel, "messages": messages(FROM_HUB)},
    }
    for topic in TOPICS:
        key = _key(topic)
        operations[f"send_{key}"] = {
            "action": "send",
            "channel": {"$ref": f"#/channels/{key}"},
            "messages": messages(("data",), key),
        }
    return operations
