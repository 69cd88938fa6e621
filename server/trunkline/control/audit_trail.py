"""The audit line of a call: its principal, what it is about, and the method or job that made it for that principal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from trunkline.hub.connection import ClientCall, Connection, NotificationCall
from trunkline.jobs.call import JobCall
from trunkline.observe.audit import AuditLog, who_called
from trunkline_protocol.calls import Call, Caller
from trunkline_protocol.hub_methods import METHODS
from trunkline_protocol.messages import UNREADABLE

MAX_KNOWN: Final = 65_536
"""Connections of which is kept what their lines have in common."""

_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_items: Final = msgspec.json.Decoder(list[msgspec.Raw])


class AuditTrail:
    """Writes a line for each call that has ended, unless the hub made it for itself.

    The connection is that of the outermost call; 0 for a job, which has none.
    """

    def __init__(self, log: AuditLog) -> None:
        self._log = log
        self._known: dict[int, tuple[Caller, bytes]] = {}

    def forget(self, connection: Connection) -> None:
        """Forget a connection that is closed."""
        self._known.pop(connection.number, None)

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
        connection = call.connection
        known = self._known.get(connection.number)
        if known is None or known[0] is not connection.principal:
            known = self._know(connection)
        if code:
            request_id = call.request_id()
        else:
            request_id = call.known_request_id() or "" if call.metadata else getattr(call, "made_id", "")
        self._log.call(known[1], call.method, code, seconds, target, request_id, call.number)

    def _know(self, connection: Connection) -> tuple[Caller, bytes]:
        principal = connection.principal
        who = who_called(principal.name, principal.tenant, connection.number, connection.peer)
        if len(self._known) >= MAX_KNOWN:  # sessions have calls that end long after their connection
            self._known.clear()
        known = self._known[connection.number] = principal, who
        return known

    def _for_another(self, call: Call, code: int, seconds: float, target: str) -> None:
        """Write the line of a call that a method, a job or a gateway has made for a principal, or a notification's."""
        caller = call.caller()
        if caller is None:
            return
        number, peer = _from(call)
        via, acting, actor = call.outer_method, caller.acting, caller.actor
        who = who_called(caller.name, caller.tenant, number, peer, via=via, runs_as=acting, actor=actor)
        request_id = call.request_id() if code or via else call.known_request_id() or ""
        self._log.call(who, call.method, code, seconds, target, request_id, call.number)


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
