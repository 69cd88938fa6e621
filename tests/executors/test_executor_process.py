"""The executor's process, as far as it needs none: its frames over a wire, and a loop that methods cannot end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from tests.executors import served
from tests.support.timing import PATIENCE
from trunkline.executors import ipc
from trunkline.executors.process import EXIT_LOAD_FAILED, run_to_end, serve
from trunkline.methods.figures import FIGURES
from trunkline_protocol.catalogue import Catalogue
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.slots import slot_of


class HubEnd:
    """The hub's end of a wire: what an executor says, and what it is told."""

    def __init__(self, *modules: str, **settings: Any) -> None:
        self._socket, theirs = socket.socketpair()
        self._socket.setblocking(False)
        theirs.setblocking(False)
        configuration = ipc.Configuration("executor-0", "default", modules, settings, max_concurrency=4)
        self._reader = ipc.FrameReader()
        self._frames: list[tuple[int, int, bytes]] = []
        self.closing: list[bool] = []
        self.serving = asyncio.create_task(serve(theirs, configuration, lambda: self.closing.append(True)))

    async def read(self, kind: int) -> tuple[int, bytes]:
        """The next frame of a kind, behind whatever others: its number and its body."""
        async with asyncio.timeout(PATIENCE):
            while True:
                while self._frames:
                    found, number, body = self._frames.pop(0)
                    if found == kind:
                        return number, body
                data = await asyncio.get_running_loop().sock_recv(self._socket, 65536)
                assert data, "the executor has closed its wire"
                self._frames += self._reader.feed(data)

    async def send(self, frame: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._socket, frame)

    async def call(self, number: int, method: str, /, **params: Any) -> None:
        encoded = msgspec.json.encode(params)
        await self.send(ipc.call_frame(number, float("inf"), 0, 0, method.encode(), b"", b"", encoded))

    def close(self) -> None:
        self._socket.close()

    async def ended(self) -> int:
        return await asyncio.wait_for(self.serving, PATIENCE)


@pytest.fixture(autouse=True)
def stage(monkeypatch: pytest.MonkeyPatch) -> served.Stage:
    """What methods and test know of each other."""
    fresh = served.Stage()
    monkeypatch.setattr(served, "stage", fresh)
    return fresh


@pytest.fixture
async def hub() -> AsyncIterator[HubEnd]:
    """The hub of an executor that is ready."""
    hub = HubEnd("tests.executors.served")
    _, body = await hub.read(ipc.READY)
    assert "served.echo" in {info.name for info in msgspec.json.decode(body, type=Catalogue).methods}
    yield hub
    hub.close()
    await hub.ended()


def error_in(body: bytes) -> RpcError:
    return RpcError.from_wire(msgspec.json.decode(body))


async def test_a_call_is_answered_with_its_run_time(hub: HubEnd) -> None:
    await hub.call(7, "served.echo", value="x")
    number, body = await hub.read(ipc.RESULT)
    _run_us, result = ipc.parse_outcome(body)
    assert (number, result) == (7, b'"x"')
    await hub.call(8, "served.fail", code=5001)
    number, body = await hub.read(ipc.ERROR)
    assert (number, error_in(ipc.parse_outcome(body)[1]).code) == (8, ErrorCode.DATABASE_CONNECTION_ERROR)


async def test_it_says_that_it_is_alive(hub: HubEnd) -> None:
    await hub.send(ipc.frame(ipc.PING))
    assert await hub.read(ipc.PONG) == (0, b"")


