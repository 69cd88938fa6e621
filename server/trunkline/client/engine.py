"""The parts of a client, put together."""

from __future__ import annotations

import asyncio

from trunkline.client.calling import Callers, Chores
from trunkline.client.connection_state import CloseInfo, DisconnectedError
from trunkline.client.conversation import Conversation
from trunkline.client.inbound import Inbound
from trunkline.client.link import Door
from trunkline.client.outgoing import refused_as_too_large
from trunkline.client.pending import Calls
from trunkline.client.reconnecting import Supervisor
from trunkline.client.retrying import Random, Reconnect, Retry
from trunkline.client.serving import Serving
from trunkline.client.subscribing import Subscriptions
from trunkline_protocol.session import ResumeRefusal


class Engine:
    """Everything of a client but its face; a :class:`trunkline.client.reconnecting.Client`.

    Args:
        door: where the hub is.
        reconnect: None if the first end of the connection is the last one.
        retry: of calls that may be made again; None for never.
        random: what all waits are drawn from.
        max_queued: frames that may wait for a connection.
        max_queued_bytes: bytes that may.
    """

    def __init__(
        self,
        door: Door,
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
        self.subscriptions = Subscriptions(self.callers)
        self._chores = Chores(self._calls, random)
        self.serving = Serving(self.callers, self._chores.run, self.conversation.send, self.conversation.require_size)
        self.take = Inbound(self.conversation, self._calls, self.subscriptions, self.serving).take
        self.supervisor = Supervisor(door, self.conversation, reconnect, self, random, closed)

    def connected(self, resumed: bool) -> None:
        """See :class:`trunkline.client.reconnecting.Client`."""
        chores = self.subscriptions.restore()
        if not resumed:
            chores += self.serving.restore()
        self._chores.run(chores)

    def too_large(self) -> None:
        """See :class:`trunkline.client.reconnecting.Client`."""
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
        """See :class:`trunkline.client.reconnecting.Client`."""
        self._chores.cut()
        self._calls.cut()

    def lost(self, reason: ResumeRefusal | None, words: str) -> None:
        """See :class:`trunkline.client.reconnecting.Client`."""
        self._chores.lost()
        self._calls.lost(lambda: DisconnectedError(words, maybe_executed=True, reason=reason))
        self.serving.lost()

    def ended(self, words: str, *, own: bool) -> None:
        """See :class:`trunkline.client.reconnecting.Client`."""
        self._chores.lost()
        self._calls.close(words)
        # Who closes knows it: loops just end then.
        self.subscriptions.end(None if own else DisconnectedError(words, maybe_executed=False))
        self.serving.lost()

    async def close(self) -> None:
        """End the session and the connection, and wait until everything of this client has ended."""
        await self.supervisor.close()
        await self.callers.close()
        await self.serving.close()
