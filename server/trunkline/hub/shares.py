"""What each principal, tenant and address has of the hub now, and how much of it each may have. Pure."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Literal
from weakref import WeakValueDictionary

from trunkline.hub.principal import PENDING, Principal
from trunkline_protocol.errors import ErrorCode, RpcError, limit_error
from trunkline_protocol.principals import DEFAULT_TENANT
from trunkline_protocol.tenant_messages import NO_QUOTAS, Quotas

Holder = Literal["principal", "tenant", "address"]
"""Whose share it is. A principal is one name of one tenant."""

NETWORK_BITS: Final = 64
"""Leading bits of an IPv6 address that count as one address: whoever has one such address has all of its network."""


@dataclass(slots=True)
class ShareLimits:
    """Limits of one holder: the settings of the same names; 0 for none. They may be changed while the hub runs, but for
    ``max_calls_per_tenant``.
    """

    max_connections_per_principal: int = 0
    max_connections_per_tenant: int = 0
    max_connections_per_address: int = 0
    max_calls_per_principal: int = 0
    max_calls_per_tenant: int = 0
    max_registrations_per_principal: int = 0
    max_mcp_sessions_per_principal: int = 0


class Share:
    """What one holder has of the hub now; those who give it something, and take it back, count it here.

    Attributes:
        of: what kind of holder it is.
        name: its name, or address.
        connections: its open connections, requests over HTTP included.
        sockets: of an address, those that are no WebSocket: idle ones too, which are no connections of the hub yet.
        calls: its calls in flight, notifications included.
    """

    __slots__ = ("__weakref__", "calls", "connections", "name", "of", "sockets")

    def __init__(self, of: Holder, name: str) -> None:
        self.of: Holder = of
        self.name = name
        self.connections = 0
        self.sockets = 0
        self.calls = 0


class TenantShare(Share):
    """The share of a tenant, and its own quotas."""

    __slots__ = ("quotas",)

    def __init__(self, name: str, quotas: Quotas = NO_QUOTAS) -> None:
        super().__init__("tenant", name)
        self.quotas = quotas


class PrincipalShare(Share):
    """The share of a principal, that of its ``tenant``, and how many methods its connections serve."""

    __slots__ = ("registrations", "tenant")

    def __init__(self, name: str, tenant: TenantShare) -> None:
        self.tenant = tenant
        self.registrations = 0
        super().__init__("principal", name)

    def count_calls(self, change: int) -> None:
        """Count calls of the principal, which are its tenant's, too. Where each call passes, that is written out."""
        self.calls += change
        self.tenant.calls += change


@dataclass(slots=True)
class Refusals:
    """How often something was refused for a limit, by the setting's name, such as ``TRUNKLINE_MAX_CONNECTIONS``."""

    counts: Counter[str] = field(default_factory=Counter)

    def count(self, error: RpcError) -> None:
        """Count a refusal, where it was for a limit. The error has to be one of the hub's own: its names are few."""
        if isinstance(limit := error.data.get("limit"), str):
            self.counts[limit] += 1


