"""What a session costs: ``python -m bench.sessions``.

1. Routed ``debug.echo`` calls on connections with a session, numbered and acknowledged by both sides, beside the same
   without one, in alternating runs: at least 0.8x the rate.
2. Resuming with 1,000 frames waiting, until all of them have come, beside a plain connect: less than 50 ms more.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time

import websockets

from bench.servers import hub, hub_process

RATE_TARGET = 0.8
RESUME_TARGET_MS = 50.0
WAITING = 1_000


def load(url: str, seconds: float, *, session: bool) -> float:
    command = [sys.executable, "-m", "bench.load", url, "--window", "16", "--seconds", str(seconds)]
    printed = subprocess.run(
        [*command, *(["--session"] if session else [])], check=True, capture_output=True, text=True, timeout=60
    )
    measured: dict[str, float] = json.loads(printed.stdout)
    if measured["errors"]:
        raise SystemExit(f"{measured['errors']:.0f} calls failed")
    return measured["rate"]


async def open_session(url: str, resume: dict[str, object] | None = None) -> tuple[websockets.ClientConnection, str]:
    connection = await websockets.connect(url, compression=None, proxy=None, max_size=None)
    params = {} if resume is None else {"resume": resume}
    await connection.send(json.dumps({"jsonrpc": "2.0", "id": "o", "method": "session.open", "params": params}))
    opened = json.loads(await connection.recv())["result"]
    if resume is not None and not opened["resumed"]:
        raise SystemExit(f"the session was not resumed: {opened}")
    return connection, opened["session"]


async def resumed(url: str) -> float:
    """Milliseconds from connecting until the last of the waiting frames has come."""
    connection, session = await open_session(url)
    for number in range(WAITING):
        call = {"jsonrpc": "2.0", "id": number, "method": "debug.sleep", "params": {"seconds": 1}, "seq": number + 1}
        await connection.send(json.dumps(call))
    await asyncio.sleep(0.5)  # what is not sent yet would be lost with the connection
    connection.transport.abort()
    await asyncio.sleep(2)
    started = time.perf_counter()
    again, _ = await open_session(url, {"session": session, "received": 0})
    async with asyncio.timeout(30):
        for _ in range(WAITING):
            while "seq" not in json.loads(await again.recv()):
                pass
    elapsed = time.perf_counter() - started
    await again.close()
    return elapsed * 1000


async def connected(url: str) -> float:
    """Milliseconds of a plain connect and one call."""
    started = time.perf_counter()
    async with websockets.connect(url, compression=None, proxy=None) as connection:
        await connection.send('{"jsonrpc":"2.0","id":1,"method":"rpc.ping"}')
        await connection.recv()
        return (time.perf_counter() - started) * 1000


async def compare_resume(url: str, rounds: int) -> tuple[float, float]:
    resumes, connects = [], []
    for _ in range(rounds):
        resumes.append(await resumed(url))
        connects.append(await connected(url))
    return statistics.median(resumes), statistics.median(connects)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    with hub("--executors", "1") as url:
        pairs = [
            (load(url, options.seconds, session=True), load(url, options.seconds, session=False))
            for _ in range(options.rounds)
        ]
    with hub_process("--executors", "1", env={"TRUNKLINE_MAX_CONCURRENCY": str(WAITING)}) as running:
        url = running.url
        resume, connect = asyncio.run(compare_resume(url, options.rounds))
    ratio = statistics.median(numbered / plain for numbered, plain in pairs)
    print(f"50 x 16 calls with a session: {ratio:.2f}x the rate without (target {RATE_TARGET}x or more)")
    print(
        f"resuming with {WAITING:,} frames waiting: {resume:.1f} ms, a plain connect and call {connect:.1f} ms: "
        f"{resume - connect:.1f} ms more (target below {RESUME_TARGET_MS:.0f} ms)"
    )
    if ratio < RATE_TARGET or resume - connect >= RESUME_TARGET_MS:
        sys.exit(1)


if __name__ == "__main__":
    main()
