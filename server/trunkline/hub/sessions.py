"""The table of sessions: their principals, and how long each waits for its client. Pure: the clock is an argument.

A session is attached while it has a connection. A detached one is kept for its time to live; the table orders them by
when they were detached. Ended sessions are remembered for a while, so that a client that is late is told why.
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
from trunkline_protocol.tenants import TenantParts, name_in

REMEMBERED: Final = 16_384
"""Ended sessions whose reason is kept."""

SWEEP: Final = 256
"""Sessions that one sweep ends at most: each may have thousands of calls to cancel."""

DetachReason = Literal["superseded"]
EndReason = Literal["closed", "expired", "evicted", "overflow", "violation", "unresumable", "revoked", "replaced"]
"""``closed``: by the client. ``evicted``: for a newer session of its principal, which had too many. ``overflow``: too
many bytes waited for the client. ``violation``: the client broke the protocol. ``unresumable``: it resumed with a
``received`` that does not fit. ``revoked``: its principal's credentials were. ``replaced``: while it
was detached, another connection of its principal registered one of its methods in another way."""

_TOLD: Final[Mapping[EndReason, ResumeRefusal]] = {
    "expired": "expired",
    "evicted": "overflow",
    "overflow": "overflow",
}
"""The refusal of a resume after the session has ended; ``unknown`` for the other reasons."""


class SessionOwner(Protocol):
    """Holds a session's counts, calls and outbox. Called by the table; may call the table back."""

    def detach(self, reason: DetachReason) -> None:
        """Close the present connection (4500), for a newer one takes over. Calls go on."""

    def end(self, reason: EndReason) -> None:
        """Cancel the calls, drop what waits, close the connection if there is one: the session is over. Called once."""


OwnerT = TypeVar("OwnerT", bound=SessionOwner)


class SessionEntry(Generic[OwnerT]):
    """A session that has not ended.

    Attributes:
        owner: as given to :meth:`SessionTable.open`.
        principal: the key (``owner``) of the principal that opened the session, and the only one that can resume it.
        label: names the session in logs; a digest, for the id would let a reader resume it.
        attached: whether the session has a connection.
        attachment: counts the session's connections, to tell the present one from those before.
        expires_at: when a detached session ends unless it is resumed, on the caller's clock.
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
        return f"<session {self.label} of {name_in(self.principal)}, {'attached' if self.attached else 'detached'}>"


def label_of(session_id: str) -> str:
    """The name of a session in logs: eight hexadecimal digits of the id's SHA-256."""
    return hashlib.sha256(session_id.encode("utf-8", "replace")).hexdigest()[:8]


