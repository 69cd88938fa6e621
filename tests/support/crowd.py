"""Very many clients in one process: ``python -m tests.support.crowd PORT COUNT``.

All connect at once, make one call each, and are gone without a close frame when all are answered. Prints how many were.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys

from tests.support.frames import TEXT, RawSocket, frame

CALL = frame(TEXT, b'{"jsonrpc":"2.0","id":1,"method":"debug.echo","params":{"value":1}}')


async def one(port: int, number: int, done: asyncio.Event) -> bool:
    # Several source addresses: one has not enough ports for several crowds in a row.
    local = (f"127.0.{1 + number // 5000}.{1 + number % 250}", 0) if sys.platform == "linux" else None
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=local)
    try:
        client = RawSocket(reader, writer)
        if (await client.upgrade()).status != 101:
            return False
        await client.write(CALL)
        answered = b'"result":1' in (await client.frame(60)).payload
        await done.wait()
        return answered
    finally:
        writer.transport.abort()


async def main(port: int, count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, count + 200)), hard))
    done = asyncio.Event()
    asyncio.get_running_loop().call_later(0, done.set)
    answers = await asyncio.gather(*(one(port, number, done) for number in range(count)), return_exceptions=True)
    print(json.dumps({"answered": sum(answer is True for answer in answers)}))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
