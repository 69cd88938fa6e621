"""What methods print, in the log of a real hub."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.hub import DEBUG_METHODS, MODULES, RunningHub, ready_hub
from tests.support.peer import peer
from tests.support.timing import PATIENCE, eventually, until

KEY = 'sk-very"secret-0815'
TOKEN = "the-hubs-own-token"


@pytest.fixture(scope="module")
def hub() -> Iterator[RunningHub]:
    env = {"TRUNKLINE_LLM_API_KEY": KEY, "TALKER_KEY": KEY, "TRUNKLINE_TOKEN": TOKEN}
    with ready_hub(DEBUG_METHODS, "talker", cwd=MODULES, executors=1, env=env) as running:
        yield running


HEADERS = {"Authorization": f"Bearer {TOKEN}"}


def records(hub: RunningHub) -> list[dict[str, Any]]:
    return [json.loads(line) for line in tuple(hub.stderr) if line.startswith("{")]


def record(hub: RunningHub, event: str) -> dict[str, Any]:
    """The log record of a line, once it is there."""

    def found() -> list[dict[str, Any]]:
        return [said for said in records(hub) if said["event"] == event]

    eventually(found, event)
    return found()[0]


async def test_a_line_says_whose_it_is(hub: RunningHub) -> None:
    (pid,) = hub.executor_pids()
    async with peer(hub.url, HEADERS) as one:
        await one.result("talker.say", {"text": "hello there"})
    for event in ("hello there", "hello there (stderr)"):
        said = record(hub, event)
        assert (said["executor"], said["pid"], said["method"]) == ("executor-0", pid, "talker.say")
        assert (said["logger"], said["level"]) == ("trunkline.executors.output", "info")
    assert not [line for line in hub.stdout if "hello" in line], "standard output is the hub's"


async def test_what_close_prints_is_of_no_method() -> None:
    with ready_hub("talker", cwd=MODULES, executors=1) as own:
        async with peer(own.url) as one:
            await one.result("talker.closing")
        own.stop()
        said = record(own, "closing now")
    assert said["executor"] == "executor-0"
    assert not {"method", "methods"} & said.keys()


TRACE = "0af7651916cd43dd8448eb211c80319c"


async def test_where_several_run_each_line_is_of_the_call_that_printed(hub: RunningHub) -> None:
    async with peer(hub.url, HEADERS) as one:
        sleeping = await one.request("debug.sleep", {"seconds": 60})
        metadata = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01", "request_id": "order-7"}
        speaking = await one.request("talker.say", {"text": "in company", "seconds": 60}, metadata=metadata)
        said = record(hub, "in company")
        assert (said["method"], said["trace_id"], said["request_id"]) == ("talker.say", TRACE, "order-7")
        # What bypasses Python could be of any of them.
        await one.result("talker.raw", {"text": "past Python"})
        assert record(hub, "past Python")["methods"] == ["debug.sleep", "talker.raw", "talker.say"]
        await one.cancel(sleeping)
        await one.cancel(speaking)
        await one.reply(speaking)


async def test_a_log_record_is_one_record_with_its_level_members_and_traceback(hub: RunningHub) -> None:
    async with peer(hub.url, HEADERS) as one:
        await one.result("talker.logs", {"text": "what was wrong"})
        await one.result("talker.thread", {"text": "from a thread"})
    info = record(hub, "it begins")
    assert (info["level"], info["logger"], info["method"]) == ("info", "talker", "talker.logs")
    assert (info["order"], info["items"]) == (42, "[1, 2]")
    failed = record(hub, "it failed")
    assert (failed["level"], failed["logger"]) == ("error", "talker")
    assert failed["exception"].startswith("Traceback")
    assert failed["exception"].endswith("ValueError: what was wrong")
    assert record(hub, "from a thread")["method"] == "talker.thread"
    (warned,) = (said for said in records(hub) if "this is old" in said["event"])
    assert (warned["level"], warned["logger"]) == ("warning", "py.warnings")
    lines = [line for line in tuple(hub.stderr) if "what was wrong" in line]
    assert len(lines) == 1, "a traceback is one record, not one a line"


async def test_secrets_do_not_get_through(hub: RunningHub) -> None:
    async with peer(hub.url, HEADERS) as one:
        await one.result("subscribe", {"topic": "system.logs"})
        await one.result("talker.settings")
        record(hub, "the key is *** and Authorization: Bearer ***")
        limit = time.monotonic() + PATIENCE
        while not any("the key is" in json.dumps(message) for message in one.others):
            assert time.monotonic() < limit
            one.others.append(await one.receive())
        told = json.dumps(one.others)
    everything = "\n".join((*hub.stderr, *hub.stdout, told))
    for secret in (KEY, json.dumps(KEY)[1:-1], "abcdefghij0123", TOKEN):
        assert secret not in everything


@pytest.mark.parametrize("line", [80, 2**20])
async def test_a_hundred_megabytes_hold_nobody_up_and_fill_no_log(hub: RunningHub, line: int) -> None:
    before, rss = len(hub.stderr), hub.rss()
    async with peer(hub.url, HEADERS) as one:
        flooding = await one.request("talker.flood", {"mb": 100, "line": line}, metadata={"timeout_ms": 120_000})
        worst = 0.0
        for _ in range(20):
            begun = time.monotonic()
            await one.result("rpc.ping", within=3 * PATIENCE)
            worst = max(worst, time.monotonic() - begun)
        reply = await one.reply(flooding, within=6 * PATIENCE)
        assert reply["result"] == 100, "a print never waits for ever"
        assert worst < PATIENCE
    grown = hub.stderr[before:]
    assert sum(map(len, grown)) < 5_000_000
    assert hub.rss() - rss < 64 * 2**20

    def left_out() -> int:
        return sum(int(said.get("bytes_left_out", 0)) for said in records(hub)[before:])

    eventually(lambda: left_out() > 50_000_000, "it is said how much was left out")
    await heard_again(hub)


async def heard_again(hub: RunningHub) -> None:
    """Wait until the second is over whose lines are used up: the next test's would be dropped with the flood's."""
    before = len(hub.stderr)
    async with peer(hub.url, HEADERS) as one:

        async def is_heard() -> bool:
            await one.result("talker.say", {"text": "after the flood"})
            return any("after the flood" in line for line in hub.stderr[before:])

        await until(is_heard, "lines are logged again")


async def test_last_words_are_heard(hub: RunningHub) -> None:
    async with peer(hub.url, HEADERS) as one:
        assert (await one.error("talker.die", {"text": "famous last words"}))["code"] == 2001
        assert record(hub, "famous last words")["method"] == "talker.die"
        record(hub, "Fatal Python error: Segmentation fault")
        eventually(lambda: hub.get("/ready").status == 200, "another one is there")
        await one.result("talker.say", {"text": "so does the next"})
        record(hub, "so does the next")
        await one.result("talker.partial", {"text": "not even a line"})
        (pid,) = hub.executor_pids()
        os.kill(pid, signal.SIGKILL)
        record(hub, "not even a line")
        eventually(lambda: hub.get("/ready").status == 200, "a third one is there")


async def test_a_child_that_stays_does_not_keep_the_executor_from_coming_back(hub: RunningHub) -> None:
    async with peer(hub.url, HEADERS) as one:
        child = await one.result("talker.child", {"seconds": 60})
        try:
            before = hub.executor_pids()
            await one.error("debug.crash")
            eventually(lambda: hub.executor_pids() - before and hub.get("/ready").status == 200, "it is back")
        finally:
            os.kill(child, signal.SIGKILL)
