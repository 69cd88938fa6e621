"""``system.failure``: the params of a call that failed lately, to look at and to try again.

Params are kept only while somebody listens to ``system.requests``, only of failures that were told there, and only so
many bytes of them; they are forgotten when the last listener has left. They are read, and secrets taken out, when
somebody asks for one.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec

from trunkline.control.calls import require_admin
from trunkline.control.method import describe
from trunkline.hub.client_calls import decode_params
from trunkline.observe.secrets import Redaction, SecretMask
from trunkline_protocol.calls import Call
from trunkline_protocol.errors import ErrorCode, RpcError

MAX_FAILURES: Final = 500
MAX_BYTES: Final = 4 * 2**20
"""Of params kept, all together."""

MAX_PARAMS_BYTES: Final = 256 * 1024
"""Larger params are not kept: nobody types them into a form."""

_encoder: Final = msgspec.json.Encoder()


class FailureParams(msgspec.Struct, forbid_unknown_fields=True):
    """Params of ``system.failure``; ``failure`` is a number of ``system.requests``."""

    failure: int


FAILURE_METHOD: Final = describe(
    "system.failure", "The params of a call that failed lately, without secrets (role admin)", FailureParams,
    idempotent=True,
)  # fmt: skip


class _Kept(NamedTuple):
    method: str
    params: bytes


class FailedCalls:
    """Keeps them and answers.

    Args:
        mask: takes secrets out of texts.
        wanted: the setting ``keep_failed_params``; without it nothing is kept.
    """

    def __init__(self, mask: SecretMask, *, wanted: bool = True) -> None:
        self._mask = mask
        self._wanted = wanted
        self._kept: OrderedDict[int, _Kept] = OrderedDict()
        self._numbers = itertools.count(1)
        self.bytes = 0

    def methods(self) -> dict[str, Callable[[Call], None]]:
        """The call of this file, by name."""
        return {"system.failure": self._tell}

    def keep(self, call: Call) -> int | None:
        """Keep its params, and forget the oldest where they are too many.

        Returns:
            The number to ask for them by; None where they are not kept.
        """
        if not self._wanted or len(call.params) > MAX_PARAMS_BYTES:
            return None
        number = next(self._numbers)
        self._kept[number] = _Kept(call.method, call.params)
        self.bytes += len(call.params)
        while self.bytes > MAX_BYTES or len(self._kept) > MAX_FAILURES:
            _, oldest = self._kept.popitem(last=False)
            self.bytes -= len(oldest.params)
        return number

    def forget(self) -> None:
        """Nobody listens any more."""
        self._kept.clear()
        self.bytes = 0

    def _tell(self, call: Call) -> None:
        require_admin(call)
        number = decode_params(call, FailureParams).failure
        kept = self._kept.get(number)
        redaction = Redaction(self._mask)
        answer = {
            "failure": number,
            "kept": kept is not None,
            "method": None if kept is None else kept.method,
            "params": None if kept is None else _shown(kept, redaction),
            "redacted": redaction.count,
        }
        call.settle_result(_encoder.encode(answer))


def _shown(kept: _Kept, redaction: Redaction) -> Any:
    try:
        return redaction(msgspec.json.decode(kept.params))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RpcError(ErrorCode.INVALID_PARAMS, f"system.failure: its params cannot be shown: {error}") from error
