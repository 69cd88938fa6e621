"""``tenants.*``: the records of tenants, and what follows from them for who is let in and what is begun.

A tenant that credentials name needs no record, unless the setting ``tenants_required`` says so.
"""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import logging
import time
from collections.abc import Callable
from datetime import date
from typing import Any, Final, Protocol

import msgspec
from msgspec import UNSET

from trunkline.background import keep_up, start_task
from trunkline.control.tenant_store import TenantStore
from trunkline.control.tenant_usage import DAY_SECONDS, TenantUsage
from trunkline.hub.dispatch import Handlers, answering_later, replying
from trunkline.hub.principal import Principal
from trunkline_protocol.calls import Call
from trunkline_protocol.errors import ErrorCode, RpcError, limit_error
from trunkline_protocol.hub_methods import (
    TENANTS_CREATE,
    TENANTS_DELETE,
    TENANTS_GET,
    TENANTS_LIST,
    TENANTS_UPDATE,
    TENANTS_USAGE,
)
from trunkline_protocol.principals import DEFAULT_TENANT, is_name
from trunkline_protocol.tenant_messages import (
    NO_QUOTAS,
    Quotas,
    TenantCreated,
    TenantCreateParams,
    TenantDeleted,
    TenantDeleteParams,
    TenantListParams,
    TenantPage,
    TenantParams,
    TenantThings,
    TenantUpdateParams,
    TenantUsageParams,
    TenantUsageReport,
    TenantView,
)

MAX_TENANTS: Final = 100_000
USAGE_DAYS: Final = 30
"""Before today, of a report that names no days."""
MAX_METADATA_BYTES: Final = 16 * 1024
AGAIN_SECONDS: Final = 1.0
"""Until what could not be removed is tried again."""

_encoder: Final = msgspec.json.Encoder()
logger = logging.getLogger("trunkline")


class TenantHoldings(Protocol):
    """What tenants have in this hub."""

    async def counted(self, tenant: str) -> TenantThings:
        """How much of each kind a tenant has.

        Raises:
            RpcError: that cannot be read now.
        """

    async def stored(self, tenant: str) -> tuple[int, int, int]:
        """The number of collections of a tenant, of the items in them, and of the bytes they take of the disk.

        Raises:
            RpcError: that cannot be read now.
        """

    def disconnect(self, tenant: str, reason: str) -> TenantThings:
        """End the connections and sessions of a tenant; returns how many of these there were."""

    async def purge(self, tenant: str) -> TenantThings:
        """Remove the jobs and collections of a tenant; returns how many of these there were.

        Raises:
            RpcError: some are left, perhaps for now.
        """


