"""``trunkline stdio``: the real program, its real standard input and output, real signals."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import signal
import socket
import subprocess
import sys
import termios
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import IO, Any

import psutil
import pytest
import pytest_asyncio

from tests.support.command import trunkline
from tests.support.framed import STDIO, Program, json_lines, packet, program
from tests.support.hub import DEBUG_METHODS, MODULES, clean_environment, is_alive
from tests.support.match import require
from tests.support.timing import PATIENCE, SCALE, START, eventually, number_in, standstill, until
from trunkline_protocol.errors import ErrorCode

on_the_loop_of_the_module = pytest.mark.asyncio(loop_scope="module")
"""Of tests that share a program."""

PIPE_BYTES = 65536
"""What a pipe takes at most."""

NDJSON = (*STDIO, "--framing", "ndjson", "--methods", DEBUG_METHODS)


def ask(lines: bytes, *command: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run the program on some input, as a shell would."""
    return subprocess.run(
        command or NDJSON, input=lines, capture_output=True, env=clean_environment(), timeout=60 * SCALE, **options
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[Program]:
    """One program with warm executors, for tests that leave it as it is."""
    async with program() as peer:
        await peer.until_ready()
        yield peer


@pytest.fixture
def shared(running: Program) -> Program:
    """It, without what was left unread."""
    running.others.clear()
    return running


def request(id: Any, method: str, params: Any = None) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": id, "method": method, "params": params or {}}).encode()


def by_id(output: bytes) -> dict[Any, Any]:
    return {message["id"]: message for message in json_lines(output) if "id" in message}


# --- calls ---


@pytest.mark.parametrize("framing", ["packet4", "ndjson"])
async def test_calls_streams_cancels_and_topics(framing: str) -> None:
    async with program(framing=framing) as peer:
        await peer.started()
        assert (await peer.result("debug.echo", {"value": "ü\n"})) == "ü\n"
        require({"result": {"chunks": 3}}, await peer.call("debug.count", {"n": 3}))
        assert [chunk["params"]["index"] for chunk in peer.others] == [0, 1, 2, 3]
        asked = await peer.request("debug.sleep", {"seconds": 60})
        await peer.cancel(asked)
        require({"error": {"code": ErrorCode.CANCELLED}}, await peer.reply(asked))
        await peer.result("subscribe", {"topic": "a.b"})
        await peer.result("publish", {"topic": "a.b", "data": {"n": 1}})
        events = [message["params"]["data"] for message in peer.others if message.get("method") == "event"]
        assert events or (await peer.receive())["params"]["data"] == {"n": 1}
        peer.end_input()
        assert await peer.exit_code() == 0
        await peer.ended()


async def test_the_parent_has_every_role_whatever_token_the_hub_wants() -> None:
    async with program(env={"TRUNKLINE_TOKEN": "t0k"}) as peer:
        await peer.started()
        await peer.result("subscribe", {"topic": "system.metrics"})
        await peer.result("method.register", {"method": "mine.upper"})
        asked = await peer.request("debug.call", {"method": "mine.upper", "params": {"text": "x"}})
        while not str((served := await peer.receive()).get("id", "")).startswith("h:"):
            pass
        await peer.send({"jsonrpc": "2.0", "id": served["id"], "result": "X"})
        assert (await peer.reply(asked))["result"] == "X"


LATE = """
import asyncio, pathlib
from trunkline import method

class Late:
    async def load(self, settings):
        while not pathlib.Path("go").exists():
            await asyncio.sleep(0.01)

    @method("late.ping")
    async def ping(self) -> str:
        return "pong"
"""


async def test_calls_wait_for_executors_and_the_hub_answers_for_itself(tmp_path: Path) -> None:
    (tmp_path / "late.py").write_text(LATE)
    async with program(methods=("late",), cwd=tmp_path) as peer:
        early = await peer.request("late.ping")
        assert (await peer.result("health.check", within=START))["status"] == "starting", (
            "answered while the first one waits"
        )
        (tmp_path / "go").touch()
        assert "result" in await peer.reply(early, within=START)


async def test_executors_that_cannot_load_are_told() -> None:
    async with program(methods=("broken_import",), cwd=MODULES) as peer:
        await peer.started()
        error = await peer.error("debug.echo", {"value": 1})
        assert error["code"] == ErrorCode.PIPELINE_INITIALIZATION_FAILED


@on_the_loop_of_the_module
async def test_a_thousand_calls_at_once(shared: Program) -> None:
    await shared.raw(b"".join(packet(request(n, "debug.echo", {"value": n})) for n in range(1000)))
    replies = [await shared.receive() for _ in range(1000)]
    assert {reply["id"]: reply["result"] for reply in replies} == {n: n for n in range(1000)}


@on_the_loop_of_the_module
async def test_two_writers_at_the_same_pipe(shared: Program) -> None:
    """Frames below PIPE_BUF are written whole: processes may share the pipe."""
    writers = []
    for half in range(2):
        code = (
            "import os,struct\n"
            f"for n in range({half * 200}, {half * 200 + 200}):\n"
            ' m = b\'{"jsonrpc":"2.0","id":%d,"method":"debug.echo","params":{"value":%d}}\' % (n, n)\n'
            " os.write(1, struct.pack('>I', len(m)) + m)\n"
        )
        fd = shared.stream.writer.get_extra_info("pipe").fileno()
        writers.append(await asyncio.create_subprocess_exec(sys.executable, "-S", "-c", code, stdout=fd))
    replies = [await shared.receive() for _ in range(400)]
    assert {reply["result"] for reply in replies} == set(range(400))
    assert [await writer.wait() for writer in writers] == [0, 0]


@on_the_loop_of_the_module
async def test_large_payloads_both_ways(shared: Program) -> None:
    value = "ü" * (5 * 2**20 // 2)
    assert (await shared.result("debug.echo", {"value": value})) == value


# --- a shell's way ---


def test_what_is_asked_in_one_breath_is_answered_before_the_end() -> None:
    """And who shares standard input with the program finds it as it was: blocking."""
    lines = request(1, "debug.echo", {"value": "one"}) + b"\r\n\n" + request(2, "debug.sleep", {"seconds": 0.3})
    code = (
        "import os, sys, subprocess; code = subprocess.run(sys.argv[1:]).returncode\n"
        "print(os.get_blocking(0), file=sys.stderr); sys.exit(code)"
    )
    done = ask(lines, sys.executable, "-c", code, *NDJSON)  # the last line has no end
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == b"True"
    answers = by_id(done.stdout)
    assert answers[1]["result"] == "one"
    assert answers[2]["result"]["slept"] == 0.3
    assert len(answers) == 2, "nothing else is said at an end that the peer chose"


def test_files_as_input_and_output(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"\n".join(request(n, "debug.echo", {"value": "x" * 9000}) for n in range(50)))
    with (tmp_path / "in").open("rb") as source, (tmp_path / "out").open("wb") as target:
        done = subprocess.run(
            NDJSON, stdin=source, stdout=target, stderr=subprocess.PIPE, env=clean_environment(), timeout=60 * SCALE
        )
    assert done.returncode == 0, done.stderr
    assert sorted(by_id((tmp_path / "out").read_bytes())) == [*range(50)]


def test_no_input_at_all_ends_at_once() -> None:
    done = ask(b"")
    assert (done.returncode, done.stdout) == (0, b"")


def test_a_reader_that_takes_its_time_gets_all() -> None:
    """The answers are larger than pipe and buffers; the reader begins when the pipe is full."""
    lines = b"\n".join(request(n, "debug.echo", {"value": "x" * 100_000}) for n in range(40))
    with subprocess.Popen(NDJSON, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env=clean_environment()) as hub:
        assert hub.stdin is not None
        assert hub.stdout is not None
        answers = hub.stdout.fileno()
        writer = threading.Thread(target=write_and_close, args=(hub.stdin, lines))
        writer.start()
        try:
            eventually(lambda: waiting_bytes(answers) > PIPE_BYTES / 2, "the pipe takes no answer more", 2 * PATIENCE)
            assert hub.poll() is None, "it waits for its reader"
            assert sorted(by_id(hub.stdout.read())) == [*range(40)]
            assert hub.wait(2 * PATIENCE) == 0
        finally:
            hub.kill()
            writer.join(PATIENCE)


def write_and_close(file: IO[bytes], data: bytes) -> None:
    with file:
        file.write(data)


def waiting_bytes(pipe: int) -> int:
    """How much nobody has read yet."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


@pytest.mark.parametrize("sockets", [1, 2])
def test_sockets_as_input_and_output(sockets: int) -> None:
    """One for both as of inetd and socat, or two as of Node.js."""
    ours, theirs = socket.socketpair()
    back, out = (ours, theirs) if sockets == 1 else socket.socketpair()
    with (
        ours, back,
        subprocess.Popen(
            NDJSON, stdin=theirs.fileno(), stdout=out.fileno(), stderr=subprocess.DEVNULL, env=clean_environment()
        ) as hub,
    ):  # fmt: skip
        theirs.close()
        out.close()
        ours.settimeout(2 * PATIENCE)
        back.settimeout(2 * PATIENCE)
        replies = back.makefile("rb")
        for number in range(3):
            ours.sendall(request(number, "debug.echo", {"value": "x" * 300_000}) + b"\n")
            assert json.loads(replies.readline())["result"] == "x" * 300_000
        ours.shutdown(socket.SHUT_WR)
        assert replies.read() == b""
        assert hub.wait(2 * PATIENCE) == 0


def test_closed_descriptors_are_told() -> None:
    done = subprocess.run(
        ["bash", "-c", f"{' '.join(NDJSON)} <&-"], capture_output=True, env=clean_environment(), timeout=60 * SCALE
    )
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr


def test_stdout_and_stderr_must_not_be_the_same() -> None:
    done = subprocess.run(
        NDJSON, input=b"", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=clean_environment(), timeout=60 * SCALE
    )
    assert done.returncode == 2
    assert b"2>&1" in done.stdout


def test_wrong_usage_is_2() -> None:
    assert trunkline("stdio", "--framing", "xml").returncode == 2
    assert ask(b"", *STDIO, "--packs", "embedings").returncode == 2


@on_the_loop_of_the_module
async def test_a_port_beside_it(shared: Program) -> None:
    async with program("--port", "0") as peer:
        await peer.started()
        await until(lambda: b"listening on ws://" in peer.log, "it says where")
        assert peer.log.count(b"listening on ws://") == 1
    listening = [c for c in psutil.Process(shared.process.pid).net_connections() if c.status == psutil.CONN_LISTEN]
    assert not listening, "no port unless one is asked for"


# --- purity ---


async def test_nothing_but_frames_on_stdout() -> None:
    async with program(methods=("noisy",), cwd=MODULES) as peer:
        await peer.started()
        assert await peer.result("noisy.print") == "said"
        peer.end_input()
        assert await peer.exit_code() == 0
        await peer.ended()
        for noise in ("at import", "of print", "of sys.__stdout__", "of descriptor 1", "of C", "of a child"):
            assert f"noise {noise}".encode() in peer.log, "it is in the log instead"


# --- what cannot be ---


@on_the_loop_of_the_module
async def test_what_is_no_message_is_answered_and_the_peer_goes_on(shared: Program) -> None:
    for bad, code in [
        (b"{", ErrorCode.PARSE_ERROR),
        (b"", ErrorCode.PARSE_ERROR),
        (b'{"jsonrpc":"2.0","id":1,"method":"\xff"}', ErrorCode.PARSE_ERROR),
        (b"[" * 100_000, ErrorCode.PARSE_ERROR),
        (b"5", ErrorCode.INVALID_REQUEST),
        (b'{"id":1,"method":"debug.echo"}', ErrorCode.INVALID_REQUEST),
    ]:
        await shared.raw(packet(bad))
        require({"error": {"code": code}}, await shared.receive())
    await shared.until_ready()


async def test_a_length_that_cannot_be_is_told_and_ends_it() -> None:
    async with program() as peer:
        await peer.until_ready()
        before = psutil.Process(peer.process.pid).memory_info().rss
        await peer.raw(b"\xff\xff\xff\xff" + b"x" * 40_000)
        error = (await peer.receive())["error"]
        require({"code": ErrorCode.INVALID_REQUEST, "data": {"limit": "TRUNKLINE_MAX_MESSAGE_BYTES"}}, error)
        assert "4294967295" in error["message"]
        with contextlib.suppress(psutil.NoSuchProcess):  # it may be gone already
            assert psutil.Process(peer.process.pid).memory_info().rss < before + 32 * 2**20
        assert await peer.exit_code() == 1


async def test_a_line_that_does_not_end() -> None:
    async with program(framing="ndjson", env={"TRUNKLINE_MAX_MESSAGE_BYTES": "4096"}) as peer:
        await peer.started()
        await peer.raw(b"x" * 5000)
        require({"error": {"code": ErrorCode.INVALID_REQUEST}}, await peer.receive())
        assert await peer.exit_code() == 1


async def test_input_that_ends_inside_a_frame() -> None:
    async with program() as peer:
        await peer.started()
        await peer.raw(packet(b"x" * 20)[:9])
        peer.end_input()
        require(
            {"error": {"code": ErrorCode.PARSE_ERROR, "message": {"$contains": "5 of 20 bytes"}}}, await peer.receive()
        )
        assert await peer.exit_code() == 1


# --- slow readers, and ends ---


async def test_a_reader_that_does_not_read_slows_its_streams_down(tmp_path: Path) -> None:
    marker = tmp_path / "made"
    async with program(methods=("lab",), cwd=MODULES) as peer:
        await peer.started()
        peer.stream.reader._transport.pause_reading()  # type: ignore[attr-defined]
        asked = await peer.request("lab.flood", {"n": 2000, "marker": str(marker), "size": 20_000})
        await until(lambda: number_in(marker), "it streams")
        assert await standstill(lambda: number_in(marker)) < 1000, "it waits for its reader"
        assert psutil.Process(peer.process.pid).memory_info().rss < 400 * 2**20
        peer.stream.reader._transport.resume_reading()  # type: ignore[attr-defined]
        chunks = []
        while (message := await peer.receive(4 * PATIENCE)).get(
            "id"
        ) != asked:  # in all it takes long on a busy machine
            chunks.append(message["params"]["index"])
        assert "result" in message
        assert chunks == [*range(2001)]


async def test_a_reader_that_never_reads_is_given_up() -> None:
    async with program(env={"TRUNKLINE_OUTBOX_BYTES": str(256 * 1024)}) as peer:
        await peer.until_ready()
        peer.stream.reader._transport.pause_reading()  # type: ignore[attr-defined]
        with contextlib.suppress(ConnectionError):  # it is gone
            for number in range(40):
                await peer.request("debug.echo", {"value": "x" * 60_000}, id=number)
        await asyncio.to_thread(eventually, lambda: not is_alive(peer.process.pid), "it has ended")
        peer.stream.reader._transport.resume_reading()  # type: ignore[attr-defined]
        assert await peer.exit_code() == 1
        assert b"reads too slowly" in peer.log


async def test_sigterm_lets_calls_finish() -> None:
    async with program() as peer:
        await peer.until_ready()
        chunks = await peer.request("debug.count", {"n": 5, "interval_ms": 100})
        await peer.receive()  # it runs
        peer.process.send_signal(signal.SIGTERM)
        assert (await peer.reply(chunks))["result"] == {"chunks": 5}
        require({"id": None, "error": {"code": ErrorCode.WORKER_UNAVAILABLE}}, await peer.receive())
        assert await peer.exit_code() == 0


async def test_the_end_of_input_ends_what_does_not_finish() -> None:
    async with program(env={"TRUNKLINE_DRAIN_SECONDS": "0.2"}) as peer:
        await peer.until_ready()
        asked = await peer.request("debug.count", {"n": 1000, "interval_ms": 100})
        await peer.receive()  # it runs
        peer.end_input()
        reply = await peer.reply(asked)
        require({"error": {"data": {"maybe_executed": True}}}, reply)
        assert await peer.exit_code() == 0


async def test_nobody_reads_any_more() -> None:
    async with program() as peer:
        await peer.until_ready()
        pids = peer.executor_pids()
        peer.stream.reader._transport.close()  # type: ignore[attr-defined]
        assert await peer.exit_code() == 141
        eventually(lambda: not any(map(is_alive, pids)), "executors are gone")


def test_kill_9_of_the_parent_ends_all(tmp_path: Path) -> None:
    """The parent dies in the middle of a long call: hub and executors go, without waiting for it."""
    parent = (
        "import signal, subprocess, sys\n"
        f"hub = subprocess.Popen({list(NDJSON)!r}, stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "hub.stdin.write(sys.argv[1].encode() + b'\\n'); hub.stdin.flush()\n"
        "hub.stdout.readline(); print(hub.pid, flush=True); signal.pause()\n"
    )
    call = request(1, "debug.count", {"n": 10_000, "interval_ms": 50}).decode()
    env = clean_environment({"TRUNKLINE_DRAIN_SECONDS": "600"})
    process = subprocess.Popen(
        [sys.executable, "-c", parent, call], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env
    )
    assert process.stdout is not None
    hub = int(process.stdout.readline())
    family = [hub, *(child.pid for child in psutil.Process(hub).children())]
    assert len(family) > 1
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    what = "hub and executors are gone, without waiting for a call that nobody wants"
    eventually(lambda: not any(map(is_alive, family)), what, 2 * PATIENCE)
