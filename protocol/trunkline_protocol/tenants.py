"""Whose a name is: what belongs to one tenant is kept apart from what others call the same (SPEC.md, section 1).

Inside the hub a name that belongs to a tenant other than ``default`` is a key that has the tenant in front, with a
character between that neither may have: no name of one tenant can be taken for a name of another. Those of ``default``
are their own keys, so that a hub without tenants pays nothing. No key leaves the hub.
"""

from __future__ import annotations

from typing import Final

from trunkline_protocol.errors import RpcError, limit_error
from trunkline_protocol.principals import DEFAULT_TENANT
from trunkline_protocol.topics import PatternSet, covers

BETWEEN: Final = "\n"
"""Stands between tenant and name: names of tenants are printable, topics and methods have no control characters."""


def key_in(tenant: str, name: str) -> str:
    """The key of a tenant's name: whatever is kept by name in the hub is kept by this where tenants are kept apart."""
    return name if tenant == DEFAULT_TENANT else f"{tenant}{BETWEEN}{name}"


def tenant_and_name(key: str) -> tuple[str, str]:
    """The tenant and the name that a key was made of."""
    tenant, between, name = key.partition(BETWEEN)
    return (tenant, name) if between else (DEFAULT_TENANT, key)


def name_in(key: str) -> str:
    """The name that a key was made of, as its owner says it: the only part of a key that may be shown."""
    return key.rpartition(BETWEEN)[2]


class SharedNames:
    """The names of one kind (topics, methods, collections) that all tenants have in common.

    A name that one of the patterns reaches belongs to ``default``, whoever says it; every other one to the tenant of
    who says it.

    Args:
        patterns: by the rules of :mod:`trunkline_protocol.topics`.
    """

    __slots__ = ("_reached", "patterns")

    def __init__(self, patterns: tuple[str, ...] = ()) -> None:
        self.patterns = patterns
        self._reached = PatternSet()
        for pattern in patterns:
            self._reached.add(pattern)

    def reaches(self, name: str) -> bool:
        """Whether a name is shared."""
        return self._reached.reaches(name)

    def covers(self, pattern: str) -> bool:
        """Whether one of the patterns reaches every name that ``pattern`` reaches."""
        return any(covers(each, pattern) for each in self.patterns)

    def key(self, tenant: str, name: str) -> str:
        """The key of a name, as a principal of this tenant says it."""
        return name if self.owner(tenant, name) == DEFAULT_TENANT else key_in(tenant, name)

    def owner(self, tenant: str, name: str) -> str:
        """The tenant that a name belongs to, as a principal of this tenant says it."""
        if tenant == DEFAULT_TENANT or self.reaches(name):
            return DEFAULT_TENANT
        return tenant


NOTHING_SHARED: Final = SharedNames()
"""Every name is its tenant's own."""


class TenantParts:
    """How much each tenant has of something that is limited for all together: each but ``default`` half at most.

    So one customer with many principals leaves the others room. Whose something is, is said by the key of a principal.
    """

    __slots__ = ("_taken",)

    def __init__(self) -> None:
        self._taken: dict[str, int] = {}

    def add(self, owner: str, change: int = 1) -> None:
        """Count what a principal takes, or gives back (-1)."""
        tenant, between, _ = owner.partition(BETWEEN)
        if between:
            taken = self._taken.get(tenant, 0) + change
            if taken:
                self._taken[tenant] = taken
            else:
                del self._taken[tenant]

    def refusal(self, owner: str, limit: int, setting: str, words: str) -> RpcError | None:
        """Why a principal may not take one more (2003): its tenant has half; None where it may.

        Args:
            limit: of all together.
            setting: the name of that limit.
            words: what it has, in the plural.
        """
        tenant, between, _ = owner.partition(BETWEEN)
        half = max(1, limit // 2)
        if not between or self._taken.get(tenant, 0) < half:
            return None
        error = limit_error(setting, f"the principals of tenant {tenant:.100} have half of all {words}")
        error.data |= {"of": "tenant", "max": half}
        return error
