"""Logs of former versions: what was written is read, and what is not whole is told from what is damaged."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

np = pytest.importorskip("numpy")
pytest.importorskip("faiss")

from tests.support.disks import SECTOR  # noqa: E402
from tests.support.former_collections import encode_change, encode_changes, encode_record, old_record  # noqa: E402
from trunkline.methods.vectors.changes import Delete, Item, Upsert  # noqa: E402
from trunkline.methods.vectors.former.records import (  # noqa: E402
    RecordError,
    decode_changes,
    read_records,
    tail_damage,
)

PAYLOADS = [b"first", b"", b"third, longer than the others"]
RECORDS = [encode_record(position, 7, payload) for position, payload in enumerate(PAYLOADS, 1)]
LOG = b"".join(RECORDS)
OLD_LOG = b"".join(map(old_record, PAYLOADS))
LAST = len(RECORDS[-1])


def read(log: bytes) -> tuple[list[bytes], int]:
    records = list(read_records(memoryview(log)))
    return [bytes(record.payload) for record in records], records[-1].end if records else 0


def is_torn(log: bytes) -> bool:
    return tail_damage(memoryview(log), read(log)[1]) is None


def test_what_is_written_is_read() -> None:
    assert read(LOG) == (PAYLOADS, len(LOG))
    assert [(each.position, each.generation) for each in read_records(memoryview(LOG))] == [(1, 7), (2, 7), (3, 7)]


def test_records_of_format_1_are_read() -> None:
    assert read(OLD_LOG) == (PAYLOADS, len(OLD_LOG))
    assert {(each.position, each.generation) for each in read_records(memoryview(OLD_LOG))} == {(None, 0)}


@pytest.mark.parametrize("log", [LOG, OLD_LOG], ids=["now", "format 1"])
def test_a_log_cut_anywhere_in_its_last_record_is_torn(log: bytes) -> None:
    whole = read(log[:-1])[1]
    for size in range(whole, len(log)):
        assert read(log[:size]) == (PAYLOADS[:-1], whole)
        assert is_torn(log[:size])


def test_any_changed_bit_is_noticed_and_is_damage() -> None:
    for at in range(len(LOG)):
        for bit in range(8):
            log = bytearray(LOG)
            log[at] ^= 1 << bit
            payloads, end = read(bytes(log))
            assert payloads == PAYLOADS[: len(payloads)]
            assert end <= at
            assert not is_torn(bytes(log)), f"bit {bit} of byte {at}"


def test_in_format_1_only_damage_of_the_last_record_is_taken_for_a_torn_one() -> None:
    for at in range(len(OLD_LOG)):
        log = bytearray(OLD_LOG)
        log[at] ^= 0x10
        assert read(bytes(log))[1] <= at
        if at >= 4:  # without its first mark it is no log of format 1 any more
            assert is_torn(bytes(log)) == (at >= len(OLD_LOG) - len(old_record(PAYLOADS[-1])))


@pytest.mark.parametrize("tail", [b"\0", b"\0" * 500, b"TLR2", b"TL", LOG[:7], LOG[: len(RECORDS[0]) - 1]])
def test_the_beginning_of_a_record_is_torn(tail: bytes) -> None:
    assert read(LOG + tail) == (PAYLOADS, len(LOG))
    assert is_torn(LOG + tail)


@pytest.mark.parametrize("tail", [b"x", b"TLR1", b"TLR2" + b"\xff" * 40, b"anything else" * 10, b"\0" * 600 + LOG])
def test_other_bytes_are_damage(tail: bytes) -> None:
    assert not is_torn(LOG + tail)


def test_a_record_that_lacks_sectors_is_torn_and_one_with_other_bytes_is_not() -> None:
    """A loss of power can leave a file its length, and zeros where sectors were not written."""
    log = LOG + encode_record(4, 7, bytes(range(1, 256)) * 8)
    for first in range(0, len(log), SECTOR):
        sector = slice(max(first, len(LOG)), min(first + SECTOR, len(log)))
        if sector.start < sector.stop:
            lacking, damaged = bytearray(log), bytearray(log)
            lacking[sector] = bytes(sector.stop - sector.start)
            damaged[sector] = b"\7" * (sector.stop - sector.start)
            assert read(bytes(lacking)) == read(bytes(damaged)) == (PAYLOADS, len(LOG))
            assert is_torn(bytes(lacking))
            assert not is_torn(bytes(damaged))
    assert not is_torn(LOG[:-LAST] + bytes(LAST) + encode_record(4, 7, b"")), "not where a record follows"


@given(st.lists(st.binary(max_size=50), max_size=5), st.data())
def test_any_prefix_gives_the_records_that_are_whole_in_it(payloads: list[bytes], data: st.DataObject) -> None:
    records = [encode_record(position, 1, payload) for position, payload in enumerate(payloads, 1)]
    log = b"".join(records)
    cut = data.draw(st.integers(0, len(log)))
    found, end = read(log[:cut])
    assert found == payloads[: len(found)]
    assert end == sum(map(len, records[: len(found)]))
    assert cut - end < (len(records[len(found)]) if len(found) < len(records) else 1)
    assert is_torn(log[:cut])


ITEMS = [
    Item("ü \ud800", "text\n\0", {"a": [1, None, {"b": 1.5}], "n": float("inf")}),
    Item("2"),
    Item("3", "", {"i": 2**70}),
]


def test_changes_keep_everything_and_their_order() -> None:
    vectors = np.arange(6, dtype=np.float32).reshape(3, 2)
    changes: list[Upsert | Delete] = [Delete(["x", "ü \ud800"]), Upsert(ITEMS, vectors), Delete(["2"])]
    for some in (changes, changes[:1], changes[1:2]):
        decoded = decode_changes(memoryview(encode_changes(some)), 2)
        assert len(decoded) == len(some)
        for here, there in zip(decoded, some, strict=True):
            if isinstance(there, Upsert):
                assert isinstance(here, Upsert)
                assert list(here.items) == ITEMS
                assert (here.vectors == vectors).all()
            else:
                assert here == there


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        (b"", "means nothing"),
        (struct.pack("<BI", 9, 0), "kind 9, which a newer version"),
        (struct.pack("<BI", 1, 9) + b"[", "means nothing"),
        (struct.pack("<BI", 1, 4) + b"[{}]" + bytes(8), "means nothing"),
        (struct.pack("<BI", 2, 3) + b"[1]", "means nothing"),
        (struct.pack("<BII", 3, 4, 100) + b"short", "means nothing"),
        (encode_change(Upsert([Item("1")], np.ones((1, 3), np.float32))), "means nothing"),
    ],
)
def test_a_record_that_means_nothing_says_so(payload: bytes, says: str) -> None:
    with pytest.raises(RecordError, match=says):
        decode_changes(memoryview(payload), 2)
