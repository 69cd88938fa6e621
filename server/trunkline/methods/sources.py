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

_INSTALLED: Final = tuple(
    os.path.join(folder, "")
    for folder in {
        *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
        *site.getsitepackages(),
        site.getusersitepackages(),
        os.path.dirname(trunkline.__file__),
    }
)
"""Folders of what is installed, which nobody edits."""


def loaded_sources(since: int, more: Iterable[str]) -> dict[str, int]:
    """The files of this process's modules that are not installed packages, with their times of change.

    Args:
        since: when this process began to load them. A file that was changed later may have been loaded as it was
            before: its time is 0.
        more: further files, of modules that could not be loaded.

    Returns:
        Nanoseconds since 1970 by path.
    """
    files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    own = {file for file in files if file is not None and not file.startswith(_INSTALLED)}
    times = {}
    for file in sorted({*own, *more}):
        with contextlib.suppress(OSError):
            time = os.stat(file).st_mtime_ns
            times[file] = time if time < since else 0
    return times
