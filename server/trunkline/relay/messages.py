"""What a relay sends to the hub: messages of its peer, answers of its peer, and calls of its own."""

from __future__ import annotations

from typing import Final

import msgspec

from trunkline import defaults
from trunkline.client.outgoing import Outgoing
from trunkline_protocol.calls import DEFAULT_TIMEOUT_MS
from trunkline_protocol.codecs import jsonrpc
from trunkline_protocol.errors import RpcError
from trunkline_protocol.hub_methods import UNNUMBERED_CALLS
from trunkline_protocol.messages import Id, Request

_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
encode: Final = msgspec.json.Encoder().encode


class Message(Outgoing):
    """A message of the peer's.

    Attributes:
        ids: of the calls in it, with their methods.
        about: the call that it steers, if it does.
        is_fed: some of its input was sent, which cannot be sent again.
        expiry: on the loop's clock, from when on it does not wait for another hub; None where it never did.
        refusal: the answer of the hub that took nothing new, while the call waits for the next one.
    """

    __slots__ = ("about", "expiry", "ids", "is_fed", "is_over", "is_written", "refusal")

    def __init__(self, body: bytes, ids: dict[Id, str], *, is_numbered: bool = True) -> None:
        super().__init__(body, is_numbered=is_numbered)
        self.ids = ids
        self.about: Message | None = None
        self.expiry: float | None = None
        self.is_fed = False
        self.refusal: bytes | None = None
        self.is_written = False
        self.is_over = False

    def frame(self, now: float) -> bytes:
        """See :class:`Outgoing`. The next hub is told what is left of the time."""
        if self.expiry is None:
            return self.body
        members = _members.decode(self.body)
        metadata = _members.decode(members.get("metadata", b"{}"))
        if "window" in metadata:  # of a stream the silence is limited
            return self.body
        metadata["timeout_ms"] = msgspec.Raw(b"%d" % max(1, int((self.expiry - now) * 1000)))
        return encode(members | {"metadata": metadata})

    def mark_written(self) -> None:
        """See :class:`Outgoing`."""
        self.is_written = True
        self.refusal = None

    @property
    def survives(self) -> bool:
        """See :class:`Outgoing`."""
        return not (self.is_over or (self.about is not None and self.about.is_over))


class Answer(Outgoing):
    """What the peer says about a call that it serves: of no use to another hub."""

    __slots__ = ()


class Chore(Outgoing):
    """A call of the relay's own: a subscription or a registration, made again.

    Attributes:
        pattern: that is subscribed to, where it has wildcards.
    """

    __slots__ = ("pattern",)

    def __init__(self, body: bytes, method: str, pattern: str | None) -> None:
        super().__init__(body, is_numbered=method not in UNNUMBERED_CALLS)
        self.pattern = pattern


def timeout_of(message: Message) -> float:
    """The deadline of a call in milliseconds, from now on."""
    request = jsonrpc.decode(message.body, defaults.MAX_BATCH)
    assert isinstance(request, Request)
    try:
        return jsonrpc.decode_metadata(jsonrpc.metadata_of(request)).timeout_ms or DEFAULT_TIMEOUT_MS
    except RpcError:  # which the next hub will tell
        return DEFAULT_TIMEOUT_MS
