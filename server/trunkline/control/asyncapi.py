"""The AsyncAPI 3.0 document: the WebSocket, the messages on it, and the topics the hub itself publishes to."""

from __future__ import annotations

import re
from typing import Any, Final

from trunkline.control.method import schema_of
from trunkline.control.schemas import ERROR, INTEGER, REQUEST, RESPONSE, Schema, array, record, ref
from trunkline.control.topics import TOPICS
from trunkline.version import __version__
from trunkline_protocol.hub_methods import NOTIFICATIONS, HubNotification

VERSION: Final = "3.0.0"


def _key(method: str) -> str:
    """The name of a notification's message in the document: ``cancelRequest`` for ``$/cancelRequest``."""
    first, *others = re.split(r"[._/]", method.removeprefix("$/"))
    return first + "".join(word.capitalize() for word in others)


def _notification(row: HubNotification) -> tuple[str, Schema]:
    params = schema_of(row.params)
    return row.summary, record(
        {"jsonrpc": {"const": "2.0"}, "method": {"const": row.name}, "params": params},
        {"seq": INTEGER} if row.numbered else None,
    )


CALLS: Final[dict[str, tuple[str, Schema]]] = {
    "request": ("A request, or a notification where there is no id", REQUEST),
    "requestBatch": ("A batch of requests", array(ref("Request")) | {"minItems": 1}),
    "response": ("The one reply to a request", RESPONSE),
    "responseBatch": ("The one reply to a batch", array(ref("Response")) | {"minItems": 1}),
}
MESSAGES: Final = CALLS | {_key(row.name): _notification(row) for row in NOTIFICATIONS.values()}

FROM_CLIENT: Final = (
    "request", "requestBatch", "response", *(_key(row.name) for row in NOTIFICATIONS.values() if row.from_client),
)  # fmt: skip
FROM_HUB: Final = (
    "request", "response", "responseBatch", *(_key(row.name) for row in NOTIFICATIONS.values() if row.from_hub),
)  # fmt: skip


def asyncapi() -> dict[str, Any]:
    """The AsyncAPI document. It does not depend on the methods that are served: those are in the OpenRPC document."""
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
        "channels": {"ws": _websocket()} | {_place(topic): _topic(topic) for topic in TOPICS},
        "operations": _operations(),
        "components": {
            "schemas": {"Error": ERROR, "Request": REQUEST, "Response": RESPONSE}
            | {_place(topic): schema_of(data) for topic, (_words, data) in TOPICS.items()},
            "messages": {
                key: {"name": key, "summary": words, "payload": schema} for key, (words, schema) in MESSAGES.items()
            },
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _place(topic: str) -> str:
    return topic.replace(".", "_")


def _websocket() -> dict[str, Any]:
    return {
        "address": "/ws",
        "servers": [{"$ref": "#/servers/hub"}],
        "messages": {key: {"$ref": f"#/components/messages/{key}"} for key in MESSAGES},
        "bindings": {"ws": {"method": "GET", "bindingVersion": "0.1.0"}},
    }


def _topic(topic: str) -> dict[str, Any]:
    words, _data = TOPICS[topic]
    return {
        "address": topic,
        "description": f"{words}. Sent as the data of `event` messages on /ws, to connections that called subscribe",
        "messages": {"data": {"name": topic, "payload": ref(_place(topic))}},
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
        key = _place(topic)
        operations[f"send_{key}"] = {
            "action": "send",
            "channel": {"$ref": f"#/channels/{key}"},
            "messages": messages(("data",), key),
        }
    return operations
