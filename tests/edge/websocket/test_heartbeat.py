from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise

import pytest

from tests.support.virtual_time import VirtualLoop
from trunkline.defaults import PING_INTERVAL, PING_TIMEOUT
from trunkline.edge.websocket.heartbeat import STALL, Heartbeat

pytestmark = pytest.mark.virtual_time

INTERVAL, TIMEOUT = PING_INTERVAL, PING_TIMEOUT


class Line:
    """What a heartbeat sees of a connection."""

    def __init__(self, on_ping: Callable[[Line], None] = lambda _line: None) -> None:
        self.pings: list[float] = []
        self.signs = 0
        self.delivered: int | None = None
        self.lost: list[float] = []
        self._on_ping = on_ping
        self._loop = asyncio.get_running_loop()

    def ping(self) -> None:
        self.pings.append(self._loop.time())
        self._on_ping(self)

    def silent(self) -> None:
        self.lost.append(self._loop.time())

    async def beat(self, intervals: float, patience: float = TIMEOUT) -> None:
        """Let a heart beat for so long; the first ping is due after half an interval to a whole one."""
        heartbeat = Heartbeat(INTERVAL, patience, self.ping, lambda: self.signs, lambda: self.delivered, self.silent)
        await asyncio.sleep(intervals * INTERVAL)
        heartbeat.stop()


def sign(line: Line) -> None:
    line._loop.call_later(TIMEOUT / 2, lambda: setattr(line, "signs", line.signs + 1))


async def test_a_peer_that_answers_is_pinged_at_an_even_pace() -> None:
    line = Line(sign)
    began = line._loop.time()
    await line.beat(10.25)
    assert not line.lost
    assert INTERVAL / 2 <= line.pings[0] - began <= INTERVAL
    assert len(line.pings) == 10
    assert [after - before for before, after in pairwise(line.pings)] == pytest.approx([INTERVAL] * 9)


async def test_silence_is_found_within_interval_and_timeout_and_only_once() -> None:
    line = Line()
    await line.beat(5)
    assert len(line.pings) == 1
    assert line.lost == [pytest.approx(line.pings[0] + TIMEOUT)]


@pytest.mark.parametrize("answers", [True, False])
async def test_a_hub_that_stood_still_reads_before_it_judges(answers: bool) -> None:
    """The loop of the hub runs what is due before it reads."""

    def stand_still(line: Line) -> None:
        if len(line.pings) > 1:
            return sign(line)
        loop = line._loop
        assert isinstance(loop, VirtualLoop)
        loop.call_later(TIMEOUT / 2, loop.pass_time, TIMEOUT)
        if answers:  # it is read when what was due has run
            loop.call_later(TIMEOUT + TIMEOUT / 2 + 0.01, lambda: setattr(line, "signs", line.signs + 1))
        return None

    line = Line(stand_still)
    await line.beat(4.25)
    late = line.pings[0] + TIMEOUT + TIMEOUT / 2
    assert line.lost == ([] if answers else [pytest.approx(late + STALL)])


async def test_signs_before_the_ping_do_not_count() -> None:
    line = Line(lambda line: setattr(line, "signs", line.signs))
    line.signs = 7
    await line.beat(3)
    assert line.lost


async def test_a_peer_that_fetches_what_is_ahead_of_the_ping_is_spared() -> None:
    def fetch(line: Line) -> None:
        line.delivered = line.delivered or 0
        line._loop.call_later(TIMEOUT / 2, lambda: setattr(line, "delivered", (line.delivered or 0) + 1000))

    line = Line(fetch)
    await line.beat(5.25)
    assert not line.lost
    assert len(line.pings) == 5


async def test_having_fetched_everything_is_no_sign_of_life() -> None:
    """The peer's kernel takes the ping even when its process is stopped."""

    def take_all(line: Line) -> None:
        line.delivered = 1000
        line._loop.call_later(TIMEOUT / 2, lambda: setattr(line, "delivered", None))

    line = Line(take_all)
    await line.beat(3)
    assert line.lost


async def test_what_stays_on_its_way_is_no_sign_of_life() -> None:
    line = Line(lambda line: setattr(line, "delivered", 1000))
    await line.beat(3)
    assert line.lost


async def test_the_timeout_may_be_longer_than_the_interval() -> None:
    line = Line(sign)
    await line.beat(10.25, patience=2 * INTERVAL)
    assert not line.lost
    assert len(line.pings) == 10, "a ping that is waited for holds up no other"


async def test_silence_is_found_though_pings_go_on() -> None:
    line = Line()
    await line.beat(10, patience=2.4 * INTERVAL)
    assert line.lost == [pytest.approx(line.pings[0] + 2.4 * INTERVAL)]
    assert len(line.pings) == 3


async def test_once_stopped_it_is_still() -> None:
    line = Line()
    await line.beat(0.25)
    await asyncio.sleep(10 * INTERVAL)
    assert line.pings == []
    assert not line.lost


async def test_a_heartbeat_that_fails_is_not_the_last(caplog: pytest.LogCaptureFixture) -> None:
    def fail_once(line: Line) -> None:
        if len(line.pings) == 1:
            raise OSError("no buffer")
        sign(line)

    line = Line(fail_once)
    await line.beat(6.25)
    assert len(line.pings) == 6
    assert not line.lost
    assert "no buffer" in caplog.text


async def test_a_peer_is_found_silent_though_a_heartbeat_failed() -> None:
    def fail_once(line: Line) -> None:
        if len(line.pings) == 1:
            raise OSError("no buffer")

    line = Line(fail_once)
    await line.beat(6)
    assert line.lost
