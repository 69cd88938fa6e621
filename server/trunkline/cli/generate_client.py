"""``trunkline generate-client``: writes the methods of a hub as types for TypeScript or Python."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trunkline.cli.talk import DEFAULT_URL, EXIT_FAILED, EXIT_USAGE, Token, fail, talk

if TYPE_CHECKING:
    from trunkline.client import Hub


class Language(StrEnum):
    """The languages that there is a generator for."""

    typescript = "typescript"
    python = "python"


def generate_client(
    language: Annotated[Language, typer.Option(help="Language to generate.")],
    output: Annotated[str, typer.Option(metavar="FILE", help="File to write. '-' is standard output.")],
    url: Annotated[str, typer.Argument(envvar="TRUNKLINE_URL", help="WebSocket URL of the hub.")] = DEFAULT_URL,
    token: Token = None,
    document: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="OpenRPC document to read instead of a hub's. '-' reads stdin."),
    ] = None,
    include: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Methods to write, such as 'text.*'; repeatable.  [default: all]"),
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Methods to leave out; repeatable.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit with 1 if the file is out of date.")
    ] = False,
) -> None:
    """Write the methods of a hub as types, so that the compiler checks calls."""
    from trunkline.generate import GENERATORS, DocumentError, narrowed

    if check and output == "-":
        fail(EXIT_USAGE, "--check compares with a file: name it with --output")
    try:
        found = read_document(document) if document is not None else ask_hub(url, token)
        text = GENERATORS[language](narrowed(found, include or (), exclude or ()))
    except (OSError, DocumentError) as error:
        fail(EXIT_USAGE, f"{document or url}: {getattr(error, 'strerror', None) or error}")
    if output == "-":
        sys.stdout.write(text)
        return
    try:
        is_same = deliver(text, Path(output), check=check)
    except OSError as error:
        fail(EXIT_FAILED, f"{output}: {error.strerror}")
    if check and not is_same:
        fail(EXIT_FAILED, f"{output} is out of date; generate it again without --check")


def ask_hub(url: str, token: str | None) -> Any:
    """The OpenRPC document of a running hub."""
    answers: list[Any] = []

    async def run(hub: Hub) -> None:
        answers.append(await hub.call("rpc.discover"))

    talk(url, token, run)
    return answers[0]


def read_document(path: Path) -> Any:
    """The OpenRPC document in a file, ``-`` for standard input.

    Raises:
        OSError: the file cannot be read.
        DocumentError: the file is not JSON.
    """
    from trunkline.generate import DocumentError

    data = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"not JSON: {error}") from error


def deliver(text: str, path: Path, *, check: bool) -> bool:
    """Write a file, unless it has this text already or ``check`` is set; returns whether it had this text.

    Raises:
        OSError: the file cannot be read or written.
    """
    data = text.encode()
    try:
        is_same = path.read_bytes() == data
    except FileNotFoundError:
        is_same = False
    if not (is_same or check):
        path.write_bytes(data)
    return is_same
