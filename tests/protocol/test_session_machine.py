"""Two session cores, joined over connections that are cut at any moment, against lists that forget nothing.

A connection may die for one side while the other still writes into it, the handshake may be cut as well, and a client
may come back before the hub has noticed that it was gone. Whatever happens, each side gets what the other sent: once,
in order, without a gap.
"""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.fuzz.profile import fuzzing
from trunkline_protocol.session import (
    ACK_BYTES,
    ACK_FRAMES,
    ACK_SECONDS,
    CannotResume,
    ProtocolViolation,
    SessionCore,
    SessionSnapshot,
    encode_ack,
)

CLIENT, HUB = 0, 1
SIZES = st.sampled_from([1, 10, ACK_BYTES // 2, ACK_BYTES - 200, ACK_BYTES])
sides = st.sampled_from([CLIENT, HUB])


@dataclass
class Connection:
    """What is on its way to the client and to the hub, in order. Once cut it takes anything and delivers nothing."""

    to: tuple[deque[bytes], deque[bytes]] = field(default_factory=lambda: (deque(), deque()))
    cut: bool = False

    def write(self, receiver: int, data: bytes) -> None:
        if not self.cut:
            self.to[receiver].append(data)


class Side:
    """An owner of a core, as thin as it can be, and the reference model beside it."""

    def __init__(self, name: int) -> None:
        self.name = name
        self.core = SessionCore()
        self.connection: Connection | None = None
        # The model: everything that was ever sent or received, and what was told.
        self.sent: list[int] = []
        self.sizes: list[int] = []
        self.delivered: list[int] = []
        self.acknowledged = 0
        self.told = 0
        self.untold: list[int] = []
        self.asked_at: float | None = None

    def write(self, data: bytes) -> None:
        if self.connection is not None:
            self.connection.write(1 - self.name, data)

    def send(self, number: int, size: int, batch: bool) -> None:
        message = {"id": number, "result": "x" * size}
        data = self.core.number(json.dumps([message, message] if batch else message).encode())
        self.sent.append(number)
        self.sizes.append(len(data))
        self.write(data)

    def tell(self) -> int:
        self.told = len(self.delivered)
        self.untold.clear()
        self.asked_at = None
        return self.core.take_ack()

    def heard_of(self, received: int) -> None:
        self.acknowledged = max(self.acknowledged, received)

    def take(self, data: bytes) -> None:
        message = json.loads(data)
        if isinstance(message, dict) and "received" in message:
            self.heard_of(message["received"])
            self.core.acknowledge(message["received"])
            return
        members = message if isinstance(message, list) else [message]
        assert len({member["seq"] for member in members}) == 1
        self.untold.append(len(data))
        if self.core.receive(members[0]["seq"], len(data)):
            self.delivered.append(members[0]["id"])

    def acknowledge_if_due(self, now: float) -> None:
        delay = self.core.ack_delay(now)
        if self.untold and self.asked_at is None and not self._at_once():
            self.asked_at = now
        assert delay == self._delay(now)
        if delay == 0.0 and self.connection is not None:
            self.write(json.dumps(json.loads(encode_ack(self.tell()))["params"]).encode())

    def _at_once(self) -> bool:
        return len(self.untold) >= ACK_FRAMES or sum(self.untold) >= ACK_BYTES

    def _delay(self, now: float) -> float | None:
        if not self.untold:
            return None
        if self._at_once():
            return 0.0
        assert self.asked_at is not None
        return max(0.0, self.asked_at + ACK_SECONDS - now)

    def expected(self) -> SessionSnapshot:
        return SessionSnapshot(
            sent=len(self.sent),
            acknowledged=self.acknowledged,
            received=len(self.delivered),
            told=self.told,
            unacknowledged_bytes=sum(self.sizes[self.acknowledged :]),
        )


class Sessions(RuleBasedStateMachine):
    """``dialled`` is the client's newest connection, over which it may not have heard from the hub yet."""

    def __init__(self) -> None:
        super().__init__()
        self.sides = (Side(CLIENT), Side(HUB))
        self.dialled: Connection | None = None
        self.now = 1000.0
        self.count = 0

    # --- what the owners do ---

    @rule(side=sides, size=SIZES, batch=st.booleans(), times=st.sampled_from([1, 2, ACK_FRAMES - 1, ACK_FRAMES + 3]))
    def send(self, side: int, size: int, batch: bool, times: int) -> None:
        for _ in range(times if size < 100 else 1):
            self.count += 1
            self.sides[side].send(self.count, size, batch)

    @rule(ticks=st.integers(1, 6))
    def time_passes(self, ticks: int) -> None:
        self.now += ticks * ACK_SECONDS / 4
        for side in self.sides:
            side.acknowledge_if_due(self.now)

    # --- what the network does ---

    @rule(resend_all=st.booleans())
    def client_comes_back(self, resend_all: bool) -> None:
        """And this time the handshake gets through."""
        self.client_dials()
        self.deliver(HUB, 1, resend_all)
        self.deliver(CLIENT, 1, resend_all)

    @rule(frames=st.integers(1, 3), arrived=st.integers(0, 3))
    def acknowledgements_are_lost(self, frames: int, arrived: int) -> None:
        """The client sends again what it does not know to have arrived, without looking at what the hub says it has."""
        self.client_comes_back(resend_all=False)
        self.deliver(HUB, 50, resend_all=False)
        self.send(CLIENT, 1, False, frames)
        self.deliver(HUB, arrived, resend_all=False)
        self.client_comes_back(resend_all=True)
        self.deliver(HUB, 50, resend_all=False)

    @rule()
    def client_dials(self) -> None:
        """Whether or not anybody has noticed that the connection before is gone."""
        client = self.sides[CLIENT]
        self._cut_dialled()
        client.connection = None
        self.dialled = Connection()
        self.dialled.write(HUB, json.dumps({"open": client.tell()}).encode())

    @precondition(lambda self: self.dialled is not None)
    @rule(side=sides, most=st.sampled_from([1, 2, 5, 50]), resend_all=st.booleans())
    def deliver(self, side: int, most: int, resend_all: bool) -> None:
        assert self.dialled is not None
        waiting = self.dialled.to[side]
        for _ in range(min(most, len(waiting))):
            self._deliver(self.sides[side], waiting.popleft(), resend_all)

    @precondition(lambda self: self.dialled is not None and not self.dialled.cut)
    @rule(noticed=st.booleans())
    def cut(self, noticed: bool) -> None:
        """What was on its way is lost. Whoever does not notice goes on writing."""
        self._cut_dialled()
        if noticed:
            self.sides[CLIENT].connection = self.sides[HUB].connection = None

    @rule(side=sides, beyond=st.integers(1, 3))
    def peer_talks_nonsense(self, side: int, beyond: int) -> None:
        core = self.sides[side].core
        core.acknowledge(core.acknowledged - beyond)
        with pytest.raises(ProtocolViolation):
            core.acknowledge(core.sent + beyond)
        with pytest.raises(ProtocolViolation):
            core.receive(core.received + 1 + beyond)
        with pytest.raises(CannotResume):
            core.resume(core.sent + beyond)
        with pytest.raises(CannotResume):
            core.resume(core.acknowledged - beyond)

    def _cut_dialled(self) -> None:
        if self.dialled is not None:
            self.dialled.cut = True
            for way in self.dialled.to:
                way.clear()

    def _deliver(self, side: Side, data: bytes, resend_all: bool) -> None:
        handshake: dict[str, Any] = json.loads(data) if data.startswith((b'{"open"', b'{"opened"')) else {}
        if "open" in handshake:
            side.connection = self.dialled
            again = side.core.resume(handshake["open"])
            side.heard_of(handshake["open"])
            side.write(json.dumps({"opened": side.tell()}).encode())
        elif "opened" in handshake:
            side.connection = self.dialled
            kept = side.core.resume(side.core.acknowledged)
            again = side.core.resume(handshake["opened"])
            side.heard_of(handshake["opened"])
            again = kept if resend_all else again
        else:
            side.take(data)
            side.acknowledge_if_due(self.now)
            return
        for frame in again:
            side.write(frame)

    # --- what always holds ---

    @invariant()
    def each_side_has_what_the_other_sent_once_and_in_order(self) -> None:
        for side in (CLIENT, HUB):
            delivered = self.sides[side].delivered
            assert delivered == self.sides[1 - side].sent[: len(delivered)]

    @invariant()
    def the_counts_are_those_of_the_model(self) -> None:
        for side in self.sides:
            assert side.core.snapshot() == side.expected()
            assert side.core.unacknowledged == len(side.sent) - side.acknowledged

    @invariant()
    def nothing_is_forgotten_that_the_other_lacks(self) -> None:
        for side in (CLIENT, HUB):
            assert self.sides[side].core.acknowledged <= self.sides[1 - side].core.received

    @invariant()
    def a_connected_side_keeps_no_acknowledgement_that_is_due(self) -> None:
        for side in self.sides:
            if side.connection is not None:
                assert len(side.untold) < ACK_FRAMES
                assert sum(side.untold) < ACK_BYTES

    def teardown(self) -> None:
        """A connection that holds, at last."""
        self.client_dials()
        self._deliver_all()
        self.time_passes(4)
        self._deliver_all()
        for side in (CLIENT, HUB):
            assert self.sides[side].delivered == self.sides[1 - side].sent
            assert self.sides[side].core.unacknowledged == 0
            assert self.sides[side].core.unacknowledged_bytes == 0

    def _deliver_all(self) -> None:
        assert self.dialled is not None
        while any(self.dialled.to):
            self.deliver(CLIENT, 50, resend_all=False)
            self.deliver(HUB, 50, resend_all=False)


TestSessions = Sessions.TestCase
TestSessions.settings = fuzzing(100)
