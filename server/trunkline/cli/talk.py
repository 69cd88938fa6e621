"""What commands share: exit codes, the options for a hub's URL and token, connecting, and error messages."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn, TypeVar

import msgspec
import typer

from trunkline.cli.show.terminal import plain_json, say

if TYPE_CHECKING:
    from trunkline.client import Hub

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_NO_HUB: Final = 3
EXIT_INTERRUPTED: Final = 130
EXIT_UNREAD: Final = 141

DEFAULT_URL: Final = "ws://127.0.0.1:8765/ws"
OWN_VARIABLES: Final = frozenset({"TRUNKLINE_URL", "TRUNKLINE_TOKEN"})

Report = TypeVar("Report", bound=msgspec.Struct)
Url = Annotated[str, typer.Option("--url", envvar="TRUNKLINE_URL", help="WebSocket URL of the hub.")]
Token = Annotated[str | None, typer.Option(envvar="TRUNKLINE_TOKEN", help="Bearer token, where the hub requires one.")]
TimeoutMs = Annotated[int | None, typer.Option("--timeout-ms", min=1, help="Deadline in milliseconds.")]


def talk(url: str, token: str | None, conversation: Callable[[Hub], Awaitable[None]]) -> None:
    """Connect to a hub and run ``conversation`` with it; exits where either fails."""
    from trunkline.client import connect

    async def run() -> None:
        async with connect(url, token=token, reconnect=False) as hub:
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
        fail(EXIT_NO_HUB, f"no hub at {url}: {error.reason}", "start one with: trunkline serve")
    except BrokenPipeError:
        raise typer.Exit(EXIT_UNREAD) from None
    except OSError as error:
        fail(EXIT_FAILED, str(error))
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_INTERRUPTED) from None


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
