"""The rights that a credential grants: patterns of its own, and those of its roles."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from trunkline.hub.placeholders import PLACEHOLDERS, Patterns, unknown_placeholder
from trunkline.hub.principal import ADMIN, ROLES, Principal
from trunkline_protocol.principals import DEFAULT_TENANT, NO_CLAIMS
from trunkline_protocol.topics import valid_pattern

PATTERN_KEYS: Final = ("methods", "subscribe", "publish")


class Grants(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits, as a role or a token states them. A limit that is not stated (None) does not apply.

    Patterns may have ``{principal}`` and ``{tenant}``, for the name and tenant of whoever they are granted to.

    Attributes:
        methods: patterns of methods that may be called.
        subscribe: patterns of topics that may be subscribed to.
        publish: patterns of topics that may be published to.
        rate: calls a second, above 0.
    """

    methods: Patterns = None
    subscribe: Patterns = None
    publish: Patterns = None
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


_NOTHING: Final = Grants(methods=(), subscribe=(), publish=())


class Roles:
    """The roles this hub knows: the built-in ones and those defined in its tokens file.

    Grants add up: a principal may do what its own patterns or any of its roles allow. Where none of them states a
    limit, there is none. A role the hub does not know grants nothing: its holder is limited to what is granted
    otherwise and, where nothing is, to the hub's basic methods. Only an ``admin`` is not limited by such a role.
    """

    def __init__(self, defined: Mapping[str, Grants] | None = None) -> None:
        self._defined = dict(defined or {})
        self._known = ROLES | self._defined.keys()

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
    ) -> Principal:
        """The principal with the rights that these roles and grants add up to.

        Args:
            name: of the principal.
            claimed: role names, known or not.
            own: what the credential itself grants; its ``rate`` takes precedence over those of roles, of which the
                highest counts.
            expires: on the clock of :func:`time.monotonic`.
            credential, tenant, claims: see :class:`Principal`.

        Raises:
            ValueError: name or tenant cannot stand where patterns have ``{principal}`` or ``{tenant}``.
        """
        claimed = frozenset(claimed)
        known = claimed & self._known
        limits = [own, *(self._defined[role] for role in sorted(known & self._defined.keys()))]
        rates = [limit.rate for limit in limits if limit.rate is not None]
        if claimed - known and ADMIN not in known:
            limits.append(_NOTHING)
        return Principal(
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
        ).named()

    def unknown(self, claimed: Iterable[str]) -> list[str]:
        """The names that are not roles of this hub, sorted."""
        return sorted(frozenset(claimed) - self._known)

    def changed(self, other: Roles) -> frozenset[str]:
        """Names of the roles that the two objects define differently."""
        names = self._defined.keys() | other._defined.keys()
        return frozenset(name for name in names if self._defined.get(name) != other._defined.get(name))


def _union(limits: Iterable[Patterns]) -> Patterns:
    stated = [limit for limit in limits if limit is not None]
    return tuple(dict.fromkeys(pattern for limit in stated for pattern in limit)) if stated else None
