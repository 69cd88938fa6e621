"""Methods that print: little, a lot, from C, from a child that outlives them, and before they die."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import warnings

from trunkline import Context, method


@method("talker.say")
async def say(text: str, ctx: Context, seconds: float = 0) -> str:
    print(text)
    print(f"{text} (stderr)", file=sys.stderr, flush=True)
    await asyncio.sleep(seconds)
    return text


@method("talker.partial")
def partial(text: str) -> None:
    """No end of line."""
    os.write(1, text.encode())


@method("talker.flood")
def flood(mb: int, line: int) -> int:
    """So many megabytes at once, in lines of so many bytes; the last line says so."""
    piece = (b"x" * (line - 1) + b"\n") * max(1, 2**20 // line)
    for _ in range(mb):
        os.write(1, piece) if line < 4096 else sys.stdout.buffer.write(piece)
    sys.stdout.flush()
    return mb


@method("talker.die")
def die(text: str) -> None:
    print(text, flush=True)
    os.kill(os.getpid(), signal.SIGSEGV)


@method("talker.child")
def child(seconds: float) -> int:
    """Leave a process behind that holds what it inherited."""
    return subprocess.Popen(["sleep", str(seconds)], start_new_session=True).pid


@method("talker.logs")
async def logs(text: str) -> None:
    logger = logging.getLogger("talker")
    logger.info("it begins", extra={"order": 42, "items": [1, 2]})
    logger.debug("nobody asked for this")
    warnings.warn("this is old", stacklevel=1)
    try:
        raise ValueError(text)
    except ValueError:
        logger.exception("it failed")


@method("talker.thread")
def thread(text: str) -> None:
    """On the thread of plain functions."""
    logging.getLogger("talker").warning(text)


@method("talker.raw")
def raw(text: str) -> None:
    """As native code prints."""
    os.write(1, f"{text}\n".encode())


@method("talker.settings")
async def settings() -> None:
    """As a method does whose author debugs."""
    print("the key is", os.environ.get("TALKER_KEY"), "and Authorization: Bearer abcdefghij0123", flush=True)


class Keeper:
    """Says when it is closed."""

    @method("talker.closing")
    def closing(self) -> str:
        return "not yet"

    def close(self) -> None:
        print("closing now", flush=True)
