"""Bytes by principal and in all: who has to go, and that nothing is counted twice or for ever."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.profile import fuzzing
from trunkline.hub.byte_account import STEP, ByteAccount, Holding

MIB = 2**20


class Holder:
    def __init__(self, account: ByteAccount, principal: str) -> None:
        self.evicted = 0
        self.holding: Holding = account.holding(principal, self.evict)

    def evict(self) -> None:
        self.evicted += 1


@pytest.fixture
def account() -> ByteAccount:
    return ByteAccount(10 * MIB, 6 * MIB)


def test_up_to_the_share_and_no_further(account: ByteAccount) -> None:
    one, other = Holder(account, "ann"), Holder(account, "ann")
    assert one.holding.update(4 * MIB)
    assert other.holding.update(2 * MIB)
    assert not other.holding.update(2 * MIB + STEP), "who goes beyond has to go, not who was there"
    assert account.of("ann") == account.used == 4 * MIB
    assert (one.evicted, other.evicted) == (0, 0)
    assert other.holding.update(2 * MIB)


def test_where_all_is_too_much_the_largest_of_who_has_most_goes(account: ByteAccount) -> None:
    small, large, bob = Holder(account, "ann"), Holder(account, "ann"), Holder(account, "bob")
    assert small.holding.update(2 * MIB)
    assert large.holding.update(4 * MIB)
    assert bob.holding.update(4 * MIB)
    assert bob.holding.update(5 * MIB)
    assert (small.evicted, large.evicted, bob.evicted) == (0, 1, 0)
    assert (account.of("ann"), account.of("bob"), account.used) == (2 * MIB, 5 * MIB, 7 * MIB)
    carl = Holder(account, "carl")
    assert carl.holding.update(3 * MIB)
    assert not bob.holding.update(6 * MIB), "now that is bob's own"
    assert (bob.evicted, carl.evicted, account.used) == (0, 0, 5 * MIB)


def test_little_is_not_counted_and_what_shrinks_is_given_back(account: ByteAccount) -> None:
    one = Holder(account, "ann")
    assert one.holding.update(STEP - 1)
    assert account.used == 0
    assert one.holding.update(STEP)
    assert account.used == STEP
    assert one.holding.update(10)
    assert account.used == 0
    one.holding.update(MIB)
    one.holding.release()
    one.holding.release()
    assert account.used == account.of("ann") == 0
    assert not account._holdings
    assert not account._used


@fuzzing(200)
@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 7 * MIB)), max_size=60))
def test_any_order_keeps_the_bounds(steps: list[tuple[int, int]]) -> None:
    account = ByteAccount(10 * MIB, 6 * MIB)
    holders = [Holder(account, "abc"[number % 3]) for number in range(9)]
    for number, size in steps:
        fits = holders[number].holding.update(size)
        assert fits or not holders[number].holding.bytes
        held = [holder.holding for holder in holders]
        assert account.used == sum(holding.bytes for holding in held) <= 10 * MIB
        for principal in "abc":
            own = sum(holding.bytes for holding in held if holding.principal == principal)
            assert account.of(principal) == own <= 6 * MIB
