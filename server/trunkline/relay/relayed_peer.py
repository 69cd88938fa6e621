"""The framed peer of a relay: its messages go to the relay, and the hub's messages are written as they arrive."""

from __future__ import annotations

from collections.abc import Callable

from typing_extensions import override

from trunkline.edge.framed.stream import FramedStream
from trunkline_protocol.codecs.dialect import Frame
from trunkline_protocol.codecs.plain import FramedDialect
from trunkline_protocol.framing import Framing


class RelayedPeer(FramedStream):
    """The framed peer at standard input and output, whose hub runs elsewhere.

    Args:
        to_hub: takes each JSON-RPC message.
        room: called with whether the peer reads what is written to it.
        over: called when the peer sends nothing more, and when it is gone.
    """

    def __init__(
        self,
        framing: Framing,
        dialect: FramedDialect,
        *,
        to_hub: Callable[[bytes], None],
        room: Callable[[bool], None],
        over: Callable[[], None],
    ) -> None:
        super().__init__(framing, dialect, "stdio")
        self._to_hub = to_hub
        self._room = room
        self._over = over

    def greet(self) -> None:
        """Tell the peer that the hub is connected, as its dialect does that."""
        self.send_frames(self._dialect.greet([]))

    def send(self, message: bytes) -> None:
        """Write a JSON-RPC message of the hub to the peer."""
        self.send_frames(self._dialect.send(message))

    @override
    def take(self, frame: Frame) -> None:
        received = self._dialect.receive(frame)
        self.send_frames(list(received.to_peer))
        for message in received.to_hub:
            self._to_hub(message)

    @override
    def has_more_to_take(self) -> bool:
        return False

    @override
    def input_ended(self) -> None:
        self._over()

    @override
    def left(self) -> None:
        self._room(True)
        self._over()

    @override
    def flush(self) -> bool:
        return True

    @override
    def pause_writing(self) -> None:
        self._room(False)

    @override
    def resume_writing(self) -> None:
        self._room(True)
        self.finish_if_done()

    @property
    @override
    def waiting_bytes(self) -> int:
        return 0
