"""Counts what a Python program does, function by function, from outside and exactly.

An interpreter that finds this file on its path imports it first. It answers on ``<its folder>/<process id>.socket``:
``begin`` starts counting from zero, ``take`` ends it and is answered by JSON,
``{"bytecode": {function: instructions}, "calls": {"function -> C function": calls}}``.

Instructions are counted by ``sys.settrace`` with ``f_trace_opcodes``, calls into C by ``sys.setprofile``: neither
depends on time. Both slow a program down some fifty times. A function that runs when counting begins is not counted
until it is entered, or resumed, again.
"""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import threading
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

ROOTS = re.compile(r"^(?:.*?/)?(?:server|protocol|site-packages|lib/python3\.\d+)/(?!site-packages/)")
"""Before which a path says only where a checkout or an interpreter lies."""


class Count:
    """What was counted since it began."""

    def __init__(self) -> None:
        self.counting = False
        self.bytecode: Counter[int] = Counter()
        self.calls: Counter[tuple[int, str]] = Counter()
        self.codes: dict[int, CodeType] = {}
        """By their ``id``: their own hash reads all their constants. What is kept here keeps its id."""

    def trace(self, frame: FrameType, event: str, _arg: Any) -> Any:
        """See ``sys.settrace``."""
        if not self.counting:
            return None
        self.codes[id(frame.f_code)] = frame.f_code
        frame.f_trace_lines = False
        frame.f_trace_opcodes = True
        return self.step

    def step(self, frame: FrameType, event: str, _arg: Any) -> Any:
        """See ``sys.settrace``, within a function."""
        if event == "opcode":
            self.bytecode[id(frame.f_code)] += 1
        return self.step

    def profile(self, frame: FrameType, event: str, arg: Any) -> None:
        """See ``sys.setprofile``."""
        if self.counting and event == "c_call":
            code = frame.f_code
            self.codes[id(code)] = code
            module = getattr(arg, "__module__", None)
            self.calls[id(code), f"{module}.{arg.__qualname__}" if module else arg.__qualname__] += 1

    def begin(self) -> None:
        """Start from zero."""
        self.bytecode.clear()
        self.calls.clear()
        self.counting = True

    def take(self) -> str:
        """End it; returns what was counted, as JSON."""
        self.counting = False
        bytecode: Counter[str] = Counter()
        for key, number in self.bytecode.items():
            bytecode[named(self.codes[key])] += number
        calls: Counter[str] = Counter()
        for (key, callee), number in self.calls.items():
            calls[f"{named(self.codes[key])} -> {callee}"] += number
        return json.dumps({"bytecode": bytecode, "calls": calls})


def named(code: CodeType) -> str:
    """Name a function by its file, seen from its root, and its qualified name."""
    path = code.co_filename.removeprefix(f"{Path(__file__).parent}/")
    return f"{ROOTS.sub('', path)}:{code.co_qualname}"


def answer(count: Count, listener: socket.socket) -> None:
    """Serve whoever asks, one after the other."""
    while True:
        asking, _ = listener.accept()
        with asking, asking.makefile("r") as lines:
            for line in lines:
                if line.strip() == "begin":
                    count.begin()
                    asking.sendall(b"{}\n")
                else:
                    asking.sendall(count.take().encode() + b"\n")


def install() -> None:
    """Trace this process."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(Path(__file__).with_name(f"{os.getpid()}.socket")))
    listener.listen()
    count = Count()
    threading.Thread(target=answer, args=(count, listener), name="counter", daemon=True).start()
    threading.settrace(count.trace)
    threading.setprofile(count.profile)
    sys.settrace(count.trace)
    sys.setprofile(count.profile)


if __name__ == "sitecustomize":
    install()
