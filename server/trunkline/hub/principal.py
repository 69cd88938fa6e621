"""Who is at the other end of a connection, what it may do, and how a door finds out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from trunkline_protocol.hub_methods import METHODS, Right
from trunkline_protocol.topics import MAX_TOPIC_CHARS, covers, is_hubs_own, is_system, matches

ADMIN: Final = "admin"
CALLEE: Final = "callee"

ROLES: Final = frozenset({ADMIN, CALLEE})
"""The built-in roles. ``admin``: configuration and others' calls. ``callee``: registering methods."""

EVERYTHING: Final = ">"


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated peer. ``name`` and ``credential`` may appear in logs; tokens never do.

    Patterns are those of :mod:`trunkline_protocol.topics`, for methods as for topics; ``None`` sets no limit and
    ``()`` allows nothing.

    Attributes:
        name: for people, and the scope of idempotency keys.
        roles: built-in roles (:data:`ROLES`) and those of the tokens file.
        methods: what it may call; ``>`` stands for every method, those under ``system.`` included.
        subscribe: topics it may subscribe to.
        publish: topics it may publish to.
        rate: calls a second; None leaves it to the hub's own limit.
        expires: when the credential ends, on the clock of :func:`time.monotonic`, so that a connection ends on time
            although the wall clock jumps; None for never.
        credential: which entry or token let it in, for revocation; never the token itself.
        acting: the method whose rights these are, where it calls in this principal's name; else empty.
    """

    name: str
    roles: frozenset[str] = frozenset()
    methods: tuple[str, ...] | None = None
    subscribe: tuple[str, ...] | None = None
    publish: tuple[str, ...] | None = None
    rate: float | None = None
    expires: float | None = None
    credential: str = ""
    acting: str = ""

    def as_method(self, method: str) -> Principal:
        """The principal of the calls that a method makes which is declared to run with its own rights.

        Name, rate and end stay; it may call every method and publish to every topic, but nothing that takes a role.
        """
        return Principal(
            self.name, rate=self.rate, expires=self.expires, credential=self.credential, acting=method[:MAX_TOPIC_CHARS]
        )

    def may_call(self, method: str) -> bool:
        """Whether it may call a method. One attribute where there are no patterns: this is asked at every call.

        Methods of the hub ask for what their row says (:data:`trunkline_protocol.hub_methods.Right`).
        """
        return self.methods is None or self._is_granted(method, self.methods)

    def may_publish(self, topic: str) -> bool:
        """Whether it may publish to a valid topic. Nobody speaks for the hub, so nobody may where only that does."""
        if is_hubs_own(topic):
            return False
        return self.publish is None or _any_reaches(self.publish, topic)

    def may_subscribe(self, pattern: str) -> bool:
        """Whether it may see everything that a valid topic or pattern reaches.

        ``system.`` is for admins, and for those who have a pattern that itself begins with ``system.``.
        """
        if is_system(pattern):
            return ADMIN in self.roles or _any_covers(self.subscribe or (), pattern)
        return self.subscribe is None or _any_covers(self.subscribe, pattern)

    def _is_granted(self, method: str, allowed: tuple[str, ...]) -> bool:
        row = METHODS.get(method)
        right: Right = "granted" if row is None else row.right
        if right == "anybody" or EVERYTHING in allowed:
            return True
        if (right == "subscribe" and self.subscribe) or (right == "publish" and self.publish):
            return True
        return _any_reaches(allowed, method)


def _any_reaches(patterns: tuple[str, ...], name: str) -> bool:
    # Names come from peers: the cache is bounded in entries, so what it keeps has to be bounded in size.
    return len(name) <= MAX_TOPIC_CHARS and _any_reaches_cached(patterns, name)


@lru_cache(maxsize=4096)
def _any_reaches_cached(patterns: tuple[str, ...], name: str) -> bool:
    return any(matches(pattern, name) for pattern in patterns)


def _any_covers(allowed: tuple[str, ...], requested: str) -> bool:
    return any(covers(pattern, requested) for pattern in allowed)


@dataclass(frozen=True, slots=True)
class Handshake:
    """What a door knows of a peer before anything is said.

    Attributes:
        path: the request's path, without the query.
        headers: names in lower case. Treat as secret: it holds credentials.
        peer: remote address as ``host:port``.
        token: the bearer token, wherever the door found it, or None.
        params: of the request's query. Treat as secret, too: some clients can put credentials nowhere else.
    """

    path: str
    peer: str
    headers: Mapping[str, str] = field(repr=False)
    token: str | None = field(default=None, repr=False)
    params: Mapping[str, str] = field(default_factory=dict, repr=False)


Authenticate = Callable[[Handshake], Principal]
"""The one hook of every door. Raises :class:`trunkline_protocol.errors.RpcError` 6001 to refuse."""

ANONYMOUS: Final = Principal("anonymous", ROLES)
"""The principal of a loopback hub without a token: it may do everything."""

PENDING: Final = Principal("(unauthenticated)", methods=(), subscribe=(), publish=())
"""Who has not said yet who it is, where the hub waits for a first ``auth`` call."""
