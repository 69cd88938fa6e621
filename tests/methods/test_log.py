"""The log's bytes: what is written is read, and what is not whole is told from what is damaged."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

np = pytest.importorskip("numpy")

from trunkline.methods.vectors.log import (  # noqa: E402
    Item,
    RecordError,
    Upsert,
    decode_upsert,
    encode_record,
    encode_upsert,
    is_torn_tail,
    read_records,
)

PAYLOADS = [b"first", b"", b"third, longer than the others"]
LOG = b"".join(map(encode_record, PAYLOADS))
LAST = len(encode_record(PAYLOADS[-1]))


def read(log: bytes) -> tuple[list[bytes], int]:
    data = memoryview(log)
    records = list(read_records(data))
    return [bytes(payload) for _, payload in records], records[-1][0] if records else 0


def is_torn(log: bytes) -> bool:
    return is_torn_tail(memoryview(log), read(log)[1])


def test_what_is_written_is_read() -> None:
    assert read(LOG) == (PAYLOADS, len(LOG))


@pytest.mark.parametrize("cut", range(1, LAST + 1))
def test_a_log_cut_anywhere_in_its_last_record_is_torn(cut: int) -> None:
    log = LOG[:-cut]
    assert read(log) == (PAYLOADS[:-1], len(LOG) - LAST)
    assert is_torn(log)


@pytest.mark.parametrize("at", range(len(LOG)))
def test_any_changed_byte_is_noticed(at: int) -> None:
    log = bytearray(LOG)
    log[at] ^= 0x10
    payloads, end = read(bytes(log))
    assert payloads == PAYLOADS[: len(payloads)]
    assert end <= at
    assert is_torn(bytes(log)) == (at >= len(LOG) - LAST), "only the last record can be torn"


@pytest.mark.parametrize("tail", [b"\0", b"\0" * 500, b"TLR1", b"TLR1" + b"\xff" * 8, LOG[:7]])
def test_bytes_behind_the_last_record_are_torn(tail: bytes) -> None:
    assert read(LOG + tail) == (PAYLOADS, len(LOG))
    assert is_torn(LOG + tail)


@given(st.lists(st.binary(max_size=50), max_size=5), st.data())
def test_any_prefix_gives_the_records_that_are_whole_in_it(payloads: list[bytes], data: st.DataObject) -> None:
    records = [*map(encode_record, payloads)]
    log = b"".join(records)
    cut = data.draw(st.integers(0, len(log)))
    found, end = read(log[:cut])
    assert found == payloads[: len(found)]
    assert end == sum(map(len, records[: len(found)]))
    assert cut - end < (len(records[len(found)]) if len(found) < len(records) else 1)


def test_an_upsert_keeps_everything() -> None:
    items = [Item("ü \ud800", "text\n\0", {"a": [1, None, {"b": 1.5}]}), Item("2"), Item("3", "")]
    vectors = np.arange(6, dtype=np.float32).reshape(3, 2)
    decoded = decode_upsert(memoryview(encode_upsert(Upsert(items, vectors))), 2)
    assert decoded.items == items
    assert (decoded.vectors == vectors).all()


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        (b"", "no upsert"),
        (struct.pack("<BI", 2, 0), "newer version"),
        (struct.pack("<BI", 1, 9) + b"[", "no upsert"),
        (struct.pack("<BI", 1, 4) + b"[{}]" + bytes(8), "no upsert"),
        (encode_upsert(Upsert([Item("1")], np.ones((1, 3), np.float32))), "no upsert"),
    ],
)
def test_a_record_that_means_nothing_says_so(payload: bytes, says: str) -> None:
    with pytest.raises(RecordError, match=says):
        decode_upsert(memoryview(payload), 2)
