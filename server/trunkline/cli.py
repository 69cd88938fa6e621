"""The command line: ``trunkline serve | stdio | call | stream | subscribe | publish | discover | doctor |
token | generate-client | convert-model``.

Exit codes: 0 success, 1 the call or check failed or the connection was lost, 2 wrong usage or configuration, 3 no hub
to talk to, 130 Ctrl-C, 141 nobody reads the output any more (as of other programs that SIGPIPE ends).
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

import typer

from trunkline.cli_generate import generate_client_command
from trunkline.cli_model import convert_model_command
from trunkline.cli_stdio import DialectOption, FramingOption, stdio_command
from trunkline.version import __version__

if TYPE_CHECKING:
    from trunkline.client import Hub, Position, Subscription
    from trunkline.config import Settings
    from trunkline.edge.framed_doors import Speech
    from trunkline.edge.stdio import StandardIo

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_NO_HUB: Final = 3
EXIT_INTERRUPTED: Final = 130
EXIT_UNREAD: Final = 141
PRINT_QUEUE: Final = 10_000
"""Events that may wait to be printed: a terminal is slower than a hub, in bursts."""

DEFAULT_URL: Final = "ws://127.0.0.1:8765/ws"

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Trunkline: one hub for calls, streams and events between Node.js, Elixir, browsers and Python.",
)

Url = Annotated[str, typer.Option("--url", envvar="TRUNKLINE_URL", help="WebSocket of the hub.")]
Token = Annotated[str | None, typer.Option(envvar="TRUNKLINE_TOKEN", help="Bearer token, where the hub wants one.")]
TimeoutMs = Annotated[int | None, typer.Option("--timeout-ms", min=1, help="Deadline in milliseconds.")]
MethodName = Annotated[str, typer.Argument(help="Method, for example rag.execute.")]
Params = Annotated[str, typer.Argument(help="Params as JSON: an object or an array. '-' reads standard input.")]


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        print(f"trunkline {__version__}")
        raise typer.Exit


@app.command()
def serve(
    config: Annotated[Path | None, typer.Option(help="TOML file with settings.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to bind.  [default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="0 picks a free one.  [default: 8765]")] = None,
    uds: Annotated[Path | None, typer.Option(help="Unix socket for HTTP and WebSocket, instead of a port.")] = None,
    uds_mode: Annotated[str | None, typer.Option(help="Permissions of its file.  [default: 600]")] = None,
    uds_framed: Annotated[Path | None, typer.Option(help="Unix socket for peers that speak frames.")] = None,
    uds_framing: Annotated[FramingOption | None, typer.Option(help="Theirs.  [default: packet4]")] = None,
    uds_dialect: Annotated[DialectOption | None, typer.Option(help="Theirs.  [default: jsonrpc]")] = None,
    packs: Annotated[
        str | None,
        typer.Option(help="Method packs, comma separated, or none.  [default: all that are installed]"),
    ] = None,
    methods: Annotated[list[str] | None, typer.Option(help="Module with @method functions; may be repeated.")] = None,
    executors: Annotated[int | None, typer.Option(min=1, help="Executor processes.  [default: by CPU count]")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder for collections.  [default: ./data]")] = None,
    demo: Annotated[bool | None, typer.Option("--demo/--no-demo", help="Index the demo collection.")] = None,
    stop_with_stdin: Annotated[bool, typer.Option("--stop-with-stdin", help="Stop when standard input ends.")] = False,
) -> None:
    """Run a hub until SIGTERM or Ctrl-C."""
    options: dict[str, Any] = {
        "host": host,
        "port": port,
        "uds": uds,
        "uds_mode": uds_mode,
        "uds_framed": uds_framed,
        "uds_framing": uds_framing,
        "uds_dialect": uds_dialect,
        "packs": packs,
        "methods": tuple(methods) if methods else None,
        "executors": executors,
        "data": data,
        "demo": demo,
    }
    if stop_with_stdin and sys.stdin is None:
        fail(EXIT_USAGE, "--stop-with-stdin: standard input is closed")
    _serve(_settings(config, **options), stop_at_eof=stop_with_stdin)


def _settings(config: Path | None, **options: Any) -> Settings:
    """Settings of a hub; ends the program where they cannot be."""
    from pydantic import ValidationError

    from trunkline.config import load_settings

    try:
        return load_settings(config, **options)
    except ValidationError as error:
        fail(
            EXIT_USAGE,
            *(_setting_problem(item) for item in error.errors(include_url=False, include_input=False)),
        )
    except (FileNotFoundError, ValueError) as error:
        fail(EXIT_USAGE, str(error))


def _setting_problem(item: Any) -> str:
    name = ".".join(map(str, item["loc"]))
    return f"{name}: {item['msg']}" if name else str(item["msg"]).removeprefix("Value error, ")


def _serve(
    settings: Settings,
    standard_io: StandardIo | None = None,
    speech: Speech | None = None,
    *,
    stop_at_eof: bool = False,
) -> None:
    from trunkline.app import Hub
    from trunkline.demo import greet
    from trunkline.observe.logs import configure_logs
    from trunkline.runtime import ConfigurationError, event_loop_runner, handle_signals, stop_at_end_of_stdin

    configure_logs(settings.log_level, settings.log_format, settings.secrets)

    async def main() -> None:
        hub = Hub(settings)
        handle_signals(hub)
        if stop_at_eof:
            stop_at_end_of_stdin(hub)
        greeting: list[asyncio.Task[None]] = []

        def on_listening(addresses: list[str]) -> None:
            for address in addresses:
                print(f"trunkline {__version__} listening on {address}", flush=True)
            greeting.append(asyncio.create_task(greet(hub, addresses)))

        await hub.run(on_listening, standard_io, speech)
        for task in greeting:
            task.cancel()
        if standard_io is not None:
            await standard_io.finish(settings.drain_seconds)

    try:
        event_loop_runner()(main())
    except ConfigurationError as error:
        fail(EXIT_USAGE, str(error))


@app.command()
def call(
    method: MethodName,
    params: Params = "{}",
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout_ms: TimeoutMs = None,
) -> None:
    """Call a method and print its result as JSON."""
    decoded = read_params(params)

    async def run(hub: Hub) -> None:
        print_json(await hub.call(method, decoded, timeout_ms=timeout_ms))

    talk(url, token, run)


@app.command()
def stream(
    method: MethodName,
    params: Params = "{}",
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout_ms: TimeoutMs = None,
    raw: Annotated[bool, typer.Option("--json", help="One JSON object a line instead of text.")] = False,
) -> None:
    """Call a streaming method and print its chunks as they come."""
    decoded = read_params(params)

    async def run(hub: Hub) -> None:
        from trunkline.render import StreamPrinter

        printer = StreamPrinter(as_json=raw)
        chunks = await hub.stream(method, decoded, timeout_ms=timeout_ms)
        async for chunk in chunks:
            printer.chunk(chunk.type, chunk.data, chunk.index)
        printer.result(chunks.result)

    talk(url, token, run)


@app.command()
def subscribe(
    topics: Annotated[
        list[str],
        typer.Argument(
            metavar="TOPIC",
            help="Topics or patterns, in quotes: '*' is one token, '>' at the end one or more, as in 'jobs.*.done'.",
        ),
    ],
    url: Url = DEFAULT_URL,
    token: Token = None,
    raw: Annotated[bool, typer.Option("--json", help='One JSON object a line, with "type": "event" or "gap".')] = False,
    count: Annotated[int | None, typer.Option(min=1, help="End after so many events.")] = None,
    recover: Annotated[
        str | None,
        typer.Option(
            metavar="EPOCH:OFFSET",
            help="Go on after this position, as 'trunkline publish' prints it; for one topic without wildcards.",
        ),
    ] = None,
) -> None:
    """Print events as they are published, until Ctrl-C. Events that were lost are told on stderr."""
    asked = read_position(topics, recover)

    async def run(hub: Hub) -> None:
        async with hub.subscribe(*topics, recover=asked, max_queued=PRINT_QUEUE) as events:
            if sys.stderr.isatty():
                print(f"subscribed to {' '.join(topics)}; Ctrl-C ends", file=sys.stderr)
            await print_events(events, raw, count)

    talk(url, token, run)


async def print_events(events: Subscription, as_json: bool, count: int | None) -> None:
    """Print what comes, until ``count`` events are printed or the connection is lost."""
    from trunkline.client import DisconnectedError, Gap
    from trunkline.render import EventPrinter, while_output_is_read

    printer = EventPrinter(as_json=as_json)
    try:
        with while_output_is_read():
            async for item in events:
                if isinstance(item, Gap):
                    printer.gap(item)
                    continue
                printer.event(item)
                if count is not None:
                    count -= 1
                    if not count:
                        return
    except DisconnectedError as error:
        resume = [f"go on with: --recover {events.position}"] if events.position else []
        fail(EXIT_FAILED, str(error), *resume)


def read_position(topics: list[str], recover: str | None) -> Position | None:
    """What ``--recover`` says; ends the program where topics or position cannot be."""
    from trunkline.client import Position
    from trunkline_protocol.topics import is_wildcard, valid_pattern

    for topic in topics:
        if not valid_pattern(topic):
            fail(EXIT_USAGE, f"{topic!r} is no topic and no pattern: tokens joined by dots, as in jobs.42 or 'jobs.*'")
    if recover is None:
        return None
    if len(topics) > 1 or is_wildcard(topics[0]):
        fail(EXIT_USAGE, "--recover is the position of one topic; subscribe to that topic alone, without wildcards")
    try:
        return Position.parse(recover)
    except ValueError as error:
        fail(EXIT_USAGE, f"--recover: {error}")


@app.command()
def publish(
    topic: Annotated[str, typer.Argument(help="Topic, for example jobs.42.done.")],
    data: Annotated[
        str | None, typer.Argument(help="The event's data as JSON. '-', or nothing in a pipe, reads standard input.")
    ] = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    text: Annotated[
        bool, typer.Option("--text", help="Send DATA as a string (of standard input without its last line break).")
    ] = False,
    idempotency_key: Annotated[
        str | None, typer.Option(help="Publishing again with the same key within five minutes is the same event.")
    ] = None,
) -> None:
    """Publish an event and print its position, EPOCH:OFFSET, once it is stored."""
    from trunkline_protocol.topics import valid_topic

    if not valid_topic(topic):
        fail(EXIT_USAGE, f"{topic!r} is no topic: tokens joined by dots, without blanks and wildcards, as in jobs.42")
    decoded = read_data(data, as_text=text)

    async def run(hub: Hub) -> None:
        print(await hub.publish(topic, decoded, idempotency_key=idempotency_key))

    talk(url, token, run)


@app.command()
def discover(
    url: Url = DEFAULT_URL,
    token: Token = None,
    raw: Annotated[bool, typer.Option("--json", help="The OpenRPC document instead of a table.")] = False,
) -> None:
    """List what a hub serves."""

    async def run(hub: Hub) -> None:
        from trunkline.render import print_methods

        document = await hub.call("rpc.discover")
        if raw:
            print_json(document)
        else:
            print_methods(document)

    talk(url, token, run)


@app.command()
def doctor(url: Url = DEFAULT_URL, token: Token = None) -> None:
    """Check what is installed here, and the hub if one runs."""
    from trunkline.doctor import run_checks
    from trunkline.render import print_checks

    checks = asyncio.run(run_checks(url, token))
    print_checks(checks)
    if any(check.state == "failed" for check in checks):
        raise typer.Exit(EXIT_FAILED)


@app.command("token")
def make_token(
    name: Annotated[str, typer.Argument(help="Who the token is for.")] = "client",
    role: Annotated[list[str] | None, typer.Option(help="Role of its holder; may be repeated.")] = None,
    raw: Annotated[bool, typer.Option("--json", help="Token and entry as one JSON object on standard output.")] = False,
) -> None:
    """Make a random token, and its entry for the tokens file.

    The entry goes to standard output and holds only the token's SHA-256. The token itself is shown once, on stderr:
    'trunkline token ci >> tokens.toml' appends the one and shows the other.
    """
    from trunkline.edge.grants import is_name
    from trunkline.edge.tokens import new_token

    if bad := [text for text in (name, *(role or ())) if not is_name(text)]:
        fail(EXIT_USAGE, f"{bad[0]!r} is no name: 1 to 256 printable characters")
    secret, digest = new_token()
    entry = {"name": name, "sha256": digest} | ({"roles": role} if role else {})
    if raw:
        print_json({"token": secret, **entry})
        return
    # Strings and lists of strings are written the same way in JSON and in TOML.
    print(
        "\n[[tokens]]", *(f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in entry.items()), sep="\n"
    )
    sys.stdout.flush()
    print(
        f"\nThe token of {name}, shown only now:\n\n    {secret}\n\nThe entry belongs into the file that "
        "TRUNKLINE_TOKENS_FILE names; a running hub reads it again on SIGHUP.",
        file=sys.stderr,
    )


def talk(url: str, token: str | None, conversation: Callable[[Hub], Awaitable[None]]) -> None:
    """Connect and converse."""
    from trunkline.client import connect

    async def run() -> None:
        async with connect(url, token=token, reconnect=False) as hub:
            await conversation(hub)

    with_hub(url, run)


def with_hub(url: str, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run something that needs a hub, and turn what goes wrong into words and an exit code."""
    import websockets

    from trunkline.client import DisconnectedError
    from trunkline_protocol.errors import RpcError

    try:
        asyncio.run(run())
    except RpcError as error:
        fail(EXIT_FAILED, str(error))
    except (ValueError, DisconnectedError) as error:
        fail(EXIT_FAILED, str(error))
    except websockets.InvalidStatus as error:
        fail(EXIT_NO_HUB, f"{url} refused the connection: {_refusal(error)}")
    except BrokenPipeError:
        raise typer.Exit(EXIT_UNREAD) from None
    except (OSError, websockets.WebSocketException, TimeoutError) as error:
        fail(EXIT_NO_HUB, f"no hub at {url}: {error or 'timed out'}", "start one with: trunkline serve")
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_INTERRUPTED) from None


