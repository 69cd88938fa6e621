from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.fuzz.profile import fuzzing
from trunkline.hub import sessions
from trunkline.hub.sessions import DetachReason, EndReason, SessionEntry, SessionTable, label_of
from trunkline_protocol.errors import ErrorCode, RpcError

ALICE, BOB = "alice", "bob"
TTL = 60.0


class Owner:
    """Keeps what it is told; ``on_detach`` happens while it lets go of its connection."""

    def __init__(self) -> None:
        self.told: list[DetachReason | EndReason] = []
        self.on_detach: Callable[[], object] = lambda: None

    def detach(self, reason: DetachReason) -> None:
        self.told.append(reason)
        self.on_detach()

    def end(self, reason: EndReason) -> None:
        self.told.append(reason)


Table = SessionTable[Owner]


def opened(table: Table, session_id: str, principal: str = ALICE, now: float = 0.0) -> SessionEntry[Owner]:
    return table.open(session_id, principal, Owner(), now)


def waiting(table: Table, session_id: str, principal: str = ALICE, since: float = 0.0) -> SessionEntry[Owner]:
    entry = opened(table, session_id, principal, since)
    assert table.detached(entry, entry.attachment, since)
    return entry


# --- resuming ---


def test_a_detached_session_is_resumed_as_it_was() -> None:
    table = Table()
    entry = waiting(table, "s1")
    assert table.resume("s1", ALICE, TTL - 0.1) is entry
    assert entry.attached
    assert entry.owner.told == []
    assert table.next_expiry is None
    assert table.expire(1e9) == []
    assert (table.counts().attached, table.counts().detached, table.counts().resumed) == (1, 0, 1)


def test_the_newest_resume_wins() -> None:
    table = Table()
    entry = opened(table, "s1")
    first = entry.attachment
    assert table.resume("s1", ALICE, 5.0) is entry
    assert entry.owner.told == ["superseded"]
    assert entry.attachment != first
    assert table.counts().superseded == 1
    assert not table.detached(entry, first, 6.0), "the older connection is closed, which says nothing of the newer"
    assert entry.attached
    assert table.detached(entry, entry.attachment, 7.0)
    assert table.next_expiry == 7.0 + TTL


def test_an_owner_may_say_that_it_lost_its_connection_while_it_lets_go() -> None:
    table = Table()
    entry = opened(table, "s1")
    entry.owner.on_detach = lambda: table.detached(entry, entry.attachment, 5.0)
    assert table.resume("s1", ALICE, 5.0) is entry
    assert entry.attached
    assert table.next_expiry is None
    assert len(table.expire(1e9)) == 0


def test_an_owner_that_overflows_while_it_lets_go_has_ended() -> None:
    table = Table()
    entry = opened(table, "s1")
    entry.owner.on_detach = lambda: table.end(entry, "overflow")
    assert table.resume("s1", ALICE, 5.0) == "overflow"
    assert len(table) == 0


def test_another_principals_session_is_unknown_and_unharmed() -> None:
    table = Table()
    attached, detached = opened(table, "s1"), waiting(table, "s2")
    assert [table.resume(name, BOB, 1.0) for name in ("s1", "s2")] == ["unknown", "unknown"]
    assert attached.owner.told == detached.owner.told == []
    assert attached.attached
    assert table.resume("s2", ALICE, 1.0) is detached
    assert table.counts().refused == {"unknown": 2}


def test_a_session_nobody_opened_is_unknown() -> None:
    assert Table().resume("s1", ALICE, 0.0) == "unknown"


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("expired", "expired"),
        ("overflow", "overflow"),
        ("evicted", "overflow"),
        ("closed", "unknown"),
        ("violation", "unknown"),
        ("unresumable", "unknown"),
        ("revoked", "unknown"),
    ],
)
def test_who_comes_back_to_an_ended_session_hears_why(reason: EndReason, told: str) -> None:
    table = Table()
    entry = opened(table, "s1")
    table.end(entry, reason)
    assert entry.owner.told == [reason]
    assert table.resume("s1", ALICE, 1.0) == told
    assert table.resume("s1", BOB, 1.0) == "unknown", "not even that is anybody else's business"
    assert table.counts().ended == {reason: 1}


def test_the_reasons_of_the_longest_ended_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "REMEMBERED", 2)
    table = Table()
    for name in ("s1", "s2", "s3"):
        table.end(opened(table, name), "overflow")
    assert [table.resume(name, ALICE, 1.0) for name in ("s1", "s2", "s3")] == ["unknown", "overflow", "overflow"]


# --- expiry ---


def test_detached_sessions_expire_in_the_order_in_which_they_were_detached() -> None:
    table = Table()
    first, second, third = opened(table, "s1"), opened(table, "s2"), opened(table, "s3")
    for entry, now in ((second, 1.0), (first, 2.0), (third, 3.0)):
        table.detached(entry, entry.attachment, now)
    assert table.next_expiry == 1.0 + TTL
    assert table.expire(TTL + 0.9) == []
    assert table.expire(TTL + 2.0) == [second, first]
    assert (first.owner.told, second.owner.told, third.owner.told) == (["expired"], ["expired"], [])
    assert table.next_expiry == 3.0 + TTL
    assert table.resume("s2", ALICE, TTL + 2.0) == "expired"


