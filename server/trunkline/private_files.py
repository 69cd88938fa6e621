"""Files of the hub, its executors and the command line are for their user alone, whatever the inherited umask."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final

OTHERS: Final = 0o077
"""The bits of everybody else; as a umask, files are made with 0600 and folders with 0700."""

PARTS: Final = ("collections", "jobs", "models", "tenants", "tenant-records")
"""The folders in a data folder."""

logger = logging.getLogger("trunkline")


def write_privately() -> None:
    """Make all that this process, and those it starts, create from now on accessible to its user alone."""
    os.umask(OTHERS)


def make_private(data: Path, sockets: Iterable[Path] = ()) -> None:
    """Remove others' permissions below a data folder, which former versions or a copy may have left. Blocks.

    The folder itself stays as it is where it is used for something else, too: where it is the working directory or a
    home, or has other folders in it, or sockets, which may be for others. What the hub keeps in it is private then,
    too. Links are not followed, but for those that a part of the data folder is itself. What cannot be changed is said
    in the log, once.

    Args:
        data: the folder; it need not exist.
        sockets: files of Unix sockets that there are to be.
    """
    trouble: list[OSError] = []
    for part in PARTS:
        _close_below((data / part).resolve(), trouble)
    if _is_the_hubs_alone(data, sockets):
        for path in data.resolve().iterdir():
            if path.is_file() and not path.is_symlink():
                _close(path, trouble)
        _close(data.resolve(), trouble)
    if trouble:
        logger.warning(
            "other users have access to files of the data folder, and their permissions cannot be removed",
            extra={"path": str(data), "files": len(trouble), "reason": str(trouble[0])},
        )


def _close_below(folder: Path, trouble: list[OSError]) -> None:
    """Everything in a folder, then the folder itself."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    _close_below(Path(entry.path), trouble)
                elif entry.is_file(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_mode & OTHERS:
                    _close(Path(entry.path), trouble)
    except (FileNotFoundError, NotADirectoryError):  # never made, or removed meanwhile
        return
    except OSError as error:
        trouble.append(error)
    _close(folder, trouble)


def _close(path: Path, trouble: list[OSError]) -> None:
    """Not by its name: who may write in an open folder could put a link there meanwhile."""
    try:
        opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    except OSError as error:
        trouble.append(error)
        return
    try:
        mode = stat.S_IMODE(os.fstat(opened).st_mode)
        if mode & OTHERS:
            os.fchmod(opened, mode & ~OTHERS)
    except OSError as error:
        trouble.append(error)
    finally:
        os.close(opened)


def _is_the_hubs_alone(data: Path, sockets: Iterable[Path]) -> bool:
    try:
        where = data.resolve()
        used = {Path.cwd().resolve(), Path.home().resolve(), *(path.absolute().parent.resolve() for path in sockets)}
        with os.scandir(where) as entries:
            strangers = [entry for entry in entries if entry.name not in PARTS and not entry.is_file()]
    except (OSError, RuntimeError):  # it is not there; nobody has a home
        return False
    return not strangers and not any(path == where or where in path.parents for path in used)
