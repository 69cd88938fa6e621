"""Parsers that never come to an end, in place of the one for pdf: what they do is said in the file."""

from __future__ import annotations

import ctypes
import re
import subprocess
import time
from collections.abc import Callable

from trunkline.methods.documents import extract
from trunkline.methods.documents.blocks import FileText, paragraphs_of

STORY = "A pdf that can be read."


def _loop() -> None:
    while True:
        try:
            while True:
                pass
        except Exception:  # as libraries do
            continue


def _deaf() -> None:
    """Whoever does this is ended by the second exception, not by the first."""
    try:
        while True:
            time.sleep(0.01)
    except BaseException:
        while True:
            time.sleep(0.01)


def _hold() -> None:
    """Native code that holds the interpreter."""
    re.match(r"(a+)+$", "a" * 60 + "b")


def _sleep() -> None:
    """Native code that does not."""
    ctypes.CDLL(None).sleep(3600)


def _grow() -> None:
    """Take memory until there is none."""
    kept = []
    while True:
        kept.append(bytearray(2**24))


def _crash() -> None:
    ctypes.string_at(0)


def _leave() -> None:
    """A program that the parser starts, and that goes on."""
    subprocess.Popen(["sleep", "3601"], stdout=subprocess.DEVNULL)
    _sleep()


ACTS: dict[bytes, Callable[[], None]] = {
    b"loop": _loop, b"deaf": _deaf, b"hold": _hold, b"sleep": _sleep, b"grow": _grow, b"crash": _crash,
    b"leave": _leave,
}  # fmt: skip


def read_pdf(data: bytes) -> FileText:
    for name, act in ACTS.items():
        if name in data:
            act()
    return FileText(None, STORY, paragraphs_of(STORY))


def install() -> None:
    """Put it in place of the parser for pdf, in this process."""
    extract.READERS["pdf"] = read_pdf