def test_an_attached_session_does_not_expire() -> None:
    table = Table()
    opened(table, "s1")
    assert table.next_expiry is None
    assert table.expire(1e9) == []


def test_each_detachment_has_its_own_time() -> None:
    table = Table()
    entry, other = waiting(table, "s1"), waiting(table, "s2", since=10.0)
    table.resume("s1", ALICE, 50.0)
    table.detached(entry, entry.attachment, 55.0)
    assert table.expire(10.0 + TTL) == [other]
    assert table.expire(55.0 + TTL) == [entry]


def test_what_expired_is_not_resumed_though_nobody_swept() -> None:
    table = Table()
    entry = waiting(table, "s1")
    assert table.resume("s1", ALICE, TTL) == "expired"
    assert entry.owner.told == ["expired"]
    assert len(table) == 0
    assert table.expire(1e9) == []


def test_many_expire_in_portions() -> None:
    table = Table()
    entries = [waiting(table, f"s{index}", f"p{index}") for index in range(5)]
    assert table.expire(1e9, at_most=3) == entries[:3]
    assert table.next_expiry == TTL
    assert table.expire(1e9, at_most=3) == entries[3:]
    assert table.next_expiry is None


# --- ends ---


def test_a_session_ends_once() -> None:
    table = Table()
    entry = waiting(table, "s1")
    table.end(entry, "closed")
    table.end(entry, "overflow")
    assert entry.owner.told == ["closed"]
    assert not table.detached(entry, entry.attachment, 1.0)
    assert table.expire(1e9) == []
    assert table.counts().ended == {"closed": 1}


def test_an_old_entry_cannot_end_a_new_session_of_the_same_id() -> None:
    table = Table()
    old = opened(table, "s1")
    table.end(old, "closed")
    new = opened(table, "s1")
    table.end(old, "violation")
    assert not table.detached(old, old.attachment, 1.0)
    assert (old.owner.told, new.owner.told) == (["closed"], [])
    assert table.resume("s1", ALICE, 2.0) is new


# --- caps ---


def test_a_principal_with_too_many_sessions_gets_no_other() -> None:
    table = Table(max_sessions_per_principal=2)
    opened(table, "s1")
    opened(table, "s2")
    with pytest.raises(RpcError, match="alice has 2 sessions") as refused:
        opened(table, "s3")
    assert refused.value.code == ErrorCode.RESOURCE_EXHAUSTED
    assert refused.value.data["limit"] == "TRUNKLINE_MAX_SESSIONS_PER_PRINCIPAL"
    opened(table, "s4", BOB)
    assert len(table) == 3
    assert table.counts().opened == 3


def test_a_full_hub_opens_no_session() -> None:
    table = Table(max_sessions=2)
    first = opened(table, "s1")
    opened(table, "s2", BOB)
    with pytest.raises(RpcError, match="the hub has 2 sessions") as refused:
        opened(table, "s3", "carol")
    assert refused.value.data["limit"] == "TRUNKLINE_MAX_SESSIONS"
    table.end(first, "closed")
    opened(table, "s3", "carol")


@pytest.mark.parametrize("caps", [{"max_sessions_per_principal": 3}, {"max_sessions": 3}])
def test_the_longest_detached_makes_room_for_a_new_one(caps: dict[str, int]) -> None:
    table = Table(**caps)
    attached = opened(table, "s1")
    older, newer = waiting(table, "s2", since=1.0), waiting(table, "s3", since=2.0)
    opened(table, "s4", now=3.0)
    assert (attached.owner.told, older.owner.told, newer.owner.told) == ([], ["evicted"], [])
    assert table.resume("s2", ALICE, 3.0) == "overflow"
    assert table.next_expiry == 2.0 + TTL


def test_nobody_makes_room_for_another_principal() -> None:
    table = Table(max_sessions=1)
    entry = waiting(table, "s1", BOB)
    with pytest.raises(RpcError):
        opened(table, "s2", ALICE)
    assert entry.owner.told == []


def test_what_makes_room_and_has_expired_is_said_to_have_expired() -> None:
    table = Table(max_sessions_per_principal=1)
    entry = waiting(table, "s1")
    opened(table, "s2", now=TTL)
    assert entry.owner.told == ["expired"]


def test_no_sessions_at_all() -> None:
    with pytest.raises(RpcError, match="the hub has 0 sessions"):
        opened(Table(max_sessions=0), "s1")


def test_ended_sessions_do_not_count() -> None:
    table = Table(max_sessions_per_principal=1)
    for index in range(5):
        table.end(opened(table, f"s{index}"), "closed")
    waiting(table, "s5")
    table.expire(1e9)
    opened(table, "s6")
    assert len(table) == 1


