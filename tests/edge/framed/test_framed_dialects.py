"""Dialects through the real program: a command bus and a DSPy bridge as their Elixir sides would speak them."""

from __future__ import annotations

import base64
import json
import random
import zlib
from pathlib import Path
from typing import Any

from tests.support.framed import FramedPeer, Program, packet, program, unix_peer
from tests.support.hub import MODULES, ready_hub
from tests.support.match import require
from tests.support.timing import START

MIB = 1024 * 1024


async def until(peer: FramedPeer, **members: Any) -> tuple[Any, list[Any]]:
    """The next message with these members, and those before it."""
    before: list[Any] = []
    while True:
        message = await peer.receive()
        if all(message.get(name) == value for name, value in members.items()):
            return message, before
        before.append(message)


# --- command bus ---


async def questions(bus: Program) -> None:
    """What a command bus may be asked, and how it answers."""
    await bus.send({"id": "a", "command": "query", "params": {"tenant": "t", "user": "u", "query": "why?"}})
    answer = await bus.receive(START)
    require({"type": "result", "query_id": "a", "data": {"answer": "WHY?"}}, answer)
    assert answer["data"]["metadata"]["tenant"] == "t"

    await bus.send({"id": "b", "command": "query", "params": {"query": "one two three", "stream": True}})
    complete, chunks = await until(bus, type="complete")
    assert [chunk["content"] for chunk in chunks] == ["one\n", "two\n", "three\n"]
    require({"query_id": "b", "data": {"answer": "one two three"}}, complete)

    await bus.send({"id": "c", "command": "manage_collections", "params": {"action": "list", "tenant": "t"}})
    require({"type": "result", "query_id": "c", "data": {"tenant": "t"}}, await bus.receive())

    await bus.send({"id": "d", "command": "create_tenant", "params": {"name": "t2"}})
    require({"type": "result", "query_id": "d", "data": {"name": "t2", "created": True}}, await bus.receive())


async def test_a_command_bus_of_lines() -> None:
    async with program("--dialect", "command-bus", framing="ndjson", methods=("bridge",), cwd=MODULES) as bus:
        await questions(bus)
        bus.end_input()
        assert await bus.exit_code() == 0


async def test_a_command_bus_of_packets_lives_on_after_nonsense_and_streams_that_fail() -> None:
    async with program("--dialect", "command-bus", methods=("bridge",), cwd=MODULES) as bus:
        for bad in (b"{", b"\xff", b"[1]", b'{"id":5,"command":"nope"}', b"[" * 100_000):
            await bus.raw(packet(bad))
            assert (await bus.receive(START))["type"] == "error"
        params = {"query": "one two", "stream": True, "fail_at": 1}
        await bus.send({"id": 1, "command": "query", "params": params})
        error, chunks = await until(bus, type="error")
        assert [chunk["content"] for chunk in chunks] == ["one\n"]
        require({"query_id": 1, "error": "the model went away", "details": {"recovery_strategy": "fallback"}}, error)
        await questions(bus)
        await bus.raw(b"\x7f\xff\xff\xff")
        error = await bus.receive()
        require({"type": "error", "query_id": None, "details": {"limit": "TRUNKLINE_MAX_MESSAGE_BYTES"}}, error)
        assert await bus.exit_code() == 1


# --- the DSPy bridge ---


def ask(kind: str, id: Any, **payload: Any) -> dict[str, Any]:
    about = {"source": "pipeline_ex", "version": "1.0.0"}
    return {"message_id": id, "request_type": kind, "payload": payload, "timestamp": "2026", "metadata": about}


async def bridge(peer: Program) -> None:
    hello = await peer.receive(START)
    require({"type": "init", "status": "ready", "pid": peer.process.pid}, hello)


