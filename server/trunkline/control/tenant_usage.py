"""What each tenant used of the hub, by day (UTC): counted at the end of each call, kept on disk a little later.

Nothing is counted before there is a tenant other than ``default``, by a record or by who is let in.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final

import msgspec

from trunkline.background import keep_up
from trunkline.control.tenant_store import TenantStore
from trunkline_protocol.calls import Call
from trunkline_protocol.errors import RpcError
from trunkline_protocol.tenant_messages import UsedOnDay
from trunkline_protocol.tokens import TokensUsed

KEPT_DAYS: Final = 400
MAX_TENANTS: Final = 100_000
"""Of a day; what further ones use, which a gateway may name as it likes, is counted under the name ``""``."""
WRITTEN_SECONDS: Final = 10.0
"""Between two times that counts are written: what a crash may lose."""
DAY_SECONDS: Final = 86_400

logger = logging.getLogger("trunkline")


class TenantUsage:
    """Counts what tenants use.

    Args:
        store: where the counts are kept.
        one: held by whoever uses the store.

    Attributes:
        is_on: whether anything is counted.
    """

    def __init__(self, store: TenantStore, one: asyncio.Lock) -> None:
        self._store = store
        self._one = one
        self.is_on = False
        self._day = _day_of(time.time())
        self._today: dict[str, UsedOnDay] = {}
        self._written: dict[str, UsedOnDay] = {}
        self._trouble = ""
        self._writing: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Read what was counted today. Blocks.

        Raises:
            RpcError: it cannot be read.
        """
        self._written = dict(self._store.used_on(self._day))
        self._today = {tenant: msgspec.structs.replace(used) for tenant, used in self._written.items()}

    def start(self) -> None:
        """Write counts from now on."""
        self._writing = keep_up(self._keep_written, "usage of tenants")

    async def close(self) -> None:
        """Write what was counted. Nothing may be counted after this."""
        if self._writing is not None:
            self._writing.cancel()
        await self._write()

    def count(self, call: Call, code: int) -> None:
        """Count a call that has ended; ``code`` is 0 for success. Called only where :attr:`is_on`."""
        tenant = call.tenant
        used = self._today.get(tenant) or self._of(tenant)
        if call.ran:
            used.executor_seconds += call.ran
        if not call.outer_method:
            used.calls += 1
            used.bytes_in += len(call.params)
            used.bytes_out += call.bytes_out
            if code:
                used.failed += 1

    def count_tokens(self, tenant: str, tokens: TokensUsed) -> None:
        """Count a request to a language model. Called only where :attr:`is_on`."""
        used = self._of(tenant)
        counted = {"llm_requests": 1, "llm_requests_untold": not tokens.told}
        counted |= {"prompt_tokens": tokens.prompt, "completion_tokens": tokens.completion}
        for name, number in counted.items():
            setattr(used, name, getattr(used, name) + number)

    def _of(self, tenant: str) -> UsedOnDay:
        """What a tenant used today, which is about to change."""
        used = self._today.get(tenant)
        if used is None:
            if len(self._today) >= MAX_TENANTS:
                tenant = ""
            used = self._today.setdefault(tenant, UsedOnDay(day=self._day))
        return used

    async def of(self, tenant: str, first: str, last: str) -> list[UsedOnDay]:
        """What a tenant used on each day from ``first`` to ``last``, as far as it used anything.

        Raises:
            RpcError: that cannot be read.
        """
        await self._write()
        async with self._one:
            return await asyncio.to_thread(self._store.used_by, tenant, first, last)

    def forget(self, tenant: str) -> None:
        """Forget what a tenant used today, in memory; its record's removal forgets it on disk."""
        self._today.pop(tenant, None)
        self._written.pop(tenant, None)

    async def _keep_written(self) -> None:
        while True:
            await asyncio.sleep(WRITTEN_SECONDS)
            await self._write()

    async def _write(self) -> None:
        async with self._one:
            if counts := self._changed():
                try:
                    await asyncio.to_thread(self._store.put_usage, list(counts.items()))
                    self._written |= counts
                    self._trouble = ""
                except RpcError as error:
                    if self._trouble != error.message:
                        self._trouble = error.message
                        logger.warning("usage of tenants cannot be written yet", extra={"reason": error.message})
                    return
            await self._turn_day()

    def _changed(self) -> dict[str, UsedOnDay]:
        """Copies of the counts that are not written: they go on."""
        written = self._written
        return {
            tenant: msgspec.structs.replace(used) for tenant, used in self._today.items() if used != written.get(tenant)
        }

    async def _turn_day(self) -> None:
        """Begin another day; what ended until now is the former one's."""
        if (today := _day_of(time.time())) != self._day and not self._changed():
            self._day, self._today, self._written = today, {}, {}
            if self._store.exists():
                await asyncio.to_thread(self._store.forget_usage, _day_of(time.time() - KEPT_DAYS * DAY_SECONDS))


def _day_of(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))
