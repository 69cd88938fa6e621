"""What a dialect answers itself goes through no outbox: whoever asks and does not read is not read either."""

from __future__ import annotations

import socket
from typing import Final

from tests.support.frames import TEXT, frame
from tests.support.hub import RunningHub
from tests.support.timing import PATIENCE, SOON

UPGRADE: Final = (
    b"GET /socket/websocket?vsn=2.0.0 HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
MEGABYTE: Final = 2**20
MOST: Final = 100 * MEGABYTE


def test_heartbeats_whose_answers_nobody_reads_take_no_memory(debug_hub: RunningHub) -> None:
    heartbeats = frame(TEXT, b'[null,"' + b"x" * 250 + b'","phoenix","heartbeat",{}]') * 2000
    with socket.create_connection(("127.0.0.1", debug_hub.port), timeout=PATIENCE) as client:
        client.sendall(UPGRADE)
        assert b" 101 " in client.recv(4096)
        before, sent = debug_hub.rss(), 0
        client.settimeout(2 * SOON)
        try:
            while sent < MOST:
                sent += client.send(heartbeats)
        except TimeoutError:
            pass  # the hub does not read any more
        grown = debug_hub.rss() - before
        assert grown < 32 * MEGABYTE, f"{grown / MEGABYTE:.0f} MiB for {sent / MEGABYTE:.0f} MiB of heartbeats"
        assert sent < MOST
        client.settimeout(PATIENCE)
        heard = 0
        while heard < 2 * MEGABYTE:  # it reads: the hub goes on
            heard += len(client.recv(MEGABYTE))
