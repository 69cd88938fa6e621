"""What comes from the hub, handed to whom it concerns."""

from __future__ import annotations

from typing import Any

import msgspec

from trunkline.client.conversation import Conversation
from trunkline.client.pending import Calls
from trunkline.client.received_events import Event, Gap
from trunkline.client.serving import Serving
from trunkline.client.subscribing import Subscriptions
from trunkline_protocol.binary import MARK, unwrapped


class Inbound:
    """One client's."""

    def __init__(
        self, conversation: Conversation, calls: Calls, subscriptions: Subscriptions, serving: Serving
    ) -> None:
        self._conversation = conversation
        self._calls = calls
        self._subscriptions = subscriptions
        self._serving = serving

    def take(self, data: bytes) -> bool:
        """Handle one message; returns whether somebody does not keep up.

        Raises:
            ProtocolViolation: it broke a rule of sessions.
            Exception: it makes no sense, in whatever way.
        """
        message = msgspec.json.decode(data)
        if MARK in data:
            message = unwrapped(message)
        if not isinstance(message, dict):
            raise ValueError("a message is no object, and no batch was sent that one could answer")
        seq = message.get("seq")
        if seq is not None and not self._conversation.receive(seq, len(data)):
            return False
        method = message.get("method")
        if method is None:
            self._calls.answered(message)
        elif "id" in message:
            self._serving.asked(message)
        else:
            return self._notified(method, message.get("params"), len(data))
        return False

    def _notified(self, method: str, params: Any, size: int) -> bool:
        match method:
            case "event":
                return self._subscriptions.deliver(event_from(params))
            case "event.gap":
                return self._subscriptions.deliver(gap_from(params))
            case "stream_chunk":
                self._calls.streamed(params, size)
            case "$/progress":
                self._calls.reported(params)
            case "session.ack":
                self._conversation.acknowledged(params["received"])
            case "stream.credit":
                # Calls of this client have numbers as ids, those that it serves have text.
                credited = self._serving if isinstance(params["request_id"], str) else self._calls
                credited.credited(params)
            case "$/cancelRequest":
                self._serving.cancelled(params)
        return False


def event_from(params: dict[str, Any]) -> Event:
    """The params of ``event``."""
    return Event(params["topic"], params["data"], params["epoch"], params["offset"], params["published_at"])


def gap_from(params: dict[str, Any]) -> Gap:
    """The params of ``event.gap``."""
    return Gap(
        params["topic"], params["epoch"], params["from"], params["to"], params.get("count"), params.get("reason", "")
    )
