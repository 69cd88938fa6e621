"""The ``trunkline`` command: collects all subcommands and defines the basic ones, such as serve and call.

Exit codes: 0 success, 1 the call or check failed or the connection was lost, 2 wrong usage or configuration, 3 no hub
at the URL, 4 and 5 of doctor --security, 130 Ctrl-C, 141 the output is not read any more (as of programs that SIGPIPE
ends).
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trunkline.cli.backup import backup, restore
from trunkline.cli.check import check
from trunkline.cli.collections import collections_app
from trunkline.cli.convert_model import convert_model
from trunkline.cli.eval import evaluate
from trunkline.cli.generate_client import generate_client
from trunkline.cli.ingest import ingest
from trunkline.cli.jobs import jobs_app
from trunkline.cli.pubsub import history, publish, subscribe
from trunkline.cli.reload import reload as reload_command
from trunkline.cli.settings import read_settings
from trunkline.cli.stdio_commands import DialectOption, FramingOption, stdio_command
from trunkline.cli.talk import (
    DEFAULT_URL,
    EXIT_FAILED,
    EXIT_UNREAD,
    EXIT_USAGE,
    TimeoutMs,
    Token,
    Url,
    fail,
    print_json,
    read_stdin,
    talk,
)
from trunkline.cli.top import top
from trunkline.version import __version__

if TYPE_CHECKING:
    from trunkline.client import Hub
    from trunkline.config import Settings
    from trunkline.edge.framed.dialects import Speech
    from trunkline.edge.framed.stdio import StandardIo

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Trunkline: a hub for calls, streams and events between Node.js, Elixir, browsers and Python.",
)

MethodName = Annotated[str, typer.Argument(help="Name of the method, for example rag.execute.")]
Files = Annotated[
    list[str] | None, typer.Option(help="A param that is a file's bytes, as audio=@speech.wav; may be repeated.")
]
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
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="TCP port; 0 picks a free one.  [default: 8765]")
    ] = None,
    uds: Annotated[Path | None, typer.Option(help="Unix socket for HTTP and WebSocket, instead of a port.")] = None,
    uds_mode: Annotated[str | None, typer.Option(help="Permissions of the sockets' files.  [default: 600]")] = None,
    uds_framed: Annotated[Path | None, typer.Option(help="Unix socket for framed peers.")] = None,
    uds_framing: Annotated[
        FramingOption | None, typer.Option(help="Framing of --uds-framed.  [default: packet4]")
    ] = None,
    uds_dialect: Annotated[
        DialectOption | None, typer.Option(help="Dialect of --uds-framed.  [default: jsonrpc]")
    ] = None,
    packs: Annotated[
        str | None,
        typer.Option(help="Method packs, comma separated, or none.  [default: all that are installed]"),
    ] = None,
    methods: Annotated[list[str] | None, typer.Option(help="Modules with @method functions: a,b, or repeated.")] = None,
    executors: Annotated[
        int | None, typer.Option(min=0, help="Executor processes; 0 for a debugger.  [default: by CPU count]")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Folder for collections.  [default: ./data]")] = None,
    demo: Annotated[bool | None, typer.Option("--demo/--no-demo", help="Index the demo collection.")] = None,
    strict: Annotated[
        bool | None,
        typer.Option(
            "--strict/--no-strict", help="Exit if a module of methods cannot be loaded.  [default: no-strict]"
        ),
    ] = None,
    reload: Annotated[
        bool, typer.Option("--reload", help="For development: load methods anew whenever their files change.")
    ] = False,
    dev: Annotated[
        bool,
        typer.Option(
            "--dev",
            help="For development: --reload, tracebacks for callers, and any page of this machine may connect.",
        ),
    ] = False,
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
        "methods": tuple(name for given in methods for name in given.split(",") if name) if methods else None,
        "executors": executors,
        "data": data,
        "demo": demo,
        "strict": strict,
    }
    if stop_with_stdin and sys.stdin is None:
        fail(EXIT_USAGE, "--stop-with-stdin: standard input is closed")
    settings = _for_development(read_settings(config, **options), reload=reload, dev=dev)
    _serve(settings, stop_at_eof=stop_with_stdin, reloads=reload or dev)


def _for_development(settings: Settings, *, reload: bool, dev: bool) -> Settings:
    """The settings, with those of ``--dev``; ends the command where either flag is given and the hub is not local."""
    for given, name in ((reload, "--reload"), (dev, "--dev")):
        if given and not settings.is_loopback:
            fail(EXIT_USAGE, f"{name} is for development: bind 127.0.0.1 instead of {settings.host}, or leave it out")
    if not dev:
        return settings
    from trunkline.edge.access.rules import LOOPBACK

    return settings.with_changes({"debug": True, "allowed_origins": (*settings.allowed_origins, LOOPBACK)})


def _serve(
    settings: Settings,
    standard_io: StandardIo | None = None,
    speech: Speech | None = None,
    *,
    stop_at_eof: bool = False,
    reloads: bool = False,
) -> None:
    from trunkline.background import keep_up, start_task, thread_died
    from trunkline.cli.demo import greet
    from trunkline.hosting.code_watch import watch_code
    from trunkline.hosting.lifecycle import HubProcess
    from trunkline.hosting.runtime import ConfigurationError, event_loop_runner, handle_signals, stop_at_end_of_stdin
    from trunkline.observe.logs import configure_logs
    from trunkline.private_files import make_private, write_privately

    configure_logs(settings.log_level, settings.log_format, settings.secrets)
    write_privately()
    make_private(settings.data.absolute(), [path for path in (settings.uds, settings.uds_framed) if path is not None])
    threading.excepthook = thread_died

    async def main() -> None:
        hub = HubProcess(settings)
        handle_signals(hub)
        if stop_at_eof:
            stop_at_end_of_stdin(hub)
        beside: list[asyncio.Task[None]] = []

        def on_listening(addresses: list[str]) -> None:
            for address in addresses:
                print(f"trunkline {__version__} listening on {address}", flush=True)
            beside.append(start_task(greet(hub, addresses), "greeting"))
            if reloads:
                replacements = hub.parts.pool.replacements
                beside.append(keep_up(lambda: watch_code(replacements, functools.partial(print, flush=True)), "watch"))

        await hub.run(on_listening, standard_io, speech)
        for task in beside:
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
    file: Files = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout_ms: TimeoutMs = None,
    progress: Annotated[
        bool | None,
        typer.Option(
            "--progress/--no-progress",
            help="Show the method's progress on stderr.  [default: a bar, on a terminal only]",
        ),
    ] = None,
) -> None:
    """Call a method and print its result as JSON."""
    decoded = with_files(read_params(params), file or [])

    async def run(hub: Hub) -> None:
        from trunkline.cli.show.progress import shown_progress
        from trunkline.client import UsageError

        with shown_progress(method, progress, time.monotonic) as report:
            try:
                result = await hub.call(method, decoded, timeout_ms=timeout_ms, on_progress=report)
            except UsageError:
                fail(EXIT_FAILED, f"{method} is a stream", f"read it with: trunkline stream {method}")
        print_json(result)

    talk(url, token, run)


@app.command()
def stream(
    method: MethodName,
    params: Params = "{}",
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout_ms: TimeoutMs = None,
    raw: Annotated[bool, typer.Option("--json", help="Print one JSON object per line instead of text.")] = False,
) -> None:
    """Call a streaming method and print its chunks as they arrive."""
    decoded = read_params(params)

    async def run(hub: Hub) -> None:
        from trunkline.cli.show.tables import StreamPrinter
        from trunkline.client import UsageError

        printer = StreamPrinter(as_json=raw)
        chunks = hub.stream(method, decoded, timeout_ms=timeout_ms)
        try:
            async for chunk in chunks:
                printer.chunk(chunk.type, chunk.data, chunk.index)
        except UsageError as no_stream:
            printer.result(no_stream.result)
        else:
            printer.result(chunks.result)

    talk(url, token, run)


app.command()(subscribe)
app.command()(history)
app.command()(publish)


@app.command()
def discover(
    url: Url = DEFAULT_URL,
    token: Token = None,
    raw: Annotated[bool, typer.Option("--json", help="Print the OpenRPC document instead of a table.")] = False,
) -> None:
    """List the methods that a hub serves."""

    async def run(hub: Hub) -> None:
        from trunkline.cli.show.tables import print_methods

        document = await hub.call("rpc.discover")
        if raw:
            print_json(document)
        else:
            print_methods(document)

    talk(url, token, run)


@app.command()
def doctor(
    url: Url = DEFAULT_URL,
    token: Token = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with the hub's settings.")] = None,
    bundle: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write all that is known as a ZIP archive; '-' is standard output."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it exists.")] = False,
    redact: Annotated[
        bool, typer.Option("--redact/--no-redact", help="Leave names, addresses and what methods say out of FILE.")
    ] = True,
    part_seconds: Annotated[float, typer.Option(min=0.1, help="Seconds that each part of FILE may take.")] = 5.0,
    security: Annotated[
        bool, typer.Option("--security", help="List what of settings, files and process makes the hub less safe.")
    ] = False,
    raw: Annotated[bool, typer.Option("--json", help="With --security: print one JSON object.")] = False,
) -> None:
    """Check this installation, and the hub if one is running.

    With --bundle, write what is needed to understand the hub into one archive instead: checks, versions, settings,
    health, figures, log, limits, processes. There is no secret in it. What is missing is named, with the reason; the
    exit code is 0 if the archive was written.

    With --security, judge the settings, files and limits that a hub started here would have: each finding has its
    severity, why it matters, and what ends it. The exit code is 4 where one is medium, 5 where one is high.
    """
    from trunkline.cli.doctor import run_checks
    from trunkline.cli.show.tables import print_checks

    if config is not None and not config.is_file():
        fail(EXIT_USAGE, f"no such configuration file: {config}")
    if security:
        from trunkline.cli.security.security_command import review

        review(config, raw=raw)
        return
    if bundle is not None:
        from trunkline.cli.bundle.bundle_command import Wish, write_bundle

        write_bundle(bundle, Wish(url, token, config, part_seconds, redact), force=force)
        return
    checks = asyncio.run(run_checks(url, token, config))
    print_checks(checks)
    if any(check.state == "failed" for check in checks):
        raise typer.Exit(EXIT_FAILED)


@app.command("token")
def make_token(
    name: Annotated[str, typer.Argument(help="Name of the token's holder.")] = "client",
    role: Annotated[list[str] | None, typer.Option(help="Role of the token's holder; may be repeated.")] = None,
    raw: Annotated[bool, typer.Option("--json", help="Print token and entry as one JSON object.")] = False,
) -> None:
    """Generate a random token, and its entry for the tokens file.

    The entry goes to standard output and contains only the token's SHA-256; the token itself is shown once, on stderr.
    So 'trunkline token ci >> tokens.toml' appends the entry and shows the token.
    """
    from trunkline.edge.access.tokens import new_token
    from trunkline_protocol.principals import is_name

    if bad := [text for text in (name, *(role or ())) if not is_name(text)]:
        fail(EXIT_USAGE, f"{bad[0]!r} is not a name: use 1 to 256 printable characters")
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


def read_params(text: str) -> Any:
    """The params of a call from the command line, or from standard input for ``-``; exits where they are not valid."""
    source = read_stdin() if text == "-" else text
    try:
        params = json.loads(source)
    except ValueError as error:
        fail(EXIT_USAGE, f"params are not JSON: {error}")
    if not isinstance(params, (dict, list)):
        fail(EXIT_USAGE, "params must be a JSON object or array")
    return params


def with_files(params: Any, files: list[str]) -> Any:
    """The params with files of the command line, ``name=@path``, as bytes; exits where one does not fit."""
    for given in files:
        name, mark, path = given.partition("=@")
        if not (name and mark and path):
            fail(EXIT_USAGE, f"--file {given}: write name=@path, such as audio=@speech.wav")
        if not isinstance(params, dict):
            fail(EXIT_USAGE, "--file gives a param by name: give the others as a JSON object")
        if name in params:
            fail(EXIT_USAGE, f"--file {given}: the params have {name} already")
        try:
            params[name] = Path(path).read_bytes()
        except OSError as error:
            fail(EXIT_USAGE, f"--file {given}: {error.strerror}")
    return params


app.command("stdio")(stdio_command(_serve))
app.command()(check)
app.command()(reload_command)
app.command()(top)
app.command()(ingest)
app.command()(backup)
app.command()(restore)
app.command("eval")(evaluate)
app.command("convert-model")(convert_model)
app.command("generate-client")(generate_client)
app.add_typer(jobs_app, name="jobs")
app.add_typer(collections_app, name="collections")


def main() -> None:
    """Run the ``trunkline`` command."""
    try:
        app()
    except SystemExit as end:
        sys.exit(end.code if flush_output() else EXIT_UNREAD)


def flush_output() -> bool:
    """Flush standard output; returns False if it is not read any more, which the interpreter then does not report."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True
