"""Failed logins: an address that guesses is slowed, and those who share it with the guesser go on working."""

from __future__ import annotations

from typing import Any, Final

import pytest

from trunkline.edge.access import failed_logins
from trunkline.edge.access.failed_logins import WINDOW, FailedLogins
from trunkline.hub.principal import Handshake, Principal
from trunkline.hub.shares import Refusals
from trunkline_protocol.errors import ErrorCode, RpcError

ANN: Final = Principal("ann")
LIMIT: Final = 6
GUESSER: Final = "10.0.0.1:1"


class Door:
    """Logins at a hub that knows some tokens; the clock is the test's."""

    def __init__(self, limit: int = LIMIT, *, signed: bool = False) -> None:
        self.time = 1000.0
        self.right = {"right", "also right", "a.right.jwt"}
        self.looked_at: list[str | None] = []
        self.refusals = Refusals()
        self.logins = FailedLogins(
            self._authenticate, limit, signed=signed, refused=self.refusals, now=lambda: self.time
        )

    def _authenticate(self, handshake: Handshake) -> Principal:
        self.looked_at.append(handshake.token)
        if handshake.token not in self.right:
            raise RpcError(ErrorCode.UNAUTHENTICATED, "the token is not valid")
        return ANN

    def come(self, token: str | None, peer: str = GUESSER) -> int:
        """0 for a peer that is let in, else the error's code."""
        try:
            assert self.logins.authenticate(Handshake("/ws", peer, {}, token)) is ANN
        except RpcError as error:
            return error.code
        return 0

    def guess(self, times: int, peer: str = GUESSER) -> list[int]:
        return [self.come(f"guess {number} at {self.time}", peer) for number in range(times)]


WRONG, SLOWED = int(ErrorCode.UNAUTHENTICATED), int(ErrorCode.RATE_LIMITED)


def test_guesses_beyond_the_limit_are_not_looked_at() -> None:
    door = Door()
    assert door.guess(LIMIT + 3) == [WRONG] * LIMIT + [SLOWED] * 3
    assert len(door.looked_at) == door.logins.count == LIMIT
    assert door.come("right") == SLOWED, "a right token that the hub has not seen before could be a guess"
    assert door.refusals.counts == {"TRUNKLINE_FAILED_LOGINS": 4}


def test_the_refusal_says_whose_limit_it_is_and_when_to_come_back() -> None:
    door = Door()
    door.guess(LIMIT)
    with pytest.raises(RpcError, match=r"address 10.0.0.1 has sent 6 wrong tokens") as refusal:
        door.logins.authenticate(Handshake("/ws", GUESSER, {}, "right"))
    error: dict[str, Any] = refusal.value.to_wire()["data"]
    wait = error["retry_after_ms"]
    assert error["limit"] == "TRUNKLINE_FAILED_LOGINS"
    assert (error["of"], error["max"]) == ("address", LIMIT)
    assert wait == 1 + 1000 * WINDOW / LIMIT
    door.time += wait / 1000
    assert door.come("right") == 0


def test_whoever_guesses_on_has_as_many_guesses_as_the_rate_allows() -> None:
    door = Door()
    for _ in range(10 * 60):
        door.guess(5)
        door.time += 1
    assert len(door.looked_at) <= LIMIT + 10 * LIMIT + 1


@pytest.mark.parametrize("elsewhere", ["10.0.0.2:1", "2001:db8::1:1", "unix", "unix:7", "stdio"])
def test_others_do_not_wait(elsewhere: str) -> None:
    door = Door()
    door.guess(LIMIT + 1)
    assert door.come("right", elsewhere) == 0
    assert door.come("wrong", elsewhere) == WRONG


def test_a_network_of_ipv6_is_one_address() -> None:
    door = Door()
    assert [door.come("wrong", f"2001:db8::{n}:443") for n in range(LIMIT + 1)] == [WRONG] * LIMIT + [SLOWED]
    assert door.come("right", "2001:db8:0:1::1:443") == 0


def test_a_token_that_was_accepted_before_works_on_from_an_address_that_waits() -> None:
    door = Door()
    assert door.come("right", "10.9.9.9:1") == 0
    assert door.guess(LIMIT + 1)[-1] == SLOWED
    assert [door.come("right") for _ in range(3)] == [0] * 3
    door.right.remove("right")
    assert door.come("right") == WRONG, "it was revoked, and is told so: waiting would not help it"


def test_jwts_are_verified_where_they_are_signed() -> None:
    door = Door(signed=True)
    door.guess(LIMIT + 1)
    assert door.come("a.right.jwt") == 0
    assert door.come("a.wrong.jwt") == SLOWED
    unsigned = Door()
    unsigned.guess(LIMIT)
    assert unsigned.come("a.right.jwt") == SLOWED


def test_no_token_is_no_guess() -> None:
    door = Door()
    assert [door.come(None) for _ in range(3 * LIMIT)] == [WRONG] * 3 * LIMIT
    assert door.come("right") == 0
    assert door.logins.count == 0


def test_another_error_is_no_guess() -> None:
    def failing(_handshake: Handshake) -> Principal:
        raise RpcError(ErrorCode.INTERNAL_ERROR, "the hub could not authenticate this connection")

    logins = FailedLogins(failing, 1, signed=False, refused=Refusals())
    for _ in range(3):
        with pytest.raises(RpcError, match="could not authenticate"):
            logins.authenticate(Handshake("/ws", GUESSER, {}, "x"))
    assert logins.count == 0


def test_without_a_limit_everything_is_looked_at() -> None:
    door = Door(limit=0)
    assert set(door.guess(500)) == {WRONG}
    assert door.logins.count == 500
    door.logins.limit_to(2)
    assert door.guess(3) == [WRONG, WRONG, SLOWED]
    door.logins.limit_to(0)
    assert door.guess(3) == [WRONG] * 3


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failed_logins, "MAX_ADDRESSES", 50)
    monkeypatch.setattr(failed_logins, "MAX_ACCEPTED", 50)
    door = Door()
    door.guess(LIMIT)
    for n in range(49):
        door.come("wrong", f"10.1.0.{n}:1")
    assert door.come("right") == SLOWED, "the most recent ones are remembered"
    door.come("wrong", "10.1.1.1:1")
    assert door.come("right") == 0
    for n in range(200):
        door.right.add(f"token {n}")
        door.come(f"token {n}")
        door.come("wrong", f"10.2.0.{n}:1")
    assert len(door.logins._failures) == len(door.logins._accepted) == 50
