"""The server that the suite runs against, so that it does not break unseen between two runs of the suite."""

from __future__ import annotations

import pytest
import websockets

from tests.autobahn.echo import echo_server


@pytest.mark.parametrize("message", ["text", b"binary", "", b"", "x" * 100_000])
async def test_it_echoes(message: str | bytes) -> None:
    async with (
        echo_server() as port,
        websockets.connect(f"ws://127.0.0.1:{port}/ws", compression=None, proxy=None) as connection,
    ):
        await connection.send(message)
        assert await connection.recv() == message
