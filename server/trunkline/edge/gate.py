"""Calls that came before the hub can serve wait here, so that a program may be started and asked in one breath."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from trunkline.edge.translation import Receiver
from trunkline.hub.principal import PENDING, Principal
from trunkline_protocol.codecs.dialect import Deferred
from trunkline_protocol.codecs.jsonrpc import method_of
from trunkline_protocol.hub_methods import SESSION_OPEN

MAX_HELD_BYTES: Final = 1024 * 1024
"""With more than this waiting the peer is not read."""

FIRST_ONLY: Final = SESSION_OPEN.name
"""Answered by the hub itself; but it has to be first, and from its reply on messages are numbered: behind it none
overtakes another."""


class Gate:
    """Between a dialect and the hub. Closed at first.

    Args:
        intake: where messages go that pass.
        answers: whether the hub answers a method itself, executors or not: such calls pass at once.
        hold_back: asked not to read the peer on, with a reason.
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
        """Whether something waits."""
        return bool(self._held)

    def is_shut_to(self, principal: Principal) -> bool:
        """Whether messages of this peer are to come here first. Who has not authenticated is refused, not held."""
        return not self._is_open and principal is not PENDING

    def receive(self, message: bytes) -> None:
        """Take a JSON-RPC message."""
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
        """The socket is gone. It has this, and is what is held back: only a collection would free them."""
        self._hold_back = _nothing

    def take(self, deferred: Deferred) -> None:
        """Hand on a request as it is: no dialect of a peer behind a gate defers any."""
        self._intake.take(deferred)

    def open(self) -> None:
        """Hand on what waits, and hold nothing any more."""
        self._is_open = True
        held, self._held = self._held, []
        for message in held:
            self._intake.receive(message)


def _nothing(_reason: str) -> None:
    """Nobody is there to be held back."""
