"""Coroutines that wait cost no slot worth counting; what bounds an executor is the size of what it was sent."""

from __future__ import annotations

from tests.support.hub import ready_hub
from tests.support.peer import peer
from trunkline.executors.balancing import SCORES, choose
from trunkline.executors.handle import MAX_PARAMS_BYTES, ExecutorHandle
from trunkline_protocol.calls import Call


async def test_a_hundred_streams_that_wait_all_begin_at_once_on_one_executor() -> None:
    """As those of language models: a first word, and then a wait. With 32 slots the last began after three waits."""
    with ready_hub(executors=1) as hub:
        async with peer(hub.url) as connection:
            await connection.result("debug.echo")
            streams = [await connection.request("debug.count", {"n": 2, "interval_ms": 60_000}) for _ in range(100)]
            begun: set[int] = set()
            while len(begun) < len(streams):
                message = await connection.receive()
                if message.get("method") == "stream_chunk":
                    begun.add(message["params"]["request_id"])
                    assert message["params"]["index"] == 0, "one has gone on, and others have not begun"
            for each in streams:
                await connection.cancel(each)


def test_an_executor_that_was_sent_enough_gets_no_more_until_it_has_done_some() -> None:
    handles = [ExecutorHandle(index, {}, lambda _: None, 256) for index in range(2)]
    for handle in handles:
        handle.state = "ready"
    large = Call("m", b"x" * (MAX_PARAMS_BYTES // 2))
    first, second = handles
    for key in range(2):
        assert first.has_room("loop")
        first.in_flight[key] = large
        first.params_bytes += len(large.params)
        first.lanes["loop"].load += 1
    assert not first.has_room("loop")
    score = SCORES["performance_based"]
    assert [choose(handles, "loop", start, score, {}) for start in range(2)] == [second, second]
    assert choose([first], "loop", 0, score, {}) is None
