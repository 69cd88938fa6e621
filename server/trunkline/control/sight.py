"""Which methods somebody may be told of: those of the own tenant and everybody's; an admin of all tenants. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from trunkline.hub.dispatch import ROLES
from trunkline.hub.principal import ADMIN
from trunkline.observe.metrics import OTHER_METHODS, UNKNOWN_METHOD, MethodStats
from trunkline_protocol.calls import Caller
from trunkline_protocol.catalogue import TopicInfo
from trunkline_protocol.hub_methods import METHODS
from trunkline_protocol.principals import DEFAULT_TENANT
from trunkline_protocol.tenants import BETWEEN, SharedNames, tenant_and_name
from trunkline_protocol.topics import overlap

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
        is_apart: whether it sees counts of its own tenant's calls alone: there are several tenants.
    """

    tenant: str
    has_all: bool
    executors: Collection[str]
    shared: SharedNames
    is_apart: bool = False

    def reaches(self, key: str) -> bool:
        """Whether it may be told of the method of a key."""
        return self.has_all or self.is_own(key)

    def is_own(self, key: str) -> bool:
        """Whether the method of a key is one of the principal's own tenant, or everybody's."""
        tenant, name = tenant_and_name(key)
        if tenant == self.tenant:
            return True
        if BETWEEN in key:  # perhaps the breaker of ``default``, whose methods are their own keys
            return False
        is_code = name in self.executors or name in METHODS or name in _GATHERED
        return is_code or self.shared.owner(self.tenant, name) == DEFAULT_TENANT

    def own(self, pairs: Mapping[str, MethodStats]) -> dict[str, MethodStats]:
        """The counts of the own tenant's calls by method, out of those by tenant and method.

        Methods that take a role that it has not are left out: an operator may be of the same tenant.
        """
        parts = ((key.partition(BETWEEN), stats) for key, stats in pairs.items())
        return {name: stats for (tenant, _, name), stats in parts if tenant == self.tenant and not _takes_role(name)}


def _takes_role(method: str) -> bool:
    return method in METHODS and METHODS[method].right == "admin"


def sees_all(who: Caller | None) -> bool:
    """Whether somebody may see all tenants: an admin, also where a method calls for one, and the hub itself."""
    return who is None or ADMIN in who.roles


def may_know(who: Caller | None, topics: Iterable[TopicInfo]) -> list[TopicInfo]:
    """Those of the topics that modules declare which somebody may subscribe or publish to, at least in part."""
    if who is None or who.subscribe is None or who.publish is None:
        return list(topics)
    patterns = who.subscribe + who.publish
    return [topic for topic in topics if any(overlap(pattern, topic.pattern) for pattern in patterns)]


def may_use(who: Caller | None, method: str) -> bool:
    """Whether somebody may call a method, as far as patterns and roles say."""
    if who is None:
        return True
    role = ROLES.get(METHODS[method].right) if method in METHODS else None
    return who.may_call(method) and (role is None or who.has_role(role))
