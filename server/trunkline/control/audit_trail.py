"""The audit line of a call: its principal, what it is about, and the method or job that made it for that principal."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from trunkline.hub.connection import ClientCall, NotificationCall
from trunkline.jobs.call import JobCall
from trunkline.observe.audit import APPLICATION_ERROR, MAX_TEXT_CHARS, OUTCOMES, AuditLog, CallLine, clean
from trunkline_protocol.calls import Call
from trunkline_protocol.hub_methods import METHODS
from trunkline_protocol.messages import UNREADABLE

_now: Final = datetime.now

_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_items: Final = msgspec.json.Decoder(list[msgspec.Raw])


class AuditTrail:
    """Writes a line for each call that has ended, unless the hub made it for itself.

    The connection is that of the outermost call; 0 for a job, which has none.
    """

    def __init__(self, log: AuditLog) -> None:
        self._add = log.add

    def ended(self, call: Call, code: int, seconds: float) -> None:
        """Write the line of a call.

        Args:
            code: 0 for success, else the error's code.
            seconds: from receipt to outcome.
        """
        info = call.info
        target = target_of(call) if info is None or info.routing_key is not None else ""
        if type(call) is not ClientCall or call.behalf is not None:
            self._for_another(call, code, seconds, target)
            return
        if code:
            request_id = call.request_id()
        else:
            request_id = call.known_request_id() or "" if call.metadata else getattr(call, "made_id", "")
        connection, method = call.connection, call.method
        if len(method) > MAX_TEXT_CHARS:
            method = clean(method)
        principal = connection.principal
        self._add(
            CallLine(
                _now(UTC), "call", principal.name, principal.tenant, connection.number, connection.peer, method,
                OUTCOMES.get(code, APPLICATION_ERROR), code, int(seconds * 1e6 + 0.5) / 1000, "", "", "",
                target, request_id, call.number,
            )
        )  # fmt: skip

    def _for_another(self, call: Call, code: int, seconds: float, target: str) -> None:
        """Write the line of a call that a method, a job or a gateway has made for a principal, or a notification's."""
        caller = call.caller()
        if caller is None:
            return
        number, peer = _from(call)
        via = call.outer_method
        request_id = call.request_id() if code or via else call.known_request_id() or ""
        self._add(
            CallLine(
                _now(UTC), "call", caller.name, caller.tenant, number, peer, clean(call.method),
                OUTCOMES.get(code, APPLICATION_ERROR), code, int(seconds * 1e6 + 0.5) / 1000,
                via, caller.acting, caller.actor, target, request_id, call.number,
            )
        )  # fmt: skip


def _from(call: Call) -> tuple[int, str]:
    """The number of the connection that a call comes from, and its peer."""
    origin = call.origin()
    if isinstance(origin, (ClientCall, NotificationCall)):
        return origin.connection.number, origin.connection.peer
    return 0, f"job:{origin.job_id}" if isinstance(origin, JobCall) else ""


def target_of(call: Call) -> str:
    """What a call is about: the params that the hub's table, or its method's routing key, names; empty without those.

    Names of settings stand for a configuration. No other params are read.
    """
    row, info = METHODS.get(call.method), call.info
    if row is not None and row.target:
        return _named(call.params, row.target, row.params.__struct_encode_fields__)
    if info is not None and info.routing_key is not None:
        return _named(call.params, (info.routing_key,), [parameter.name for parameter in info.parameters])
    return ""


def _named(params: bytes, wanted: Sequence[str], order: Sequence[str]) -> str:
    """The values of some params, as words; ``order`` is what counts where the params are an array."""
    if len(wanted) == 1:  # as nearly always, and then a text, mostly
        try:
            text: str = _text_decoder(wanted[0]).decode(params).text
        except UNREADABLE:
            pass
        else:
            return text if len(text) <= MAX_TEXT_CHARS else clean(text)
    try:
        if params.lstrip()[:1] == b"[":
            members = dict(zip(order, _items.decode(params), strict=False))
        else:
            members = _members.decode(params)
        values = [msgspec.json.decode(members[name]) for name in wanted if name in members]
    except UNREADABLE:  # the caller got this error as the reply
        return ""
    return clean(" ".join(filter(None, map(_word, values))))


@functools.lru_cache(maxsize=1024)
def _text_decoder(name: str) -> msgspec.json.Decoder[Any]:
    """Reads one member that is a text, of an object with others; what it reads has it as ``text``."""
    return msgspec.json.Decoder(msgspec.defstruct("Params", [("text", str)], rename={"text": name}))


def _word(value: Any) -> str:
    if isinstance(value, dict):
        return ",".join(value)
    return str(value) if isinstance(value, str | int) else ""
