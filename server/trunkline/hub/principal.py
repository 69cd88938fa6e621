"""Principals: authenticated peers with their rights, and the hook by which doors authenticate them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Final, Literal

from trunkline.hub.placeholders import Patterns, filled
from trunkline_protocol.calls import Caller
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.hub_methods import METHODS, Right
from trunkline_protocol.principals import DEFAULT_TENANT, NO_CLAIMS, encode_principal, reaches
from trunkline_protocol.tenants import key_in
from trunkline_protocol.topics import MAX_TOPIC_CHARS, covers, is_hubs_own, is_system, matches

ADMIN: Final = "admin"
CALLEE: Final = "callee"
ACT_AS: Final = "act_as"

ROLES: Final = frozenset({ACT_AS, ADMIN, CALLEE})
"""The built-in roles. ``admin``: configuration, and calls of other principals. ``callee``: registering methods.
``act_as``: calls on behalf of other principals, with their rights (:mod:`trunkline.hub.act_as`)."""

EVERYTHING: Final = ">"


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated peer. ``name`` and ``credential`` may appear in logs; tokens never do.

    Patterns are those of :mod:`trunkline_protocol.topics`, for methods as for topics; ``None`` sets no limit and
    ``()`` allows nothing.

    Attributes:
        name: shown to people.
        roles: built-in roles (:data:`ROLES`) and those of the tokens file.
        methods: methods the principal may call; ``>`` stands for every method, those under ``system.`` included.
        subscribe: topics the principal may subscribe to.
        publish: topics the principal may publish to.
        rate: calls a second; None for the hub's own limit.
        expires: when the credential ends, on the clock of :func:`time.monotonic`, so that a connection ends on time
            although the wall clock jumps; None for never.
        credential: names the entry or token that was used, for revocation; never the token itself.
        acting: the method that calls on behalf of the principal with rights of its own; else empty.
        tenant: whose principal it is.
        claims: what methods are told of its credentials, beside name, roles and tenant; JSON.
        actor: the gateway that acts as the principal; empty where it calls itself.
        key: names the key that its JWT was verified with, for revocation; else empty.
        collections: collections the principal may use, through whatever method.
        register: methods the principal may register, with the role callee.
        stated: methods, subscribe, publish and collections with their placeholders, for those that the principal acts
            as; None where there are none.
    """

    name: str
    roles: frozenset[str] = frozenset()
    methods: Patterns = None
    subscribe: Patterns = None
    publish: Patterns = None
    rate: float | None = None
    expires: float | None = None
    credential: str = ""
    acting: str = ""
    tenant: str = DEFAULT_TENANT
    claims: Mapping[str, Any] = field(default_factory=lambda: NO_CLAIMS, hash=False)
    actor: str = ""
    key: str = field(default="", repr=False)
    collections: Patterns = None
    register: Patterns = None
    stated: tuple[Patterns, Patterns, Patterns, Patterns] | None = None
    _encoded: bytes = field(default=b"", init=False, repr=False, compare=False)
    _owner: str = field(default="", init=False, repr=False, compare=False)

    @property
    def owner(self) -> str:
        """The key of whatever belongs to the principal: sessions, idempotency keys, jobs, limits. Made once.

        In ``default`` it is the name; that of another tenant has the tenant in front. It never leaves the hub.
        """
        if not self._owner:
            object.__setattr__(self, "_owner", key_in(self.tenant, self.name))
        return self._owner

    @property
    def encoded(self) -> bytes:
        """Name, roles, tenant and claims as JSON, as executors and callees get them; encoded once."""
        if not self._encoded:
            object.__setattr__(self, "_encoded", self._encode())
        return self._encoded

    def _encode(self) -> bytes:
        return encode_principal(self.name, self.roles, self.tenant, self.claims, self.collections)

    def has_role(self, role: str) -> bool:
        """Whether a role's rights are the principal's; never where a method calls with rights of its own."""
        return role in self.roles and not self.acting

    def as_method(self, method: str) -> Principal:
        """The principal of calls that a method with rights of its own makes on behalf of this one.

        It is the same one; every method and topic is allowed, except what requires a role, but no other collection.
        """
        same = (
            self.rate,
            self.expires,
            self.credential,
            method[:MAX_TOPIC_CHARS],
            self.tenant,
            self.claims,
            self.actor,
            self.key,
            self.collections,
        )
        own = Principal(self.name, self.roles, None, None, None, *same)
        object.__setattr__(own, "_encoded", self.encoded)
        return own

    def named(self) -> Principal:
        """The principal whose name and tenant are in its patterns, in place of ``{principal}`` and ``{tenant}``.

        Raises:
            ValueError: its name or tenant cannot stand there; the message says why.
        """
        stated = self.methods, self.subscribe, self.publish, self.collections
        *acted, register = (filled(patterns, self.name, self.tenant) for patterns in (*stated, self.register))
        if (*acted, register) == (*stated, self.register):
            return self
        methods, subscribe, publish, collections = acted
        own = replace(self, methods=methods, subscribe=subscribe, publish=publish, collections=collections)
        return replace(own, register=register, stated=stated)

    def may_call(self, method: str) -> bool:
        """Whether the principal may call a method. Hot path: without patterns this is one comparison.

        Methods of the hub require what their row says (:data:`trunkline_protocol.hub_methods.Right`).
        """
        return self.methods is None or self._is_granted(method, self.methods)

    def may_publish(self, topic: str) -> bool:
        """Whether the principal may publish to a valid topic; never to those that the hub itself publishes to."""
        if is_hubs_own(topic):
            return False
        return self.publish is None or _any_reaches(self.publish, topic)

    def may_subscribe(self, pattern: str) -> bool:
        """Whether the principal may subscribe to everything that a valid topic or pattern covers.

        Topics under ``system.`` require the role admin, or a granted pattern that itself begins with ``system.``.
        """
        if is_system(pattern):
            return self.has_role(ADMIN) or _any_covers(self.subscribe or (), pattern)
        return self.subscribe is None or _any_covers(self.subscribe, pattern)

    def require_collection(self, collection: str) -> None:
        """Refuse (6002) a collection that the principal may not use, also where a method acts with its own rights."""
        if not reaches(self.collections, collection):
            raise not_granted(self, "collections", collection)

    def may_register(self, method: str) -> bool:
        """Whether the principal may serve a method of this valid name, as far as patterns say; it takes a role, too."""
        return self.register is None or _any_reaches(self.register, method)

    def _is_granted(self, method: str, allowed: tuple[str, ...]) -> bool:
        row = METHODS.get(method)
        right: Right = "granted" if row is None else row.right
        if right == "anybody" or EVERYTHING in allowed:
            return True
        if (right == "subscribe" and self.subscribe) or (right == "publish" and self.publish):
            return True
        return _any_reaches(allowed, method)


