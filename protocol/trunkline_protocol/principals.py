"""Principals: who makes a call, as methods and client-served handlers are told (SPEC.md, section 1).

The hub alone sets them; what a client says of itself is never taken for one, except by ``metadata.act_as`` from those
that may.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

import msgspec

from trunkline_protocol.topics import matches

DEFAULT_TENANT: Final = "default"
"""The tenant of principals whose credentials name none."""

MAX_NAME_CHARS: Final = 256
MAX_CLAIMS_BYTES: Final = 4096
"""Of a principal's claims, as JSON: its calls carry them."""

NO_CLAIMS: Final[Mapping[str, Any]] = MappingProxyType({})


class StorageQuotas(msgspec.Struct, frozen=True):
    """How much a tenant's collections may hold: items, and bytes on the disk; 0 is no limit."""

    items: int = 0
    bytes: int = 0


class Principal(msgspec.Struct, frozen=True):
    """Who makes a call: the principal of the outermost call, through however many methods and jobs.

    Attributes:
        name: as in the credentials: the name in the tokens file, or ``sub`` of the JWT.
        roles: built-in roles, and those of the tokens file.
        tenant: whose it is; ``default`` where the credentials name none.
        claims: those of the credentials that the hub's settings pass on; not to be changed.
        collections: patterns of the collections that it may use; None sets no limit.
        quotas: what its tenant may store, as methods that store are told; None sets no limit.
    """

    name: str
    roles: frozenset[str] = frozenset()
    tenant: str = DEFAULT_TENANT
    claims: Mapping[str, Any] = NO_CLAIMS
    collections: tuple[str, ...] | None = None
    quotas: StorageQuotas | None = None

    def may_use(self, collection: str) -> bool:
        """Whether the principal may use a collection. The hub has checked the one that a call names."""
        return reaches(self.collections, collection)


def reaches(patterns: tuple[str, ...] | None, collection: str) -> bool:
    """Whether patterns of collections allow one of this name."""
    return patterns is None or ">" in patterns or any(matches(pattern, collection) for pattern in patterns)


_encoder: Final = msgspec.json.Encoder()


def encode_principal(
    name: str,
    roles: Iterable[str],
    tenant: str,
    claims: Mapping[str, Any],
    collections: tuple[str, ...] | None = None,
) -> bytes:
    """A principal as JSON, as executors and callees get it; without collections where it may use all."""
    members = {"name": name, "roles": sorted(roles), "tenant": tenant, "claims": dict(claims)}
    return _encoder.encode(members if collections is None else members | {"collections": collections})


def with_quotas(encoded: bytes, quotas: StorageQuotas) -> bytes:
    """A principal that :func:`encode_principal` has written, and what its tenant may store."""
    return b'%b,"quotas":%b}' % (encoded[:-1], _encoder.encode(quotas))


def principal_from(members: Mapping[str, Any]) -> Principal:
    """The principal that these members describe; unknown ones are ignored."""
    claims = MappingProxyType(dict(members.get("claims") or {}))
    collections = members.get("collections")
    return Principal(
        members["name"],
        frozenset(members.get("roles") or ()),
        members.get("tenant", DEFAULT_TENANT),
        claims,
        None if collections is None else tuple(collections),
        None if (quotas := members.get("quotas")) is None else StorageQuotas(**quotas),
    )


HUB: Final = Principal("(hub)")
"""The principal of calls that the hub makes for itself."""

EXECUTOR: Final = Principal("(executor)")
"""The principal of calls that executors make outside of any call: in ``load``, and in what that begins."""

ENCODED_EXECUTOR: Final = encode_principal(EXECUTOR.name, EXECUTOR.roles, EXECUTOR.tenant, EXECUTOR.claims)
ENCODED_HUB: Final = encode_principal(HUB.name, HUB.roles, HUB.tenant, HUB.claims)


@lru_cache(maxsize=256)
def decode_principal(data: bytes) -> Principal:
    """The principal that :func:`encode_principal` wrote; empty stands for the hub itself."""
    return principal_from(msgspec.json.decode(data)) if data else HUB


def is_name(text: str) -> bool:
    """Whether a name can stand in a log line as it is: 1 to 256 printable characters."""
    return 0 < len(text) <= MAX_NAME_CHARS and text.isprintable()


def fault_of_claims(claims: Mapping[str, Any]) -> str | None:
    """What is wrong with claims that methods are to be told; None where nothing is."""
    try:
        size = len(_encoder.encode(dict(claims)))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        return f"claims: no JSON: {error}"
    return None if size <= MAX_CLAIMS_BYTES else f"claims: {size} bytes of JSON; at most {MAX_CLAIMS_BYTES} are carried"
