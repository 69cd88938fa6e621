"""``system.failure``: the params of a call that failed lately, to look at and to try again.

Params are kept only while ``system.requests`` has a subscriber, only of failures that were published there, and only so
many bytes of them; they are forgotten when the last subscriber has left. They are decoded, and secrets redacted, when
a caller asks for them.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from typing import Any, Final, NamedTuple

import msgspec

from trunkline.hub.dispatch import Handlers, replying
from trunkline.observe.secrets import Redaction, SecretMask
from trunkline_protocol.calls import Call
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.hub_methods import SYSTEM_FAILURE
from trunkline_protocol.reports import Failure, FailureParams

MAX_FAILURES: Final = 500
MAX_BYTES: Final = 4 * 2**20
"""Bytes of all params that are kept."""

MAX_PARAMS_BYTES: Final = 256 * 1024
"""Bytes above which params are not kept: nobody edits larger ones in the dashboard's form."""


class _Kept(NamedTuple):
    method: str
    params: bytes


class FailedCalls:
    """Keeps the params of failed calls, and answers ``system.failure``.

    Args:
        mask: redacts secrets in texts.
        wanted: the setting ``keep_failed_params``; without it nothing is kept.
    """

    def __init__(self, mask: SecretMask, *, wanted: bool = True) -> None:
        self._mask = mask
        self.wanted = wanted
        self._kept: OrderedDict[int, _Kept] = OrderedDict()
        self._numbers = itertools.count(1)
        self.bytes = 0

    def methods(self) -> Handlers:
        """The handler of ``system.failure``."""
        return replying(SYSTEM_FAILURE, self._tell)

    def keep(self, call: Call) -> int | None:
        """Keep the params of a call, and forget the oldest ones where there are too many.

        Returns:
            The number for ``system.failure``; None where the params are not kept.
        """
        if not self.wanted or len(call.params) > MAX_PARAMS_BYTES:
            return None
        number = next(self._numbers)
        self._kept[number] = _Kept(call.method, call.params)
        self.bytes += len(call.params)
        while self.bytes > MAX_BYTES or len(self._kept) > MAX_FAILURES:
            _, oldest = self._kept.popitem(last=False)
            self.bytes -= len(oldest.params)
        return number

    def forget(self) -> None:
        """Forget all params: ``system.requests`` has no subscriber any more."""
        self._kept.clear()
        self.bytes = 0

    def _tell(self, _call: Call, params: FailureParams) -> Failure:
        kept = self._kept.get(params.failure)
        if kept is None:
            return Failure(params.failure, kept=False, method=None, params=None, redacted=0)
        redaction = Redaction(self._mask)
        shown = _shown(kept, redaction)
        return Failure(params.failure, kept=True, method=kept.method, params=shown, redacted=redaction.count)


def _shown(kept: _Kept, redaction: Redaction) -> Any:
    try:
        return redaction(msgspec.json.decode(kept.params))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RpcError(ErrorCode.INVALID_PARAMS, f"system.failure: params that cannot be shown: {error}") from error
