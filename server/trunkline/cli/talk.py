"""What commands share: exit codes, the options for a hub's URL and token, connecting, and error messages."""

from __future__ import annotations

import asyncio
import errno
import os
import ssl
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn, TypeVar

import msgspec
import typer

from trunkline.cli.show.terminal import plain_json, say

if TYPE_CHECKING:
    from trunkline.client import ConnectError, Hub

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_NO_HUB: Final = 3
EXIT_INTERRUPTED: Final = 130
EXIT_UNREAD: Final = 141

START_ONE: Final = "start one with: trunkline serve"
TRUST_IT: Final = "where its authority is your own, name that one's certificate: SSL_CERT_FILE=ca.pem"
ACTING: Final = "operator"
"""The principal that a command acts as in a tenant that it names."""
DEFAULT_URL: Final = "ws://127.0.0.1:8765/ws"
OWN_VARIABLES: Final = frozenset({"TRUNKLINE_URL", "TRUNKLINE_TOKEN"})

Report = TypeVar("Report", bound=msgspec.Struct)
Url = Annotated[str, typer.Option("--url", envvar="TRUNKLINE_URL", help="WebSocket URL of the hub.")]
Token = Annotated[str | None, typer.Option(envvar="TRUNKLINE_TOKEN", help="Bearer token, where the hub requires one.")]
Tenant = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Whose collection it is, where not the token's; needs the role act_as."),
]
TimeoutMs = Annotated[int | None, typer.Option("--timeout-ms", min=1, help="Deadline in milliseconds.")]


def talk(
    url: str, token: str | None, conversation: Callable[[Hub], Awaitable[None]], tenant: str | None = None
) -> None:
    """Connect to a hub and run ``conversation`` with it; exits where either fails.

    Args:
        tenant: in which all its calls are made; None for the token's own.
    """
    from trunkline.client import connect

    acting = None if tenant is None else {"act_as": {"principal": ACTING, "tenant": tenant}}

    async def run() -> None:
        async with connect(url, token=token, reconnect=False, metadata=acting) as hub:
            await conversation(hub)

    with_hub(url, run)


def require_known_variables() -> None:
    """Exit where a ``TRUNKLINE_*`` variable is unknown: a misspelt one would have no effect."""
    if all(name in OWN_VARIABLES for name in os.environ if name.upper().startswith("TRUNKLINE_")):
        return
    from trunkline.config import unknown_settings

    if problems := unknown_settings():
        fail(EXIT_USAGE, *problems)


def with_hub(url: str, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine that needs a hub, and turn its exceptions into messages and exit codes."""
    require_known_variables()
    import websockets

    from trunkline.client import ConnectError, DisconnectedError
    from trunkline_protocol.errors import RpcError

    try:
        asyncio.run(run())
    except RpcError as error:
        fail(EXIT_FAILED, str(error))
    except (ValueError, DisconnectedError) as error:
        fail(EXIT_FAILED, str(error))
    except ConnectError as error:
        if isinstance(error.__cause__, websockets.InvalidURI):
            fail(EXIT_USAGE, f"{error.reason}; write it like {DEFAULT_URL}")
        if error.status is not None:
            fail(EXIT_NO_HUB, f"{url} refused the connection: {error.error.message if error.error else error.reason}")
        if nobody_listens(error):
            fail(EXIT_NO_HUB, f"no hub at {url}: {error.reason}", START_ONE)
        advice = [TRUST_IT] if isinstance(error.__cause__, ssl.SSLCertVerificationError) else []
        fail(EXIT_NO_HUB, f"no connection to {url}: {error.reason}", *advice)
    except BrokenPipeError:
        raise typer.Exit(EXIT_UNREAD) from None
    except OSError as error:
        fail(EXIT_FAILED, str(error))
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_INTERRUPTED) from None


def nobody_listens(error: ConnectError) -> bool:
    """Whether there is no hub: no process listens at that port. One that is slow, or refuses who asks, is there."""
    return isinstance(error.__cause__, OSError) and f"[Errno {errno.ECONNREFUSED}]" in str(error.__cause__)


def why_no_answer(error: Exception, token: str | None, seconds: float) -> str:
    """Why a hub did not say what it was asked, as a clause; and what to do where there is none.

    Args:
        error: what connecting or the call raised.
        token: what the hub was asked with.
        seconds: the time that it had.
    """
    from trunkline.client import ConnectError
    from trunkline_protocol.errors import ErrorCode, RpcError

    if isinstance(error, RpcError):
        is_late = error.code == ErrorCode.COMMUNICATION_TIMEOUT
        return f"the hub does not answer within {seconds:g} s" if is_late else str(error)
    if not isinstance(error, ConnectError):
        return str(error) or type(error).__name__
    if nobody_listens(error):
        return f"nothing listens there ({error.reason}); {START_ONE}"
    if isinstance(error.__cause__, TimeoutError):
        return f"the hub does not answer within {seconds:g} s"
    code = None if error.error is None else error.error.code
    if code == ErrorCode.UNAUTHENTICATED or (code is None and error.status in (401, 403)):
        return f"the hub refuses {'who has no token' if token is None else 'this token'} ({error.reason})"
    return error.reason


def read_stdin() -> str:
    """All of standard input as text; exits where it is not UTF-8."""
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        fail(EXIT_USAGE, f"standard input is not UTF-8: {error}")


def read(answer: Any, report: type[Report]) -> Report:
    """A hub's answer as the type that this version reads; ends the command where the hub answers otherwise."""
    try:
        return msgspec.convert(answer, report)
    except msgspec.ValidationError as error:
        fail(EXIT_FAILED, f"the hub answers otherwise than this version of trunkline reads it: {error}")


def print_json(value: Any) -> None:
    """Print a value as indented JSON, coloured on a terminal."""
    if sys.stdout.isatty():
        from trunkline.cli.show.console import TextConsole

        TextConsole().print_json(plain_json(value))
    else:
        print(plain_json(value, indent=2))


def fail(code: int, *lines: str) -> NoReturn:
    """Print lines on stderr and exit with a code."""
    for line in lines:
        say(f"trunkline: {line}", error=True)
    raise typer.Exit(code)
