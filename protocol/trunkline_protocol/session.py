"""One side of a session: frames are kept until the peer acknowledges them, and sent again after a cut. Pure.

Both sides run the same core (SPEC.md, Sessions):

- Frames of one direction are numbered from 1 without gaps, in the order in which they are written.
- A receiver takes the number that comes next, drops those it has, and anything else is a violation.
- Acknowledgements are cumulative. An older one says nothing new; one of a frame that was never sent is a violation.
- After a cut each side tells what it has, and the other sends the rest again, under the same numbers.

Whether there is a connection is not known here, for none of these numbers change when it is cut: who owns the core
keeps that, and the time to live. It also bounds what is kept: :attr:`SessionCore.unacknowledged_bytes` and whatever
waits in front of :meth:`SessionCore.number` are one store.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import msgspec

from trunkline_protocol.messages import HubIdentity, HubLimits

ACK_FRAMES: Final = 32
"""So many frames are acknowledged at once."""

ACK_BYTES: Final = 64 * 1024
"""So many bytes are acknowledged at once, though they be few frames."""

ACK_SECONDS: Final = 0.2
"""An acknowledgement may wait so long for further frames."""

PROTOCOL_ERROR: Final = 1002
"""Close code of a violation. The session ends with it: sent again, the same frames would violate the same rule."""

SUPERSEDED: Final = 4500
"""Close code of a connection whose session went on over a newer one."""


ResumeRefusal = Literal["unknown", "expired", "overflow", "owner_lost"]
"""Why a session was not resumed.

``unknown``: no such session of this principal, or its counts do not fit. ``expired``: it was detached for too long.
``overflow``: too much waited for the peer, or the principal had too many sessions. ``owner_lost``: the hub that had
it is gone.
"""

SessionId = Annotated[str, msgspec.Meta(max_length=64)]
"""128 random bits as text. A credential: it is never logged."""

Count = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
"""How many frames a side has, which is the number of the last."""


class Resume(msgspec.Struct, frozen=True):
    """Which session to go on with; ``received`` is the last number that the client has of it."""

    session: SessionId
    received: Count

    def __repr__(self) -> str:
        return f"Resume(received={self.received})"


class SessionOpen(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Params of ``session.open`` (C -> H)."""

    resume: Resume | None = None


class SessionOpened(msgspec.Struct, frozen=True, omit_defaults=True):
    """Result of ``session.open``.

    Attributes:
        session: the id to resume with; a new one where ``resumed`` is false.
        received: the last number that the hub has of this session; 0 for a new one.
        ttl_ms: how long the session outlives its connection, in milliseconds.
        reason: why it was not resumed, where that was asked for.
        limits, hub: what the hub takes, and what it is; older ones do not say.
        idempotency_epoch: the run of the hub whose memory has the idempotency keys of now.
    """

    session: SessionId
    resumed: bool
    received: Count
    ttl_ms: Annotated[int, msgspec.Meta(ge=0)]
    reason: ResumeRefusal | None = None
    limits: HubLimits | None = None
    hub: HubIdentity | None = None
    idempotency_epoch: str | None = None

    def __repr__(self) -> str:
        return f"SessionOpened(resumed={self.resumed}, received={self.received}, reason={self.reason!r})"


class SessionAck(msgspec.Struct, frozen=True):
    """Params of ``session.ack`` (both directions, a notification): all frames up to this number have arrived.

    ``last`` (H -> C): the hub is stopping, and acts on no later frame, whatever it may still receive.
    """

    received: Count
    last: bool = False


