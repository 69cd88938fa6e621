"""The shared scripts of protocol/conformance: dialogues that take several connections, cuts, or values said before.

A case is a list of steps, taken in order:

- ``{"open": "a"}``: connect; ``{"cut": "a"}``: reset that connection.
- ``{"on": "a", "send": message}``.
- ``{"on": "a", "receive": message}``: the next message matches, and has none of the members in ``without``.
- ``{"on": "a", "any": [message, ...]}``: so do the next ones, in any order.
- ``{"on": "a", "until": message}``: read on until one matches; what comes before it is of no interest.
- ``{"on": "a", "alive": true}``: the very next message answers a ping, so nothing else came.
- ``{"on": "a", "close": 1002}``: the hub closes with this code, and nothing comes before.

Messages match as in the dialogues (tests/support/match.py); ``session.ack`` goes by unless it is waited for with
``until``, for when it comes is a matter of time. ``{"$capture": "s"}`` remembers a value, ``{"$ref": "s"}`` stands for
it afterwards; ``unique`` is remembered from the beginning and is another string in every run. ``{"$repeat": "x",
"count": 9}`` is a long string.
"""

from __future__ import annotations

import json
import uuid
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import websockets

from tests.support.hub import RunningHub
from tests.support.match import matches_in_any_order, mismatch, require
from tests.support.peer import Peer, peer

SCRIPTS = Path(__file__).parents[2] / "protocol" / "conformance" / "scripts.json"
CASES: list[dict[str, Any]] = json.loads(SCRIPTS.read_text())["cases"]


@pytest.mark.parametrize("case", CASES, ids=[f"{case['section']}: {case['name']}" for case in CASES])
async def test_script(case: dict[str, Any], lab_hub: RunningHub) -> None:
    await play(case, lab_hub.url)


async def play(case: dict[str, Any], url: str) -> None:
    """Take the steps of one of the scripts with a hub."""
    async with AsyncExitStack() as stack:
        script = Script(url, stack)
        for number, step in enumerate(case["steps"]):
            try:
                await script.take(step)
            except Exception as error:
                error.add_note(f"step {number}: {step!r:.500}\n{case['why']}")
                raise


class Script:
    """Connections by name, and the values that were captured."""

    def __init__(self, url: str, stack: AsyncExitStack) -> None:
        self._url = url
        self._stack = stack
        self._peers: dict[str, Peer] = {}
        self._captured: dict[str, Any] = {"unique": uuid.uuid4().hex}

    async def take(self, step: dict[str, Any]) -> None:
        match step:
            case {"open": name}:
                self._peers[name] = await self._stack.enter_async_context(peer(self._url))
            case {"cut": name}:
                self._peers[name].socket.transport.abort()
            case {"on": name, **action}:
                await self._act(self._peers[name], action)
            case _:
                raise ValueError(f"a step this test does not know: {step}")

    async def _act(self, connection: Peer, action: dict[str, Any]) -> None:
        match action:
            case {"send": message}:
                await connection.send(fill(message, self._captured))
            case {"receive": expected, **more}:
                received = await next_message(connection)
                require(self._expect(expected, received), received)
                assert not [member for member in more.get("without", ()) if member in received], received
            case {"any": expected}:
                several = [await next_message(connection) for _ in expected]
                assert matches_in_any_order(fill(expected, self._captured), several), several
            case {"until": expected}:
                while mismatch(self._expect(expected, received := await connection.receive()), received) is not None:
                    pass
            case {"alive": True}:
                await connection.request("rpc.ping", id="alive")
                require({"id": "alive", "result": {"pong": True}}, await next_message(connection))
            case {"close": code}:
                with pytest.raises(websockets.ConnectionClosed):
                    raise AssertionError(f"before the end came {await next_message(connection)!r:.500}")
                assert connection.socket.close_code == code
            case _:
                raise ValueError(f"an action this test does not know: {action}")

    def _expect(self, expected: Any, received: Any) -> Any:
        capture(expected, received, self._captured)
        return fill(expected, self._captured)


async def next_message(connection: Peer) -> Any:
    """The next one that is no acknowledgement."""
    while isinstance(message := await connection.receive(), dict) and message.get("method") == "session.ack":
        pass
    return message


def capture(expected: Any, received: Any, captured: dict[str, Any]) -> None:
    """Remember what stands where ``$capture`` does."""
    if isinstance(expected, dict) and isinstance(expected.get("$capture"), str):
        captured[expected["$capture"]] = received
    elif isinstance(expected, dict) and isinstance(received, dict):
        for key in expected.keys() & received.keys():
            capture(expected[key], received[key], captured)
    elif isinstance(expected, list) and isinstance(received, list):
        for one, other in zip(expected, received, strict=False):
            capture(one, other, captured)


def fill(value: Any, captured: dict[str, Any]) -> Any:
    """The value with everything in place that is known by now."""
    match value:
        case {"$ref": name} | {"$capture": name}:
            return captured[name]
        case {"$repeat": unit, "count": count}:
            return unit * count
        case dict():
            return {key: fill(member, captured) for key, member in value.items()}
        case list():
            return [fill(member, captured) for member in value]
    return value
