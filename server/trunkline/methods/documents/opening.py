"""Opens files and folders by resolved paths, of which no part may be a link by now.

Between a check of a path and its use somebody may put a link where a folder was. So the path is gone down from the top,
each part opened inside the one before it, and none followed. It is what RESOLVE_NO_SYMLINKS of openat2(2) does, which
Python cannot ask for.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

# Going through a folder takes the right to search it alone where there is O_PATH; elsewhere that to list it, too.
_THROUGH: Final = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC  # not blocking, for pipes

_NO_FILE: Final = "it is no regular file"


def open_file(path: Path) -> int:
    """Open a regular file for reading; returns its descriptor.

    Raises:
        OSError: it cannot be opened; a part of the path is a link, or no folder.
        ValueError: it is no regular file. A pipe or device is not opened.
    """
    with _inside(path) as (folder, name):
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISLNK(mode):  # of a link opening says what is wrong
            raise ValueError(_NO_FILE)
        opened = os.open(name, _READ, dir_fd=folder)
    if not stat.S_ISREG(os.fstat(opened).st_mode):  # another by now
        os.close(opened)
        raise ValueError(_NO_FILE)
    return opened


class Entry(NamedTuple):
    """What a folder has under a name; a link to a folder is both."""

    name: str
    is_folder: bool
    is_link: bool


def list_folder(path: Path) -> list[Entry]:
    """The entries of a folder in order of their names.

    Raises:
        OSError: it cannot be listed; a part of the path is a link, or no folder.
    """
    with _inside(path) as (folder, name):
        opened = os.open(name, _READ | os.O_DIRECTORY, dir_fd=folder)
    try:
        with os.scandir(opened) as found:
            return sorted(Entry(each.name, _is_folder(each), each.is_symlink()) for each in found)
    finally:
        os.close(opened)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or through what may not be searched: reading it says so
        return False


def is_there(path: Path) -> bool:
    """Whether there is a file or folder at a path, and no part of the path is a link."""
    try:
        with _inside(path) as (folder, name):
            return not stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except OSError:
        return False


@contextmanager
def _inside(path: Path) -> Iterator[tuple[int, str]]:
    """The descriptor of the folder that a path is in, and the name in there; that of the top is ``.``."""
    top, *parts = path.parts
    opened = os.open(top, _THROUGH)
    try:
        for part in parts[:-1]:
            above, opened = opened, os.open(part, _THROUGH, dir_fd=opened)
            os.close(above)
        yield opened, parts[-1] if parts else "."
    finally:
        os.close(opened)