async def test_a_cancel_ends_a_call_and_what_it_has_called(hub: HubEnd) -> None:
    await hub.call(1, "served.call", method="other.method", params={"a": 1})
    number, body = await hub.read(ipc.NESTED_CALL)
    parent, nested = ipc.parse_nested_call(body)
    assert (parent, nested.method, nested.params, nested.depth) == (1, "other.method", b'{"a":1}', 1)
    await hub.send(ipc.frame(ipc.CANCEL, 1))
    assert (await hub.read(ipc.NESTED_CANCEL))[0] == number
    _, body = await hub.read(ipc.ERROR)
    assert error_in(ipc.parse_outcome(body)[1]).code == ErrorCode.CANCELLED
    await hub.send(ipc.frame(ipc.NESTED_RESULT, number, b"1"))  # too late: nobody waits
    await hub.send(ipc.frame(ipc.PING))
    await hub.read(ipc.PONG)


async def test_keys_are_released_by_their_slots(hub: HubEnd, stage: served.Stage) -> None:
    for number, key in enumerate(("mine", "theirs"), 1):
        await hub.call(number, "served.keep", key=key)
        await hub.read(ipc.RESULT)
    assert slot_of("mine") != slot_of("theirs")
    await hub.send(ipc.frame(ipc.RELEASE, 5, ipc.release_body([slot_of("theirs")])))
    assert await hub.read(ipc.RELEASED) == (5, b"")
    assert stage.released == [(1, ["theirs"])]


async def test_a_release_that_fails_is_told(hub: HubEnd, monkeypatch: pytest.MonkeyPatch) -> None:
    async def release(_self: object, _released: object) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(served.Served, "release", release)
    await hub.send(ipc.frame(ipc.RELEASE, 6, ipc.release_body([1])))
    number, body = await hub.read(ipc.RELEASED)
    error = error_in(body)
    assert (number, error.code) == (6, ErrorCode.INTERNAL_ERROR)
    assert "release failed: " in error.message
    assert "the disk is gone" not in error.message, "its text is in the log"


async def test_figures_are_sent_when_they_have_changed(hub: HubEnd) -> None:
    FIGURES.version += 1
    _, body = await hub.read(ipc.STATS)
    assert msgspec.json.decode(body) == msgspec.json.decode(msgspec.json.encode(FIGURES.snapshot()))


async def test_one_that_is_to_stop_ends_its_calls_first(hub: HubEnd, stage: served.Stage) -> None:
    await hub.call(1, "served.hold", name="a")
    await stage.started["a"].wait()
    await hub.send(ipc.frame(ipc.STOP))
    await hub.send(ipc.frame(ipc.PING))
    await hub.read(ipc.PONG)
    assert not hub.serving.done()
    assert (hub.closing, stage.closed) == ([], [])
    stage.go["a"].set()
    assert ipc.parse_outcome((await hub.read(ipc.RESULT))[1])[1] == b"1"
    assert await hub.ended() == 0
    assert (hub.closing, stage.closed) == ([True], [1])


async def test_one_whose_hub_is_gone_waits_for_nothing(hub: HubEnd, stage: served.Stage) -> None:
    await hub.call(1, "served.hold", name="a")
    await stage.started["a"].wait()
    hub.close()
    assert await hub.ended() == 0
    assert stage.closed == [1]


async def test_one_that_cannot_load_anything_says_why_and_ends(stage: served.Stage) -> None:
    stage.trouble = OSError("no model")
    hub = HubEnd("tests.executors.served", debug=True)
    _, body = await hub.read(ipc.FAILED)
    error = error_in(body)
    assert error.code == ErrorCode.PIPELINE_INITIALIZATION_FAILED
    assert "module tests.executors.served could not be loaded: OSError: no model" in error.message
    assert any(file.endswith("served.py") for file in error.data["sources"]), "to be looked at when they change"
    assert await hub.ended() == EXIT_LOAD_FAILED
    hub.close()


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_what_would_end_the_loop_ends_only_its_task(
    kind: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    async def leave() -> None:
        raise kind("by a task of a method")

    async def work() -> int:
        left = asyncio.create_task(leave())
        await asyncio.wait([left])
        return 7

    assert run_to_end(work()) == 7
    assert f"{kind.__name__}: by a task of a method was raised by a task or callback" in caplog.text
