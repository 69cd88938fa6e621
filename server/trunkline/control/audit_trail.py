"""The audit line of a call: its principal, what it is about, and the method or job that made it for that principal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from trunkline.hub.connection import ClientCall, NotificationCall
from trunkline.jobs.call import JobCall
from trunkline.observe.audit import AuditLog
from trunkline_protocol.calls import Call
from trunkline_protocol.hub_methods import METHODS
from trunkline_protocol.messages import UNREADABLE

_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_items: Final = msgspec.json.Decoder(list[msgspec.Raw])


def audit(log: AuditLog, call: Call, code: int, seconds: float) -> None:
    """Log a call that has ended, unless the hub made it for itself.

    The connection is that of the outermost call; 0 for a job, which has none.

    Args:
        code: 0 for success, else the error's code.
        seconds: from receipt to outcome.
    """
    caller = call.caller()
    if caller is None:
        return
    number, peer = _from(call)
    log.call(
        caller.name,
        caller.tenant,
        number,
        peer,
        call.method,
        code,
        seconds,
        target=target_of(call),
        request_id=call.request_id(),
        via=call.outer_method,
        runs_as=caller.acting,
        actor=caller.actor,
        number=call.number,
    )


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
    try:
        if params.lstrip()[:1] == b"[":
            members = dict(zip(order, _items.decode(params), strict=False))
        else:
            members = _members.decode(params)
        values = [msgspec.json.decode(members[name]) for name in wanted if name in members]
    except UNREADABLE:  # the caller got this error as the reply
        return ""
    return " ".join(filter(None, map(_word, values)))


def _word(value: Any) -> str:
    if isinstance(value, dict):
        return ",".join(value)
    return str(value) if isinstance(value, str | int) else ""
