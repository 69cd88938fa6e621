"""The Python client, with the same interface as the JavaScript client."""

from trunkline.client.connection_state import (
    AuthenticationError,
    Closed,
    CloseInfo,
    Connected,
    ConnectError,
    ConnectionState,
    DisconnectedError,
    Reconnecting,
    UsageError,
)
from trunkline.client.hub import Hub, connect
from trunkline.client.received_events import Event, Gap, History, Position
from trunkline.client.retrying import Reconnect, Retry
from trunkline.client.serving import Registration, ServedCall
from trunkline.client.streams import ResultStream, StreamChunk
from trunkline.client.subscribing import Subscription
from trunkline.client.synchronous import SyncHub, SyncStream, connect_sync
from trunkline_protocol.messages import Window

__all__ = [
    "AuthenticationError",
    "CloseInfo",
    "Closed",
    "ConnectError",
    "Connected",
    "ConnectionState",
    "DisconnectedError",
    "Event",
    "Gap",
    "History",
    "Hub",
    "Position",
    "Reconnect",
    "Reconnecting",
    "Registration",
    "ResultStream",
    "Retry",
    "ServedCall",
    "StreamChunk",
    "Subscription",
    "SyncHub",
    "SyncStream",
    "UsageError",
    "Window",
    "connect",
    "connect_sync",
]
