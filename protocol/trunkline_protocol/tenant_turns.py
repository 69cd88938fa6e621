"""The turns of calls that wait, where there are several tenants: tenants take turns, whatever each of them has. Pure.

Within its turns a tenant's calls go as in a :class:`trunkline_protocol.backlog.CallQueue`: by priority, then flow by
flow. Priorities are said by callers, so they order what is a tenant's own, and overtake nobody else's.

A hub with one tenant has none of this: :meth:`trunkline_protocol.backlog.Backlog.renew` brings it in with the second.
"""

from __future__ import annotations

from collections import OrderedDict

from trunkline_protocol.backlog import SHARED_FROM, Account, Backlog, CallQueue, K, QueueLimits
from trunkline_protocol.calls import Call


def take_turns_by_tenant(backlog: Backlog[K], limits: QueueLimits) -> None:
    """Have the tenants take turns in all queues of a backlog, with those calls that wait already.

    Args:
        limits: of the backlog.
    """
    parts = TenantShares(limits, backlog)
    backlog.renew(lambda account: TenantQueue(parts, account))


class TenantShares:
    """What waits in a backlog of each tenant, and the part that one leaves to the others.

    The last fifth is for tenants with little in the queue, as it is for flows: one that fills it, over however many
    connections, must not shut the others out.

    Args:
        limits: of all together.
        whole: what waits of all together, and refuses in its own words.
    """

    def __init__(self, limits: QueueLimits, whole: Account) -> None:
        self._limits = limits
        self._whole = whole
        self._calls: dict[str, int] = {}
        self._bytes: dict[str, int] = {}

    def check(self, call: Call) -> None:
        """Refuse the call of a tenant that has more than its part of a queue that is nearly full.

        Raises:
            RpcError: 2002, naming the limit.
        """
        limits, whole, tenant = self._limits, self._whole, call.tenant
        tenants = max(1, len(self._calls))
        reserve = limits.calls // 5 if limits.calls >= SHARED_FROM else 0
        own = self._calls.get(tenant, 0)
        if reserve and whole.waiting >= limits.calls - reserve and own > reserve // tenants:
            words = f"{whole.waiting} calls are waiting already, {own} of them your tenant's; try again later"
            whole.refuse("queue_limit", words)
        reserve, own = limits.bytes // 5, self._bytes.get(tenant, 0)
        after = whole.bytes + len(call.params)
        if own and after > limits.bytes - reserve and own + len(call.params) > reserve // tenants:
            words = f"the params of waiting calls take {whole.bytes} bytes already, {own} of them your tenant's"
            whole.refuse("queue_bytes", f"{words}; try again later")

    def count(self, tenant: str, call: Call, change: int) -> None:
        """Count a call that waits from now on (1), or does not any more (-1)."""
        calls = self._calls.get(tenant, 0) + change
        if calls:
            self._calls[tenant] = calls
            self._bytes[tenant] = self._bytes.get(tenant, 0) + change * len(call.params)
        else:
            self._calls.pop(tenant, None)
            self._bytes.pop(tenant, None)


class _CheckedAccount(Account):
    """The account of a queue, if it has one, behind the part that a call's tenant may have."""

    def __init__(self, shares: TenantShares, own: Account | None) -> None:
        self.own = own
        self._shares = shares

    def check(self, call: Call) -> None:
        """Refuse a call where a limit is reached."""
        self._shares.check(call)
        if self.own is not None:
            self.own.check(call)

    def count(self, call: Call, change: int) -> None:
        """Count a call; those of tenants are counted with the queue."""
        if self.own is not None:
            self.own.count(call, change)


class TenantQueue(CallQueue):
    """A queue in which tenants take turns. All operations are O(1).

    Args:
        shares: of the tenants, in all queues of the backlog.
        account: as of :class:`CallQueue`.
    """

    __slots__ = ("_shares", "_tenant_of", "_tenants")

    def __init__(self, shares: TenantShares, account: Account | None = None) -> None:
        CallQueue.__init__(self, _CheckedAccount(shares, account))
        self._shares = shares
        self._tenants: OrderedDict[str, CallQueue] = OrderedDict()
        self._tenant_of: dict[Call, str] = {}  # when it was queued: its connection may have become another's since

    def push(self, call: Call) -> None:
        """Put a call at the end of its flow."""
        self._entered(call).push(call)

    def push_front(self, call: Call) -> None:
        """Put back a call that had been popped: it is the next of its priority, and its tenant's turn is next."""
        self._entered(call).push_front(call)
        self._tenants.move_to_end(self._tenant_of[call], last=False)

    def _entered(self, call: Call) -> CallQueue:
        tenant = self._tenant_of[call] = call.tenant
        self._shares.count(tenant, call, 1)
        self._size += 1
        queue = self._tenants.get(tenant)
        if queue is None:
            queue = self._tenants[tenant] = CallQueue()
        return queue

    def _left(self, tenant: str, call: Call) -> None:
        del self._tenant_of[call]
        self._shares.count(tenant, call, -1)
        self._size -= 1
        if not self._tenants[tenant]:
            del self._tenants[tenant]

    def remove(self, call: Call) -> bool:
        """Remove a call, wherever it stands. Returns False if it was not here."""
        tenant = self._tenant_of.get(call)
        if tenant is None:
            return False
        assert self._tenants[tenant].remove(call)
        self._left(tenant, call)
        return True

    def pop(self) -> Call | None:
        """Remove and return the next call; None where none waits."""
        if not self._tenants:
            return None
        tenant, queue = next(iter(self._tenants.items()))
        call = queue.pop()
        assert call is not None
        self._tenants.move_to_end(tenant)
        self._left(tenant, call)
        return call

    def drain(self) -> list[Call]:
        """Remove and return all calls, tenant by tenant, of each by priority and flow."""
        calls = [call for queue in self._tenants.values() for call in queue.drain()]
        for call in calls:
            self._shares.count(self._tenant_of.pop(call), call, -1)
        self._tenants.clear()
        self._size = 0
        return calls
