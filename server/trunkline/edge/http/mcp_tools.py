"""Methods as MCP tools, and their outcomes as MCP results. Pure; imported when the first MCP client connects.

MCP (Model Context Protocol, revisions up to 2026-07-28) requires an object at the root of a tool's input and output.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import mcp_types
import msgspec

from trunkline.edge.http.exchange import Notification, Reply
from trunkline_protocol.catalogue import MethodInfo
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.hub_methods import STREAM_CHUNK

MAX_CHUNKS: Final = 10_000
MAX_CHUNK_BYTES: Final = 4 * 1024 * 1024
"""Limits of a stream's length: a tool's result is one message."""

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode


def tool(info: MethodInfo) -> mcp_types.Tool:
    """The tool for one method, with the method's name and the JSON Schemas of its parameters."""
    required = [parameter.name for parameter in info.parameters if parameter.required]
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {parameter.name: _hoisted(parameter.schema) for parameter in info.parameters},
        "additionalProperties": info.open,
    }
    if required:
        schema["required"] = required
    definitions = _definitions([parameter.schema for parameter in info.parameters])
    if definitions:
        schema["$defs"] = definitions
    return mcp_types.Tool(
        name=info.name,
        description=info.summary or info.name,
        input_schema=schema,
        annotations=mcp_types.ToolAnnotations(idempotent_hint=info.idempotent),
    )


def _definitions(schemas: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for schema in schemas:
        found.update(schema.get("$defs", {}))
    return found


def _hoisted(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter's schema without its definitions: ``#/$defs/`` means the root of the whole."""
    return {key: value for key, value in schema.items() if key != "$defs"}


class ToolOutcome:
    """Collects the chunks and the result of one tool call, and passes on its progress.

    Args:
        report: sends an MCP progress notification: progress, total, message.
    """

    def __init__(self, report: Callable[[float, float | None, str | None], Awaitable[None]]) -> None:
        self._report = report
        self._reports = 0
        self._chunks: list[Any] = []
        self._chunk_bytes = 0
        self._is_stream = False

    async def notified(self, message: Notification) -> None:
        """Take a chunk, or a progress report, and report it to the MCP client.

        Raises:
            RpcError: 2003, the stream is longer than one result may be.
        """
        params = message.params
        if message.method == STREAM_CHUNK.name:
            self._is_stream = True
            if params.is_final:
                return
            value = {"type": params.chunk_type, "data": _decode(params.data)}
            self._keep(value)
        else:
            value = _decode(params.value)
        self._reports += 1
        await self._report(*progress(value, self._reports))

    def _keep(self, chunk: dict[str, Any]) -> None:
        self._chunks.append(chunk)
        self._chunk_bytes += len(_encode(chunk))
        if len(self._chunks) > MAX_CHUNKS or self._chunk_bytes > MAX_CHUNK_BYTES:
            raise RpcError(
                ErrorCode.RESOURCE_EXHAUSTED,
                f"the stream is longer than a tool's result may be ({MAX_CHUNKS} chunks, {MAX_CHUNK_BYTES} bytes)",
                maybe_executed=True,
            )

    def result(self, reply: Reply) -> mcp_types.CallToolResult:
        """The tool's result, from the JSON-RPC response to the call."""
        if reply.error is not None:
            return failure(reply.error)
        return success(_decode(reply.result), self._chunks if self._is_stream else None)


def success(value: Any, chunks: list[Any] | None) -> mcp_types.CallToolResult:
    """The MCP result of a call that succeeded.

    Args:
        value: the method's result.
        chunks: what the method streamed before its result; None where it is no stream.
    """
    structured = value if isinstance(value, dict) and chunks is None else {"result": value}
    if chunks is not None:
        structured["chunks"] = chunks
    text = value if isinstance(value, str) and chunks is None else _encode(structured).decode()
    return mcp_types.CallToolResult(
        content=[mcp_types.TextContent(type="text", text=text)], structured_content=structured
    )


def failure(error: dict[str, Any]) -> mcp_types.CallToolResult:
    """The MCP result of a call that failed, with the typed error where the model can read it and react."""
    data = error.get("data") or {}
    words = f"{data.get('type', 'error')} {error['code']}: {error['message']}"
    return mcp_types.CallToolResult(
        content=[mcp_types.TextContent(type="text", text=words)], structured_content={"error": error}, is_error=True
    )


def progress(value: Any, count: int) -> tuple[float, float | None, str | None]:
    """A progress report of any shape as MCP's progress, total and message.

    ``{progress, total?, message?}`` and ``{done, total?, message?}`` are understood, and bare numbers.

    Args:
        count: of reports so far; the progress of a report that has no number.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value), None, None
    if isinstance(value, dict):
        done, total, message = value.get("progress", value.get("done")), value.get("total"), value.get("message")
        if isinstance(done, (int, float)):
            whole = float(total) if isinstance(total, (int, float)) else None
            return float(done), whole, message if isinstance(message, str) else None
    return float(count), None, value if isinstance(value, str) else _encode(value).decode()
