"""``trunkline stdio --connect``: a peer behind a relay, a hub elsewhere, and cuts in between that nobody notices."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.command import COMMAND, NO_HUB, requires_failure, trunkline, trunkline_process
from tests.support.framed import Program, packet, relay
from tests.support.hub import DEBUG_METHODS, MODULES, RunningHub, is_alive, ready_hub
from tests.support.match import require
from tests.support.peer import Peer, peer
from tests.support.proxy import Proxy
from tests.support.timing import PATIENCE, SOON, eventually, number_in, standstill, until
from trunkline_protocol.errors import ErrorCode


@asynccontextmanager
async def behind_proxy(hub: RunningHub, *arguments: str) -> AsyncIterator[tuple[Program, Proxy]]:
    async with Proxy(hub.port) as proxy, relay(proxy.url, *arguments) as program:
        await program.until_ready()
        yield program, proxy


async def cut(proxy: Proxy, program: Peer) -> None:
    """Cut, and wait until the relay is back."""
    accepted = proxy.accepted
    proxy.cut()
    await proxy.wait_accepted(accepted + 1)
    await program.result("rpc.ping")


# --- what goes through ---


@pytest.mark.parametrize("framing", ["packet4", "ndjson"])
async def test_calls_streams_batches_cancels_and_topics(debug_hub: RunningHub, framing: str) -> None:
    async with relay(debug_hub.url, framing=framing) as program:
        assert (await program.result("debug.echo", {"value": "ü\n"}, id="a")) == "ü\n"
        require({"result": {"chunks": 3}}, await program.call("debug.count", {"n": 3}))
        assert [chunk["params"]["index"] for chunk in program.others] == [0, 1, 2, 3]
        program.others.clear()
        await program.send(
            [
                {"jsonrpc": "2.0", "id": 90, "method": "rpc.ping"},
                {"jsonrpc": "2.0", "id": 91, "method": "debug.echo", "params": [5]},
            ]
        )
        batch = await program.receive()
        assert {reply["id"] for reply in batch} == {90, 91}
        assert all("seq" not in reply for reply in batch)
        asked = await program.request("debug.sleep", {"seconds": 60})
        await program.cancel(asked)
        require({"error": {"code": ErrorCode.CANCELLED}}, await program.reply(asked))
        await program.result("subscribe", {"topic": "relay.a"})
        async with peer(debug_hub.url) as other:
            await other.result("publish", {"topic": "relay.a", "data": 1})
        event = await program.receive()
        require({"method": "event", "params": {"topic": "relay.a", "data": 1}}, event)
        assert "seq" not in event
        program.end_input()
        assert await program.exit_code() == 0


async def test_metadata_is_the_peer_s_own(lab_hub: RunningHub) -> None:
    async with relay(lab_hub.url) as program:
        where = await program.result("lab.where", metadata={"tenant": "t", "priority": "high"})
        require({"tenant": "t", "priority": "high"}, where["metadata"])
        error = await program.error("debug.sleep", {"seconds": 60}, metadata={"timeout_ms": 50})
        assert error["code"] == ErrorCode.COMMUNICATION_TIMEOUT
        assert await program.result("lab.progress", {"steps": 2}, metadata={"progress_token": "p"}) == 2
        assert [note["params"]["token"] for note in program.others] == ["p"] * 3


async def test_streaming_input_and_credit(lab_hub: RunningHub) -> None:
    async with relay(lab_hub.url) as program:
        asked = await program.request("lab.sum", {"start": 1})
        for index in range(5):
            await program.notify("stream.push", {"request_id": asked, "index": index, "data": index})
        await program.notify("stream.push", {"request_id": asked, "index": 5, "is_final": True})
        assert (await program.reply(asked))["result"] == 11

        stream = await program.request("debug.count", {"n": 100}, metadata={"window": {"items": 4}})
        chunks = [await program.receive() for _ in range(4)]
        assert [chunk["params"]["index"] for chunk in chunks if chunk["method"] == "stream_chunk"]
        await program.notify("stream.credit", {"request_id": stream, "consumed": 1000})
        await program.notify("stream.credit", {"request_id": stream, "consumed": 4})
        await program.cancel(stream)
        require({"error": {"code": ErrorCode.CANCELLED}}, await program.reply(stream))


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (b"{", ErrorCode.PARSE_ERROR),
        (b"[]", ErrorCode.INVALID_REQUEST),
        (b'[{"jsonrpc":"2.0","id":1,"method":"rpc.ping"},5]', ErrorCode.INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":1,"method":"session.open"}', ErrorCode.INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":1,"method":"auth","params":{"token":"x"}}', ErrorCode.INVALID_REQUEST),
        (b'{"seq":1,"jsonrpc":"2.0","id":1,"method":"rpc.ping"}', ErrorCode.INVALID_REQUEST),
    ],
)
async def test_what_cannot_be_is_refused_before_the_hub(debug_hub: RunningHub, bad: bytes, code: ErrorCode) -> None:
    async with relay(debug_hub.url) as program:
        await program.raw(packet(bad))
        assert (await program.receive())["error"]["code"] == code
        await program.until_ready()


async def test_a_dialect_behind_a_relay(tmp_path: Path) -> None:
    with ready_hub("bridge", cwd=MODULES) as hub:
        async with relay(hub.url, "--dialect", "dspy-port") as program:
            assert (await program.receive())["status"] == "ready"
            await program.send({"message_id": 1, "request_type": "health_check"})
            require({"message_id": 1, "payload": {"status": "healthy"}}, await program.receive())
            await program.send({"message_id": 2, "request_type": "shutdown"})
            require({"message_id": 2}, await program.receive())
            assert await program.exit_code() == 0


# --- cuts ---


async def test_a_cut_is_invisible_to_calls_and_streams(debug_hub: RunningHub) -> None:
    async with behind_proxy(debug_hub) as (program, proxy):
        slow = await program.request("debug.sleep", {"seconds": 1.5})
        stream = await program.request("debug.count", {"n": 300, "interval_ms": 5})
        await program.receive()  # it runs
        for _ in range(3):
            await cut(proxy, program)
        assert "result" in await program.reply(stream)
        assert (await program.reply(slow))["result"]["slept"] == 1.5
        indexes = [note["params"]["index"] for note in program.others if note.get("method") == "stream_chunk"]
        assert indexes == [*range(1, 301)], "whole, in order, once"


async def test_what_is_said_during_a_cut_waits(debug_hub: RunningHub) -> None:
    async with behind_proxy(debug_hub) as (program, proxy):
        proxy.refuse()
        proxy.cut()
        await proxy.wait_refused(1)
        asked = [await program.request("debug.echo", {"value": n}) for n in range(5)]
        proxy.refuse(False)
        assert [(await program.reply(id))["result"] for id in asked] == [*range(5)]


async def test_events_are_gap_free_over_cuts(debug_hub: RunningHub) -> None:
    async with behind_proxy(debug_hub) as (program, proxy), peer(debug_hub.url) as other:
        await program.result("subscribe", {"topic": "cuts.exact"})
        await program.result("subscribe", {"topic": "cuts.pattern.*"})
        got: list[Any] = []
        for number in range(30):
            await other.result("publish", {"topic": "cuts.exact", "data": number})
            if number % 10 == 5:
                proxy.cut()
        while len(got) < 30:
            message = await program.receive()
            if message.get("method") == "event":
                got.append(message["params"]["data"])
            else:
                require(
                    {"method": "event.gap", "params": {"topic": "cuts.pattern.*", "reason": "disconnected"}}, message
                )
        assert got == [*range(30)]
        await program.result("unsubscribe", {"topic": "cuts.exact"})
        await cut(proxy, program)
        await other.result("publish", {"topic": "cuts.exact", "data": "unwanted"})
        await program.result("rpc.ping")
        assert all(message["method"] == "event.gap" for message in program.others)


async def test_served_methods_over_cuts(debug_hub: RunningHub) -> None:
    async with behind_proxy(debug_hub) as (program, proxy), peer(debug_hub.url) as other:
        await program.result("method.register", {"method": "relay.upper", "streaming": True})
        asked = await other.request("relay.upper", {"text": "x"}, metadata={"progress_token": 7})
        call = await program.receive()
        assert call["params"] == {"text": "x"}
        token = call["metadata"]["progress_token"]
        await cut(proxy, program)
        await program.notify("$/progress", {"token": token, "value": 0.5})
        chunk = {"request_id": call["id"], "index": 0, "chunk_type": "data", "data": "X", "is_final": False}
        await program.notify("stream_chunk", chunk)
        await program.send({"jsonrpc": "2.0", "id": call["id"], "result": "done"})
        assert (await other.reply(asked))["result"] == "done"
        require({"method": "$/progress", "params": {"token": 7, "value": 0.5}}, other.others[0])
        require({"method": "stream_chunk", "params": {"data": "X"}}, other.others[1])

        asked = await other.request("relay.upper", {})
        call = await program.receive()
        while call.get("method") != "relay.upper":  # credit for the chunk before
            call = await program.receive()
        await other.cancel(asked)
        require({"method": "$/cancelRequest", "params": {"id": call["id"]}}, await program.receive())


async def test_answers_of_served_methods_in_a_batch(debug_hub: RunningHub) -> None:
    async with relay(debug_hub.url) as program, peer(debug_hub.url) as other:
        await other.result("method.register", {"method": "relay.first"})
        await other.request("relay.first")  # so that the hub's ids are others than the relay's
        assert (await other.receive())["id"]
        await program.result("method.register", {"method": "relay.batched"})
        calls = [await other.request("relay.batched", {"n": n}) for n in range(2)]
        requests = [await program.receive() for _ in calls]
        await program.send([{"jsonrpc": "2.0", "id": each["id"], "result": each["params"]["n"]} for each in requests])
        assert [(await other.reply(call))["result"] for call in calls] == [0, 1]


async def test_another_hub_ends_what_was_open_and_goes_on(debug_hub: RunningHub) -> None:
    async with Proxy(0) as proxy:
        with ready_hub() as first:
            proxy.target_port = first.port
            async with relay(proxy.url) as program, peer(debug_hub.url) as other:
                await program.result("subscribe", {"topic": "hubs.a"})
                await program.result("subscribe", {"topic": "hubs.*"})
                await program.result("method.register", {"method": "relay.moved"})
                open_call = await program.request("debug.count", {"n": 10_000, "interval_ms": 50}, id="open")
                await program.receive()  # it runs
                first.process.kill()
                first.wait_ended(-signal.SIGKILL)
                waiting = await program.request("debug.echo", {"value": "late"}, id="late")
                proxy.target_port = debug_hub.port
                error = (await program.reply(open_call, within=3 * PATIENCE))["error"]
                require({"code": ErrorCode.WORKER_CRASHED, "data": {"maybe_executed": True}}, error)
                reply = await program.reply(waiting)
                assert reply.get("result") == "late" or reply["error"]["data"]["maybe_executed"]

                seen = [*program.others]
                while len(gaps_in(seen)) < 2 or not any(message.get("method") == "event" for message in seen):
                    # Nothing says when the relay has subscribed again: an event may come too early for it.
                    await other.result("publish", {"topic": "hubs.a", "data": 1})
                    with contextlib.suppress(TimeoutError):
                        seen.append(await program.receive(within=SOON))
                assert gaps_in(seen) == {"hubs.a": "epoch", "hubs.*": "disconnected"}
                await served_by_peers(other, "relay.moved")  # after the subscriptions
                asked = await other.request("relay.moved", {})
                while "id" not in (call := await program.receive()):
                    pass  # events that came late
                await program.send({"jsonrpc": "2.0", "id": call["id"], "result": "X"})
                assert (await other.reply(asked))["result"] == "X"


async def test_an_answer_for_a_hub_that_is_gone_does_not_answer_another_s_call() -> None:
    """Both hubs begin to count their calls to the peer at the same number."""
    with ready_hub() as second:
        async with Proxy(0) as proxy:
            with ready_hub() as first:
                proxy.target_port = first.port
                async with relay(proxy.url) as program, peer(first.url) as old, peer(second.url) as new:
                    await program.result("method.register", {"method": "relay.upper"})
                    await old.request("relay.upper", {})
                    stale = await program.receive()
                    first.process.kill()
                    first.wait_ended(-signal.SIGKILL)
                    proxy.target_port = second.port
                    require({"method": "$/cancelRequest", "params": {"id": stale["id"]}},
                            await program.receive(3 * PATIENCE))  # fmt: skip
                    await program.result("rpc.ping", within=3 * PATIENCE)
                    asked = await new.request("relay.upper", {})
                    fresh = await program.receive()
                    assert fresh["id"] != stale["id"]
                    await program.send({"jsonrpc": "2.0", "id": stale["id"], "result": "stale"})
                    await program.send({"jsonrpc": "2.0", "id": fresh["id"], "result": "fresh"})
                    assert (await new.reply(asked))["result"] == "fresh"


def gaps_in(messages: list[Any]) -> dict[str, str]:
    """Why, by topic."""
    return {m["params"]["topic"]: m["params"]["reason"] for m in messages if m.get("method") == "event.gap"}


async def served_by_peers(asking: Peer, method: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while method not in [each["name"] for each in (await asking.result("rpc.discover"))["methods"]]:
            pass  # each look is a round trip


# --- pressure, and ends ---


async def test_a_reader_that_does_not_read_slows_its_streams_down(lab_hub: RunningHub, tmp_path: Path) -> None:
    marker = tmp_path / "made"
    async with relay(lab_hub.url) as program:
        await program.until_ready()
        program.stream.reader._transport.pause_reading()  # type: ignore[attr-defined]
        asked = await program.request("lab.flood", {"n": 3000, "marker": str(marker), "size": 20_000})
        await until(lambda: number_in(marker), "it streams")
        assert await standstill(lambda: number_in(marker)) < 2000, "it waits for its reader"
        assert psutil.Process(program.process.pid).memory_info().rss < 300 * 2**20
        program.stream.reader._transport.resume_reading()  # type: ignore[attr-defined]
        chunks = []
        while (message := await program.receive(4 * PATIENCE)).get(
            "id"
        ) != asked:  # in all it takes long on a busy machine
            chunks.append(message["params"]["index"])
        assert "result" in message
        assert chunks == [*range(3001)]


async def test_ends_wait_for_answers(debug_hub: RunningHub) -> None:
    async with relay(debug_hub.url) as program:
        await program.until_ready()
        asked = await program.request("debug.sleep", {"seconds": 0.5})
        program.end_input()
        assert (await program.reply(asked))["result"]["slept"] == 0.5
        assert await program.exit_code() == 0
    async with relay(debug_hub.url) as program:
        await program.until_ready()
        asked = await program.request("debug.count", {"n": 20, "interval_ms": 20})
        await program.receive()
        program.process.send_signal(signal.SIGTERM)
        assert "result" in await program.reply(asked)
        assert await program.exit_code() == 0


async def test_a_peer_that_does_not_take_its_answers_any_more_ends_its_calls(
    lab_hub: RunningHub, tmp_path: Path
) -> None:
    async with relay(lab_hub.url) as program:
        marker = tmp_path / "cleaned"
        await program.request("lab.cleanup", {"marker": str(marker)})
        await asyncio.to_thread(eventually, Path(f"{marker}.started").exists, "it runs")
        program.stream.reader._transport.close()  # type: ignore[attr-defined]
        assert await program.exit_code() == 141
        await asyncio.to_thread(eventually, marker.exists, "the session was closed, and its call cancelled")


def test_no_hub_is_3() -> None:
    requires_failure(trunkline_process("stdio", "--connect", NO_HUB, stdin=""), 3, NO_HUB, "trunkline serve")


def test_a_wrong_token_is_3(token_hub: RunningHub) -> None:
    connect = ("stdio", "--connect", token_hub.url)
    requires_failure(trunkline_process(*connect, "--token", "wrong", stdin=""), 3, "token")
    done = trunkline_process(*connect, "--framing", "ndjson", env={"TRUNKLINE_TOKEN": "t0k"}, stdin="")
    assert (done.returncode, done.stdout) == (0, "")


def test_options_of_a_hub_do_not_go_with_it() -> None:
    done = trunkline("stdio", "--connect", NO_HUB, "--methods", DEBUG_METHODS, stdin="")
    requires_failure(done, 2, "--methods", "--connect")


def test_who_is_refused_for_good_ends_and_says_so(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.toml"
    made = trunkline("token", "someone", "--json").stdout
    entry = json.loads(made)
    tokens.write_text(f'[[tokens]]\nname = "someone"\nsha256 = "{entry["sha256"]}"\n')
    with ready_hub(env={"TRUNKLINE_TOKENS_FILE": str(tokens)}) as hub:

        async def converse() -> None:
            async with relay(hub.url, "--token", entry["token"]) as program:
                await program.until_ready()
                asked = await program.request("debug.count", {"n": 10_000, "interval_ms": 50})
                await program.receive()
                tokens.write_text("")
                hub.process.send_signal(signal.SIGHUP)
                require({"error": {"data": {"maybe_executed": True}}}, await program.reply(asked))
                assert await program.exit_code() == 1
                assert b"the connection to the hub has ended" in program.log

        asyncio.run(converse())


def test_kill_9_of_the_parent_ends_the_relay(debug_hub: RunningHub) -> None:
    parent = (
        "import signal, subprocess, sys\n"
        "p = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "print(p.pid, flush=True); signal.pause()\n"
    )
    command = [*COMMAND, "stdio", "--connect", debug_hub.url]
    with subprocess.Popen([sys.executable, "-c", parent, *command], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.kill()
    eventually(lambda: not is_alive(pid), "the relay is gone")
