"""Which methods somebody may be told of: those of the own tenant and everybody's; an admin of all tenants. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from trunkline.hub.dispatch import ROLES
from trunkline.hub.principal import ADMIN
from trunkline.observe.metrics import OTHER_METHODS, UNKNOWN_METHOD, MethodStats
from trunkline_protocol.calls import Caller
from trunkline_protocol.hub_methods import METHODS
from trunkline_protocol.principals import DEFAULT_TENANT
from trunkline_protocol.tenants import SharedNames, tenant_and_name

_GATHERED: Final = frozenset({OTHER_METHODS, UNKNOWN_METHOD})
"""What stands for many methods."""


@dataclass(frozen=True, slots=True)
class MethodSight:
    """What one principal may be told of methods that are counted and judged by their keys.

    Args:
        tenant: the principal's.
        has_all: whether it may see all tenants.
        executors: the names of the executors' methods.
        shared: the names under which clients serve methods to all tenants.
    """

    tenant: str
    has_all: bool
    executors: Collection[str]
    shared: SharedNames

    def reaches(self, key: str) -> bool:
        """Whether it may be told of the method of a key."""
        return self.has_all or self.is_own(key)

    def is_own(self, key: str) -> bool:
        """Whether the method of a key is one of the principal's own tenant, or everybody's."""
        tenant, name = tenant_and_name(key)
        if tenant == self.tenant:
            return True
        if tenant != DEFAULT_TENANT:
            return False
        is_code = name in self.executors or name in METHODS or name in _GATHERED
        return is_code or self.shared.owner(self.tenant, name) == DEFAULT_TENANT

    def counts(self, methods: Mapping[str, MethodStats]) -> dict[str, MethodStats]:
        """Counts by key, those of other tenants added up under :data:`OTHER_METHODS`: the sums are everybody's."""
        if self.has_all:
            return dict(methods)
        seen = {key: stats for key, stats in methods.items() if self.reaches(key)}
        if len(seen) < len(methods):
            others = seen[OTHER_METHODS] = seen[OTHER_METHODS].copy() if OTHER_METHODS in seen else MethodStats()
            for key in methods.keys() - seen.keys():
                others.add(methods[key])
        return seen


def sees_all(who: Caller | None) -> bool:
    """Whether somebody may see all tenants: an admin, also where a method calls for one, and the hub itself."""
    return who is None or ADMIN in who.roles


def may_use(who: Caller | None, method: str) -> bool:
    """Whether somebody may call a method, as far as patterns and roles say."""
    if who is None:
        return True
    role = ROLES.get(METHODS[method].right) if method in METHODS else None
    return who.may_call(method) and (role is None or who.has_role(role))
