"""Params and results of ``tenants.*``: what the hub keeps of a tenant, beside what the tenant has."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from trunkline_protocol.principals import MAX_NAME_CHARS

MAX_PAGE: Final = 1000

Name = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_CHARS, description="of a tenant, printable")]
DisplayName = Annotated[str, Meta(max_length=MAX_NAME_CHARS, description="printable")]
State = Literal["active", "suspended", "deleting"]


Quota = Annotated[int, Meta(ge=0, le=2**31)]
Size = Annotated[int, Meta(ge=0, le=2**53)]
Rate = Annotated[float, Meta(ge=0, le=2**31)]


class Quotas(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much a tenant may have: ``connections`` open, ``jobs`` that are not over, ``calls`` in flight, calls a second
    (``rate``), ``items`` in its collections, and ``bytes`` that these take of the disk. 0: as the settings say of each.
    """

    connections: Quota = 0
    jobs: Quota = 0
    calls: Quota = 0
    rate: Rate = 0
    items: Size = 0
    bytes: Size = 0


class QuotaChanges(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Quotas that are changed; what is left out stays."""

    connections: Quota | UnsetType = UNSET
    jobs: Quota | UnsetType = UNSET
    calls: Quota | UnsetType = UNSET
    rate: Rate | UnsetType = UNSET
    items: Size | UnsetType = UNSET
    bytes: Size | UnsetType = UNSET


NO_QUOTAS: Final = Quotas()


class TenantView(msgspec.Struct, kw_only=True):
    """A tenant's record. ``created_at`` is milliseconds since 1970; ``metadata`` are the operator's own.

    ``suspended``: its principals are not let in, and its jobs are not begun. ``deleting``: the same, and what it has is
    being removed.
    """

    name: Name
    display_name: DisplayName | None = None
    state: State = "active"
    created_at: int
    quotas: Quotas = Quotas()
    metadata: dict[str, Any] = {}


class TenantCreated(TenantView, kw_only=True):
    """A tenant's record; ``created`` is false where there was this one already."""

    created: bool


class TenantCreateParams(msgspec.Struct, forbid_unknown_fields=True):
    """Params of ``tenants.create``."""

    name: Name
    display_name: DisplayName | None = None
    quotas: Quotas = Quotas()
    metadata: dict[str, Any] = {}


class TenantListParams(msgspec.Struct, forbid_unknown_fields=True):
    """Params of ``tenants.list``; ``cursor`` is the one of the page before."""

    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = 100
    cursor: str | None = None


class TenantPage(msgspec.Struct):
    """Records by name. ``cursor`` is for the next page; null where this is the last."""

    tenants: list[TenantView]
    cursor: str | None


class TenantParams(msgspec.Struct, forbid_unknown_fields=True):
    """Params of ``tenants.get``."""

    name: Name


class TenantUpdateParams(msgspec.Struct, forbid_unknown_fields=True):
    """Params of ``tenants.update``; what is left out stays."""

    name: Name
    display_name: DisplayName | UnsetType | None = UNSET
    state: Literal["active", "suspended"] | UnsetType = UNSET
    quotas: QuotaChanges | UnsetType = UNSET
    metadata: dict[str, Any] | UnsetType = UNSET


class TenantDeleteParams(msgspec.Struct, forbid_unknown_fields=True):
    """Params of ``tenants.delete``; with ``purge`` what the tenant has goes, too."""

    name: Name
    purge: bool = False


class TenantThings(msgspec.Struct):
    """How much of each kind a tenant has, or was removed."""

    collections: int = 0
    jobs: int = 0
    connections: int = 0
    sessions: int = 0
    conversations: int = 0


Day = Annotated[str, Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$", description="of UTC, as 2026-03-01")]


class UsedOnDay(msgspec.Struct, kw_only=True):
    """What a tenant used on a day: calls that came from outside, their bytes of params and results, jobs' attempts as
    calls, and the time that these, and the calls that methods made for them, were in executors.

    ``prompt_tokens`` and ``completion_tokens`` are of the ``llm_requests`` that these made to language models, as far
    as their endpoints told; ``llm_requests_untold`` are those of which they did not.
    """

    day: Day
    calls: int = 0
    failed: int = 0
    executor_seconds: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0
    llm_requests: int = 0
    llm_requests_untold: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


class TenantUsageParams(msgspec.Struct, forbid_unknown_fields=True, rename={"first": "from", "last": "to"}):
    """Params of ``tenants.usage``: the last 31 days where no days are named."""

    tenant: Name
    first: Day | None = None
    last: Day | None = None


class TenantUsageReport(msgspec.Struct):
    """Result of ``tenants.usage``: ``days`` on which it used anything, and what its collections hold now: items, and
    bytes on the disk.
    """

    tenant: Name
    days: list[UsedOnDay]
    collections: int
    collection_bytes: int
    collection_items: int


class TenantDeleted(msgspec.Struct):
    """Result of ``tenants.delete``. Where the hub was restarted meanwhile, ``removed`` is what there was since."""

    name: Name
    deleted: bool
    removed: TenantThings
