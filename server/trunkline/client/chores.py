"""What a client asks of the hub by itself, when there is another connection: subscriptions and registrations again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from trunkline.client.calls import Calls, Errand
from trunkline.client.connection_state import DisconnectedError
from trunkline.client.outgoing import encode_body
from trunkline.client.retrying import Random, Retry, retry_delay
from trunkline_protocol.errors import RpcError

PATIENT: Final = Retry(attempts=8)
"""A hub that has just started may refuse for a while."""

logger = logging.getLogger("trunkline.client")


@dataclass(frozen=True, slots=True)
class Chore:
    """A call of the client's own.

    Attributes:
        done: gets the result before the next message is read.
        failed: gets the error, when trying again is of no use.
    """

    method: str
    params: Any
    done: Callable[[Any], None]
    failed: Callable[[Exception], None]


class Chores:
    """Makes such calls, ahead of everything else, and again where the hub says that it may help.

    A cut ends them without a word, as far as they are about the connection; the end of the session ends all.
    """

    def __init__(self, calls: Calls, random: Random) -> None:
        self._calls = calls
        self._random = random
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[Errand, asyncio.TimerHandle] = {}

    def run(self, chores: Iterable[Chore]) -> None:
        """Make these calls, in their order."""
        self._calls.begin_first([self._errand(chore, 1) for chore in chores])

    def _errand(self, chore: Chore, attempt: int) -> Errand:
        def failed(error: Exception) -> None:
            self._failed(chore, attempt, error)

        body = encode_body(chore.method, chore.params)
        return Errand(self._calls.next_id(), chore.method, body, chore.done, failed)

    def _failed(self, chore: Chore, attempt: int, error: Exception) -> None:
        if isinstance(error, DisconnectedError):
            return  # it is done again on the next connection
        delay = None
        if isinstance(error, RpcError):
            delay = retry_delay(error, attempt, PATIENT, self._random, idempotent=True, keyed=False)
        if delay is None:
            chore.failed(error)
            return
        logger.info("%s failed and is tried again in %.1f s: %s", chore.method, delay, error)
        errand = self._errand(chore, attempt + 1)
        self._waiting[errand] = self._loop.call_later(delay, self._again, errand)

    def _again(self, errand: Errand) -> None:
        del self._waiting[errand]
        self._calls.begin_first([errand])

    def cut(self) -> None:
        """The connection is gone."""
        self._stop([errand for errand in self._waiting if not errand.is_numbered])

    def lost(self) -> None:
        """The session is over."""
        self._stop(list(self._waiting))

    def _stop(self, errands: list[Errand]) -> None:
        for errand in errands:
            self._waiting.pop(errand).cancel()
