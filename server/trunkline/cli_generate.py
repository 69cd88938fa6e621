"""``trunkline generate-client``: the methods of a hub as types of TypeScript or Python."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, Protocol

import typer

if TYPE_CHECKING:
    from trunkline.client import Hub

Talk = Callable[[str, str | None, "Callable[[Hub], Awaitable[None]]"], None]


class Fail(Protocol):
    """How the command line ends a program that failed."""

    def __call__(self, code: int, *lines: str) -> NoReturn:
        """Say what went wrong on stderr and exit with the code."""


class Language(StrEnum):
    """What there is a generator for."""

    typescript = "typescript"
    python = "python"


def generate_client_command(
    talk: Talk, fail: Fail, *, failed: int, usage: int, default_url: str
) -> Callable[..., None]:
    """The command, made of what the command line has for all of them.

    Args:
        talk: connects to a hub, and ends the program where that fails.
        failed: exit code for a file that differs or a call that failed.
        usage: exit code for what cannot be.
    """

    def generate_client(
        language: Annotated[Language, typer.Option(help="Language to generate.")],
        output: Annotated[str, typer.Option(metavar="FILE", help="Where to write it. '-' is standard output.")],
        url: Annotated[str, typer.Argument(envvar="TRUNKLINE_URL", help="WebSocket of the hub.")] = default_url,
        token: Annotated[
            str | None, typer.Option(envvar="TRUNKLINE_TOKEN", help="Bearer token, where the hub wants one.")
        ] = None,
        document: Annotated[
            Path | None,
            typer.Option(metavar="FILE", help="OpenRPC document to read instead of asking a hub. '-' reads stdin."),
        ] = None,
        check: Annotated[
            bool, typer.Option("--check", help="Write nothing; exit 1 if the file is not what would be written.")
        ] = False,
    ) -> None:
        """Write the methods of a hub as types, for calls that the compiler checks."""
        from trunkline.generate import GENERATORS, DocumentError

        if check and output == "-":
            fail(usage, "--check compares with a file: name it with --output")
        try:
            found = read_document(document) if document is not None else ask_hub(talk, url, token)
            text = GENERATORS[language](found)
        except (OSError, DocumentError) as error:
            fail(usage, f"{document or url}: {getattr(error, 'strerror', None) or error}")
        if output == "-":
            sys.stdout.write(text)
            return
        try:
            is_same = deliver(text, Path(output), check=check)
        except OSError as error:
            fail(failed, f"{output}: {error.strerror}")
        if check and not is_same:
            fail(failed, f"{output} is not what the hub serves now; generate it again without --check")

    return generate_client


def ask_hub(talk: Talk, url: str, token: str | None) -> Any:
    """The document of a running hub."""
    answers: list[Any] = []

    async def run(hub: Hub) -> None:
        answers.append(await hub.call("rpc.discover"))

    talk(url, token, run)
    return answers[0]


def read_document(path: Path) -> Any:
    """The document in a file.

    Raises:
        OSError: it cannot be read.
        DocumentError: it is not JSON.
    """
    from trunkline.generate import DocumentError

    data = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"this is not JSON: {error}") from error


def deliver(text: str, path: Path, *, check: bool) -> bool:
    """Write the file, unless it is there already or is only checked; returns whether it was there.

    Raises:
        OSError: it cannot be read or written.
    """
    data = text.encode()
    try:
        is_same = path.read_bytes() == data
    except FileNotFoundError:
        is_same = False
    if not (is_same or check):
        path.write_bytes(data)
    return is_same
