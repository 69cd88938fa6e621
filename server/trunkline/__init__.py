"""Trunkline: one hub that carries calls and streams between language runtimes, over a pool of executors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trunkline.version import __version__

if TYPE_CHECKING:
    from trunkline.client import (
        AuthenticationError,
        ConnectError,
        DisconnectedError,
        Event,
        Gap,
        Hub,
        Position,
        Reconnect,
        Retry,
        ServedCall,
        StreamChunk,
        SyncHub,
        UsageError,
        connect,
        connect_sync,
    )
    from trunkline.methods.context import Chunk, Context
    from trunkline.methods.declaration import Batch, method
    from trunkline.methods.event_types import event
    from trunkline.methods.inputs import InputStream
    from trunkline.methods.techniques import Passage, Retrieval, technique
    from trunkline.methods.upload import Upload
    from trunkline_protocol.errors import ErrorCode, RpcError
    from trunkline_protocol.principals import Principal

__all__ = [
    "AuthenticationError",
    "Batch",
    "Chunk",
    "ConnectError",
    "Context",
    "DisconnectedError",
    "ErrorCode",
    "Event",
    "Gap",
    "Hub",
    "InputStream",
    "Passage",
    "Position",
    "Principal",
    "Reconnect",
    "Retrieval",
    "Retry",
    "RpcError",
    "ServedCall",
    "StreamChunk",
    "SyncHub",
    "Upload",
    "UsageError",
    "__version__",
    "connect",
    "connect_sync",
    "event",
    "method",
    "technique",
]

_HOMES = {
    "AuthenticationError": "trunkline.client",
    "Batch": "trunkline.methods.declaration",
    "Chunk": "trunkline.methods.context",
    "ConnectError": "trunkline.client",
    "Context": "trunkline.methods.context",
    "DisconnectedError": "trunkline.client",
    "ErrorCode": "trunkline_protocol.errors",
    "Event": "trunkline.client",
    "Gap": "trunkline.client",
    "Hub": "trunkline.client",
    "InputStream": "trunkline.methods.inputs",
    "Passage": "trunkline.methods.techniques",
    "Position": "trunkline.client",
    "Principal": "trunkline_protocol.principals",
    "Reconnect": "trunkline.client",
    "Retrieval": "trunkline.methods.techniques",
    "Retry": "trunkline.client",
    "RpcError": "trunkline_protocol.errors",
    "ServedCall": "trunkline.client",
    "StreamChunk": "trunkline.client",
    "SyncHub": "trunkline.client",
    "Upload": "trunkline.methods.upload",
    "UsageError": "trunkline.client",
    "connect": "trunkline.client",
    "connect_sync": "trunkline.client",
    "event": "trunkline.methods.event_types",
    "method": "trunkline.methods.declaration",
    "technique": "trunkline.methods.techniques",
}


def __getattr__(name: str) -> Any:
    """Load public names on first use: the hub does not pay for pydantic, nor an executor for the client."""
    if name not in _HOMES:
        raise AttributeError(f"module 'trunkline' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
