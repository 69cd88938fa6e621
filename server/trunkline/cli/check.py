"""``trunkline check``: loads modules of methods as an executor would, without a hub, and says what is wrong."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import typer

from trunkline.cli.settings import read_settings
from trunkline.cli.talk import EXIT_FAILED, EXIT_USAGE, fail, print_json

if TYPE_CHECKING:
    from trunkline.config import Settings
    from trunkline.executors.specs import ExecutorSpec
    from trunkline.settings.executor_groups import GroupSettings
    from trunkline_protocol.catalogue import Catalogue

STOP_SECONDS: Final = 7.0


def check(
    modules: Annotated[list[str], typer.Argument(help="Modules with @method functions, as for serve --methods.")],
    config: Annotated[Path | None, typer.Option(help="TOML file with settings.")] = None,
    raw: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
) -> None:
    """Load modules of methods as an executor would, without a hub: list what they serve, and what is wrong.

    A process of its own imports them and runs their load steps, with the settings that a hub would have: those of each
    group that names a module, its env, python and rlimits included. The exit code is 1 where one cannot be loaded.
    """
    from trunkline.hosting.executor_settings import group_specs
    from trunkline.hosting.runtime import ConfigurationError

    settings = read_settings(config, methods=tuple(dict.fromkeys(modules)), packs="none", executors=1)
    try:
        specs = group_specs(settings.model_copy(update={"groups": _groups_of(settings)}))
    except ConfigurationError as error:
        fail(EXIT_USAGE, str(error))
    with _silence():  # what is logged is in the report
        found = {group.name: asyncio.run(load_in_executor(group.name, group.executor)) for group in specs}
    if raw:
        print_json({part: _as_json(found, part) for part in ("methods", "failed")})
    else:
        from trunkline.cli.show.tables import print_checked

        for name, catalogue in found.items():
            print_checked(catalogue, name if settings.groups else None)
    if any(catalogue.failed for catalogue in found.values()):
        raise typer.Exit(EXIT_FAILED)


def _groups_of(settings: Settings) -> dict[str, GroupSettings]:
    """The groups that name one of the settings' methods, without their packs; what none names is of ``default``."""
    from trunkline.executors.queueing import DEFAULT_GROUP

    wanted, groups = settings.methods, settings.groups
    named = {name: tuple(each for each in wanted if each in (group.methods or ())) for name, group in groups.items()}
    if DEFAULT_GROUP in groups:
        named[DEFAULT_GROUP] += tuple(each for each in wanted if not any(each in methods for methods in named.values()))
    return {
        name: groups[name].model_copy(update={"packs": (), "methods": methods})
        for name, methods in named.items()
        if methods
    }


def _as_json(found: dict[str, Catalogue], part: str) -> list[dict[str, Any]]:
    """The methods, or the failures, of all groups; each says which it is of."""
    return [
        {**msgspec.to_builtins(each), "group": group}
        for group, catalogue in found.items()
        for each in getattr(catalogue, part)
    ]


@contextmanager
def _silence() -> Iterator[None]:
    log = logging.getLogger("trunkline")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(level)


async def load_in_executor(group: str, spec: ExecutorSpec) -> Catalogue:
    """What an executor of a group with this specification serves, and could not load; its process has ended then."""
    from trunkline.executors import ipc
    from trunkline.executors.handle import ExecutorHandle, FrameHandler
    from trunkline.executors.supervisor import Supervisor
    from trunkline_protocol.catalogue import Catalogue, ModuleFailure
    from trunkline_protocol.errors import ErrorCode

    outcome: asyncio.Future[Catalogue] = asyncio.get_running_loop().create_future()

    def tell(catalogue: Catalogue) -> None:
        if not outcome.done():
            outcome.set_result(catalogue)

    def on_ready(handle: ExecutorHandle, _call_id: int, body: bytes) -> None:
        handle.state = "ready"
        tell(msgspec.json.decode(body, type=Catalogue))

    def on_failed(_handle: ExecutorHandle, _call_id: int, body: bytes) -> None:
        error = msgspec.json.decode(body, type=dict[str, Any])
        tell(Catalogue([], failed=msgspec.convert(error["data"]["failed"], list[ModuleFailure])))

    def ignore(_handle: ExecutorHandle, _call_id: int, _body: bytes) -> None:
        """Take what is of no interest here, such as the figures of methods."""

    def on_exit(_handle: ExecutorHandle, cause: str) -> None:
        code = ErrorCode.PIPELINE_INITIALIZATION_FAILED
        tell(Catalogue([], failed=[ModuleFailure(name, code, cause) for name in spec.modules]))

    frames: defaultdict[int, FrameHandler] = defaultdict(lambda: ignore, {ipc.READY: on_ready, ipc.FAILED: on_failed})
    handle = ExecutorHandle(0, frames, lambda _handle: None, spec.max_concurrency, group)
    supervisor = Supervisor(handle, spec, on_exit, restarts=False)
    supervisor.start()
    try:
        return await outcome
    finally:
        await supervisor.stop(STOP_SECONDS)
