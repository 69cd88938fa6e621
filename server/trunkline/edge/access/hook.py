"""The operator's own hook: what it may return and raise. Its mistakes let nobody in, and put no token into a log."""

from __future__ import annotations

import logging
import traceback
from dataclasses import replace
from typing import Final

from trunkline.hub.principal import Authenticate, Handshake, Principal
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.principals import fault_of_claims

HOOK_CREDENTIAL: Final = "hook"
"""The credential of principals that the hook returns without one."""

logger = logging.getLogger("trunkline.edge")


def ask(hook: Authenticate, handshake: Handshake) -> Principal:
    """The principal that a hook which is a plain function returns for a handshake.

    Raises:
        RpcError: the hook's own refusal; -32603, it failed or returned something else.
    """
    try:
        principal: object = hook(handshake)
    except RpcError as error:
        raise without_token(error, handshake) from None
    except Exception as error:
        report(error)
        raise RpcError(ErrorCode.INTERNAL_ERROR, "the hub could not authenticate this connection") from None
    return checked(principal)


def checked(principal: object) -> Principal:
    """What a hook has returned, with names in place of placeholders, and a credential.

    Raises:
        RpcError: -32603, it is no principal that can be carried; 6001, its name cannot stand in its patterns.
    """
    if not isinstance(principal, Principal):
        logger.error("the authenticate hook returned no Principal", extra={"returned": type(principal).__name__})
        raise RpcError(ErrorCode.INTERNAL_ERROR, "the hub could not authenticate this connection")
    if principal.claims and (fault := fault_of_claims(principal.claims)):
        logger.error(
            "the authenticate hook returned a Principal whose claims cannot be carried", extra={"fault": fault}
        )
        raise RpcError(ErrorCode.INTERNAL_ERROR, "the hub could not authenticate this connection")
    try:
        named = principal.named()
    except ValueError as error:
        raise RpcError(ErrorCode.UNAUTHENTICATED, f"{principal.name!r:.100} cannot connect: {error}") from None
    return named if named.credential else replace(named, credential=HOOK_CREDENTIAL)


def without_token(error: RpcError, handshake: Handshake) -> RpcError:
    """A hook's own refusal, without the token that it may repeat."""
    if handshake.token and handshake.token in error.message:
        return RpcError(error.code, error.message.replace(handshake.token, "<token>"))
    return error


def report(error: Exception) -> None:
    """Log where a hook failed, and by whom it was called: no text of the error, and no line of code or value.

    Any of them may hold a token.
    """
    frames = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
    logger.error(
        "the authenticate hook failed",
        extra={"error": type(error).__name__, "at": frames[-1] if frames else "", "calls": frames},
    )
