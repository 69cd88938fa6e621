"""Whether a method may be registered at all, by whom, and under which name. Pure."""

from __future__ import annotations

from trunkline.hub.principal import Principal, not_granted
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.hub_messages import RegisterParams
from trunkline_protocol.hub_methods import reserved
from trunkline_protocol.topics import valid_topic


def require_right(principal: Principal, params: RegisterParams) -> None:
    """Check a registration.

    Raises:
        RpcError: -32602, it is not valid; 6002, the name is the hub's own, or the principal may not register it.
    """
    if not valid_topic(params.method) or not 1 <= params.max_concurrency <= 10_000:
        words = f"method.register: {params.method!r:.300} is not a valid name, or max_concurrency is not 1 to 10000"
        raise RpcError(ErrorCode.INVALID_PARAMS, words)
    if (why := reserved(params.method)) is not None:
        raise RpcError(ErrorCode.FORBIDDEN, f"method.register: {why}; register another name")
    if not principal.may_register(params.method):
        raise not_granted(principal, "register", params.method)