async def test_a_bridge_from_handshake_to_shutdown() -> None:
    async with program("--dialect", "dspy-port", methods=("bridge",), cwd=MODULES) as port:
        await bridge(port)
        await port.send(ask("health_check", "h"))
        answer = await port.receive()
        require({"message_id": "h", "request_type": "health_check", "payload": {"status": "healthy"}}, answer)
        require({"metadata": {"source": "trunkline"}, "timestamp": {"$type": "string"}}, answer)

        await port.send(ask("optimize_signature", 1, signature={"in": ["q"]}, training_data=[1, 2, 3]))
        require({"message_id": 1, "payload": {"status": "success", "optimization_metrics": {"examples": 3}}},
                await port.receive())  # fmt: skip

        await port.send(ask("train_model", 2))
        require({"message_id": 2, "error_type": "import_error", "recovery_strategy": "fatal"}, await port.receive())
        await port.send(ask("evaluate_pipeline", 3, error="boom"))
        error = await port.receive()
        require({"message_id": 3, "error_type": "python_runtime_error", "traceback": None}, error)
        assert "RuntimeError (id " in error["message"], "why is in the log, under that id"

        await port.send(ask("shutdown", "bye"))
        require({"message_id": "bye", "payload": {"status": "shutting_down"}}, await port.receive())
        assert await port.exit_code(failed_methods=True) == 0
        await port.ended()


async def test_tracebacks_in_debug_mode_and_large_data_both_ways() -> None:
    environment = {"TRUNKLINE_DEBUG": "true"}
    async with program("--dialect", "dspy-port", methods=("bridge",), cwd=MODULES, env=environment) as port:
        await bridge(port)
        await port.send(ask("evaluate_pipeline", 3, error="boom"))
        assert 'raise ImportError(error) if error == "import"' in (await port.receive())["traceback"]
        await refuses_a_bomb(port)
        await carries_large_data(port)


async def carries_large_data(port: Program) -> None:
    noise = random.Random(3).randbytes(MIB).hex()
    message = ask("optimize_signature", "big", signature={"s": noise}, training_data=[])
    packed = zlib.compress(json.dumps(message).encode())
    pieces = [packed[begin : begin + MIB] for begin in range(0, len(packed), MIB)]
    assert len(pieces) > 1
    for index, piece in enumerate(pieces):
        await port.send(
            {
                "type": "data_chunk",
                "chunk_index": index,
                "data": base64.b64encode(piece).decode(),
                "is_final": index == len(pieces) - 1,
            }
        )
    data = b""
    while True:
        chunk = await port.receive()
        require({"type": "data_chunk", "message_id": "big"}, chunk)
        data += base64.b64decode(chunk["data"])
        if chunk["is_final"]:
            break
    answer = json.loads(zlib.decompress(data))
    assert answer["payload"]["optimized_signature"] == {"s": noise}


async def refuses_a_bomb(port: Program) -> None:
    packer = zlib.compressobj(9)
    bomb = b"".join(packer.compress(bytes(MIB)) for _ in range(256)) + packer.flush()
    data = base64.b64encode(bomb).decode()
    await port.send({"type": "data_chunk", "chunk_index": 0, "data": data, "is_final": True, "message_id": "b"})
    error = await port.receive()
    require({"message_id": "b", "error_type": "serialization_error"}, error)
    assert "unpacks to more than" in error["message"]


async def test_a_bridge_that_cannot_load_says_so_first() -> None:
    async with program("--dialect", "dspy-port", methods=("broken_import",), cwd=MODULES) as port:
        hello = await port.receive(START)
        require({"type": "init", "status": "error", "error_type": "import_error"}, hello)
        assert "model.bin is corrupt" in hello["message"]


# --- over a Unix socket ---


async def test_a_bridge_over_a_unix_socket_says_its_token_first(tmp_path: Path) -> None:
    path = tmp_path / "bridge.sock"
    arguments = ["--uds-framed", str(path), "--uds-dialect", "dspy-port", "--uds-framing", "ndjson"]
    with ready_hub("bridge", cwd=MODULES, arguments=arguments, env={"TRUNKLINE_TOKEN": "t0k"}):
        async with unix_peer(path, "ndjson") as port:
            assert (await port.receive())["status"] == "ready"
            await port.send(ask("health_check", 1))
            require({"message_id": 1, "error_type": "python_runtime_error"}, await port.receive())
            await port.send(ask("auth", 2, token="t0k"))
            require({"message_id": 2, "payload": {"principal": "token"}}, await port.receive())
            await port.send(ask("health_check", 3))
            require({"message_id": 3, "payload": {"status": "healthy"}}, await port.receive())
            await port.send(ask("shutdown", 4))
            require({"message_id": 4}, await port.receive())
            await port.ended()
        async with unix_peer(path, "ndjson") as other:
            assert (await other.receive())["status"] == "ready", "it was the peer that ended, not the hub"