def _refusal(error: Any) -> str:
    try:
        return str(json.loads(error.response.body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {error.response.status_code}"


def read_params(text: str) -> Any:
    """Params from the command line, or from standard input for ``-``."""
    source = read_stdin() if text == "-" else text
    try:
        params = json.loads(source)
    except ValueError as error:
        fail(EXIT_USAGE, f"params are not JSON: {error}")
    if not isinstance(params, (dict, list)):
        fail(EXIT_USAGE, "params must be a JSON object or array")
    return params


def read_data(text: str | None, *, as_text: bool) -> Any:
    """An event's data from the command line, or from standard input for ``-`` or nothing."""
    if text is None and (sys.stdin is None or sys.stdin.isatty()):
        fail(EXIT_USAGE, "no DATA: give it as an argument, or pipe it in")
    source = read_stdin() if text in (None, "-") else str(text)
    if as_text:
        return source if text not in (None, "-") else source.removesuffix("\n")
    try:
        return json.loads(source)
    except ValueError as error:
        fail(EXIT_USAGE, f"DATA is not JSON: {error}", "to send it as a string, add --text")


def read_stdin() -> str:
    """All of standard input, which must be UTF-8."""
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        fail(EXIT_USAGE, f"standard input is not UTF-8: {error}")


def print_json(value: Any) -> None:
    """Pretty JSON, coloured on a terminal only."""
    if sys.stdout.isatty():
        from rich import print_json as rich_print_json

        rich_print_json(data=value, ensure_ascii=False)
    else:
        print(json.dumps(value, ensure_ascii=False, indent=2))


def fail(code: int, *lines: str) -> NoReturn:
    """Say what went wrong on stderr and exit."""
    for line in lines:
        print(f"trunkline: {line}", file=sys.stderr)
    raise typer.Exit(code)


app.command("stdio")(
    stdio_command(_settings, _serve, with_hub, fail, failed=EXIT_FAILED, usage=EXIT_USAGE, unread=EXIT_UNREAD)
)
app.command("convert-model")(convert_model_command(_settings, fail, failed=EXIT_FAILED))
app.command("generate-client")(
    generate_client_command(talk, fail, failed=EXIT_FAILED, usage=EXIT_USAGE, default_url=DEFAULT_URL)
)


def main() -> None:
    """Entry point of the ``trunkline`` command."""
    try:
        app()
    except SystemExit as end:
        sys.exit(end.code if flush_output() else EXIT_UNREAD)


def flush_output() -> bool:
    """Write what is still buffered; False, and no complaint of the interpreter later, if nobody reads it any more."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True


if __name__ == "__main__":
    main()