class Shares:
    """The shares of all that have something of the hub now; that of whoever has nothing is forgotten.

    Args:
        limits: of each holder; may be changed.

    Attributes:
        refused: what was refused for a limit, of whatever kind.
        quotas_of: what a tenant may have, beside the limits of each.
    """

    def __init__(self, limits: ShareLimits | None = None) -> None:
        self.limits = limits or ShareLimits()
        self.refused = Refusals()
        self.quotas_of: Callable[[str], Quotas] = lambda _tenant: NO_QUOTAS
        self._principals: WeakValueDictionary[tuple[str, str], PrincipalShare] = WeakValueDictionary()
        self._tenants: WeakValueDictionary[str, TenantShare] = WeakValueDictionary()
        self._addresses: WeakValueDictionary[str, Share] = WeakValueDictionary()

    def of(self, principal: Principal) -> PrincipalShare:
        """The share of a principal; keep it while something counts in it. Peers that have not authenticated have each
        their own.
        """
        if principal is PENDING:
            return PrincipalShare(principal.name, TenantShare(DEFAULT_TENANT))
        key = principal.tenant, principal.name
        share = self._principals.get(key)
        if share is None:
            tenant = self._tenants.get(principal.tenant)
            if tenant is None:
                quotas = self.quotas_of(principal.tenant)
                tenant = self._tenants[principal.tenant] = TenantShare(principal.tenant, quotas)
            share = self._principals[key] = PrincipalShare(principal.name, tenant)
        return share

    def of_address(self, peer: str) -> Share | None:
        """The share of a peer's address (:func:`address_of`); None for a peer that has none."""
        address = address_of(peer)
        if address is None:
            return None
        share = self._addresses.get(address)
        if share is None:
            share = self._addresses[address] = Share("address", address)
        return share

    def require_address(self, peer: str) -> None:
        """Refuse one more connection from an address that has as many as it may.

        Raises:
            RpcError: 2003, ``max_connections_per_address``.
        """
        limit = self.limits.max_connections_per_address
        if limit and (share := self.of_address(peer)) is not None and share.connections >= limit:
            raise self._counted(_too_many_connections("max_connections_per_address", share, limit))

    def add_socket(self, peer: str) -> Share | None:
        """Count a new socket, before anything came over it, in the share of its address; returned for counting it off.

        Raises:
            RpcError: 2003, ``max_connections_per_address``.
        """
        share, limit = self.of_address(peer), self.limits.max_connections_per_address
        if share is None:
            return None
        if limit and share.sockets >= limit:
            words = f"address {share.name} has {share.sockets} sockets open, and may have {limit}; close some"
            raise self._counted(share_error("max_connections_per_address", share.of, limit, words))
        share.sockets += 1
        return share

    def require_connection(self, principal: Principal) -> None:
        """Refuse one more connection of a principal that has, or whose tenant has, as many as it may.

        Raises:
            RpcError: 2003, ``max_connections_per_principal``, ``max_connections_per_tenant`` or ``quotas.connections``.
        """
        own = self.limits.max_connections_per_principal
        quota = self.quotas_of(principal.tenant).connections
        all_of_it = quota or self.limits.max_connections_per_tenant
        if not (own or all_of_it):
            return
        share = self.of(principal)
        if own and share.connections >= own:
            raise self._counted(_too_many_connections("max_connections_per_principal", share, own))
        if all_of_it and share.tenant.connections >= all_of_it:
            limit = "quotas.connections" if quota else "max_connections_per_tenant"
            raise self._counted(_too_many_connections(limit, share.tenant, all_of_it))

    def require_registration(self, share: PrincipalShare) -> None:
        """Refuse one more method of a principal that serves as many as it may.

        Raises:
            RpcError: 2003, ``max_registrations_per_principal``.
        """
        limit = self.limits.max_registrations_per_principal
        if limit and share.registrations >= limit:
            words = f"principal {share.name} serves {share.registrations} methods, and may serve {limit}"
            raise self._counted(share_error("max_registrations_per_principal", share.of, limit, words))

    def require_mcp_session(self, principal: Principal, sessions: int) -> None:
        """Refuse one more MCP session of a principal that has as many as it may.

        Raises:
            RpcError: 2003, ``max_mcp_sessions_per_principal``.
        """
        limit = self.limits.max_mcp_sessions_per_principal
        if limit and sessions >= limit:
            words = f"principal {principal.name} has {sessions} MCP sessions open, and may have {limit}; end some"
            raise self._counted(share_error("max_mcp_sessions_per_principal", "principal", limit, words))

    def _counted(self, error: RpcError) -> RpcError:
        self.refused.count(error)
        return error

    def set_quotas(self, tenant: str) -> None:
        """Have the quotas of a tenant hold from now on, as :attr:`quotas_of` tells them."""
        if (share := self._tenants.get(tenant)) is not None:
            share.quotas = self.quotas_of(tenant)

    def limits_calls(self, share: PrincipalShare) -> bool:
        """Whether :meth:`refusal_of_call` may refuse any."""
        limits = self.limits
        return bool(limits.max_calls_per_principal or limits.max_calls_per_tenant or share.tenant.quotas.calls)

    def refusal_of_call(self, share: PrincipalShare) -> RpcError | None:
        """Why a principal may not make one more call now (2003), or None."""
        limits, tenant = self.limits, share.tenant
        if (limit := limits.max_calls_per_principal) and share.calls >= limit:
            return _too_many_calls("max_calls_per_principal", share, limit)
        quota = tenant.quotas.calls
        if (limit := quota or limits.max_calls_per_tenant) and tenant.calls >= limit:
            return _too_many_calls("quotas.calls" if quota else "max_calls_per_tenant", tenant, limit)
        return None


class Seat:
    """The place of one open connection, counted in the shares of its principal, tenant and address."""

    __slots__ = ("_address", "_share")

    def __init__(self, share: PrincipalShare, address: Share | None) -> None:
        self._share = share
        self._address = address
        self._count(1)

    def _count(self, change: int) -> None:
        self._share.connections += change
        self._share.tenant.connections += change
        if self._address is not None:
            self._address.connections += change

    def move(self, share: PrincipalShare) -> None:
        """Count in the share of another principal: the peer has authenticated."""
        self._count(-1)
        self._share = share
        self._count(1)

    def release(self) -> None:
        """Count no more. Call it once."""
        self._count(-1)


def address_of(peer: str) -> str | None:
    """The address that a peer named ``host:port`` counts as: an IPv4 address, or the network of an IPv6 address.

    None where the peer has no address: through a Unix socket, or standard input and output.
    """
    return _grouped(peer.rpartition(":")[0])


@lru_cache(maxsize=4096)
def _grouped(host: str) -> str | None:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((int(address), NETWORK_BITS), strict=False))


def share_error(
    setting: str,
    of: Holder,
    limit: float,
    words: str,
    *,
    code: ErrorCode = ErrorCode.RESOURCE_EXHAUSTED,
    retry_after_ms: int = 1000,
) -> RpcError:
    """The error for a limit of one holder: ``data`` has the setting's name and value, and whose limit it is."""
    error = limit_error(setting, words, code=code, retry_after_ms=retry_after_ms)
    error.data |= {"of": of, "max": limit}
    return error


def _too_many_connections(setting: str, share: Share, limit: int) -> RpcError:
    words = f"{share.of} {share.name} has {share.connections} connections open, and may have {limit}; close some"
    return share_error(setting, share.of, limit, words)


def _too_many_calls(setting: str, share: Share, limit: int) -> RpcError:
    words = f"{share.of} {share.name} has {share.calls} calls in flight, and may have {limit}; wait for replies"
    return share_error(setting, share.of, limit, words)
