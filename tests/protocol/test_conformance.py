"""The shared dialogues of protocol/conformance, from Python. The JavaScript tests run the same file."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import websockets

from tests.support.hub import RunningHub
from tests.support.match import matches_in_any_order, require
from tests.support.peer import Peer, peer

DIALOGUES = Path(__file__).parents[2] / "protocol" / "conformance" / "dialogues.json"
CASES: list[dict[str, Any]] = json.loads(DIALOGUES.read_text())["cases"]


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
async def test_dialogue(case: dict[str, Any], debug_hub: RunningHub) -> None:
    await hold(case, debug_hub.url)


async def hold(case: dict[str, Any], url: str) -> None:
    """Hold one of the dialogues with a hub, on a connection of its own."""
    async with peer(url) as connection:
        for item in case["send"]:
            data, as_text = to_send(item)
            await connection.socket.send(data, text=as_text)
        received = [await connection.receive() for _ in case["receive"]]
        if case.get("order") == "any":
            assert matches_in_any_order(case["receive"], received), received
        else:
            require(case["receive"], received)
        if "close" in case:
            await require_closed(connection, case["close"])
        else:
            await require_alive(connection)


async def require_alive(connection: Peer) -> None:
    """The very next message answers a ping: nothing else was sent, and the connection lives."""
    await connection.send('{"jsonrpc":"2.0","id":"alive","method":"rpc.ping"}')
    require({"jsonrpc": "2.0", "id": "alive", "result": {"$any": True}}, await connection.receive())


async def require_closed(connection: Peer, code: int) -> None:
    with pytest.raises(websockets.ConnectionClosed):
        await connection.receive()
    assert connection.socket.close_code == code


def to_send(item: dict[str, Any]) -> tuple[str | bytes | Iterable[str], bool | None]:
    """What to give to ``send``: the data, and whether bytes go as text."""
    match item:
        case {"text": text}:
            return text, None
        case {"generate": {"prefix": prefix, "unit": unit, "count": count, "suffix": suffix}}:
            return prefix + unit * count + suffix, None
        case {"fragments": fragments}:
            return iter(fragments), None
        case {"binary_base64": data}:
            return base64.b64decode(data), None
        case {"raw_utf8_base64": data}:
            return base64.b64decode(data), True
    raise ValueError(f"a send this test does not know: {item}")
