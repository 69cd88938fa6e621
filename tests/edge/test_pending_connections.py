"""Connections that have not authenticated yet: no address keeps another's from coming."""

from __future__ import annotations

import pytest

from trunkline.edge.pending_connections import MAX_PENDING, PendingConnections
from trunkline_protocol.errors import ErrorCode, RpcError


class Waiting:
    """A connection that waits for its peer to authenticate."""

    def __init__(self, room: PendingConnections, peer: str) -> None:
        room.make_room(peer)
        self.closed: int | None = None
        room.add(self, peer)

    def close(self, code: int, _reason: str) -> None:
        self.closed = code


def test_one_address_that_takes_all_of_it_does_not_lock_others_out() -> None:
    room = PendingConnections()
    flood = [Waiting(room, f"10.0.0.1:{port}") for port in range(MAX_PENDING)]
    with pytest.raises(RpcError, match="have not authenticated yet") as refusal:
        Waiting(room, "10.0.0.1:9999")
    assert refusal.value.code == ErrorCode.RESOURCE_EXHAUSTED
    assert refusal.value.data == {"limit": "TRUNKLINE_AUTH_CALL"}
    guests = [Waiting(room, f"10.0.{n}.2:1") for n in range(100)]
    assert [each.closed for each in flood] == [1013] * 100 + [None] * (MAX_PENDING - 100), "the oldest go first"
    assert all(guest.closed is None for guest in guests)
    assert len(room) == MAX_PENDING


def test_neighbours_of_one_network_are_one_address() -> None:
    room = PendingConnections()
    flood = [Waiting(room, f"2001:db8::{n:x}:443") for n in range(MAX_PENDING)]
    with pytest.raises(RpcError):
        Waiting(room, "2001:db8::ffff:443")
    Waiting(room, "2001:db8:0:1::1:443")
    assert flood[0].closed == 1013


def test_many_addresses_give_way_one_after_the_other() -> None:
    room = PendingConnections()
    flood = [Waiting(room, f"10.1.{n // 200}.{n % 200}:1") for n in range(MAX_PENDING)]
    for n in range(20):
        Waiting(room, f"10.2.0.{n}:1")
    assert [each.closed for each in flood[:21]] == [1013] * 20 + [None]


def test_what_ends_is_given_back() -> None:
    room = PendingConnections()
    for _ in range(3):
        each = [Waiting(room, peer) for peer in ("10.0.0.1:1", "unix", "unix:7", "2001:db8::1:1") for _ in range(50)]
        for connection in each:
            room.remove(connection)
            room.remove(connection)  # it was closed to make room, and then ends
        assert len(room) == 0
    assert room._by_address == {}
