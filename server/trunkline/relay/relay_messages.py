"""The messages that a relay sends to the hub: its peer's requests and responses, and calls of its own."""

from __future__ import annotations

from typing import Final

import msgspec
from typing_extensions import override

from trunkline import defaults
from trunkline.client.outgoing import Outgoing
from trunkline_protocol.calls import DEFAULT_TIMEOUT_MS
from trunkline_protocol.codecs import jsonrpc
from trunkline_protocol.errors import RpcError
from trunkline_protocol.hub_methods import UNNUMBERED_CALLS
from trunkline_protocol.messages import Id, Request

_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
encode: Final = msgspec.json.Encoder().encode


class PeerMessage(Outgoing):
    """A request, notification or batch of the peer.

    Attributes:
        ids: of the calls in it, with their methods.
        about: the call that this notification concerns (credit, input, cancel); None for others.
        is_fed: whether some of the call's input was sent, which cannot be sent again.
        expiry: on the loop's clock, when the call stops waiting for another hub; None where it never waited.
        refusal: the response of a hub that takes no new calls, while the call waits for the next hub.
        is_written: whether a hub may have received it.
        is_over: whether all its calls have their response.
    """

    __slots__ = ("about", "expiry", "ids", "is_fed", "is_over", "is_written", "refusal")

    def __init__(self, body: bytes, ids: dict[Id, str], *, is_numbered: bool = True) -> None:
        super().__init__(body, is_numbered=is_numbered)
        self.ids = ids
        self.about: PeerMessage | None = None
        self.expiry: float | None = None
        self.is_fed = False
        self.refusal: bytes | None = None
        self.is_written = False
        self.is_over = False

    @override
    def frame(self, now: float) -> bytes:
        # After waiting, the next hub gets what is left of the timeout.
        if self.expiry is None:
            return self.body
        members = _members.decode(self.body)
        metadata = _members.decode(members.get("metadata", b"{}"))
        if "window" in metadata:  # the timeout of a stream limits its silence, not its whole time
            return self.body
        metadata["timeout_ms"] = msgspec.Raw(b"%d" % max(1, int((self.expiry - now) * 1000)))
        return encode(members | {"metadata": metadata})

    @override
    def mark_written(self, epoch: str | None) -> None:
        self.is_written = True
        self.refusal = None

    @property
    @override
    def survives(self) -> bool:
        return not (self.is_over or (self.about is not None and self.about.is_over))


class PeerAnswer(Outgoing):
    """A response, chunk or report of the peer about a call that it serves: meaningless to another hub."""

    __slots__ = ()


class Chore(Outgoing):
    """A call of the relay itself, which restores a subscription or a registration.

    Attributes:
        pattern: the pattern subscribed to; None for topics without wildcards, and for registrations.
    """

    __slots__ = ("pattern",)

    def __init__(self, body: bytes, method: str, pattern: str | None) -> None:
        super().__init__(body, is_numbered=method not in UNNUMBERED_CALLS)
        self.pattern = pattern


def timeout_of(message: PeerMessage) -> float:
    """The timeout of a call in milliseconds, or the default."""
    request = jsonrpc.decode(message.body, defaults.MAX_BATCH)
    assert isinstance(request, Request)
    try:
        return jsonrpc.decode_metadata(jsonrpc.metadata_of(request)).timeout_ms or DEFAULT_TIMEOUT_MS
    except RpcError:  # metadata that is not valid: the next hub will say so
        return DEFAULT_TIMEOUT_MS
