"""Idempotency keys of publications: what was published under each, for as long as was promised. Pure."""

from __future__ import annotations

import hashlib
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Final

from trunkline import defaults
from trunkline.broker.base import PublishKey
from trunkline_protocol.errors import RpcError, limit_error
from trunkline_protocol.events import Position
from trunkline_protocol.tenants import TenantParts, name_in, tenant_and_name

REMEMBER_KEY_SECONDS: Final = 300.0


@dataclass(frozen=True, slots=True)
class PublishKeyLimits:
    """How many keys are remembered; what would be one too many is refused, for none is forgotten before its time.

    Attributes:
        keys: of all principals; each takes about 400 bytes.
        keys_per_principal: of one of them.
    """

    keys: int = defaults.IDEMPOTENCY_KEYS
    keys_per_principal: int = defaults.IDEMPOTENCY_KEYS_PER_PRINCIPAL


class PublishKeys:
    """The keys that are remembered. Times are the caller's monotonic clock, in seconds."""

    def __init__(self, limits: PublishKeyLimits) -> None:
        self._limits = limits
        self._kept: OrderedDict[bytes, tuple[float, str, Position]] = OrderedDict()
        self._times: dict[str, deque[float]] = {}
        self._parts = TenantParts()

    def __len__(self) -> int:
        return len(self._kept)

    def recall(self, topic: str, key: PublishKey, now: float) -> Position | None:
        """The position of what was published under a key; None where nothing was.

        Raises:
            RpcError: 2003, retryable: nothing was, and there is no room to remember the key.
        """
        self._expire(now)
        known = self._kept.get(_digest(topic, key))
        if known is not None:
            return known[2]
        own = self._times.get(key.owner, ())
        if len(own) >= self._limits.keys_per_principal:
            who = name_in(key.owner) or "methods"
            raise _full("idempotency_keys_per_principal", f"{who} used {len(own)}", own[0] - now if own else 0)
        if len(self._kept) >= self._limits.keys:
            oldest = next((at for at, _, _ in self._kept.values()), now)
            raise _full("idempotency_keys", f"all principals used {len(self._kept)}", oldest - now)
        if refusal := self._parts.refusal(key.owner, self._limits.keys, "idempotency_keys", "keys of publications"):
            raise refusal
        return None

    def remember(self, topic: str, key: PublishKey, now: float, position: Position) -> None:
        """Remember the position of what was published under a key that :meth:`recall` does not know."""
        self._kept[_digest(topic, key)] = (now, key.owner, position)
        self._times.setdefault(key.owner, deque()).append(now)
        self._parts.add(key.owner)

    def forget(self, tenant: str) -> None:
        """Forget the keys of a tenant's principals, before their time: the tenant is deleted."""
        for digest, (_, owner, _position) in list(self._kept.items()):
            if tenant_and_name(owner)[0] == tenant:
                del self._kept[digest]
                self._parts.add(owner, -1)
                self._times.pop(owner, None)

    def _expire(self, now: float) -> None:
        while self._kept:
            at, owner, _ = next(iter(self._kept.values()))
            if now - at <= REMEMBER_KEY_SECONDS:
                return
            self._kept.popitem(last=False)
            self._parts.add(owner, -1)
            times = self._times[owner]
            times.popleft()
            if not times:
                del self._times[owner]


def _full(setting: str, words: str, since: float) -> RpcError:
    return limit_error(
        setting,
        f"publish: {words} idempotency keys in the last {REMEMBER_KEY_SECONDS:g} s; wait, or publish without",
        retry_after_ms=1 + int(1000 * (REMEMBER_KEY_SECONDS + since)),
    )


def _digest(topic: str, key: PublishKey) -> bytes:
    # Three names of any length in 16 bytes, for there may be many. A topic has no NUL, and the length tells the rest.
    whole = f"{topic}\0{len(key.owner)}\0{key.owner}{key.key}"
    return hashlib.blake2b(whole.encode("utf-8", "surrogatepass"), digest_size=16).digest()
