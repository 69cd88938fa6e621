from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.edge.fragments import Assembler, FrameRefused, check_text


def assemble(parts: list[bytes], max_bytes: int = 1 << 20) -> bytes | None:
    assembler = Assembler(max_bytes)
    assembler.start(parts[0], text=True)
    message = None
    for index, part in enumerate(parts[1:], 2):
        message = assembler.proceed(part, final=index == len(parts))
    return message


def code_of(parts: list[bytes], max_bytes: int = 1 << 20) -> int:
    with pytest.raises(FrameRefused) as caught:
        assemble(parts, max_bytes)
    return caught.value.code


@given(st.text(min_size=1))
def test_byte_by_byte(text: str) -> None:
    data = text.encode()
    assert assemble([b"", *(data[i : i + 1] for i in range(len(data)))]) == data


@given(st.binary())
def test_utf8_is_judged_as_python_does(data: bytes) -> None:
    parts = [b"", *(data[i : i + 1] for i in range(len(data))), b""]
    try:
        data.decode()
    except UnicodeDecodeError:
        assert code_of(parts) == 1007
        with pytest.raises(FrameRefused):
            check_text(data)
    else:
        assert assemble(parts) == data
        check_text(data)


@pytest.mark.parametrize("bad", [b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"])
def test_invalid_text_is_refused_at_the_fragment_that_shows_it(bad: bytes) -> None:
    assembler = Assembler(1 << 20)
    assembler.start(b"good ", text=True)
    with pytest.raises(FrameRefused) as caught:
        assembler.proceed(bad, final=False)
    assert caught.value.code == 1007


def test_a_character_may_be_split_but_not_left_open() -> None:
    euro = "€".encode()
    assert assemble([euro[:1], euro[1:2], euro[2:]]) == euro
    assert code_of([euro[:2], b""]) == 1007
    with pytest.raises(FrameRefused):
        check_text(euro[:2])


def test_all_fragments_together_may_have_so_many_bytes() -> None:
    assert assemble([b"12345", b"67890"], 10) == b"1234567890"
    assert code_of([b"12345", b"678901"], 10) == 1009
    assert code_of([b"x" * 11, b""], 10) == 1009


def test_one_message_after_the_other() -> None:
    assembler = Assembler(10)
    for text in (b"12345678", b"abcdefgh"):
        assembler.start(text[:3], text=True)
        assert assembler.proceed(text[3:], final=True) == text
    assert not assembler.open


def test_a_new_message_inside_one() -> None:
    assembler = Assembler(10)
    assembler.start(b"a", text=True)
    with pytest.raises(FrameRefused) as caught:
        assembler.start(b"b", text=False)
    assert caught.value.code == 1002


def test_nothing_to_continue() -> None:
    with pytest.raises(FrameRefused) as caught:
        Assembler(10).proceed(b"a", final=True)
    assert caught.value.code == 1002


def test_empty_fragments_take_no_memory() -> None:
    """They count nothing towards the size, so a peer could send them for ever."""
    assembler = Assembler(10)
    assembler.start(b"", text=True)
    tracemalloc.start()
    try:
        for _ in range(50_000):
            assembler.proceed(b"", final=False)
        assert tracemalloc.get_traced_memory()[0] < 50_000
    finally:
        tracemalloc.stop()