Granted = Literal["methods", "subscribe", "publish", "collections", "register"]
"""A right that patterns grant."""

_VERBS: Final = {"methods": "call", "collections": "use the collection", "register": "register"}
"""What a right allows; the rights to topics are called as what they allow."""


def not_granted(who: Caller, right: Granted, name: str, why: str = "") -> RpcError:
    """FORBIDDEN 6002 that names who wants what, the right that is missing, and where rights are granted.

    Args:
        why: words that follow the name.
    """
    words = f"{who.name} may not {_VERBS.get(right, f'{right} to')} {name:.200}{why}"
    needs = f"no pattern of its {right} reaches it"
    if right == "subscribe" and is_system(name):
        needs = "it takes the role admin, or a pattern of its subscribe that begins with system."
    return RpcError(ErrorCode.FORBIDDEN, f"{words}: {needs} (granted by tokens file, JWT or hook)")


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
    """What a door knows of a peer before its first message.

    Attributes:
        path: the request's path, without the query.
        headers: names in lower case. Treat them as secret: they hold credentials.
        peer: remote address as ``host:port``.
        token: the bearer token, from whichever place the door accepts, or None.
        params: the request's query. Treat them as secret, too: some clients can put credentials nowhere else.
        certificate: the peer's own of the TLS connection to the hub, verified against ``tls_client_ca``, as
            :meth:`ssl.SSLSocket.getpeercert` has it (``subject``, ``subjectAltName``, ...); None without. No header
            changes it.
    """

    path: str
    peer: str
    headers: Mapping[str, str] = field(repr=False)
    token: str | None = field(default=None, repr=False)
    params: Mapping[str, str] = field(default_factory=dict, repr=False)
    certificate: Mapping[str, Any] | None = None

    def answered(self, answer: HookAnswer) -> AnsweredHandshake:
        """This handshake, with what the hook says of it."""
        seen = self.path, self.peer, self.headers, self.token, self.params, self.certificate
        return AnsweredHandshake(*seen, answer=answer)


HookAnswer = Principal | RpcError
"""Whom a hook lets in, or the error that it refuses a peer with."""


@dataclass(frozen=True, slots=True)
class AnsweredHandshake(Handshake):
    """A handshake of which the hook, a coroutine function, was asked before.

    Attributes:
        answer: what it said.
    """

    answer: HookAnswer = field(kw_only=True, repr=False)


Authenticate = Callable[[Handshake], Principal]
"""The authentication hook of every door: raises :class:`trunkline_protocol.errors.RpcError` 6001 to refuse a peer."""

AuthenticateLater = Callable[[Handshake], Awaitable[Principal]]
"""The same where it has to wait for others, a database for example."""

Prepare = Callable[[Handshake], Coroutine[Any, Any, AnsweredHandshake] | None]
"""What a door does before it authenticates a peer: it awaits what this returns, and goes on with that handshake.

None where there is nothing to wait for. It raises nothing: whatever is wrong, authenticating the peer says it.
"""


def nothing_to_ask(_handshake: Handshake) -> None:
    """The :data:`Prepare` where the hook is no coroutine function."""


HUB: Final = Principal("(hub)", frozenset({ADMIN}))
"""The owner of jobs and pipelines that the hub makes for itself."""

ANONYMOUS: Final = Principal("anonymous", ROLES)
"""The principal of every peer of a loopback hub without a token: everything is allowed."""

PENDING: Final = Principal("(unauthenticated)", methods=(), subscribe=(), publish=())
"""The principal of a peer that has not authenticated yet, where the hub accepts a first ``auth`` call."""
