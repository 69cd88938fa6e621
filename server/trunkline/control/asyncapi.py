"""The AsyncAPI 3.0 document: the WebSocket, the messages on it, and the topics the hub itself publishes to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from trunkline.control.method import schema_of
from trunkline.control.monitoring_topics import TOPICS
from trunkline.control.schemas import ERROR, INTEGER, REQUEST, RESPONSE, Components, array, record, ref
from trunkline.version import __version__
from trunkline_protocol.catalogue import TopicInfo
from trunkline_protocol.hub_methods import NOTIFICATIONS, HubNotification
from trunkline_protocol.json_schema import Schema

VERSION: Final = "3.0.0"

_TAKEN: Final = frozenset({"ws", "Error", "Request", "Response"})
"""Names of the document that no topic may have."""

_SINGLE: Final = "One token, without dots"
_TOKENS: Final = "One token or more, with dots"


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


def asyncapi(topics: Iterable[TopicInfo] = ()) -> dict[str, Any]:
    """The AsyncAPI document. It does not depend on the methods that are served: those are in the OpenRPC document.

    Args:
        topics: what modules declare, beside the hub's own.
    """
    own = [TopicInfo(topic, words, schema_of(data)) for topic, (words, data) in TOPICS.items()]
    told = sorted(topics, key=lambda topic: topic.pattern)
    placed = _placed([*own, *told])
    fixed = {"Error": ERROR, "Request": REQUEST, "Response": RESPONSE}
    components = Components(fixed | {key: {} for key in placed})
    channels = {place: _topic(topic, components, place) for place, topic in placed.items()}
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
        "channels": {"ws": _websocket()} | channels,
        "operations": _operations(channels),
        "components": {
            "schemas": components.schemas,
            "messages": {
                key: {"name": key, "summary": words, "payload": schema} for key, (words, schema) in MESSAGES.items()
            },
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _placed(topics: Sequence[TopicInfo]) -> dict[str, TopicInfo]:
    """The topics by names that a document may have: ``orders_any`` for ``orders.*``."""
    placed: dict[str, TopicInfo] = {}
    for topic in topics:
        plain = re.sub(r"[^\w-]", "_", topic.pattern.replace("*", "any").replace(">", "all"), flags=re.ASCII)
        names = (plain, *(f"{plain}_{n}" for n in range(2, len(topics) + 3)))
        placed[next(name for name in names if name not in placed and name not in _TAKEN)] = topic
    return placed


def _websocket() -> dict[str, Any]:
    return {
        "address": "/ws",
        "servers": [{"$ref": "#/servers/hub"}],
        "messages": {key: {"$ref": f"#/components/messages/{key}"} for key in MESSAGES},
        "bindings": {"ws": {"method": "GET", "bindingVersion": "0.1.0"}},
    }


def _topic(topic: TopicInfo, components: Components, place: str) -> dict[str, Any]:
    tokens = [
        {"*": f"{{token{index}}}", ">": "{rest}"}.get(token, token)
        for index, token in enumerate(topic.pattern.split("."), 1)
    ]
    summary = f"{topic.summary.rstrip('.')}. " if topic.summary else ""
    components.schemas[place] = components.add(topic.data)
    described: dict[str, Any] = {
        "address": ".".join(tokens),
        "description": f"{summary}Sent as the data of `event` messages on /ws, to connections that called subscribe",
        "messages": {"data": {"name": topic.pattern, "payload": ref(place)}},
    }
    wild = [token.strip("{}") for token, said in zip(tokens, topic.pattern.split("."), strict=True) if token != said]
    parameters = {name: {"description": _TOKENS if name == "rest" else _SINGLE} for name in wild}
    return described | ({"parameters": parameters} if parameters else {})


def _operations(topics: Iterable[str]) -> dict[str, Any]:
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
    for key in topics:
        operations[f"send_{key}"] = {
            "action": "send",
            "channel": {"$ref": f"#/channels/{key}"},
            "messages": messages(("data",), key),
        }
    return operations
