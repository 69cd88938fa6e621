"""The IO of ``trunkline top``: calls the hub, subscribes to its events, draws the board, and reads keys."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from typing import Final

import msgspec
from rich.live import Live

from trunkline.cli.show.console import TextConsole
from trunkline.cli.show.terminal import plain_json
from trunkline.cli.show.top.board import CALLS, EXECUTORS, HEALTH, METHODS, METRICS, TOPICS, Board, ConnectionStatus
from trunkline.cli.show.top.view import render
from trunkline.client import Connected, ConnectionState, DisconnectedError, Event, Hub, Reconnecting
from trunkline_protocol.errors import RpcError

ANSWER_MS: Final = 5_000
FIRST_FIGURES_SECONDS: Final = 10.0
"""How long a single snapshot waits for ``system.metrics``, which needs two seconds to compare two counts."""

SUBSCRIBED: Final = (METRICS, EXECUTORS)
ASKED: Final[dict[str, dict[str, str]]] = {
    HEALTH: {},
    METHODS: {"time_range": "1m"},
    CALLS: {},
    TOPICS: {},
}
QUIT_KEYS: Final = b"qQ"
PLAIN_WIDTH: Final = 100
"""Columns of a snapshot in a file or a pipe, which have no width."""


class Top:
    """Keeps a board up to date from a hub's methods and events.

    Args:
        hub: connected.
        interval: seconds between two refreshes.
    """

    def __init__(self, hub: Hub, url: str, interval: float) -> None:
        self._hub = hub
        self._interval = interval
        self._first_figures = asyncio.Event()
        self._closed = asyncio.Event()
        self.board = Board(url, ConnectionStatus("connected", time.monotonic()))
        hub.on_connection_state(self._on_link)

    async def snapshot(self) -> None:
        """Fill the board once, from every source."""
        listeners = [asyncio.create_task(self._listen(topic)) for topic in SUBSCRIBED]
        try:
            await self._ask_all()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FIRST_FIGURES_SECONDS):
                    await self._first_figures.wait()
            await self._ask_all()  # rates of topics need a second reading
        finally:
            await _end(listeners)

    async def watch(self, draw: Callable[[Board], None], quit_wanted: asyncio.Event) -> None:
        """Keep the board up to date and draw it, until a key quits or the connection has ended for good."""
        tasks = [asyncio.create_task(self._listen(topic)) for topic in SUBSCRIBED]
        tasks.append(asyncio.create_task(self._ask_again_and_again()))
        try:
            while not (quit_wanted.is_set() or self._closed.is_set()):
                draw(self.board)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._interval):
                        await quit_wanted.wait()
        finally:
            await _end(tasks)
        self.require_open()

    def require_open(self) -> None:
        """Raise DisconnectedError where the connection has ended for good."""
        if self._closed.is_set():
            raise DisconnectedError(self.board.link.why, maybe_executed=False)

    async def _ask_again_and_again(self) -> None:
        while True:
            await self._ask_all()
            await asyncio.sleep(self._interval)

    async def _ask_all(self) -> None:
        await asyncio.gather(*(self._ask(method, params) for method, params in ASKED.items()))

    async def _ask(self, method: str, params: dict[str, str]) -> None:
        try:
            answer = await self._hub.call(method, params, timeout_ms=ANSWER_MS, retry=False)
        except RpcError as error:
            self.board.refuse(method, error.message)
        except DisconnectedError:
            return  # the head shows the state of the connection
        else:
            self.board.hear(method, answer, time.monotonic())

    async def _listen(self, topic: str) -> None:
        try:
            async with self._hub.subscribe(topic) as events:
                async for item in events:
                    if isinstance(item, Event):
                        self.board.hear(topic, item.data, time.monotonic())
                        if topic == METRICS:
                            self._first_figures.set()
        except RpcError as error:
            self.board.refuse(topic, error.message)
            if topic == METRICS:
                self._first_figures.set()
        except DisconnectedError:
            return  # as in _ask

    def _on_link(self, change: ConnectionState) -> None:
        now, link = time.monotonic(), self.board.link
        if isinstance(change, Connected):
            self.board.link = ConnectionStatus("connected", now)
        elif isinstance(change, Reconnecting):
            since = link.since if link.state == "reconnecting" else now
            self.board.link = ConnectionStatus("reconnecting", since, str(change.cause), change.attempt)
        else:
            self.board.link = ConnectionStatus("closed", now, f"{change.reason} (close {change.code})")
            self._closed.set()


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def print_once(hub: Hub, url: str, *, as_json: bool) -> None:
    """Print one snapshot."""
    top = Top(hub, url, 1.0)
    await top.snapshot()
    top.require_open()
    now = time.monotonic()
    if as_json:
        sys.stdout.write(plain_json(msgspec.to_builtins(top.board.report(now)), separators=(",", ":")) + "\n")
    else:
        console = TextConsole(width=None if sys.stdout.isatty() else PLAIN_WIDTH)
        console.print(render(top.board, now))


async def show(hub: Hub, url: str, interval: float) -> None:
    """Draw the board on the terminal until ``q`` or Ctrl-C."""
    console = TextConsole()
    quit_wanted = asyncio.Event()
    top = Top(hub, url, interval)
    with keys(quit_wanted), Live(console=console, screen=True, auto_refresh=False) as live:

        def draw(board: Board) -> None:
            live.update(render(board, time.monotonic(), console.size.height), refresh=True)

        await top.watch(draw, quit_wanted)


@contextlib.contextmanager
def keys(quit_wanted: asyncio.Event) -> Iterator[None]:
    """Read single keys from the terminal, without echo, for the length of the block; none without a terminal."""
    if sys.stdin is None or not sys.stdin.isatty():
        yield
        return
    loop, descriptor = asyncio.get_running_loop(), sys.stdin.fileno()

    def on_key() -> None:
        pressed = os.read(descriptor, 64)
        if not pressed or any(key in QUIT_KEYS for key in pressed):
            loop.remove_reader(descriptor)
            quit_wanted.set()

    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)
    loop.add_reader(descriptor, on_key)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