class Tenants:
    """The records of tenants.

    Args:
        store: where they are on disk.
        holdings: what tenants have.
        required: whether a tenant has to have a record.
        changed: called with the name of a tenant whose record has changed: its quotas are others, its jobs may begin.
        apart: called once, when there is a tenant other than ``default``: by a record, by who is let in, by a job.

    Attributes:
        usage: what tenants use.
    """

    def __init__(
        self,
        store: TenantStore,
        holdings: TenantHoldings,
        *,
        required: bool,
        changed: Callable[[str], None],
        apart: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._holdings = holdings
        self._required = required
        self._changed = changed
        self._apart = apart
        self._records: dict[str, TenantView] = {}
        self._names: list[str] = []
        self._one = asyncio.Lock()
        self.usage = TenantUsage(store, self._one)
        self._removals: dict[str, asyncio.Task[TenantThings]] = {}
        self._unread: RpcError | None = None
        self._reading: asyncio.Task[None] | None = None

    # --- life ---

    def open(self) -> None:
        """Read the records. Nobody may be let in before. Blocks.

        Where another process has them open (a hub, beside which ``trunkline stdio`` is started in the same folder),
        they are read when that has ended; until then only those of ``default`` are let in.

        Raises:
            RpcError: they cannot be read, for another reason.
        """
        try:
            self._read()
        except RpcError as error:
            if error.code != ErrorCode.DATABASE_CONNECTION_ERROR:
                raise
            self._unread = error
            logger.warning("tenants other than default are not let in yet", extra={"reason": error.message})

    def _read(self) -> None:
        try:
            for record in self._store.load():
                self._keep(record)
            self.usage.open()
        except BaseException:
            self._store.close()
            raise
        self._unread = None

    def start(self) -> None:
        """Count what tenants use, and go on with removing what was being removed when the hub ended."""
        if self._unread is not None:
            self._reading = keep_up(self._read_later, "records of tenants")
            return
        if self._records:
            self._keep_apart()
        self.usage.start()
        for record in [*self._records.values()]:
            if record.quotas != NO_QUOTAS:
                self._changed(record.name)
            if record.state == "deleting":
                self._begin_removal(record.name)

    async def _read_later(self) -> None:
        while self._unread is not None:
            await asyncio.sleep(AGAIN_SECONDS)
            async with self._one:
                with contextlib.suppress(RpcError):
                    await asyncio.to_thread(self._read)
        self.start()

    async def close(self) -> None:
        """Release the file. Nothing may be called after this."""
        if self._reading is not None:
            self._reading.cancel()
        for task in self._removals.values():
            task.cancel()
        await self.usage.close()
        async with self._one:
            await asyncio.to_thread(self._store.close)

    # --- who is let in ---

    def admitted(self, principal: Principal) -> Principal:
        """The principal, if its tenant may use the hub.

        Raises:
            RpcError: 6002, its tenant is suspended or being deleted, or has to have a record and has none; 5001, the
                records are not read yet.
        """
        if principal.tenant != DEFAULT_TENANT:
            self._require_read()
            record = self._records.get(principal.tenant)
            if record is None and self._required:
                words = (
                    f"this hub knows no tenant {principal.tenant!r:.100} (TRUNKLINE_TENANTS_REQUIRED, tenants.create)"
                )
                raise RpcError(ErrorCode.FORBIDDEN, words)
            if record is not None and record.state != "active":
                raise RpcError(ErrorCode.FORBIDDEN, _not_active(record))
            self._keep_apart()
        return principal

    def _keep_apart(self) -> None:
        if not self.usage.is_on:
            self.usage.is_on = True
            self._apart()

    def holds(self, tenant: str) -> bool:
        """Whether a tenant's jobs, one of which is to be begun, are not to be."""
        if tenant != DEFAULT_TENANT and self._unread is None:
            self._keep_apart()
        record = self._records.get(tenant)
        is_unknown = self._unread is not None and tenant != DEFAULT_TENANT
        return is_unknown or (record is not None and record.state != "active")

    def quotas(self, tenant: str) -> Quotas:
        """How much a tenant may have, by its record."""
        record = self._records.get(tenant)
        return NO_QUOTAS if record is None else record.quotas

    # --- methods ---

    def methods(self) -> Handlers:
        """Handlers of ``tenants.*``."""
        return (
            answering_later(TENANTS_CREATE, lambda _call, params: self._create(params))
            | replying(TENANTS_LIST, self._list)
            | replying(TENANTS_GET, self._get)
            | answering_later(TENANTS_UPDATE, lambda _call, params: self._update(params))
            | answering_later(TENANTS_DELETE, lambda _call, params: self._delete(params))
            | answering_later(TENANTS_USAGE, lambda _call, params: self._usage(params))
        )

    async def _create(self, params: TenantCreateParams) -> TenantCreated:
        self._require_read()
        _require_own_name(params.name, "tenants.create")
        _require_printable(params.display_name, "tenants.create")
        _require_metadata(params.metadata, "tenants.create")
        async with self._one:
            known = self._records.get(params.name)
            if known is not None and known.state == "deleting":
                raise RpcError(ErrorCode.INVALID_CONFIGURATION, _not_active(known))
            if known is not None:
                given = (params.display_name, params.quotas, params.metadata)
                if (known.display_name, known.quotas, known.metadata) != given:
                    words = f"tenant {params.name!r:.100} exists, and differs: tenants.update changes it"
                    raise RpcError(ErrorCode.INVALID_CONFIGURATION, words)
                return TenantCreated(**msgspec.structs.asdict(known), created=False)
            if len(self._records) >= MAX_TENANTS:
                raise limit_error("tenants", f"there are {MAX_TENANTS:,} tenants already", retry_after_ms=None)
            record = TenantView(
                name=params.name,
                display_name=params.display_name,
                created_at=int(time.time() * 1000),
                quotas=params.quotas,
                metadata=params.metadata,
            )
            await self._write(record)
        self._changed(record.name)
        return TenantCreated(**msgspec.structs.asdict(record), created=True)

    def _list(self, _call: Call, params: TenantListParams) -> TenantPage:
        self._require_read()
        first = 0 if params.cursor is None else bisect.bisect_right(self._names, params.cursor)
        names = self._names[first : first + params.limit]
        is_last = first + params.limit >= len(self._names)
        return TenantPage([self._records[name] for name in names], None if is_last else names[-1])

    def _get(self, _call: Call, params: TenantParams) -> TenantView:
        self._require_read()
        return self._known(params.name, "tenants.get")

    async def _update(self, params: TenantUpdateParams) -> TenantView:
        self._require_read()
        if params.metadata is not UNSET:
            _require_metadata(params.metadata, "tenants.update")
        if params.display_name is not UNSET:
            _require_printable(params.display_name, "tenants.update")
        async with self._one:
            record = self._known(params.name, "tenants.update")
            if record.state == "deleting":
                raise RpcError(ErrorCode.INVALID_CONFIGURATION, _not_active(record))
            given = _given(params)
            if params.quotas is not UNSET:
                given["quotas"] = msgspec.structs.replace(record.quotas, **_given(params.quotas))
            record = msgspec.structs.replace(record, **given)
            await self._write(record)
        if record.state == "suspended":
            self._holdings.disconnect(record.name, _not_active(record))
        self._changed(record.name)
        return record

    async def _delete(self, params: TenantDeleteParams) -> TenantDeleted:
        self._require_read()
        name = params.name
        _require_own_name(name, "tenants.delete")
        async with self._one:
            things = await self._holdings.counted(name)
            if name not in self._records and things == TenantThings():
                raise _unknown(name, "tenants.delete")
            if not params.purge and things != TenantThings() and name not in self._removals:
                has = msgspec.structs.asdict(things)
                words = ", ".join(f"{count} {kind}" for kind, count in has.items() if count)
                raise RpcError(
                    ErrorCode.INVALID_CONFIGURATION,
                    f"tenants.delete: tenant {name!r:.100} has {words}: purge removes them",
                    data={"has": has},
                )
            record = self._records.get(name) or TenantView(name=name, created_at=int(time.time() * 1000))
            await self._write(msgspec.structs.replace(record, state="deleting"))
            removal = self._begin_removal(name)
        return TenantDeleted(name, True, await asyncio.shield(removal))

    async def _usage(self, params: TenantUsageParams) -> TenantUsageReport:
        self._require_read()
        _require_days(params)
        first = params.first or time.strftime("%Y-%m-%d", time.gmtime(time.time() - USAGE_DAYS * DAY_SECONDS))
        days = await self.usage.of(params.tenant, first, params.last or "9999-12-31")
        collections, items, size = await self._holdings.stored(params.tenant)
        return TenantUsageReport(params.tenant, days, collections, size, items)

    # --- removing ---

    def _begin_removal(self, name: str) -> asyncio.Task[TenantThings]:
        task = self._removals.get(name)
        if task is None:
            task = self._removals[name] = start_task(self._remove(name), "removal of a tenant", expected=RpcError)
            task.add_done_callback(lambda _: self._removals.pop(name))
        return task

    async def _remove(self, name: str) -> TenantThings:
        """Remove what a tenant has, then its record, however often that takes: after a crash, the next hub goes on."""
        removed = TenantThings()
        told = ""
        while True:
            _add(removed, self._holdings.disconnect(name, f"tenant {name!r:.100} is being deleted"))
            try:
                _add(removed, await self._holdings.purge(name))
                async with self._one:
                    await asyncio.to_thread(self._store.remove, name)
                    self.usage.forget(name)
                    del self._records[name]
                    self._names.remove(name)
                self._changed(name)
                return removed
            except RpcError as error:
                if error.message != told:
                    told = error.message
                    logger.warning("a tenant cannot be removed yet", extra={"tenant": name, "reason": told})
            await asyncio.sleep(AGAIN_SECONDS)

    # --- inside ---

    def _require_read(self) -> None:
        if self._unread is not None:
            words = f"tenants other than default are not let in yet: {self._unread.message}"
            raise RpcError(self._unread.code, words, retry_after_ms=int(1000 * AGAIN_SECONDS))

    def _known(self, name: str, method: str) -> TenantView:
        record = self._records.get(name)
        if record is None:
            raise _unknown(name, method)
        return record

    async def _write(self, record: TenantView) -> None:
        await asyncio.to_thread(self._store.put, record)
        self._keep(record)

    def _keep(self, record: TenantView) -> None:
        if record.name not in self._records:
            bisect.insort(self._names, record.name)
        self._records[record.name] = record


def _given(params: msgspec.Struct) -> dict[str, Any]:
    return {name: value for name, value in msgspec.structs.asdict(params).items() if value is not UNSET}


def _add(sum_of: TenantThings, more: TenantThings) -> None:
    for kind, count in msgspec.structs.asdict(more).items():
        setattr(sum_of, kind, getattr(sum_of, kind) + count)


def _not_active(record: TenantView) -> str:
    what = "is suspended" if record.state == "suspended" else "is being deleted"
    return f"tenant {record.name!r:.100} {what}"


def _unknown(name: str, method: str) -> RpcError:
    return RpcError(ErrorCode.INVALID_PARAMS, f"{method}: name: there is no tenant {name!r:.100}")


def _require_days(params: TenantUsageParams) -> None:
    for name, day in (("from", params.first), ("to", params.last)):
        try:
            date.fromisoformat(day or "2026-03-01")
        except ValueError:
            raise RpcError(ErrorCode.INVALID_PARAMS, f"tenants.usage: {name}: there is no day {day}") from None
    if params.first is not None and params.last is not None and params.first > params.last:
        words = f"tenants.usage: from {params.first} is after to {params.last}"
        raise RpcError(ErrorCode.INVALID_PARAMS, words)


def _require_own_name(name: str, method: str) -> None:
    if name == DEFAULT_TENANT:
        words = f"{DEFAULT_TENANT} is the tenant of all whose credentials name none, and is always there"
        raise RpcError(ErrorCode.INVALID_PARAMS, f"{method}: name: {words}")
    if not is_name(name):
        raise RpcError(ErrorCode.INVALID_PARAMS, f"{method}: name: must be 1 to 256 printable characters")


def _require_printable(display_name: str | None, method: str) -> None:
    """Refuse what would move the cursor of a terminal that shows it, or turn the order of what follows."""
    if display_name is not None and not display_name.isprintable():
        words = "has characters that are not printable, such as a control character or a line's end"
        raise RpcError(ErrorCode.INVALID_PARAMS, f"{method}: display_name: {words}")


def _require_metadata(metadata: dict[str, object], method: str) -> None:
    if len(_encoder.encode(metadata)) > MAX_METADATA_BYTES:
        words = f"{method}: metadata: at most {MAX_METADATA_BYTES:,} bytes of JSON are kept"
        raise RpcError(ErrorCode.INVALID_PARAMS, words)
