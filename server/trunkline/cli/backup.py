"""``trunkline backup`` and ``trunkline restore``: collections and jobs of a data folder, in one archive.

What they do is in modules that other commands need not load.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from signal import SIGHUP, SIGTERM
from typing import Annotated

import typer

from trunkline.cli.collections import FileProblem
from trunkline.cli.settings import read_settings
from trunkline.cli.talk import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_UNREAD, EXIT_USAGE, fail
from trunkline.private_files import write_privately
from trunkline_protocol.errors import RpcError

Collections = Annotated[
    list[str] | None,
    typer.Option(
        "--collection",
        metavar="NAME",
        help="Only this collection (with --tenant: of it), and no jobs; may be repeated.",
    ),
]
Tenant = Annotated[
    str | None, typer.Option("--tenant", metavar="NAME", help="Only this tenant's collections, and no jobs.")
]
NoJobs = Annotated[bool, typer.Option("--no-jobs", help="Leave the jobs out.")]
Config = Annotated[Path | None, typer.Option(help="TOML file with settings.")]
Data = Annotated[Path | None, typer.Option(help="Data folder of the hub.  [default: ./data]")]


def backup(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The archive, a tar. '-' is standard output.")],
    collection: Collections = None,
    tenant: Tenant = None,
    no_jobs: NoJobs = False,
    replace: Annotated[bool, typer.Option("--replace", help="Replace FILE, if the new archive is complete.")] = False,
    data: Data = None,
    config: Config = None,
) -> None:
    """Copy collections and jobs into an archive, while the hub works, or when it is stopped.

    Run it where the data folder is, as the hub's user or root.

    Each collection, and the jobs, are copied as they are at one moment, and every item is compared with its checksum.
    What is damaged is named and left out, and the exit code is 1.

    Not in the archive: settings, tokens file, TLS keys, models, the audit log, topics' history, sessions.
    """
    folder = read_settings(config, data=data).data.absolute()
    if file == "-" and sys.stdout.isatty():
        fail(EXIT_USAGE, "standard output is a terminal: give a file, or a pipe")
    if file != "-" and Path(file).is_dir():
        fail(EXIT_USAGE, f"{file} is a folder: give the name of a file")
    if file != "-" and Path(file).exists() and not replace:
        fail(EXIT_USAGE, f"{file} exists: add --replace, or give another name")
    with _ending():
        from trunkline.cli.data_parts import Wanted
        from trunkline.cli.make_backup import make_backup

        make_backup(folder, file, Wanted(collection or [], tenant, no_jobs), replace)


def restore(
    file: Annotated[
        str,
        typer.Argument(metavar="FILE", help="An archive that trunkline backup has made. '-' is standard input."),
    ],
    collection: Collections = None,
    tenant: Tenant = None,
    no_jobs: NoJobs = False,
    replace: Annotated[bool, typer.Option("--replace", help="Replace collections, and jobs, that are there.")] = False,
    data: Data = None,
    config: Config = None,
) -> None:
    """Put the collections and jobs of an archive into a data folder. Stop its hub before.

    All that is wanted is compared with its checksums first; where anything is wrong, nothing is changed.

    Each collection, and the jobs, are put in place as a whole, in one step. What a hub has open is refused.

    Jobs that had not ended when the archive was made run again when the hub starts.

    Standard input is kept in the data folder until all is done, without a name: that takes its size once more.
    """
    folder = read_settings(config, data=data).data.absolute()
    if file == "-" and sys.stdin.isatty():
        fail(EXIT_USAGE, "standard input is a terminal: give a file, or a pipe")
    if file != "-" and not Path(file).is_file():
        fail(EXIT_USAGE, f"{file}: {'it is no file' if Path(file).exists() else 'No such file or directory'}")
    with _ending():
        from trunkline.cli.data_parts import Wanted
        from trunkline.cli.restore_backup import restore_backup

        restore_backup(folder, file, Wanted(collection or [], tenant, no_jobs), replace)


@contextlib.contextmanager
def _ending() -> Iterator[None]:
    """Write privately, and turn exceptions into messages and exit codes."""
    from trunkline.storage.archive import ArchiveError

    write_privately()
    # What is unfinished is removed, as after Ctrl-C.
    numbers = (SIGTERM, SIGHUP) if threading.current_thread() is threading.main_thread() else ()
    before = {each: signal.signal(each, lambda number, _: sys.exit(128 + number)) for each in numbers}
    try:
        yield
    except RpcError as error:
        fail(EXIT_FAILED, error.message)
    except (FileProblem, ArchiveError) as problem:
        fail(EXIT_FAILED, str(problem))
    except BrokenPipeError:
        raise typer.Exit(EXIT_UNREAD) from None
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
