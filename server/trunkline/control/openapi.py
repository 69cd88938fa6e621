"""The OpenAPI 3.1 document: methods and pages that are served over HTTP."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from trunkline.control.method import schema_of
from trunkline.control.openai_paths import SCHEMAS, openai_paths
from trunkline.control.schemas import (
    ANY,
    BOOLEAN,
    ERROR,
    INTEGER,
    REQUEST,
    RESPONSE,
    STRING,
    Components,
    array,
    record,
    ref,
)
from trunkline.version import __version__
from trunkline_protocol.catalogue import MethodInfo
from trunkline_protocol.form_fields import ANYTHING, FORM, OCTETS, Declared, Takes, declared
from trunkline_protocol.health_reports import DetailedServices, Health
from trunkline_protocol.hub_methods import CONNECTION_METHODS
from trunkline_protocol.json_schema import Schema

VERSION: Final = "3.1.0"
PREFIX: Final = "/api/v1/"

_PLAIN_PATH: Final = re.compile(r"[\w.~/-]+", re.ASCII)
_JSON: Final = "application/json"
_PROBLEM: Final = "application/problem+json"
_EVENTS: Final = "text/event-stream"

_FILE: Final[Schema] = {"type": "string", "contentMediaType": OCTETS}

_FIXED: Final[Schema] = {
    "Error": ERROR,
    "Problem": record(
        {"type": STRING, "title": STRING, "status": INTEGER, "detail": STRING, "error": ref("Error")},
    )
    | {"description": "RFC 9457; `error` is the error object of JSON-RPC"},
    "JsonRpcRequest": REQUEST,
    "JsonRpcResponse": RESPONSE,
    "Health": schema_of(Health),
    "DetailedHealth": schema_of(DetailedServices),
    "Ready": record({"ready": BOOLEAN, "causes": array(STRING)}),
} | SCHEMAS

_HEADERS: Final[dict[str, tuple[str, Schema, str]]] = {
    "RequestId": ("X-Request-Id", {"type": "string", "maxLength": 256}, "Passed to the method, and returned"),
    "Traceparent": ("traceparent", STRING, "W3C trace context"),
    "IdempotencyKey": ("Idempotency-Key", {"type": "string", "maxLength": 256}, "Run once for all calls with it"),
    "TimeoutMs": ("X-Timeout-Ms", {"type": "number", "exclusiveMinimum": 0}, "Deadline in milliseconds"),
    "Prefer": ("Prefer", STRING, "RFC 7240; `wait=<seconds>` is the deadline where X-Timeout-Ms is absent"),
    "Priority": ("X-Priority", {"enum": ["low", "normal", "high"]}, "Order in the queue"),
}

_PROBLEMS: Final = {
    "400": "The body is not valid JSON, or the request cannot be made over HTTP",
    "401": "Missing or invalid credentials",
    "403": "Host, origin or role not allowed",
    "404": "Unknown method",
    "406": "The method streams: send Accept: text/event-stream",
    "408": "The body did not arrive in time",
    "413": "The body is too large",
    "415": "The Content-Type is none that the method takes, or the body is compressed",
    "422": "Invalid params or headers",
    "429": "Too many calls; see Retry-After",
    "500": "The method failed",
    "502": "The executor died during the call",
    "503": "Overloaded, starting or stopping; see Retry-After",
    "504": "The deadline passed",
}


def openapi(infos: Iterable[MethodInfo]) -> dict[str, Any]:
    """The OpenAPI document.

    Args:
        infos: the catalogue entries of all methods; those that need a connection are left out.
    """
    components = Components(_FIXED)
    tasks = {
        PREFIX + info.http_path: {"post": _task(info, components)}
        for info in sorted(infos, key=lambda info: info.name)
        if info.name not in CONNECTION_METHODS and info.input is None and _PLAIN_PATH.fullmatch(info.http_path)
    }
    return {
        "openapi": VERSION,
        "info": {
            "title": "Trunkline",
            "version": __version__,
            "description": "Methods over HTTP. Over a WebSocket: /openrpc.json, and with events /asyncapi.json",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}, {}],
        "paths": tasks | {"/rpc": {"post": _rpc()}} | openai_paths() | _pages(),
        "components": {
            "schemas": components.schemas,
            "parameters": {
                key: {"name": name, "in": "header", "required": False, "schema": schema, "description": words}
                for key, (name, schema, words) in _HEADERS.items()
            },
            "responses": {
                f"Problem{status}": {"description": words, "content": {_PROBLEM: {"schema": ref("Problem")}}}
                for status, words in _PROBLEMS.items()
            },
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _task(info: MethodInfo, components: Components) -> dict[str, Any]:
    properties = {parameter.name: components.add(parameter.schema) for parameter in info.parameters}
    params: Schema = {"type": "object"}
    if properties or not info.open:
        params["properties"] = properties
    if not info.open:
        params["additionalProperties"] = False
    required = [parameter.name for parameter in info.parameters if parameter.required]
    if required:
        params["required"] = required
    events: dict[str, Any] = {"schema": STRING}
    if info.chunk is not None:
        events["x-chunk"] = components.add(info.chunk)
    result = components.add(info.result)
    content = {_EVENTS: events} if info.streaming else {_JSON: {"schema": result}, _EVENTS: events}
    if not info.streaming and declared(info.result) == Declared(Takes.BYTES):
        content[OCTETS] = {"schema": {}}
    words = "Events `chunk`, then `result`, or `error`" if info.streaming else "The result"
    return {
        "operationId": info.name,
        "summary": info.summary,
        "tags": [info.pack],
        "parameters": [{"$ref": f"#/components/parameters/{key}"} for key in _HEADERS],
        "requestBody": {"required": bool(required), "content": {_JSON: {"schema": params}} | _uploads(info, params)},
        "responses": {"200": {"description": words, "content": content}}
        | {
            status: {"$ref": f"#/components/responses/Problem{status}"}
            for status in _PROBLEMS
            if status != "406" or info.streaming
        },
        "x-trunkline": {"streaming": info.streaming, "idempotent": info.idempotent},
    }


def _uploads(info: MethodInfo, params: Schema) -> dict[str, Any]:
    """The bodies, beside JSON, of a method that takes files: a form, and the file itself where it is one."""
    takes = {parameter.name: declared(parameter.schema) for parameter in info.parameters}
    files = [one for one in takes.values() if one.takes & (Takes.BYTES | Takes.UPLOAD) and one.takes != ANYTHING]
    if info.open or not files:
        return {}
    fields = {name: _field(one, params["properties"][name]) for name, one in takes.items()}
    bodies: dict[str, Any] = {FORM: {"schema": params | {"properties": fields}}}
    if sum(one.is_file for one in files) == 1:
        bodies[OCTETS] = {"schema": {}}
    return bodies


def _field(takes: Declared, schema: Schema) -> Schema:
    if takes.takes in (Takes.BYTES, Takes.UPLOAD):
        return array(_FILE) if takes.listed else _FILE
    if takes.takes is Takes.JSON:
        return STRING | {"contentMediaType": _JSON, "contentSchema": schema}
    return schema


def _rpc() -> dict[str, Any]:
    def either(name: str) -> Schema:
        return {"oneOf": [ref(name), array(ref(name)) | {"minItems": 1}]}

    response = {_JSON: {"schema": either("JsonRpcResponse")}}
    return {
        "operationId": "rpc",
        "summary": "JSON-RPC 2.0: one request, notification or batch",
        "tags": ["rpc"],
        "requestBody": {"required": True, "content": {_JSON: {"schema": either("JsonRpcRequest")}}},
        "responses": {
            "200": {
                "description": "The outcome, success or error; as events with Accept: text/event-stream",
                "content": response | {_EVENTS: {"schema": STRING}},
            },
            "204": {"description": "Notifications only"},
        }
        | _refusals("400", "401", "403", "408", "413", "415")
        | {"503": _refusal("Too many connections")},
    }


def _refusal(words: str) -> dict[str, Any]:
    return {"description": words, "content": {_JSON: {"schema": ref("JsonRpcResponse")}}}


def _refusals(*statuses: str) -> dict[str, Any]:
    return {status: _refusal(_PROBLEMS[status]) for status in statuses}


def _pages() -> dict[str, Any]:
    return {
        "/health": _page("health", "Health of the hub", {"200": "Health"}, open_to_all=True),
        "/ready": _page("ready", "Whether the hub can serve", {"200": "Ready", "503": "Ready"}, open_to_all=True),
        "/health/detailed": _page("healthDetailed", "Health of the hub and each executor", {"200": "DetailedHealth"}),
        "/openapi.json": _page("openapi", "This document", {"200": None}),
        "/openrpc.json": _page("openrpc", "The OpenRPC document, the result of rpc.discover", {"200": None}),
        "/asyncapi.json": _page("asyncapi", "The WebSocket, its messages and events", {"200": None}),
    }


def _page(operation: str, summary: str, schemas: dict[str, str | None], *, open_to_all: bool = False) -> dict[str, Any]:
    page: dict[str, Any] = {
        "operationId": operation,
        "summary": summary,
        "tags": ["hub"],
        "responses": {
            status: {
                "description": "Not ready" if status == "503" else summary,
                "content": {_JSON: {"schema": ANY if name is None else ref(name)}},
            }
            for status, name in schemas.items()
        },
    }
    if open_to_all:
        page["security"] = [{}]
    else:
        page["responses"] |= _refusals("401", "403")
    return {"get": page}
