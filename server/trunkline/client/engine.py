"""Puts the parts of a client together, and hands each message of the hub to the part that it concerns."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import msgspec

from trunkline.client.calling import Callers, OwnRequests
from trunkline.client.connection_state import CloseInfo, DisconnectedError
from trunkline.client.conversation import Conversation
from trunkline.client.link import Connector
from trunkline.client.outgoing import refused_as_too_large
from trunkline.client.pending import Calls
from trunkline.client.received_events import event_from, gap_from
from trunkline.client.reconnecting import Reconnector
from trunkline.client.retrying import Random, Reconnect, Retry
from trunkline.client.serving import Serving
from trunkline.client.subscribing import ClientSubscriptions
from trunkline_protocol.binary import MARK, unwrapped
from trunkline_protocol.session import ResumeRefusal


class Engine:
    """All parts of a client behind its public interface; implements :class:`trunkline.client.reconnecting.Client`.

    Args:
        connector: where the hub is.
        reconnect: back-off between attempts; None to never reconnect.
        retry: default policy of calls that may be made again; None for never.
        random: source of all random waits.
        max_queued: frames that may wait for a connection.
        max_queued_bytes: bytes of frames that may wait for a connection.
    """

    def __init__(
        self,
        connector: Connector,
        *,
        reconnect: Reconnect | None,
        retry: Retry | None,
        random: Random,
        max_queued: int,
        max_queued_bytes: int,
    ) -> None:
        closed: asyncio.Future[CloseInfo] = asyncio.get_running_loop().create_future()
        self.conversation = Conversation(max_queued, max_queued_bytes, reconnects=reconnect is not None)
        self._calls = Calls(self.conversation)
        self.callers = Callers(self._calls, self.conversation, closed, retry, random)
        self.subscriptions = ClientSubscriptions(self.callers)
        self._own_requests = OwnRequests(self._calls, random)
        self.serving = Serving(
            self.callers, self._own_requests.run, self.conversation.send, self.conversation.require_size
        )
        self.take = Inbound(self.conversation, self._calls, self.subscriptions, self.serving).take
        self.reconnector = Reconnector(connector, self.conversation, reconnect, self, random, closed)

    def connected(self, resumed: bool) -> None:
        """Restore subscriptions and, where the session was not resumed, registrations."""
        requests = self.subscriptions.restore()
        if not resumed:
            requests += self.serving.restore()
        self._own_requests.run(requests)

    def too_large(self) -> None:
        """End the call with the message for which the hub closed the connection (1009)."""
        call = self._calls.largest(numbered=self.conversation.session is None)
        taken = self.conversation.take_out_oversized(0 if call is None else call.size)
        if taken is not None:
            found, error = taken
            for request_id in found.calls:
                self._calls.refuse(request_id, error)
            if found.served is not None:
                self.serving.refused(found.served)
        elif call is not None:
            self._calls.refuse(call.id, refused_as_too_large(call.size))

    def cut(self) -> None:
        """Drop, or queue for the next connection, the calls that concern the lost connection only."""
        self._own_requests.cut()
        self._calls.cut()

    def lost(self, reason: ResumeRefusal | None, words: str) -> None:
        """End what the hub has forgotten with the session: its calls, as maybe executed, and served calls."""
        self._own_requests.lost()
        error = functools.partial(DisconnectedError, words, maybe_executed=True, reason=reason)
        self._calls.lost(error, self.conversation.unread())
        self.serving.lost()

    def ended(self, words: str, *, own: bool) -> None:
        """End all calls and subscriptions: there will be no connection any more."""
        self._own_requests.lost()
        self._calls.close(words)
        # A user who closes the client gets no error: loops over subscriptions just end.
        self.subscriptions.end(None if own else DisconnectedError(words, maybe_executed=False))
        self.serving.lost()

    async def close(self) -> None:
        """End the session and the connection, and wait until all tasks of this client have ended."""
        await self.reconnector.close()
        await self.callers.close()
        await self.serving.close()


class Inbound:
    """Hands each message of the hub to calls, subscriptions, served methods or the session."""

    def __init__(
        self, conversation: Conversation, calls: Calls, subscriptions: ClientSubscriptions, serving: Serving
    ) -> None:
        self._conversation = conversation
        self._calls = calls
        self._subscriptions = subscriptions
        self._serving = serving

    def take(self, data: bytes) -> bool:
        """Handle one message; returns whether a reader falls behind.

        Raises:
            ProtocolViolation: the message broke a rule of sessions.
            Exception: the message is malformed; of any type.
        """
        message = msgspec.json.decode(data)
        if data.find(MARK) >= 0:
            message = unwrapped(message)
        if not isinstance(message, dict):
            raise ValueError("a message of the hub is not a JSON object")
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
                self._conversation.acknowledged(params["received"], last=params.get("last", False))
            case "stream.credit":
                # Ids of this client's calls are numbers, ids of calls that it serves are strings.
                credited = self._serving if isinstance(params["request_id"], str) else self._calls
                credited.credited(params)
            case "$/cancelRequest":
                self._serving.cancelled(params)
        return False
