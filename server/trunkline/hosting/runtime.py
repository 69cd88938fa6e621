"""What the hub's process needs of the operating system: its socket, its signals, its share of the machine."""

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
    """The listening socket.

    Raises:
        ConfigurationError: the address is taken or not ours.
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
    """CPUs this process may use, the cgroup's quota included."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            count = min(count, max(1, int(int(quota) / int(period))))
    return count


def spare_the_collector() -> None:
    """Keep the cyclic garbage collector from looking at the whole program again and again.

    What is loaded by now stays for ever; calls and connections leave hardly any cycles. With Python's own thresholds a
    full collection among 10,000 connections stops the loop for a tenth of a second.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(25_000, 20, 20)


class Stoppable(Protocol):
    """What signals act on."""

    def stop(self) -> None:
        """Begin to stop."""

    def reload(self) -> None:
        """Read again what may change while running."""


def handle_signals(hub: Stoppable) -> None:
    """SIGTERM and SIGINT stop in order, the second one at once. SIGHUP reloads, or stops where the terminal went."""
    loop = asyncio.get_running_loop()
    asked = False

    def on_signal() -> None:
        nonlocal asked
        if asked:
            logger.warning("stopping at once")
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
    """Stop in order when standard input ends: who held the other end of the pipe is gone, by SIGKILL, too.

    What comes in until then is dropped. A thread reads, since loops cannot wait for every kind of standard input.
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
