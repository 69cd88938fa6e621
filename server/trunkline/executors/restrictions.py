"""What an executor asks of the kernel before it loads anything: limits, no core files, no setuid, its end with the hub.

All of it holds for the programs that a method starts, too, and cannot be undone by them.
"""

from __future__ import annotations

import ctypes
import logging
import os
import resource
import signal
import sys
from collections.abc import Mapping
from typing import Final

PR_SET_PDEATHSIG: Final = 1
PR_SET_NO_NEW_PRIVS: Final = 38

NO_CORE: Final = 1 if sys.platform == "linux" else 0
"""Bytes of a core file. For Linux 0 is about files alone: a program that ``core_pattern`` names gets the memory all the
same. At 1 neither is written."""

logger = logging.getLogger("trunkline.executor")


def die_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process when the hub dies (Linux); on other systems the closed wire ends it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(0)


def set_rlimits(limits: Mapping[str, int]) -> None:
    """Set limits of this process and of what it starts, so that neither can raise them again.

    What crashes leaves no core file, which would have the params of calls in it, unless ``limits`` has a ``core``.

    Raises:
        ValueError: one is above that of the hub.
    """
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    no_core = NO_CORE if most == resource.RLIM_INFINITY else min(most, NO_CORE)
    for name, value in ({"core": no_core} | dict(limits)).items():
        # Above its limit of CPU a process gets SIGXCPU, which says why it ended; at the second one SIGKILL.
        hard = value + 1 if name == "cpu" else value
        resource.setrlimit(getattr(resource, f"RLIMIT_{name.upper()}"), (value, hard))


def refuse_new_privileges() -> None:
    """Make setuid programs, and those with capabilities of their own, run without these (Linux).

    Where the kernel does not do so, that is a warning in the log.
    """
    if sys.platform != "linux":
        return
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(PR_SET_NO_NEW_PRIVS, *(ctypes.c_ulong(each) for each in (1, 0, 0, 0))):
        reason = os.strerror(ctypes.get_errno())
        logger.warning("setuid programs that methods start gain privileges: no_new_privs is refused: %s", reason)
