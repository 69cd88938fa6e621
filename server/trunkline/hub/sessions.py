"""Which sessions there are, whose they are, and how long they wait for their client. Pure: the caller has the clock.

An attached session lives as long as its connection. A detached one waits for the time to live, in the order in which
they were detached. What ended is remembered for a while, so that a client that comes late hears why.
"""

from __future__ import annotations

import hashlib
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Generic, Literal, Protocol, TypeVar

from trunkline import defaults
from trunkline_protocol.errors import limit_error
from trunkline_protocol.session import ResumeRefusal

REMEMBERED: Final = 16_384
"""Ended sessions whose reason is kept."""

SWEEP: Final = 256
"""Sessions that are ended at a stretch: each may have thousands of calls to cancel."""

DetachReason = Literal["superseded"]
EndReason = Literal["closed", "expired", "evicted", "overflow", "violation", "unresumable", "revoked"]
"""``closed``: the client said so. ``evicted``: a newer session of its principal needed the room. ``overflow``: too much
waited for the client. ``violation``: the client broke a rule. ``unresumable``: it came back with counts that do not
fit. ``revoked``: its principal may not come back."""

_TOLD: Final[Mapping[EndReason, ResumeRefusal]] = {
    "expired": "expired",
    "evicted": "overflow",
    "overflow": "overflow",
}
"""What a client hears that comes back to an ended session; ``unknown`` for the other reasons."""


class SessionOwner(Protocol):
    """What holds a session's counts, calls and outbox. Called by the table; it may call the table back."""

    def detach(self, reason: DetachReason) -> None:
        """Let go of the connection it has and close that (4500); a newer one takes over. Calls go on."""

    def end(self, reason: EndReason) -> None:
        """The session is over: cancel its calls, drop what waits, close its connection if there is one. Called once."""


OwnerT = TypeVar("OwnerT", bound=SessionOwner)


class SessionEntry(Generic[OwnerT]):
    """A session that lives.

    Attributes:
        owner: as given to :meth:`SessionTable.open`.
        principal: the name of whoever opened it; nobody else can resume it.
        label: stands for the session in logs; the id cannot be had from it.
        attached: whether it has a connection.
        attachment: counts the connections it has had; tells the present one from those before.
        expires_at: when it ends unless it is resumed, on the caller's clock; of no meaning while attached.
    """

    __slots__ = ("attached", "attachment", "expires_at", "label", "owner", "principal", "session_id")

    def __init__(self, session_id: str, principal: str, owner: OwnerT) -> None:
        self.session_id = session_id
        self.principal = principal
        self.owner = owner
        self.label = label_of(session_id)
        self.attached = True
        self.attachment = 1
        self.expires_at = 0.0

    def __repr__(self) -> str:
        return f"<session {self.label} of {self.principal}, {'attached' if self.attached else 'detached'}>"


def label_of(session_id: str) -> str:
    """Eight hexadecimal digits for logs."""
    return hashlib.sha256(session_id.encode("utf-8", "replace")).hexdigest()[:8]


@dataclass(frozen=True, slots=True)
class SessionCounts:
    """For metrics; all but ``attached`` and ``detached`` since the start.

    Attributes:
        superseded: resumed while another connection still had it.
        refused: resumes in vain, by the reason that the client heard.
        ended: by reason.
    """

    attached: int
    detached: int
    opened: int
    resumed: int
    superseded: int
    refused: Mapping[ResumeRefusal, int]
    ended: Mapping[EndReason, int]


@dataclass(slots=True)
class _Holder(Generic[OwnerT]):
    """The sessions of one principal; the detached ones in the order in which they were detached."""

    count: int = 0
    detached: OrderedDict[str, SessionEntry[OwnerT]] = field(default_factory=OrderedDict)