def test_principals_leave_nothing_behind() -> None:
    table = Table()
    for index in range(3):
        table.end(waiting(table, f"s{index}", f"p{index}"), "closed")
    assert not table._holders, "names come from tokens: there is no end of them"


# --- names ---


def test_ids_do_not_slip_into_logs() -> None:
    table = Table()
    entry = opened(table, "c2VjcmV0LXNlY3JldA")
    assert "c2VjcmV0" not in repr(entry)
    assert entry.label in repr(entry)
    assert entry.label == label_of("c2VjcmV0LXNlY3JldA") != label_of("c2VjcmV0LXNlY3JldB")
    assert len(entry.label) == 8


# --- at random, against lists ---


class Sessions(RuleBasedStateMachine):
    """A few clients of two principals, who open, lose and resume sessions, against lists in the order of detaching."""

    CAP, CAP_PER_PRINCIPAL = 5, 3

    def __init__(self) -> None:
        super().__init__()
        self.table = Table(self.CAP, self.CAP_PER_PRINCIPAL, TTL)
        self.now = 0.0
        self.all: list[SessionEntry[Owner]] = []
        self.living: list[SessionEntry[Owner]] = []
        self.detached: list[tuple[SessionEntry[Owner], float]] = []
        self.stale: list[tuple[SessionEntry[Owner], int]] = []

    def _ended(self, entry: SessionEntry[Owner]) -> None:
        self.living.remove(entry)
        self._not_detached(entry)

    def _not_detached(self, entry: SessionEntry[Owner]) -> None:
        self.detached = [(waiting, until) for waiting, until in self.detached if waiting is not entry]

    def _mine(self, principal: str) -> list[SessionEntry[Owner]]:
        return [entry for entry in self.living if entry.principal == principal]

    @rule(principal=st.sampled_from([ALICE, BOB]))
    def open(self, principal: str) -> None:
        full = len(self._mine(principal)) == self.CAP_PER_PRINCIPAL or len(self.living) == self.CAP
        evicted = next((entry for entry, _ in self.detached if entry.principal == principal), None)
        if full and evicted is None:
            with pytest.raises(RpcError):
                opened(self.table, "refused", principal, self.now)
            return
        entry = opened(self.table, f"s{len(self.all)}", principal, self.now)
        self.all.append(entry)
        self.living.append(entry)
        if full and evicted is not None:
            self._ended(evicted)

    @precondition(lambda self: self.all)
    @rule(data=st.data(), principal=st.sampled_from([ALICE, BOB]))
    def resume(self, data: st.DataObject, principal: str) -> None:
        entry = data.draw(st.sampled_from(self.all))
        until = dict(self.detached).get(entry, float("inf"))
        found = self.table.resume(entry.session_id, principal, self.now)
        if entry.principal != principal:
            assert found == "unknown"
        elif entry in self.living and until > self.now:
            assert found is entry
            self.stale.append((entry, entry.attachment - 1))
            self._not_detached(entry)
        else:
            assert found == {"expired": "expired", "evicted": "overflow", "closed": "unknown"}[entry.owner.told[-1]]
            if entry in self.living:
                self._ended(entry)

    @precondition(lambda self: self.living)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        entry = data.draw(st.sampled_from(self.living))
        was_attached = all(waiting is not entry for waiting, _ in self.detached)
        assert self.table.detached(entry, entry.attachment, self.now) == was_attached
        if was_attached:
            self.detached.append((entry, self.now + TTL))

    @precondition(lambda self: self.stale)
    @rule(data=st.data())
    def an_older_connection_is_closed_late(self, data: st.DataObject) -> None:
        entry, attachment = data.draw(st.sampled_from(self.stale))
        assert not self.table.detached(entry, attachment, self.now)

    @precondition(lambda self: self.living)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        entry = data.draw(st.sampled_from(self.living))
        self.table.end(entry, "closed")
        self._ended(entry)

    @rule(seconds=st.sampled_from([1.0, TTL / 3, TTL]), sweep=st.booleans())
    def time_passes(self, seconds: float, sweep: bool) -> None:
        self.now += seconds
        if sweep:
            due = [entry for entry, until in self.detached if until <= self.now]
            assert self.table.expire(self.now) == due
            for entry in due:
                self._ended(entry)

    @invariant()
    def the_table_is_the_model(self) -> None:
        counts = self.table.counts()
        assert len(self.table) == len(self.living) <= self.CAP
        assert (counts.attached, counts.detached) == (len(self.living) - len(self.detached), len(self.detached))
        assert self.table.next_expiry == (self.detached[0][1] if self.detached else None)
        assert counts.opened == len(self.all) == len(self.living) + sum(counts.ended.values())

    @invariant()
    def owners_hear_of_their_end_once(self) -> None:
        for entry in self.all:
            ends = [reason for reason in entry.owner.told if reason != "superseded"]
            assert len(ends) == (0 if entry in self.living else 1)


TestSessions = Sessions.TestCase
TestSessions.settings = fuzzing(60)
