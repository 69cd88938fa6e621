"""Target: joining fragments, against ``bytes.decode`` of whole messages.

The input is a program: ``u8`` the largest message, then steps of ``u8 what | u8 n | n bytes``; the two low bits say
whether a fragment continues a message and whether it ends it, the third whether a message that it begins is binary.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from trunkline.edge.fragments import Assembler, FrameRefused, check_text

CONTINUES: Final = 1
ENDS: Final = 2
IS_BINARY: Final = 4
TOKENS: Final = (
    b"\xe2\x82\xac",
    b"\xf0\x9f\x98\x80",
    b"\xc0\xaf",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xff",
    b"\x00\x00",
)


def step(what: int, payload: bytes) -> bytes:
    """One step of a program."""
    return bytes([what, len(payload)]) + payload


SEEDS: Final = (
    b"\xff" + step(0, b"a\xe2") + step(CONTINUES, b"\x82") + step(CONTINUES | ENDS, b"\xac"),
    b"\xff" + step(0, b"\xe2\x82") + step(CONTINUES | ENDS, b""),
    b"\xff" + step(0, b"\xed\xa0") + step(CONTINUES, b"\x80"),
    b"\xff" + step(0, b"\xed\xa0") + step(CONTINUES | ENDS, b""),
    b"\x04" + step(0, b"abc") + step(CONTINUES | ENDS, b"de"),
    b"\x04" + step(IS_BINARY, b"\xff\xfe") + step(CONTINUES | ENDS, b"\xe2"),
    b"\x04" + step(0, b"a") + step(0, b"b"),
    b"\x04" + step(CONTINUES, b"a"),
    b"\x09" + (step(0, b"\xe2\x82") + step(CONTINUES | ENDS, b"\xac")) * 3,
)


@dataclass
class Model:
    """Keeps everything and looks at the whole each time."""

    max_bytes: int
    parts: list[bytes] = field(default_factory=list)
    open: bool = False
    text: bool = True

    def refusals(self, what: int, payload: bytes) -> set[int]:
        """The close codes this step may be refused with; empty if it is fine."""
        if self.open != bool(what & CONTINUES):
            return {1002}
        if not self.open:
            self.parts, self.open, self.text = [], True, not what & IS_BINARY
        self.parts.append(payload)
        codes = set()
        if len(self.joined) > self.max_bytes:
            codes.add(1009)
        if self.text and not may_be_text(self.joined, final=bool(what & ENDS and what & CONTINUES)):
            codes.add(1007)
        return codes

    @property
    def joined(self) -> bytes:
        return b"".join(self.parts)


def may_be_text(data: bytes, *, final: bool) -> bool:
    """Whether it is UTF-8 or, if more may come, can still become so."""
    try:
        data.decode()
    except UnicodeDecodeError as error:
        # CPython's reason where only the end of a character is missing; RFC 6455 lets it come later. Its incremental
        # decoder also waits for the third byte of an encoded surrogate (ED A0..BF), which never is good.
        half_a_surrogate = data[error.start] == 0xED and len(data) == error.start + 2 and data[-1] & 0xE0 == 0xA0
        return not final and (error.reason == "unexpected end of data" or half_a_surrogate)
    return True


def steps(program: bytes) -> Iterator[tuple[int, bytes]]:
    """Read the steps of a program."""
    at = 1
    while at + 2 <= len(program):
        end = at + 2 + program[at + 1]
        yield program[at], program[at + 2 : end]
        at = end


def check(data: bytes) -> None:
    """Run a program on the assembler and on the model."""
    max_bytes = data[0] if data else 0
    assembler, model = Assembler(max_bytes), Model(max_bytes)
    for what, payload in steps(data):
        refusals = model.refusals(what, payload)
        message = _apply(assembler, what, payload)
        if isinstance(message, FrameRefused):
            assert message.code in refusals, (message.code, refusals)
            return  # the connection is closed: nothing comes after it
        assert not refusals, f"taken, though it is {refusals}"
        if message is not None:
            assert message == model.joined
            if model.text:
                check_text(message)
            model.open = False
        assert assembler.open == model.open


def _apply(assembler: Assembler, what: int, payload: bytes) -> bytes | FrameRefused | None:
    try:
        if what & CONTINUES:
            return assembler.proceed(payload, final=bool(what & ENDS))
        assembler.start(payload, text=not what & IS_BINARY)
    except FrameRefused as refusal:
        return refusal
    return None
