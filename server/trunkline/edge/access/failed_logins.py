"""Failed logins: an address that sends many wrong tokens is made to wait, so that nobody can guess at full speed.

While an address waits, the hub looks at no token from it that it has never accepted. It does look at those that it has,
and at JWTs, whose signature nobody guesses: whoever shares the address with a guesser, in an office behind one router,
goes on working.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any, Final

from trunkline.edge.access.jwt_tokens import looks_like_jwt
from trunkline.hub.limits import TokenBucket
from trunkline.hub.principal import (
    AnsweredHandshake,
    Authenticate,
    Handshake,
    Prepare,
    Principal,
    nothing_to_ask,
)
from trunkline.hub.shares import Refusals, address_of, share_error
from trunkline_protocol.errors import ErrorCode, RpcError

WINDOW: Final = 60.0
"""Seconds over which failures are counted."""

MAX_ADDRESSES: Final = 16_384
"""Addresses whose failures are remembered; beyond it that of the least recent failure is forgotten."""

MAX_ACCEPTED: Final = 65_536
"""Tokens that are remembered as accepted, the most recently used ones, each as a digest of 16 bytes."""


class FailedLogins:
    """Authenticates peers, and limits how often an address may fail.

    Args:
        authenticate: returns the principal of a peer; raises :class:`RpcError` 6001.
        limit: failures of one address within :data:`WINDOW`; may be changed by :meth:`limit_to`. 0 for no limit.
        signed: whether tokens that look like JWTs are verified by their signature.
        refused: where refusals for the limit are counted.
        prepare: see :meth:`prepare`; None where there is nothing to wait for.
        now: a monotonic clock, in seconds.

    Attributes:
        count: how many wrong tokens there were.
    """

    def __init__(
        self,
        authenticate: Authenticate,
        limit: int,
        *,
        signed: bool,
        refused: Refusals,
        prepare: Prepare = nothing_to_ask,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._authenticate = authenticate
        self._limit = limit
        self._signed = signed
        self._refused = refused
        self._prepare = prepare
        self._now = now
        self._key = secrets.token_bytes(32)
        self._accepted: OrderedDict[bytes, None] = OrderedDict()
        self._failures: OrderedDict[str, TokenBucket] = OrderedDict()
        self.count = 0

    def limit_to(self, limit: int) -> None:
        """Change the limit: what was counted so far is forgotten."""
        if limit != self._limit:
            self._limit = limit
            self._failures.clear()

    def prepare(self, handshake: Handshake) -> Coroutine[Any, Any, AnsweredHandshake] | None:
        """What to await before :meth:`authenticate`; see :data:`trunkline.hub.principal.Prepare`.

        Where the address waits, and the token has never been accepted, nothing is asked.
        """
        token = handshake.token
        unseen = token is not None and self._digest(token) not in self._accepted
        if unseen and self._wait(address_of(handshake.peer)):
            return None
        return self._prepare(handshake)

    def _digest(self, token: str) -> bytes:
        return hashlib.blake2b(token.encode("utf-8", "surrogatepass"), key=self._key, digest_size=16).digest()

    def authenticate(self, handshake: Handshake) -> Principal:
        """The principal of a peer.

        Raises:
            RpcError: 6001, the token is wrong; 6003, ``failed_logins``: too many from this address were, and this one
                was not looked at, or is wrong, too; and what else ``authenticate`` raises.
        """
        token = handshake.token
        if token is None:
            return self._authenticate(handshake)  # that no token came is no guess
        digest = self._digest(token)
        address = address_of(handshake.peer)
        wait = self._wait(address)
        accepted = digest in self._accepted
        if wait and not accepted and not (self._signed and looks_like_jwt(token)):
            raise self._refusal(address, wait)
        try:
            principal = self._authenticate(handshake)
        except RpcError as error:
            if error.code == ErrorCode.UNAUTHENTICATED:
                self._failed(address)
                if wait and not accepted:
                    raise self._refusal(address, wait) from None
            raise
        self._accepted[digest] = None
        self._accepted.move_to_end(digest)
        if len(self._accepted) > MAX_ACCEPTED:
            self._accepted.popitem(last=False)
        return principal

    def _wait(self, address: str | None) -> float:
        """Seconds until an address may send a token that the hub does not know; 0.0 where it may now."""
        bucket = None if address is None else self._failures.get(address)
        return 0.0 if bucket is None else bucket.wait(self._now())

    def _failed(self, address: str | None) -> None:
        self.count += 1
        if address is None or not self._limit:
            return
        now = self._now()
        bucket = self._failures.get(address)
        if bucket is None:
            bucket = self._failures[address] = TokenBucket(self._limit / WINDOW, float(self._limit), now)
            if len(self._failures) > MAX_ADDRESSES:
                self._failures.popitem(last=False)
        self._failures.move_to_end(address)
        bucket.take(now)

    def _refusal(self, address: str | None, wait: float) -> RpcError:
        words = f"address {address} has sent {self._limit} wrong tokens within a minute; wait retry_after_ms"
        error = share_error(
            "failed_logins",
            "address",
            self._limit,
            words,
            code=ErrorCode.RATE_LIMITED,
            retry_after_ms=1 + int(wait * 1000),
        )
        self._refused.count(error)
        return error
