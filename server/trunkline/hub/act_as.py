"""``metadata.act_as``: the principal on whose behalf a gateway makes a call (SPEC.md, section 1)."""

from __future__ import annotations

from dataclasses import replace

from trunkline.hub.principal import ACT_AS, ADMIN, ROLES, Principal, not_granted
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.hub_methods import METHODS
from trunkline_protocol.messages import ActAs
from trunkline_protocol.principals import DEFAULT_TENANT, fault_of_claims, is_name


def act_as(gateway: Principal, named: ActAs, known: Principal | None = None) -> Principal:
    """The principal that a gateway acts as.

    One that the hub knows has its own roles and patterns; any other has the gateway's patterns and no role.

    Args:
        known: the principal of that name, where the hub has credentials for one.

    Raises:
        RpcError: 6002, the gateway may not, or the name cannot stand in its patterns; -32602, that is no principal.
    """
    require_gateway(gateway)
    _require_valid(named)
    claims = named.claims or {}
    if known is None:
        patterns = gateway.stated or (gateway.methods, gateway.subscribe, gateway.publish, gateway.collections)
        roles, rights = frozenset[str](), patterns
        tenant = tenant_of(gateway, named) or DEFAULT_TENANT
    else:
        if lacking := sorted(known.roles & ROLES - gateway.roles):
            words = f"{gateway.name} may not act as {known.name}, which has a role that it has not: {lacking[0]}"
            raise RpcError(ErrorCode.FORBIDDEN, words)
        roles, rights = known.roles, (known.methods, known.subscribe, known.publish, known.collections)
        tenant = known.tenant
        claims = named.claims if named.claims is not None else dict(known.claims)
    _require_tenant(gateway, tenant)
    methods, subscribe, publish, collections = rights
    other = Principal(named.principal, roles, methods, subscribe, publish, tenant=tenant, claims=claims)
    other = replace(other, collections=collections)
    try:
        other = other if known is not None else other.named()
    except ValueError as error:
        raise RpcError(ErrorCode.FORBIDDEN, f"{gateway.name} may not act as {named.principal}: {error}") from None
    return replace(other, expires=gateway.expires, credential=gateway.credential, actor=gateway.name)


def tenant_of(gateway: Principal, named: ActAs) -> str | None:
    """The tenant of the principal that a gateway names; None where neither says one, so that any may be meant."""
    return named.tenant or (None if gateway.tenant == DEFAULT_TENANT else gateway.tenant)


def _require_tenant(gateway: Principal, tenant: str) -> None:
    if gateway.tenant not in (DEFAULT_TENANT, tenant) and not gateway.has_role(ADMIN):
        words = f"{gateway.name} of tenant {gateway.tenant} may not act as one of tenant {tenant}"
        raise RpcError(ErrorCode.FORBIDDEN, f"{words}: gateways of a tenant act in it (role {ADMIN}: in every one)")


def require_gateway(gateway: Principal) -> None:
    """Refuse a principal (6002) that may not act as others."""
    if not gateway.has_role(ACT_AS):
        raise RpcError(ErrorCode.FORBIDDEN, f"{gateway.name} may not act as another principal (role {ACT_AS})")


def require_call(other: Principal, method: str) -> None:
    """Refuse a call that a principal may not make (6002), or that is about the gateway's own connection (-32602)."""
    row = METHODS.get(method)
    if row is not None and row.needs_connection:
        words = f"metadata.act_as: {method} is about the connection, which is {other.actor}'s: call it without"
        raise RpcError(ErrorCode.INVALID_PARAMS, words)
    if not other.may_call(method):
        raise not_granted(other, "methods", method, f", as which {other.actor} acts")


def _require_valid(named: ActAs) -> None:
    fault = None
    if not is_name(named.principal):
        fault = "principal: no name (1 to 256 printable characters)"
    elif named.tenant is not None and not is_name(named.tenant):
        fault = "tenant: no name (1 to 256 printable characters)"
    elif named.claims is not None:
        fault = fault_of_claims(named.claims)
    if fault is not None:
        raise RpcError(ErrorCode.INVALID_PARAMS, f"metadata.act_as: {fault}")
