"""``trunkline check``: loads modules of methods as an executor would, without a hub, and says what is wrong."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import typer

from trunkline.cli.settings import read_settings
from trunkline.cli.talk import EXIT_FAILED, print_json

if TYPE_CHECKING:
    from trunkline.executors.specs import ExecutorSpec
    from trunkline_protocol.catalogue import Catalogue

STOP_SECONDS: Final = 7.0


def check(
    modules: Annotated[list[str], typer.Argument(help="Modules with @method functions, as for serve --methods.")],
    config: Annotated[Path | None, typer.Option(help="TOML file with settings.")] = None,
    raw: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
) -> None:
    """Load modules of methods as an executor would, without a hub: list what they serve, and what is wrong.

    A process of its own imports them and runs their load steps, with the settings that a hub would have. The exit code
    is 1 where one cannot be loaded.
    """
    from trunkline.hosting.executor_settings import group_specs

    settings = read_settings(config, methods=tuple(modules), packs="none", executors=1, groups={})
    (group,) = group_specs(settings)
    with _silence():  # what is logged is in the report
        found = asyncio.run(load_in_executor(group.executor))
    if raw:
        print_json({"methods": msgspec.to_builtins(found.methods), "failed": msgspec.to_builtins(found.failed)})
    else:
        from trunkline.cli.show.tables import print_checked

        print_checked(found)
    if found.failed:
        raise typer.Exit(EXIT_FAILED)


@contextmanager
def _silence() -> Iterator[None]:
    log = logging.getLogger("trunkline")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(level)


async def load_in_executor(spec: ExecutorSpec) -> Catalogue:
    """What an executor with this specification serves, and could not load; its process has ended then."""
    from trunkline.executors import ipc
    from trunkline.executors.handle import ExecutorHandle
    from trunkline.executors.supervisor import Supervisor
    from trunkline_protocol.catalogue import Catalogue, ModuleFailure
    from trunkline_protocol.errors import ErrorCode

    outcome: asyncio.Future[Catalogue] = asyncio.get_running_loop().create_future()

    def tell(catalogue: Catalogue) -> None:
        if not outcome.done():
            outcome.set_result(catalogue)

    def on_frame(handle: ExecutorHandle, kind: int, _call_id: int, body: bytes) -> None:
        if kind == ipc.READY:
            handle.state = "ready"
            tell(msgspec.json.decode(body, type=Catalogue))
        elif kind == ipc.FAILED:
            error = msgspec.json.decode(body, type=dict[str, Any])
            tell(Catalogue([], failed=msgspec.convert(error["data"]["failed"], list[ModuleFailure])))

    def on_exit(_handle: ExecutorHandle, cause: str) -> None:
        code = ErrorCode.PIPELINE_INITIALIZATION_FAILED
        tell(Catalogue([], failed=[ModuleFailure(name, code, cause) for name in spec.modules]))

    handle = ExecutorHandle(0, on_frame, lambda _handle: None, spec.max_concurrency)
    supervisor = Supervisor(handle, spec, on_exit, restarts=False)
    supervisor.start()
    try:
        return await outcome
    finally:
        await supervisor.stop(STOP_SECONDS)
