"""What a door of one exchange need not do: nobody can subscribe there, and there are no sessions."""

from __future__ import annotations

from collections.abc import Callable

from trunkline.hub.connection import Connection
from trunkline_protocol.events import Event


class BriefDoor:
    """That half of a :class:`trunkline.hub.connection.Door`; the other is the exchange's own."""

    def write_event(self, event: Event) -> None:
        """See :class:`trunkline.hub.outbox.Writer`. Nobody can subscribe here."""

    @property
    def write_payload(self) -> Callable[[bytes], object]:
        """See :class:`trunkline.hub.outbox.Writer`. Nobody can subscribe here."""
        return _ignore

    def adopt(self, connection: Connection) -> None:
        """See :class:`trunkline.hub.connection.Door`. There are no sessions here."""

    def disown(self) -> None:
        """See :class:`trunkline.hub.connection.Door`. There are no sessions here."""


def _ignore(_payload: bytes) -> None:
    """Nobody can subscribe here."""
