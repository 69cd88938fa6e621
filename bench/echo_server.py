"""The yardstick: a bare picows server that sends each frame back. No protocol, no routing, no other process."""

from __future__ import annotations

import asyncio

import picows
import uvloop


class Echo(picows.WSListener):
    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if frame.msg_type == picows.WSMsgType.CLOSE:
            transport.disconnect()
        else:
            transport.send(picows.WSMsgType.TEXT, frame.get_payload_as_bytes())


async def main() -> None:
    server = await picows.ws_create_server(lambda _request: Echo(), "127.0.0.1", 0)
    print(f"listening on ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
