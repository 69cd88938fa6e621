"""Binds handlers to the rows of the table of hub methods: role, metadata and params are checked before the handler."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import msgspec

from trunkline.background import start_task
from trunkline.hub.connection import ClientCall
from trunkline.hub.principal import ADMIN, CALLEE
from trunkline.hub.router import HubHandler
from trunkline_protocol.calls import Call
from trunkline_protocol.codecs.jsonrpc import decode_metadata
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.hub_methods import HubMethod, Right
from trunkline_protocol.messages import UNREADABLE

P = TypeVar("P", bound=msgspec.Struct)
R = TypeVar("R")
Handlers = dict[str, HubHandler]
"""Handlers by method name, for :meth:`trunkline.hub.router.Router.handle`."""

ROLES: Final[dict[Right, str]] = {"admin": ADMIN, "callee": CALLEE}
"""The role that a right requires."""

_encoder: Final = msgspec.json.Encoder()
logger = logging.getLogger("trunkline.hub")


def answering(method: HubMethod[P, R], handler: Callable[[Call, P], None]) -> Handlers:
    """The handler of a method that is called with the call and its decoded params, and settles the call now or later.

    Calls without the required role are refused (6002), as are metadata and params that do not fit (-32602, naming the
    member); ``handler`` itself may raise :class:`RpcError`.
    """
    check = _checking(method)
    return {method.name: lambda call: handler(call, check(call))}


def answering_connection(method: HubMethod[P, R], handler: Callable[[ClientCall, P], None]) -> Handlers:
    """The handler of a method about the connection: as :func:`answering`, but without connection or id it is -32600."""
    check = _checking(method)

    def answer(call: Call) -> None:
        if not isinstance(call, ClientCall):
            words = f"{method.name} needs a connection and an id: it is about the connection that calls it"
            raise RpcError(ErrorCode.INVALID_REQUEST, words)
        handler(call, check(call))

    return {method.name: answer}


def answering_later(method: HubMethod[P, R], begin: Callable[[Call, P], Awaitable[R]]) -> Handlers:
    """The handler of a method that is answered, as JSON, with what the coroutine that ``begin`` makes returns.

    ``begin`` checks what can be checked at once; both may raise :class:`RpcError`. A cancel of the call does not stop
    what has begun.
    """

    def start(call: Call, params: P) -> None:
        start_task(_settle(call, begin(call, params)), call.method)

    return answering(method, start)


def replying(method: HubMethod[P, R], reply: Callable[[Call, P], R]) -> Handlers:
    """The handler of a method that is answered at once with what ``reply`` returns for the decoded params, as JSON."""
    check = _checking(method)
    return {method.name: lambda call: call.settle_result(_encoder.encode(reply(call, check(call))))}


async def _settle(call: Call, work: Awaitable[object]) -> None:
    try:
        call.settle_result(_encoder.encode(await work))
    except RpcError as error:
        call.settle_error(error)
    except Exception:
        logger.exception("answering %s failed", call.method, extra={"request_id": call.request_id()})
        call.settle_error(RpcError(ErrorCode.INTERNAL_ERROR, f"the hub failed to answer {call.method}"))


def _checking(method: HubMethod[P, R]) -> Callable[[Call], P]:
    """A function that checks a call against its method's row, and returns the decoded params."""
    decoder = msgspec.json.Decoder(method.params)
    role = ROLES.get(method.right)

    def check(call: Call) -> P:
        if role is not None:
            _require_role(call, role)
        if call.metadata:
            decode_metadata(call.metadata)  # refuses what methods of executors refuse, too
        try:
            return decoder.decode(call.params)
        except UNREADABLE as error:
            if call.params.lstrip()[:1] == b"[" and (not method.is_clients_own or call.params.strip() == b"[]"):
                return _by_position(decoder, method, call.params)
            raise RpcError(ErrorCode.INVALID_PARAMS, f"{method.name}: {error}") from error

    return check


def _by_position(decoder: msgspec.json.Decoder[P], method: HubMethod[P, R], params: bytes) -> P:
    """The params that came as an array: in the order of the members of the method's type."""
    names = [field.encode_name for field in msgspec.structs.fields(method.params)]
    try:
        values = msgspec.json.decode(params, type=list[msgspec.Raw])
        if len(values) > len(names):
            raise RpcError(ErrorCode.INVALID_PARAMS, f"{method.name} takes {len(names)} params, not {len(values)}")
        return decoder.decode(_encoder.encode(dict(zip(names, values, strict=False))))
    except UNREADABLE as error:
        raise RpcError(ErrorCode.INVALID_PARAMS, f"{method.name}: {error}") from error


def _require_role(call: Call, role: str) -> None:
    """Refuse a call (6002) whose principal lacks the role, also where a method calls on its behalf."""
    caller = call.caller()
    if caller is not None and not caller.has_role(role):
        raise RpcError(ErrorCode.FORBIDDEN, f"{caller.name} may not use {call.method} (role {role})")
