"""Registrations that wait until it is known which methods the executors have."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from trunkline.hub.connection import ClientCall
from trunkline_protocol.errors import RpcError
from trunkline_protocol.hub_messages import RegisterParams

HELD_SECONDS: Final = 10.0
"""How long a registration waits for executors that start, before it is refused until later."""

Register = Callable[[ClientCall, RegisterParams], None]


class HeldRegistrations:
    """Calls of ``method.register`` that are made again when the executors have changed.

    Args:
        register: makes such a call once more; holds it again, or raises :class:`RpcError`.
    """

    def __init__(self, register: Register) -> None:
        self._register = register
        self._held: dict[ClientCall, tuple[RegisterParams, RpcError, asyncio.TimerHandle]] = {}

    def hold(self, call: ClientCall, params: RegisterParams, why: RpcError) -> None:
        """Keep a call; after :data:`HELD_SECONDS` since it came it ends as ``why``, as of its last attempt."""
        if (before := self._held.get(call)) is not None:
            timer = before[2]
        else:
            timer = asyncio.get_running_loop().call_later(HELD_SECONDS, self._give_up, call)
        self._held[call] = params, why, timer

    def executors_changed(self) -> None:
        """Make the calls again whose callers still want an answer."""
        for call, (params, _, timer) in tuple(self._held.items()):
            if not call.settled:
                self._decide(call, params)
            if call.settled:
                timer.cancel()
                del self._held[call]

    def _decide(self, call: ClientCall, params: RegisterParams) -> None:
        try:
            self._register(call, params)
        except RpcError as error:
            call.settle_error(error)

    def _give_up(self, call: ClientCall) -> None:
        _, why, _ = self._held.pop(call)
        call.settle_error(why)
