"""Refuses inputs that repeatedly kill executors, for a while. Pure: the clock is an argument.

An input is a method and its params, byte by byte, of one tenant: what one tenant's data make of it is no reason to
refuse another's. Which of an executor's calls killed it is not certain, so all that
ran are suspects, and an input that finishes is cleared: only one that ran at three deaths, and never finished in
between, is quarantined. After that time it is on probation: one more kill quarantines it again, for twice as long.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from trunkline import defaults
from trunkline_protocol.calls import Call
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.principals import DEFAULT_TENANT

MAX_SECONDS: Final = 3600.0
DIGEST_BYTES: Final = 16

Input = tuple[str, bytes, str]
"""A method, a digest of its params, and whose they are."""


@dataclass(frozen=True, slots=True)
class QuarantineLimits:
    """When an input is quarantined, and for how long.

    Attributes:
        kills: after how many kills.
        seconds: length of the first quarantine; each further one is twice as long, up to an hour.
        forget_seconds: after so many seconds without a kill an input is no suspect any more.
        inputs: how many suspects are remembered; the one whose last kill is longest ago is forgotten first.
    """

    kills: int = defaults.QUARANTINE_KILLS
    seconds: float = defaults.QUARANTINE_SECONDS
    forget_seconds: float = 3600.0
    inputs: int = 1024


class _Suspect:
    __slots__ = ("killed_at", "kills", "more", "seconds", "until")

    def __init__(self, more: int, seconds: float) -> None:
        self.kills = 0
        self.more = more
        self.killed_at = 0.0
        self.seconds = seconds
        self.until = 0.0


class Quarantine:
    """The suspects. Params are hashed only for methods that have suspects, so that other calls cost nothing."""

    def __init__(self, limits: QuarantineLimits | None = None) -> None:
        self.limits = limits or QuarantineLimits()
        self._suspects: OrderedDict[Input, _Suspect] = OrderedDict()
        self.methods: dict[str, int] = {}
        """The number of suspects, by method; methods without any are not in it."""

    def __len__(self) -> int:
        return len(self._suspects)

    def quarantined(self, now: float) -> int:
        """How many inputs are refused now."""
        return sum(suspect.until > now for suspect in self._suspects.values())

    def killed(self, method: str, params: bytes, now: float, tenant: str = DEFAULT_TENANT) -> bool:
        """Note that an executor died while it ran an input; returns whether that is quarantined from now on."""
        self._forget_old(now)
        key = _input(method, params, tenant)
        suspect = self._suspects.get(key)
        if suspect is None:
            suspect = self._suspects[key] = _Suspect(self.limits.kills, self.limits.seconds)
            self.methods[method] = self.methods.get(method, 0) + 1
        self._suspects.move_to_end(key)
        suspect.kills += 1
        suspect.more -= 1
        suspect.killed_at = now
        while len(self._suspects) > self.limits.inputs:
            self._forget(next(iter(self._suspects)))
        if suspect.more > 0:
            return False
        suspect.until = now + suspect.seconds
        suspect.seconds = min(MAX_SECONDS, 2 * suspect.seconds)
        suspect.more = 1
        return True

    def survived(self, method: str, params: bytes, tenant: str = DEFAULT_TENANT) -> None:
        """Clear an input that ran to its end."""
        if method in self.methods and (key := _input(method, params, tenant)) in self._suspects:
            self._forget(key)

    def refusal(self, method: str, params: bytes, now: float, tenant: str = DEFAULT_TENANT) -> RpcError | None:
        """The error of a quarantined input, else None: 2001, with ``data.quarantined`` and ``retry_after_ms``."""
        if method not in self.methods:
            return None
        suspect = self._suspects.get(_input(method, params, tenant))
        if suspect is None or suspect.until <= now:
            return None
        seconds = suspect.until - now
        died = f"{suspect.kills} executor{'' if suspect.kills == 1 else 's'} died while running {method}"
        return RpcError(
            ErrorCode.WORKER_CRASHED,
            f"{died} with these params: it is refused with them for another {seconds:.0f} s, and runs with others",
            retry_after_ms=1 + int(1000 * seconds),
            data={"quarantined": True, "kills": suspect.kills},
        )

    def refusal_of(self, call: Call, now: float) -> RpcError | None:
        """:meth:`refusal` of a call's input, as that call's error."""
        refusal = self.refusal(call.method, call.params, now, call.tenant)
        if refusal is not None:
            refusal.maybe_executed = call.maybe_executed
        return refusal

    def _forget_old(self, now: float) -> None:
        while self._suspects:
            key, oldest = next(iter(self._suspects.items()))
            if max(oldest.until, oldest.killed_at + self.limits.forget_seconds) > now:
                return
            self._forget(key)

    def _forget(self, key: Input) -> None:
        del self._suspects[key]
        left = self.methods[key[0]] - 1
        if left:
            self.methods[key[0]] = left
        else:
            del self.methods[key[0]]


def _input(method: str, params: bytes, tenant: str) -> Input:
    return method, hashlib.blake2b(params, digest_size=DIGEST_BYTES).digest(), tenant
