"""The real ``trunkline top`` in a real terminal (a pty), before a real hub."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import os
import pty
import re
import signal
import struct
import sys
import termios
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.command import NO_HUB, requires_failure
from tests.support.command import trunkline_process as trunkline
from tests.support.hub import RunningHub, clean_environment, ready_hub
from tests.support.peer import peer
from tests.support.proxy import Proxy
from tests.support.timing import PATIENCE, START

ROWS, COLUMNS = 30, 80
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Screen:
    """A terminal with ``trunkline top`` in it."""

    def __init__(self, process: Process, descriptor: int, other: int) -> None:
        self.process = process
        self._descriptor = descriptor
        self._other = other
        self._is_over = asyncio.Event()
        self.is_left = False
        self.raw = ""

    def received(self) -> None:
        try:
            part = os.read(self._descriptor, 65536)
        except OSError:  # Linux says so when the other end is closed
            part = b""
        self.raw += part.decode(errors="replace")
        if not part:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            self._is_over.set()

    async def ends(self) -> int:
        """Wait for the end of the program, and of what it has drawn. Returns its status."""
        code = await asyncio.wait_for(self.process.wait(), PATIENCE)
        assert termios.tcgetattr(self._other)[3] & termios.ECHO, "the terminal echoes again"
        self.leave()
        await asyncio.wait_for(self._is_over.wait(), PATIENCE)
        return code

    def leave(self) -> None:
        """Close the program's end of the terminal, which this process has open, too: there is an end to read then."""
        self.is_left = True
        os.close(self._other)

    async def shows(self, pattern: str) -> None:
        """Wait until what is drawn from now on matches: it may have to start first."""
        start, limit = len(self.raw), time.monotonic() + START
        while re.search(pattern, ESCAPES.sub("", self.raw[start:])) is None:
            assert time.monotonic() < limit, f"{pattern!r} is not shown:\n{ESCAPES.sub('', self.raw[start:])[-3000:]}"
            assert self.process.returncode is None, self.raw[-2000:]
            await asyncio.sleep(0.05)  # what is drawn next is read meanwhile

    def press(self, key: bytes) -> None:
        os.write(self._descriptor, key)


@asynccontextmanager
async def screen(url: str) -> AsyncIterator[Screen]:
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "trunkline.cli", "top", "--url", url, "--interval", "0.3",
        stdin=child, stdout=child, stderr=child, env=clean_environment({"TERM": "xterm-256color"}),
    )  # fmt: skip
    shown = Screen(process, parent, child)
    loop = asyncio.get_running_loop()
    loop.add_reader(parent, shown.received)
    try:
        yield shown
    finally:
        if not shown.is_left:
            if process.returncode is None:
                process.kill()
            await process.wait()
            shown.leave()
        loop.remove_reader(parent)
        os.close(parent)


async def test_it_shows_work_says_when_it_is_cut_off_and_comes_back(well_hub: RunningHub) -> None:
    async with Proxy(well_hub.port) as proxy, screen(proxy.url) as top, peer(well_hub.url) as worker:
        await top.shows(r"live")
        await top.shows(r"healthy  2 of 2 executors working")
        sleeping = await worker.request("debug.sleep", {"seconds": 60})
        await worker.result("publish", {"topic": "top.topic", "data": 1})
        await top.shows(r"executor-\d +busy .* debug\.sleep")
        await top.shows(r"debug\.sleep +[\d.]+ m?s +running +executor-\d +anonymous")
        await top.shows(r"top\.topic")
        proxy.refuse()
        proxy.cut()
        await top.shows(r"reconnecting for \d+ s")
        proxy.refuse(False)
        await top.shows(r" live\s")
        await worker.cancel(sleeping)
        await worker.reply(sleeping)
        top.press(b"q")
        assert await top.ends() == 0
        assert "Traceback" not in top.raw
        assert "\x1b[?1049h" in top.raw
        assert "\x1b[?1049l" in top.raw, "what was on the screen before is back"


async def test_ctrl_c_ends_it_too(well_hub: RunningHub) -> None:
    async with screen(well_hub.url) as top:
        await top.shows("EXECUTOR")
        top.process.send_signal(signal.SIGINT)
        assert await top.ends() == 130
        assert "Traceback" not in top.raw


def test_without_a_terminal_there_is_one_snapshot(well_hub: RunningHub) -> None:
    done = trunkline("top", "--url", well_hub.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert "healthy  2 of 2 executors working" in done.stdout
    assert re.search(r"^calls/s \d", done.stdout, re.MULTILINE), "it waits for the figures"
    assert "\x1b" not in done.stdout


def test_as_json(well_hub: RunningHub) -> None:
    said = json.loads(trunkline("top", "--json", "--url", well_hub.url).stdout)
    assert (said["state"], said["status"], said["refused"]) == ("connected", "healthy", {})
    assert said["metrics"]["connections"] >= 1
    assert {row["worker_id"] for row in said["executors"]} == {"executor-0", "executor-1"}
    assert any(row["topic"] == "system.metrics" for row in said["topics"])


async def test_a_connection_that_is_lost_meanwhile_is_1(well_hub: RunningHub) -> None:
    async with Proxy(well_hub.port) as proxy:
        proxy.cut_after(1000, "to_client")  # when it has begun, and waits for the figures
        snapshot = asyncio.create_task(asyncio.to_thread(trunkline, "top", "--once", "--url", proxy.url))
        await proxy.wait_accepted(1, within=START)
        proxy.refuse()
        requires_failure(await snapshot, 1)


def test_without_the_role_what_is_open_to_all_is_shown(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.toml"
    secret = "a-workers-token-0003"
    tokens.write_text(f'[[tokens]]\nname = "worker"\nsha256 = "{hashlib.sha256(secret.encode()).hexdigest()}"\n')
    tokens.chmod(0o600)
    with ready_hub(executors=1, env={"TRUNKLINE_TOKENS_FILE": str(tokens)}) as hub:
        done = trunkline("top", "--once", "--url", hub.url, "--token", secret)
    assert (done.returncode, done.stderr) == (0, "")
    assert "healthy  1 of 1 executor working" in done.stdout
    assert "no live figures: worker may not" in done.stdout
    assert "IN FLIGHT: worker may not use system.calls (role admin)" in done.stdout


def test_no_hub_is_3() -> None:
    requires_failure(trunkline("top", "--url", NO_HUB), 3, NO_HUB, "trunkline serve")
