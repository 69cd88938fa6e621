"""Whose a name is: what belongs to one tenant is kept apart from what others call the same (SPEC.md, section 1).

Inside the hub a name that belongs to a tenant other than ``default`` is a key that has the tenant in front, with a
character between that neither may have: no name of one tenant can be taken for a name of another. Those of ``default``
are their own keys, so that a hub without tenants pays nothing. No key leaves the hub.
"""

from __future__ import annotations

from typing import Final

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
