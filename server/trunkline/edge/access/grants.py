"""The rights that a credential grants: patterns of its own, and those of its roles."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

import msgspec

from trunkline.hub.placeholders import PLACEHOLDERS, Patterns, unknown_placeholder
from trunkline.hub.principal import ADMIN, ROLES, Principal
from trunkline_protocol.principals import DEFAULT_TENANT, NO_CLAIMS
from trunkline_protocol.topics import valid_pattern

PATTERN_KEYS: Final = ("methods", "subscribe", "publish", "collections", "register")

MAX_TOLD: Final = 64
"""Roles that are not defined and are told in the log, once each."""

logger = logging.getLogger("trunkline.edge")


class Grants(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits, as a role or a token states them. A limit that is not stated (None) does not apply.

    Patterns may have ``{principal}`` and ``{tenant}``, for the name and tenant of whoever they are granted to.

    Attributes:
        methods: patterns of methods that may be called.
        subscribe: patterns of topics that may be subscribed to.
        publish: patterns of topics that may be published to.
        collections: patterns of collections that may be used.
        register: patterns of methods that may be registered, by those who have the role ``callee``.
        rate: calls a second, above 0.
    """

    methods: Patterns = None
    subscribe: Patterns = None
    publish: Patterns = None
    collections: Patterns = None
    register: Patterns = None
    rate: float | None = None

    def fault(self) -> str | None:
        """The first invalid value, as ``key: what is wrong``; None where all are valid."""
        for key in PATTERN_KEYS:
            for pattern in getattr(self, key) or ():
                if not valid_pattern(pattern):
                    return (
                        f"{key}: {pattern!r:.100} is no pattern (tokens joined by dots, * for one, a last > for more)"
                    )
                if unknown := unknown_placeholder(pattern):
                    known = " and ".join(f"{{{name}}}" for name in PLACEHOLDERS)
                    return f"{key}: {pattern!r:.100} has {unknown:.100}; patterns may have {known}"
        if self.rate is not None and not (self.rate > 0 and math.isfinite(self.rate)):
            return "rate: must be a number of calls a second above 0"
        return None


_NOTHING: Final = Grants(methods=(), subscribe=(), publish=(), collections=(), register=())


class Roles:
    """The roles this hub knows: the built-in ones and those defined in its tokens file.

    Grants add up: a principal may do what its own patterns or any of its roles allow. Where none of them states a
    limit, there is none. A role the hub does not know grants nothing: its holder is limited to what is granted
    otherwise and, where nothing is, to the hub's basic methods. Only an ``admin`` is not limited by such a role.

    Args:
        defined: by name.
        default_role: what those have who claim no role; None for nothing.
        deny_by_default: whether what nothing states is denied, except to an ``admin``.

    Raises:
        ValueError: there is no such default role.
    """

    def __init__(
        self,
        defined: Mapping[str, Grants] | None = None,
        default_role: str | None = None,
        *,
        deny_by_default: bool = False,
    ) -> None:
        self._defined = dict(defined or {})
        self._known = ROLES | self._defined.keys()
        if default_role is not None and default_role not in self._defined:
            raise ValueError(f"default_role: no role {default_role!r:.100}; define it as [roles.<name>]")
        self._default = frozenset[str]() if default_role is None else frozenset({default_role})
        self._denies = deny_by_default
        self._told: set[str] = set()

    def principal(
        self,
        name: str,
        claimed: Iterable[str],
        own: Grants,
        *,
        expires: float | None = None,
        credential: str,
        tenant: str = DEFAULT_TENANT,
        claims: Mapping[str, Any] = NO_CLAIMS,
        key: str = "",
    ) -> Principal:
        """The principal with the rights that these roles and grants add up to.

        Args:
            name: of the principal.
            claimed: role names, known or not; the default role stands for none.
            own: what the credential itself grants; its ``rate`` takes precedence over those of roles, of which the
                highest counts.
            expires: on the clock of :func:`time.monotonic`.
            credential, tenant, claims, key: see :class:`Principal`.

        Raises:
            ValueError: name or tenant cannot stand where patterns have ``{principal}`` or ``{tenant}``.
        """
        claimed = frozenset(claimed) or self._default
        known = claimed & self._known
        self._tell(claimed - known)
        limits = [own, *(self._defined[role] for role in sorted(known & self._defined.keys()))]
        rates = [limit.rate for limit in limits if limit.rate is not None]
        if claimed - known and ADMIN not in known:
            limits.append(_NOTHING)
        granted = Principal(
            name,
            known,
            _union(limit.methods for limit in limits),
            _union(limit.subscribe for limit in limits),
            _union(limit.publish for limit in limits),
            own.rate if own.rate is not None else max(rates, default=None),
            expires,
            credential,
            tenant=tenant,
            claims=claims,
            key=key,
            collections=_union(limit.collections for limit in limits),
            register=_union(limit.register for limit in limits),
        )
        return self.limited(granted).named()

    def limited(self, principal: Principal) -> Principal:
        """The principal without what nothing states, where that is denied by default."""
        if not self._denies or ADMIN in principal.roles:
            return principal
        denied: dict[str, Any] = {key: () for key in PATTERN_KEYS if getattr(principal, key) is None}
        return replace(principal, **denied)

    def _tell(self, unknown: frozenset[str]) -> None:
        for name in sorted(unknown - self._told)[: MAX_TOLD - len(self._told)]:
            self._told.add(name)
            words = "a token has a role that is not defined, and grants nothing: define it as [roles.<name>]"
            logger.warning(words, extra={"role": name[:100]})

    def unknown(self, claimed: Iterable[str]) -> list[str]:
        """The names that are not roles of this hub, sorted."""
        return sorted(frozenset(claimed) - self._known)

    def same_defaults(self, other: Roles) -> bool:
        """Whether both grant the same to those without a role, and where nothing is stated."""
        return (self._default, self._denies) == (other._default, other._denies)

    def changed(self, other: Roles) -> frozenset[str]:
        """Names of the roles that the two objects define differently."""
        names = self._defined.keys() | other._defined.keys()
        return frozenset(name for name in names if self._defined.get(name) != other._defined.get(name))


def _union(limits: Iterable[Patterns]) -> Patterns:
    stated = [limit for limit in limits if limit is not None]
    return tuple(dict.fromkeys(pattern for limit in stated for pattern in limit)) if stated else None
