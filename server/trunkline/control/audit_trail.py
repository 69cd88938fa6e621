"""The audit line of a call: its principal, and the method or job that made the call on the principal's behalf."""

from __future__ import annotations

from trunkline.hub.connection import ClientCall, NotificationCall
from trunkline.jobs.call import JobCall
from trunkline.observe.audit import AuditLog
from trunkline_protocol.calls import Call


def audit(log: AuditLog, call: Call, code: int, seconds: float) -> None:
    """Log a call that has ended, unless the hub made it for itself.

    The connection is that of the outermost call; 0 for a job, which has none.

    Args:
        code: 0 for success, else the error's code.
        seconds: from receipt to outcome.
    """
    if type(call) is ClientCall or type(call) is NotificationCall:
        at, who = call.connection, call.caller()
        log.call(who.name, who.tenant, at.number, at.peer, call.method, code, seconds, actor=who.actor)
        return
    caller = call.caller()
    if caller is None:
        return
    origin = call.origin()
    number, peer = 0, ""
    if isinstance(origin, (ClientCall, NotificationCall)):
        number, peer = origin.connection.number, origin.connection.peer
    elif isinstance(origin, JobCall):
        peer = f"job:{origin.job_id}"
    about = number, peer, call.method, code, seconds
    log.call(caller.name, caller.tenant, *about, via=call.outer_method, runs_as=caller.acting, actor=caller.actor)
