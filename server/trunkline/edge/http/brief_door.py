"""The half of a door that one exchange has no use for: no subscriptions, no sessions, nothing more to read."""

from __future__ import annotations

from collections.abc import Callable

from typing_extensions import override

from trunkline.hub.connection import Connection, Door
from trunkline_protocol.events import Event


class BriefDoor(Door):
    """A :class:`trunkline.hub.connection.Door` without events, sessions and more to read; subclasses add the rest."""

    @override
    def write_event(self, event: Event) -> None:
        pass

    @property
    @override
    def write_payload(self) -> Callable[[bytes], object]:
        return _ignore

    @override
    def pause_reading(self) -> None:
        pass

    @override
    def resume_reading(self) -> None:
        pass

    @override
    def adopt(self, connection: Connection) -> None:
        pass

    @override
    def disown(self) -> None:
        pass


def _ignore(_payload: bytes) -> None:
    """Drop an event's payload: there are no subscriptions."""
