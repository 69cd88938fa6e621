"""``trunkline stdio``: a hub whose peer is the program that started it, over standard input and output."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from trunkline.cli.settings import read_settings
from trunkline.cli.talk import EXIT_FAILED, EXIT_UNREAD, EXIT_USAGE, fail, with_hub

if TYPE_CHECKING:
    from trunkline.config import Settings
    from trunkline.edge.framed.dialects import Speech
    from trunkline.edge.framed.stdio import StandardIo


class Serve(Protocol):
    """Runs a hub until it is stopped."""

    def __call__(self, settings: Settings, standard_io: StandardIo, speech: Speech) -> None:
        """Run a hub; exits where the settings cannot work."""


class FramingOption(StrEnum):
    """The framings: how the byte stream is cut into frames."""

    packet4 = "packet4"
    ndjson = "ndjson"


class DialectOption(StrEnum):
    """The dialects: what the frames contain."""

    jsonrpc = "jsonrpc"
    command_bus = "command-bus"
    dspy_port = "dspy-port"


def stdio_command(serve: Serve) -> Callable[..., None]:
    """Make the ``stdio`` command.

    Args:
        serve: runs a hub until it is stopped; given, because it is defined in the module that imports this one.
    """

    def stdio(
        framing: Annotated[
            FramingOption,
            typer.Option(help="packet4: a length of four bytes before each frame; ndjson: one frame per line."),
        ] = FramingOption.packet4,
        dialect: Annotated[
            DialectOption, typer.Option(help="Protocol of the frames' content.")
        ] = DialectOption.jsonrpc,
        connect: Annotated[
            str | None,
            typer.Option(
                metavar="URL", help="WebSocket URL of a running hub to relay to, instead of starting one here."
            ),
        ] = None,
        token: Annotated[
            str | None, typer.Option(envvar="TRUNKLINE_TOKEN", help="Bearer token for --connect.", show_envvar=False)
        ] = None,
        config: Annotated[Path | None, typer.Option(help="TOML file with settings.")] = None,
        port: Annotated[
            int | None,
            typer.Option(min=0, max=65535, help="TCP port to listen on as well; 0 picks a free one.  [default: none]"),
        ] = None,
        packs: Annotated[
            str | None, typer.Option(help="Method packs, comma separated, or none.  [default: all installed]")
        ] = None,
        methods: Annotated[
            list[str] | None, typer.Option(help="Module with @method functions; may be repeated.")
        ] = None,
        executors: Annotated[
            int | None, typer.Option(min=1, help="Executor processes.  [default: by CPU count]")
        ] = None,
        data: Annotated[Path | None, typer.Option(help="Folder for collections.  [default: ./data]")] = None,
        demo: Annotated[bool | None, typer.Option("--demo/--no-demo", help="Index the demo collection.")] = None,
    ) -> None:
        """Serve the program that started this one, over standard input and output, until input ends.

        Standard output carries frames only; logs, and whatever methods print, go to standard error.
        """
        options: dict[str, Any] = {
            "port": port,
            "packs": packs,
            "methods": tuple(methods) if methods else None,
            "executors": executors,
            "data": data,
            "demo": demo,
        }
        given = [f"--{name}" for name, value in {"config": config, **options}.items() if value is not None]
        if connect is not None and given:
            fail(EXIT_USAGE, f"{given[0]} configures a hub started here; omit it with --connect")
        settings = read_settings(config, **(options | {"demo": bool(demo)}))
        from trunkline.edge.framed.dialects import Speech
        from trunkline.edge.framed.stdio import StandardIo

        try:
            standard_io = StandardIo()
        except (ValueError, OSError) as error:
            fail(EXIT_USAGE, str(error))
        speech = Speech(framing.value, dialect.value)
        if connect is None:
            serve(settings, standard_io, speech)
        elif (gone := _relay(connect, token, settings, standard_io, speech)) is not None:
            fail(EXIT_FAILED, f"the connection to the hub has ended: {gone}")
        ended = None if standard_io.peer is None else standard_io.peer.ended
        if ended == "broken" or not standard_io.delivered:
            raise typer.Exit(EXIT_FAILED)
        if ended == "lost":
            raise typer.Exit(EXIT_UNREAD)

    return stdio


def _relay(url: str, token: str | None, settings: Settings, standard_io: StandardIo, speech: Speech) -> str | None:
    """Relay to a hub elsewhere; returns why its connection ended for good, None where the peer ended first."""
    from trunkline.observe.logs import configure_logs
    from trunkline.relay.relay_program import RelayProgram

    configure_logs(settings.log_level, settings.log_format, settings.secrets)
    gone: list[str] = []

    async def run() -> None:
        program = RelayProgram(url, token, speech)
        await program.run(standard_io)
        if program.hub_gone is not None:
            gone.append(program.hub_gone)

    with_hub(url, run)
    return gone[0] if gone else None
