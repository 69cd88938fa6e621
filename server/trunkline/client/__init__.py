"""The Python client: the same shape as the JavaScript one."""

from trunkline.client.connect import connect
from trunkline.client.errors import DisconnectedError
from trunkline.client.events import Event, Gap, Position
from trunkline.client.hub import Hub
from trunkline.client.streams import ResultStream, StreamChunk
from trunkline.client.subscriptions import Subscription

__all__ = [
    "DisconnectedError",
    "Event",
    "Gap",
    "Hub",
    "Position",
    "ResultStream",
    "StreamChunk",
    "Subscription",
    "connect",
]
