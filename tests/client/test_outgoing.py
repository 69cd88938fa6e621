"""What waits to be written."""

from __future__ import annotations

import re
from typing import Any

import pytest

from trunkline.client.outgoing import Notice, Outgoing, SendQueue, encode_body


def item(text: str) -> Outgoing:
    return Outgoing(text.encode())


def bodies(outbox: SendQueue) -> list[str]:
    return [outbox.next().body.decode() for _ in range(len(outbox))]


def filled(*texts: str, max_frames: int = 10, max_bytes: int = 100) -> SendQueue:
    outbox = SendQueue(max_frames, max_bytes)
    for text in texts:
        outbox.add(item(text))
    return outbox


def test_first_in_first_out_but_for_what_goes_ahead() -> None:
    outbox = filled("a", "b")
    outbox.add_first([item("x"), item("y")])
    assert outbox.waiting_bytes == 4
    assert bodies(outbox) == ["x", "y", "a", "b"]
    assert outbox.waiting_bytes == 0
    with pytest.raises(KeyError):
        outbox.next()


def test_what_is_taken_out_is_out() -> None:
    outbox = filled("a", "c")
    middle = item("bbb")
    outbox.add(middle)
    assert outbox.remove(middle)
    assert not outbox.remove(middle)
    assert outbox.waiting_bytes == 2
    assert bodies(outbox) == ["a", "c"]


def test_the_limits_count_what_is_kept_elsewhere_too() -> None:
    outbox = filled("a" * 10, "b" * 10, max_frames=4, max_bytes=50)
    assert outbox.refusal(10, 1, 20) is None
    assert outbox.refusal(11, 1, 20) == (
        "40 bytes wait for the connection, and 11 more would be too many (max_queued_bytes=50)"
    )
    assert outbox.refusal(1, 2, 0) == "4 frames wait for the connection (max_queued=4)"
    assert filled(max_frames=0).refusal(1, 0, 0) is not None


def test_another_session_gets_only_what_means_the_same_to_it() -> None:
    outbox = filled("credit", "answer")
    outbox.add(Notice(b"notice"))
    outbox.drop_stale()
    assert outbox.waiting_bytes == 6
    assert bodies(outbox) == ["notice"]


@pytest.mark.parametrize(
    ("params", "where"),
    [
        ({"items": [1, {"tags": {"a", "b"}}]}, "params.items.1.tags: Type is not JSON serializable: set"),
        ({"a": {1: 2}}, "params.a.1: Dict key must be str"),
        ([1, (2, object())], "params.1.1: "),
        ({"big": 2**60}, "params.big: "),
    ],
)
def test_what_cannot_be_sent_is_named_with_its_place(params: Any, where: str) -> None:
    with pytest.raises(ValueError, match=f"^params of m cannot be sent: {re.escape(where)}"):
        encode_body("m", params)


def test_what_contains_itself_has_no_place_and_takes_no_time() -> None:
    loop: list[Any] = []
    loop += [loop, loop, loop]
    with pytest.raises(ValueError, match=r"^params of m cannot be sent: "):
        encode_body("m", {"loop": loop})
