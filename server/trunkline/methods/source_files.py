"""The files of code that an executor has loaded, and how old they were, by which one sees that they have changed."""

from __future__ import annotations

import contextlib
import os
import site
import sys
import sysconfig
from collections.abc import Iterable
from typing import Final

import trunkline
import trunkline_protocol

_INSTALLED: Final = tuple(
    os.path.join(folder, "")
    for folder in {
        *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
        *site.getsitepackages(),
        site.getusersitepackages(),
        os.path.dirname(trunkline.__file__),
        os.path.dirname(trunkline_protocol.__file__),
    }
)
"""Folders of what is installed, which nobody edits."""

_PACKAGES: Final = ("/site-packages/", "/dist-packages/")


def loaded_sources(since: int, more: Iterable[str]) -> dict[str, int]:
    """The files of this process's modules that are not installed packages, with their times of change.

    Args:
        since: when this process began to load them. A file that was changed later may have been loaded as it was
            before: its time is 0.
        more: further files, of modules that could not be loaded.

    Returns:
        Nanoseconds since 1970 by path.
    """
    own = set(_own_modules().values())
    times = {}
    for file in sorted({*own, *more}):
        with contextlib.suppress(OSError):
            time = os.stat(file).st_mtime_ns
            times[file] = time if time < since else 0
    return times


def forget_sources(folders: Iterable[str]) -> None:
    """Have modules from these folders imported anew, in a process that has loaded them before."""
    within = tuple(os.path.join(folder, "") for folder in folders)
    for name, file in _own_modules().items():
        if name != "__main__" and file.startswith(within):
            del sys.modules[name]


def _own_modules() -> dict[str, str]:
    """The files of modules that are not installed packages, by the module's name."""
    files = {name: getattr(module, "__file__", None) for name, module in list(sys.modules.items())}
    return {name: file for name, file in files.items() if file is not None and not _is_installed(file)}


def _is_installed(file: str) -> bool:
    return file.startswith(_INSTALLED) or any(part in file for part in _PACKAGES)
