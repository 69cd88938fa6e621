"""Inputs that kill executors: counted, and after a few kills not run for a while. Pure: the clock is an argument.

An input is a method and its params, byte by byte. Which of the calls in an executor killed it nobody can tell for sure,
so all that ran are suspects, and whoever gets through cleanly is cleared: only an input that was there three times, and
never got through in between, is quarantined. After its time it is on probation: one more kill is enough, and
the time is twice as long.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from trunkline import defaults
from trunkline_protocol.errors import ErrorCode, RpcError

MAX_SECONDS: Final = 3600.0
DIGEST_BYTES: Final = 16

Input = tuple[str, bytes]
"""A method and a digest of its params."""


@dataclass(frozen=True, slots=True)
class QuarantineLimits:
    """When and for how long.

    Attributes:
        kills: so many executors an input may kill.
        seconds: of the first quarantine; each further one is twice as long, up to an hour.
        forget_seconds: without a kill for so long it is no suspect any more.
        inputs: suspects that are remembered; the one whose kill is longest ago goes first.
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
    """The suspects. Nothing is hashed for methods that have none, so that calls cost nothing while all is well."""

    def __init__(self, limits: QuarantineLimits | None = None) -> None:
        self._limits = limits or QuarantineLimits()
        self._suspects: OrderedDict[Input, _Suspect] = OrderedDict()
        self.methods: dict[str, int] = {}
        """How many suspects a method has; those without are not in it."""

    def __len__(self) -> int:
        return len(self._suspects)

    def quarantined(self, now: float) -> int:
        """How many inputs are not run now."""
        return sum(suspect.until > now for suspect in self._suspects.values())

    def killed(self, method: str, params: bytes, now: float) -> bool:
        """An executor died while it ran this. Returns whether the input is quarantined from now on."""
        self._forget_old(now)
        key = _input(method, params)
        suspect = self._suspects.get(key)
        if suspect is None:
            suspect = self._suspects[key] = _Suspect(self._limits.kills, self._limits.seconds)
            self.methods[method] = self.methods.get(method, 0) + 1
        self._suspects.move_to_end(key)
        suspect.kills += 1
        suspect.more -= 1
        suspect.killed_at = now
        while len(self._suspects) > self._limits.inputs:
            self._forget(next(iter(self._suspects)))
        if suspect.more > 0:
            return False
        suspect.until = now + suspect.seconds
        suspect.seconds = min(MAX_SECONDS, 2 * suspect.seconds)
        suspect.more = 1
        return True

    def survived(self, method: str, params: bytes) -> None:
        """It ran to its end, and the executor lives."""
        if method in self.methods and (key := _input(method, params)) in self._suspects:
            self._forget(key)

    def refusal(self, method: str, params: bytes, now: float) -> RpcError | None:
        """Why this is not run now: 2001, with ``data.quarantined`` and the time in ``retry_after_ms``."""
        if method not in self.methods:
            return None
        suspect = self._suspects.get(_input(method, params))
        if suspect is None or suspect.until <= now:
            return None
        seconds = suspect.until - now
        return RpcError(
            ErrorCode.WORKER_CRASHED,
            f"{method} killed {suspect.kills} executors with these params: it is not run with them for another "
            f"{seconds:.0f} s; with others it is",
            retry_after_ms=1 + int(1000 * seconds),
            data={"quarantined": True, "kills": suspect.kills},
        )

    def _forget_old(self, now: float) -> None:
        while self._suspects:
            key, oldest = next(iter(self._suspects.items()))
            if max(oldest.until, oldest.killed_at + self._limits.forget_seconds) > now:
                return
            self._forget(key)

    def _forget(self, key: Input) -> None:
        del self._suspects[key]
        left = self.methods[key[0]] - 1
        if left:
            self.methods[key[0]] = left
        else:
            del self.methods[key[0]]


def _input(method: str, params: bytes) -> Input:
    return method, hashlib.blake2b(params, digest_size=DIGEST_BYTES).digest()