class SessionTable(Generic[OwnerT]):
    """All sessions of a hub.

    Args:
        max_sessions: attached and detached ones together.
        max_sessions_per_principal: of one name.
        ttl: seconds that a session outlives its connection.

    ``now`` is always the same monotonic clock, in seconds.
    """

    def __init__(
        self,
        max_sessions: int = defaults.MAX_SESSIONS,
        max_sessions_per_principal: int = defaults.MAX_SESSIONS_PER_PRINCIPAL,
        ttl: float = defaults.SESSION_SECONDS,
    ) -> None:
        self._max_sessions = max_sessions
        self._max_per_principal = max_sessions_per_principal
        self.ttl = ttl
        self._entries: dict[str, SessionEntry[OwnerT]] = {}
        self._detached: OrderedDict[str, SessionEntry[OwnerT]] = OrderedDict()
        self._holders: dict[str, _Holder[OwnerT]] = {}
        self._ended: OrderedDict[str, tuple[str, ResumeRefusal]] = OrderedDict()
        self._opened = self._resumed = self._superseded = 0
        self._refused: Counter[ResumeRefusal] = Counter()
        self._endings: Counter[EndReason] = Counter()

    def __len__(self) -> int:
        return len(self._entries)

    def entries(self) -> list[SessionEntry[OwnerT]]:
        """Those that live, attached or not."""
        return list(self._entries.values())

    @property
    def next_expiry(self) -> float | None:
        """When :meth:`expire` has something to do, or None while nothing is detached."""
        return next(iter(self._detached.values())).expires_at if self._detached else None

    def counts(self) -> SessionCounts:
        """How many there are and were."""
        return SessionCounts(
            attached=len(self._entries) - len(self._detached),
            detached=len(self._detached),
            opened=self._opened,
            resumed=self._resumed,
            superseded=self._superseded,
            refused=dict(self._refused),
            ended=dict(self._endings),
        )

    # --- what clients do ---

    def open(self, session_id: str, principal: str, owner: OwnerT, now: float) -> SessionEntry[OwnerT]:
        """Begin a session, attached. Where there is no room, the principal's longest detached one is ended for it.

        Args:
            session_id: 128 random bits as text, never used before.

        Raises:
            RpcError: 2003; there are too many, and none of this principal's is detached.
        """
        assert session_id not in self._entries, "session ids are random"
        self._make_room(principal, now)
        entry = self._entries[session_id] = SessionEntry(session_id, principal, owner)
        self._holders.setdefault(principal, _Holder()).count += 1
        self._opened += 1
        return entry

    def resume(self, session_id: str, principal: str, now: float) -> SessionEntry[OwnerT] | ResumeRefusal:
        """Attach a session to a new connection; one that still has an older connection lets go of that first.

        Returns:
            The session, whose ``attachment`` is now that of the new connection, or why there is none. Another
            principal's is ``unknown``, and nothing happens to it.
        """
        entry = self._entries.get(session_id)
        if entry is not None and entry.principal == principal:
            if entry.attached:
                self._superseded += 1
                entry.owner.detach("superseded")
            elif now >= entry.expires_at:
                self.end(entry, "expired")
            if session_id in self._entries:  # letting go may have ended it
                self._attach(entry)
                return entry
        refusal = self._refusal(session_id, principal)
        self._refused[refusal] += 1
        return refusal

    def detached(self, entry: SessionEntry[OwnerT], attachment: int, now: float) -> bool:
        """A connection of the session is gone.

        Args:
            attachment: the entry's ``attachment`` when this connection was the newest.

        Returns:
            Whether the session waits for its client now. False if it has a newer connection, or has ended.
        """
        if not self._lives(entry) or not entry.attached or entry.attachment != attachment:
            return False
        entry.attached = False
        entry.expires_at = now + self.ttl
        self._detached[entry.session_id] = self._holders[entry.principal].detached[entry.session_id] = entry
        return True

    # --- ends ---

    def end(self, entry: SessionEntry[OwnerT], reason: EndReason) -> None:
        """End a session, attached or not, and tell its owner. One that has ended stays as it is."""
        if not self._lives(entry):
            return
        session_id = entry.session_id
        del self._entries[session_id]
        self._detached.pop(session_id, None)
        holder = self._holders[entry.principal]
        holder.detached.pop(session_id, None)
        holder.count -= 1
        if not holder.count:
            del self._holders[entry.principal]
        self._remember(entry, reason)
        self._endings[reason] += 1
        entry.owner.end(reason)

    def expire(self, now: float, at_most: int = SWEEP) -> list[SessionEntry[OwnerT]]:
        """End those that were detached for too long. Returns them, their owners told; call again if ``at_most``."""
        expired: list[SessionEntry[OwnerT]] = []
        while len(expired) < at_most and self._detached:
            entry = next(iter(self._detached.values()))
            if entry.expires_at > now:
                break
            self.end(entry, "expired")
            expired.append(entry)
        return expired

    def _lives(self, entry: SessionEntry[OwnerT]) -> bool:
        return self._entries.get(entry.session_id) is entry

    def _attach(self, entry: SessionEntry[OwnerT]) -> None:
        self._detached.pop(entry.session_id, None)
        self._holders[entry.principal].detached.pop(entry.session_id, None)
        entry.attached = True
        entry.attachment += 1
        self._resumed += 1

    def _make_room(self, principal: str, now: float) -> None:
        holder = self._holders.get(principal)
        mine = holder.count if holder is not None else 0
        if mine < self._max_per_principal and len(self._entries) < self._max_sessions:
            return
        if holder is not None and holder.detached:
            oldest = next(iter(holder.detached.values()))
            self.end(oldest, "expired" if now >= oldest.expires_at else "evicted")
            self._make_room(principal, now)
            return
        if mine >= self._max_per_principal:
            raise limit_error(
                "max_sessions_per_principal", f"{principal} has {mine} sessions; close some, or go on without one"
            )
        raise limit_error("max_sessions", f"the hub has {len(self._entries)} sessions; go on without one, or come back")

    def _remember(self, entry: SessionEntry[OwnerT], reason: EndReason) -> None:
        told = _TOLD.get(reason)
        if told is None:
            return
        self._ended[entry.session_id] = entry.principal, told
        if len(self._ended) > REMEMBERED:
            self._ended.popitem(last=False)

    def _refusal(self, session_id: str, principal: str) -> ResumeRefusal:
        name, refusal = self._ended.get(session_id, (principal, "unknown"))
        return refusal if name == principal else "unknown"