class SessionClose(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Params of ``session.close`` (C -> H): the client ends its session."""


def encode_last_ack(received: int) -> bytes:
    """A ``session.ack`` notification of a hub that acts on no later frame."""
    return b'{"jsonrpc":"2.0","method":"session.ack","params":{"received":%d,"last":true}}' % received


def encode_ack(received: int) -> bytes:
    """A ``session.ack`` notification."""
    return b'{"jsonrpc":"2.0","method":"session.ack","params":{"received":%d}}' % received


class ProtocolViolation(Exception):
    """The peer broke a rule of sessions: close the connection with :data:`PROTOCOL_ERROR` and end the session.

    The text is fit for a close reason: it names numbers, never contents or ids.
    """


class CannotResume(Exception):
    """The peer's count does not fit what was sent: the session cannot be resumed and has to be ended.

    Args:
        reason: for the result of ``session.open``.
    """

    def __init__(self, reason: ResumeRefusal, words: str) -> None:
        super().__init__(words)
        self.reason: ResumeRefusal = reason


_raw_list_decoder: Final = msgspec.json.Decoder(list[msgspec.Raw])


@dataclass(frozen=True, slots=True)
class SessionSnapshot:
    """The counts of one side.

    Attributes:
        sent: number of the last frame that was numbered.
        acknowledged: the last one of them that the peer is known to have.
        received: number of the last frame that came from the peer.
        told: the last one of them that the peer was told of.
        unacknowledged_bytes: of the frames that are kept.
    """

    sent: int
    acknowledged: int
    received: int
    told: int
    unacknowledged_bytes: int


class SessionCore:
    """The counts of both directions, and the frames that the peer may not have yet.

    Attributes:
        acknowledged: number of the last frame that the peer is known to have.
        received: number of the last frame that came from the peer.
        sent: number of the last frame that was numbered.
        unacknowledged_bytes: of the frames that are kept, numbers included.
    """

    __slots__ = (
        "_frames",
        "_pending_bytes",
        "_pending_frames",
        "_pending_since",
        "_told",
        "acknowledged",
        "received",
        "sent",
        "unacknowledged_bytes",
    )

    def __init__(self) -> None:
        self.sent = 0
        self.acknowledged = 0
        self.received = 0
        self.unacknowledged_bytes = 0
        self._frames: deque[bytes] = deque()
        self._told = 0
        self._pending_frames = 0
        self._pending_bytes = 0
        self._pending_since: float | None = None

    @property
    def unacknowledged(self) -> int:
        """How many frames are kept because the peer may not have them."""
        return self.sent - self.acknowledged

    def snapshot(self) -> SessionSnapshot:
        """The counts of this side, for tests and for people."""
        return SessionSnapshot(self.sent, self.acknowledged, self.received, self._told, self.unacknowledged_bytes)

    # --- what is sent ---

    def number(self, frame: bytes) -> bytes:
        """Give a frame the next number and keep it until it is acknowledged. Write what this returns, in this order.

        Args:
            frame: JSON without leading white space: an object with members, or a batch of such. It has no ``seq``.

        Raises:
            ValueError: the frame is neither; nothing was numbered.
        """
        seq = self.sent + 1
        # Replacing makes one copy, where slicing and joining would make two.
        numbered = frame.replace(b"{", b'{"seq":%d,' % seq, 1) if frame[:1] == b"{" else _number_batch(frame, seq)
        self.sent = seq
        self._frames.append(numbered)
        self.unacknowledged_bytes += len(numbered)
        return numbered

    def acknowledge(self, received: int) -> None:
        """Drop the frames up to ``received``, which the peer has. An older acknowledgement changes nothing.

        Raises:
            ProtocolViolation: the peer acknowledges frames that were never sent.
        """
        if received > self.sent:
            raise ProtocolViolation(f"frame {received} was acknowledged, but only {self.sent} were sent")
        frames = self._frames
        for _ in range(received - self.acknowledged):
            self.unacknowledged_bytes -= len(frames.popleft())
        self.acknowledged = max(self.acknowledged, received)

    def resume(self, received: int) -> list[bytes]:
        """The frames to send on a new connection, before anything new: all but those up to ``received``.

        The frames are still kept. What :meth:`take_ack` returns is to be told to the peer in the same handshake.

        Raises:
            CannotResume: the peer claims frames that were never sent, or lacks some that it had acknowledged and that
                are gone. Nothing has changed; end the session.
        """
        if received > self.sent:
            raise CannotResume("unknown", f"the peer claims frame {received}, but only {self.sent} were sent")
        if received < self.acknowledged:
            raise CannotResume("unknown", f"the peer has frame {received}, but acknowledged {self.acknowledged} before")
        self.acknowledge(received)
        return list(self._frames)

    def largest(self) -> bytes:
        """The largest frame that is kept; nothing if none is."""
        return max(self._frames, key=len, default=b"")

    def substitute(self, frame: bytes, by: bytes) -> None:
        """Replace a kept frame that the peer will never accept: ``by`` is sent under its number after the next cut.

        Args:
            by: as for :meth:`number`.
        """
        at = self._frames.index(frame)
        numbered = by.replace(b"{", b'{"seq":%d,' % (self.acknowledged + at + 1), 1)
        self._frames[at] = numbered
        self.unacknowledged_bytes += len(numbered) - len(frame)

    # --- what is received ---

    def receive(self, seq: int, size: int = 0) -> bool:
        """Count a numbered frame that has come. Not to be called for frames without a number.

        Ask :meth:`ack_delay` afterwards.

        Args:
            size: of the frame, in bytes.

        Returns:
            Whether the frame is new. If not, drop it.

        Raises:
            ProtocolViolation: the number is not the next one, so frames were lost, or it is below 1.
        """
        expected = self.received + 1
        if seq > expected or seq < 1:
            raise ProtocolViolation(f"frame {seq} came where {expected} had to come")
        # One that is here already counts as well: the peer would not have sent it if it knew.
        self._pending_frames += 1
        self._pending_bytes += size
        if seq < expected:
            return False
        self.received = seq
        return True

    def ack_delay(self, now: float) -> float | None:
        """The delay of the next acknowledgement: 0 for now, seconds, or None where there is nothing to acknowledge.

        To be asked after what was received, and again after that many seconds: the wait begins with the first asking.

        Args:
            now: on any clock that does not jump, in seconds.
        """
        if not self._pending_frames:
            return None
        if self._pending_frames >= ACK_FRAMES or self._pending_bytes >= ACK_BYTES:
            return 0.0
        if self._pending_since is None:
            self._pending_since = now
        return max(0.0, self._pending_since + ACK_SECONDS - now)

    def take_ack(self) -> int:
        """The last number received, to be told to the peer now: in ``session.ack``, or when opening or resuming."""
        self._pending_frames = self._pending_bytes = 0
        self._pending_since = None
        self._told = self.received
        return self._told


def batch_seq(numbers: Iterable[int | None]) -> int | None:
    """The one number of a batch, from those of its members; None where none of them has one.

    Members without a number are allowed: what is no object cannot carry one, and is answered with an error.

    Raises:
        ProtocolViolation: members disagree.
    """
    found = {number for number in numbers if number is not None}
    if len(found) > 1:
        raise ProtocolViolation(f"a batch is one frame, but its members have the numbers {min(found)} and {max(found)}")
    return found.pop() if found else None


def _number_batch(frame: bytes, seq: int) -> bytes:
    if frame[:1] != b"[":
        raise ValueError("a frame must be a JSON object or array, without leading white space")
    members = [bytes(member) for member in _raw_list_decoder.decode(frame)]
    if not members or not all(member.startswith(b"{") for member in members):
        raise ValueError("a batch must have members, all of them objects")
    mark = b'{"seq":%d,' % seq
    return b"[%b]" % b",".join([member.replace(b"{", mark, 1) for member in members])
