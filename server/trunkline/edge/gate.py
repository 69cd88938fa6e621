"""Holds calls that arrive before the executors are ready, so that a program may start a hub and call it at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from trunkline.edge.translation import Receiver
from trunkline.hub.principal import PENDING, Principal
from trunkline_protocol.codecs.dialect import Deferred
from trunkline_protocol.codecs.jsonrpc import method_of
from trunkline_protocol.hub_methods import SESSION_OPEN

MAX_HELD_BYTES: Final = 1024 * 1024
"""With more bytes than this waiting the peer is not read."""

FIRST_ONLY: Final = SESSION_OPEN.name
"""The hub answers this method itself, but it has to come first, and messages after it are numbered: from here on
all of them wait, so that none overtakes another."""


class Gate:
    """Stands between a dialect and the hub, closed at first: holds messages until it is opened.

    Args:
        intake: takes the messages that pass.
        answers: whether the hub answers a method itself, executors or not: such calls pass at once.
        hold_back: stops reading the peer, for a reason.
    """

    def __init__(self, intake: Receiver, answers: Callable[[str], bool], hold_back: Callable[[str], None]) -> None:
        self._intake = intake
        self._answers = answers
        self._hold_back = hold_back
        self._held: list[bytes] = []
        self._bytes = 0
        self._is_open = False
        self._in_order = False

    @property
    def holds(self) -> bool:
        """Whether messages wait behind the gate."""
        return bool(self._held)

    def is_shut_to(self, principal: Principal) -> bool:
        """Whether messages of this principal have to pass the gate; unauthenticated ones are refused, not held."""
        return not self._is_open and principal is not PENDING

    def receive(self, message: bytes) -> None:
        """Hold a JSON-RPC message, or pass it on at once where the hub answers it itself."""
        method = method_of(message)
        self._in_order = self._in_order or method == FIRST_ONLY
        if not self._in_order and self._answers(method):
            self._intake.receive(message)
            return
        self._held.append(message)
        self._bytes += len(message)
        if self._bytes > MAX_HELD_BYTES:
            self._hold_back("starting")

    def end(self) -> None:
        """Break the reference cycle with the socket, which is gone: only a garbage collection would free the two."""
        self._hold_back = _nothing

    def take(self, deferred: Deferred) -> None:
        """Hand on a request as it is: no dialect of a peer behind a gate defers any."""
        self._intake.take(deferred)

    def open(self) -> None:
        """Pass on what waits, in order, and hold nothing any more."""
        self._is_open = True
        held, self._held = self._held, []
        for message in held:
            self._intake.receive(message)


def _nothing(_reason: str) -> None:
    """Replaces ``hold_back`` once the socket is gone."""
