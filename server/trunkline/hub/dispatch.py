"""Binds handlers to the rows of the table of hub methods: what a row says is required before its handler is called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec

from trunkline.hub.client_calls import ClientCall
from trunkline.hub.principal import ADMIN, CALLEE
from trunkline.hub.router import HubHandler
from trunkline_protocol.calls import Call
from trunkline_protocol.codecs.jsonrpc import decode_metadata
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.hub_methods import HubMethod, Right
from trunkline_protocol.messages import UNREADABLE

P = TypeVar("P", bound=msgspec.Struct)
Handlers = dict[str, HubHandler]
"""By the method's name, for :meth:`trunkline.hub.router.Router.handle`."""

ROLES: Final[dict[Right, str]] = {"admin": ADMIN, "callee": CALLEE}
"""Which right takes which role."""

_encoder: Final = msgspec.json.Encoder()


def answering(method: HubMethod[P], handler: Callable[[Call, P], None]) -> Handlers:
    """A method whose handler gets the call and its decoded params, and settles it now or later.

    The handler is called for those only who have the role that the method takes (6002), with metadata and params that
    fit (-32602, naming the member); it may raise :class:`RpcError` itself.
    """
    check = _checking(method)
    return {method.name: lambda call: handler(call, check(call))}


def answering_connection(method: HubMethod[P], handler: Callable[[ClientCall, P], None]) -> Handlers:
    """The same for a method about the connection: calls that come from elsewhere, or have no id, are -32600."""
    check = _checking(method)

    def answer(call: Call) -> None:
        if not isinstance(call, ClientCall):
            words = f"{method.name} needs a connection and an id: it is about the connection that calls it"
            raise RpcError(ErrorCode.INVALID_REQUEST, words)
        handler(call, check(call))

    return {method.name: answer}


def replying(method: HubMethod[P], reply: Callable[[P], Any]) -> Handlers:
    """A method that is answered at once with what ``reply`` returns for the decoded params, as JSON."""
    check = _checking(method)
    return {method.name: lambda call: call.settle_result(_encoder.encode(reply(check(call))))}


def _checking(method: HubMethod[P]) -> Callable[[Call], P]:
    """What asks of a call all that the method's row requires, and returns its params."""
    decoder = msgspec.json.Decoder(method.params)
    role = ROLES.get(method.right)

    def check(call: Call) -> P:
        if role is not None:
            _require_role(call, role)
        if call.metadata:
            decode_metadata(call.metadata)  # what is wrong there is refused as it is for executors' methods
        try:
            return decoder.decode(call.params)
        except UNREADABLE as error:
            if call.params.strip() == b"[]":  # by position: none
                return _without_params(decoder, method.name)
            raise RpcError(ErrorCode.INVALID_PARAMS, f"{method.name}: {error}") from error

    return check


def _without_params(decoder: msgspec.json.Decoder[P], name: str) -> P:
    try:
        return decoder.decode(b"{}")
    except msgspec.DecodeError as error:
        raise RpcError(ErrorCode.INVALID_PARAMS, f"{name}: {error}") from error


def _require_role(call: Call, role: str) -> None:
    """Refuse whoever has not the role, be it through methods that call for it."""
    caller = call.caller()
    if caller is not None and role not in caller.roles:
        raise RpcError(ErrorCode.FORBIDDEN, f"{caller.name} may not use {call.method} (role {role})")