@dataclass(frozen=True, slots=True)
class SessionCounts:
    """Counts of sessions, for metrics; all but ``attached`` and ``detached`` since the hub started.

    Attributes:
        superseded: resumes of sessions that still had another connection.
        refused: refused resumes, by the reason that the client was told.
        ended: ended sessions, by reason.
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
    """The number of sessions of one principal, and the detached ones in the order in which they were detached."""

    count: int = 0
    detached: OrderedDict[str, SessionEntry[OwnerT]] = field(default_factory=OrderedDict)


class SessionTable(Generic[OwnerT]):
    """All sessions of a hub.

    Args:
        max_sessions: attached and detached ones together.
        max_sessions_per_principal: those of one principal.
        ttl: seconds that a session outlives its connection.

    Both limits may be changed; sessions above a new one stay. ``now`` is always the same monotonic clock, in seconds.
    """

    def __init__(
        self,
        max_sessions: int = defaults.MAX_SESSIONS,
        max_sessions_per_principal: int = defaults.MAX_SESSIONS_PER_PRINCIPAL,
        ttl: float = defaults.SESSION_SECONDS,
    ) -> None:
        self.max_sessions = max_sessions
        self.max_sessions_per_principal = max_sessions_per_principal
        self.ttl = ttl
        self._entries: dict[str, SessionEntry[OwnerT]] = {}
        self._detached: OrderedDict[str, SessionEntry[OwnerT]] = OrderedDict()
        self._holders: dict[str, _Holder[OwnerT]] = {}
        self._parts = TenantParts()
        self._ended: OrderedDict[str, tuple[str, ResumeRefusal]] = OrderedDict()
        self._opened = self._resumed = self._superseded = 0
        self._refused: Counter[ResumeRefusal] = Counter()
        self._endings: Counter[EndReason] = Counter()

    def __len__(self) -> int:
        return len(self._entries)

    def entries(self) -> list[SessionEntry[OwnerT]]:
        """The sessions that have not ended, attached or not."""
        return list(self._entries.values())

    @property
    def next_expiry(self) -> float | None:
        """When the next detached session expires; None while none is detached."""
        return next(iter(self._detached.values())).expires_at if self._detached else None

    def counts(self) -> SessionCounts:
        """How many sessions there are, and what became of those before."""
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
        """Begin a session, attached. At a limit, the session of this principal that was detached first is ended for it.

        Args:
            session_id: 128 random bits as text, never used before.
            principal: the key of who opens it.

        Raises:
            RpcError: 2003; there are too many sessions, and this principal has no detached one.
        """
        assert session_id not in self._entries, "session ids are random"
        self._make_room(principal, now)
        entry = self._entries[session_id] = SessionEntry(session_id, principal, owner)
        self._parts.add(principal)
        self._holders.setdefault(principal, _Holder()).count += 1
        self._opened += 1
        return entry

    def resume(self, session_id: str, principal: str, now: float) -> SessionEntry[OwnerT] | ResumeRefusal:
        """Attach a session to a new connection; an older connection that it still has is closed first.

        Returns:
            The session, whose ``attachment`` is now that of the new connection, or the reason of the refusal. Another
            principal's session is ``unknown``, and is left alone.
        """
        entry = self._entries.get(session_id)
        if entry is not None and entry.principal == principal:
            if entry.attached:
                self._superseded += 1
                entry.owner.detach("superseded")
            elif now >= entry.expires_at:
                self.end(entry, "expired")
            if session_id in self._entries:  # detaching may have ended it
                self._attach(entry)
                return entry
        refusal = self._refusal(session_id, principal)
        self._refused[refusal] += 1
        return refusal

    def detached(self, entry: SessionEntry[OwnerT], attachment: int, now: float) -> bool:
        """Mark a session as detached: a connection of it is gone.

        Args:
            attachment: the entry's ``attachment`` when that connection was the newest.

        Returns:
            Whether the session now waits for its client; False if it has a newer connection, or has ended.
        """
        if not self._lives(entry) or not entry.attached or entry.attachment != attachment:
            return False
        entry.attached = False
        entry.expires_at = now + self.ttl
        self._detached[entry.session_id] = self._holders[entry.principal].detached[entry.session_id] = entry
        return True

    # --- ends ---

    def end(self, entry: SessionEntry[OwnerT], reason: EndReason) -> None:
        """End a session, attached or not, and notify its owner; no effect on a session that has ended."""
        if not self._lives(entry):
            return
        session_id = entry.session_id
        del self._entries[session_id]
        self._parts.add(entry.principal, -1)
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
        """End sessions that were detached for too long, and return them; call again if there were ``at_most``."""
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
        refusal = self._parts.refusal(principal, self.max_sessions, "max_sessions", "sessions")
        if refusal is None and mine < self.max_sessions_per_principal and len(self._entries) < self.max_sessions:
            return
        if holder is not None and holder.detached:
            oldest = next(iter(holder.detached.values()))
            self.end(oldest, "expired" if now >= oldest.expires_at else "evicted")
            self._make_room(principal, now)
            return
        if mine >= self.max_sessions_per_principal:
            raise limit_error(
                "max_sessions_per_principal",
                f"{name_in(principal)} has {mine} sessions; close some, or continue without one",
            )
        words = f"the hub has {len(self._entries)} sessions; continue without one, or try again later"
        raise refusal or limit_error("max_sessions", words)

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
