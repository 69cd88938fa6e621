"""What a client may be asked to do differently."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

Token = str | Callable[[], str | Awaitable[str]]
"""A bearer token, or what gives one: it is asked before every attempt to connect, so that it may renew the token."""


@dataclass(frozen=True, slots=True)
class Reconnect:
    """How long to wait before the next attempt: a random time up to a bound that doubles, "full jitter".

    Attributes:
        min_delay: bound of the first wait, in seconds.
        max_delay: what the bound grows to.
    """

    min_delay: float = 0.5
    max_delay: float = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.min_delay <= self.max_delay:
            raise ValueError("Reconnect: min_delay must be above 0 and not above max_delay")


@dataclass(frozen=True, slots=True)
class Retry:
    """How often a call that may be repeated is made, and how long to wait in between: random up to a bound that grows.

    Attributes:
        attempts: in all, the first included.
        base_delay: bound of the first wait, in seconds.
        factor: by which the bound grows with each attempt.
    """

    attempts: int = 3
    base_delay: float = 1.0
    factor: float = 2.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.base_delay < 0 or self.factor < 1:
            raise ValueError("Retry: attempts and factor must be 1 or more, base_delay 0 or more")
