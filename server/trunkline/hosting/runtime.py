"""The hub's process and the operating system: listening socket, signals, CPUs, garbage collector, event loop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

if sys.platform == "win32":
    raise ImportError("Trunkline runs on Linux and macOS; on Windows use WSL")

logger = logging.getLogger("trunkline")


class ConfigurationError(Exception):
    """Settings that cannot work together; the message says what to do."""


def bind(address: str, port: int) -> socket.socket:
    """A TCP socket that listens at an address.

    Raises:
        ConfigurationError: the address is in use, or not one of this machine.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address, port))
    except OSError as error:
        listener.close()
        raise ConfigurationError(f"cannot listen on {address}:{port}: {error.strerror}") from error
    listener.listen(2048)
    listener.setblocking(False)
    return listener


def available_cpus() -> int:
    """How many CPUs this process may use, limited by affinity and the cgroup's quota."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            count = min(count, max(1, int(int(quota) / int(period))))
    return count


def spare_the_collector() -> None:
    """Keep the cyclic garbage collector from scanning the whole program again and again.

    Modules loaded by now are never freed, and calls and connections leave hardly any cycles. With Python's default
    thresholds a full collection with 10,000 connections stops the loop for a tenth of a second.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(25_000, 20, 20)


class Stoppable(Protocol):
    """A hub, as far as signals act on it."""

    def stop(self) -> None:
        """Begin to stop in order."""

    def reload(self) -> None:
        """Read the files again that may change while the hub runs."""


def handle_signals(hub: Stoppable) -> None:
    """Stop in order at SIGTERM or SIGINT, at once at a second; reload at SIGHUP, or stop if a terminal was closed."""
    loop = asyncio.get_running_loop()
    asked = False

    def on_signal() -> None:
        nonlocal asked
        if asked:
            logger.warning("second signal: stopping at once, calls in flight are lost")
            os._exit(130)
        asked = True
        hub.stop()

    def on_hangup() -> None:
        if on_terminal:
            on_signal()
        else:
            hub.reload()

    on_terminal = sys.stdin is not None and sys.stdin.isatty()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    loop.add_signal_handler(signal.SIGHUP, on_hangup)


def stop_at_end_of_stdin(hub: Stoppable) -> None:
    """Stop in order when standard input ends: the process at the other end of the pipe is gone, by SIGKILL as well.

    What arrives until then is dropped. A thread reads, since event loops cannot wait for every kind of standard input.
    """
    loop = asyncio.get_running_loop()

    def watch() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 65_536):
                pass
        with contextlib.suppress(RuntimeError):  # the loop has ended already
            loop.call_soon_threadsafe(hub.stop)

    threading.Thread(target=watch, daemon=True, name="stdin").start()


def event_loop_runner() -> Callable[..., Any]:
    """uvloop's ``run`` where it is installed, else asyncio's."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run
    return uvloop.run
