"""Embeddings through the hub beside the bare library: ``python -m bench.embeddings``.

64 callers, each on a connection of its own, send one text at a time; the other side is ``SentenceTransformer.encode``
over the same texts at its best batch size, in one process with all cores. Texts are of mixed length, the cache is off,
and the two alternate; only the ratios mean something. ``--backend openvino`` compares that backend with itself.

Targets: at least 0.9x the bare texts/s; one text alone at most 1.2x the bare latency (p50).

``--quality`` prints what each backend costs and what its vectors are worth, instead.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import picows
import psutil
import uvloop

from bench.listeners import connected
from bench.servers import Running, cpu_seconds, process

RATE_TARGET = 0.9
LATENCY_TARGET = 1.2
CALLERS = 64
BATCHES = (4, 8, 16, 32, 64)
MODEL = "all-MiniLM-L6-v2"


def mixed_texts(number: int, seed: int = 7) -> list[str]:
    """A quarter questions, half paragraphs, a quarter whole passages, of Python's language reference."""
    from trunkline.cli.demo import reference_passages

    dice = random.Random(seed)
    passages = [passage["text"] for passage in reference_passages()]
    texts = []
    for index in range(number):
        words = dice.choice(passages).split()
        start = dice.randrange(max(1, len(words) - 20))
        length = (dice.randint(5, 12), dice.randint(20, 60), dice.randint(40, 90), len(words))[index % 4]
        texts.append(f"{index}: " + " ".join(words[start : start + length] if index % 4 != 3 else words))
    dice.shuffle(texts)
    return texts


class Bare:
    """The process beside the hub."""

    def __init__(self, stdin: IO[str], stdout: IO[str], pid: int) -> None:
        self._stdin, self._stdout, self.pid = stdin, stdout, pid
        json.loads(stdout.readline())

    def seconds(self, texts: list[str], batch: int) -> float:
        self._stdin.write(json.dumps({"texts": texts, "batch": batch}) + "\n")
        self._stdin.flush()
        answer: dict[str, float] = json.loads(self._stdout.readline())
        return answer["seconds"]


@contextmanager
def bare(backend: str, data: str) -> Iterator[Bare]:
    threads = str(len(os.sched_getaffinity(0)))
    env = {**os.environ, "OMP_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, "-m", "bench.bare_embeddings", MODEL, backend, data]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env
    ) as started:
        assert started.stdin is not None
        assert started.stdout is not None
        yield Bare(started.stdin, started.stdout, started.pid)
        started.stdin.close()


@contextmanager
def embedding_hub(backend: str, data: str, executors: int | None) -> Iterator[Running]:
    env = {"TRUNKLINE_EMBEDDING_BACKEND": backend, "TRUNKLINE_EMBEDDING_CACHE_BYTES": "0", "TRUNKLINE_MODEL": MODEL}
    options = ("--executors", str(executors)) if executors else ()
    command = ("serve", "--port", "0", "--packs", "embeddings", "--no-demo", "--data", data, *options)
    with process(sys.executable, "-m", "trunkline.cli", *command, env=env) as running:
        yield running


class Caller(picows.WSListener):
    """Sends one text, and the next when the answer is there."""

    transport: picows.WSTransport
    _texts: Iterator[str]
    _done: asyncio.Future[None]

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        self.transport = transport

    def run(self, texts: Iterator[str]) -> asyncio.Future[None]:
        """Begin to send the texts; what is returned is done when the last was answered."""
        self._texts = texts
        self._done = asyncio.get_running_loop().create_future()
        self._next()
        return self._done

    def _next(self) -> None:
        text = next(self._texts, None)
        if text is None:
            self._done.set_result(None)
            return
        params = {"input": text, "encoding_format": "base64"}
        frame = {"jsonrpc": "2.0", "id": 1, "method": "embeddings.create", "params": params}
        self.transport.send(picows.WSMsgType.TEXT, json.dumps(frame).encode())

    def on_ws_frame(self, _transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        payload = frame.get_payload_as_bytes()
        if b'"embedding"' in payload:
            self._next()
        elif b'"error"' in payload:
            self._done.set_exception(SystemExit(payload.decode()))


async def hub_seconds(url: str, texts: list[str], callers: int) -> float:
    """How long that many callers need for all the texts."""
    shared = iter(texts)
    made = [await connected(Caller(), url) for _ in range(callers)]
    started = time.perf_counter()
    await asyncio.gather(*(caller.run(shared) for caller in made))
    seconds = time.perf_counter() - started
    for caller in made:
        caller.transport.disconnect()
    return seconds


def median_ratio(pairs: list[tuple[float, float]]) -> float:
    return statistics.median(first / second for first, second in pairs)


def cpu_of(pid: int) -> float:
    """CPU seconds of a process and its children so far: unlike the clock, hardly longer on a busy machine."""
    return sum(cpu_seconds(each.pid) for each in (psutil.Process(pid), *psutil.Process(pid).children()))


async def compare_rates(hub: Running, beside: Bare, texts: list[str], rounds: int) -> float:
    """Texts/s of the hub in those of the bare library."""
    url = hub.url
    beside.seconds(texts[:CALLERS], 8)
    await hub_seconds(url, texts[:CALLERS], CALLERS)
    costs = {batch: beside.seconds(texts, batch) for batch in BATCHES}
    best = min(costs, key=costs.__getitem__)
    pairs, spent = [], []
    for _ in range(rounds):
        before = cpu_of(hub.pid), cpu_of(beside.pid)
        routed, alone = await hub_seconds(url, texts, CALLERS), beside.seconds(texts, best)
        pairs.append((alone, routed))
        spent.append((cpu_of(hub.pid) - before[0], cpu_of(beside.pid) - before[1]))
        print(
            f"  hub {len(texts) / routed:6.1f} texts/s   bare {len(texts) / alone:6.1f} texts/s (batches of {best})",
            flush=True,
        )
    print(f"  CPU time: hub and executors {median_ratio(spent):.2f}x the bare library's", flush=True)
    return median_ratio(pairs)


async def compare_latency(url: str, beside: Bare, number: int) -> float:
    """How long one text alone takes through the hub, in the bare library's time."""
    questions = [f"how does statement number {index} work in a class body?" for index in range(number)]
    await hub_seconds(url, questions[:5], 1)
    routed, alone = [], []
    caller = await connected(Caller(), url)
    for question in questions:
        started = time.perf_counter()
        await caller.run(iter([question]))
        routed.append(time.perf_counter() - started)
        alone.append(beside.seconds([question], 1))
    caller.transport.disconnect()
    mine, theirs = statistics.median(routed), statistics.median(alone)
    print(f"  one text: hub p50 {1000 * mine:.2f} ms   bare p50 {1000 * theirs:.2f} ms")
    return mine / theirs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--texts", type=int, default=512)
    parser.add_argument("--singles", type=int, default=100, help="texts for the latency of one")
    parser.add_argument("--executors", type=int, help="executors of the hub; its default where not given")
    parser.add_argument("--backend", choices=("torch", "openvino"), default="torch")
    parser.add_argument("--quality", action="store_true", help="compare the backends' vectors instead")
    options = parser.parse_args()
    if options.quality:
        from bench.embedding_quality import table

        for line in table():
            print(line, flush=True)
        return
    texts = mixed_texts(options.texts)
    with (
        tempfile.TemporaryDirectory() as data,
        embedding_hub(options.backend, data, options.executors) as hub,
        bare(options.backend, data) as beside,
    ):
        rate = uvloop.run(compare_rates(hub, beside, texts, options.rounds))
        latency = uvloop.run(compare_latency(hub.url, beside, options.singles))
    print(f"{options.backend}: {rate:.2f}x the bare rate from {CALLERS} callers (target {RATE_TARGET}x or more)")
    print(f"{options.backend}: {latency:.2f}x the bare latency for one text (target {LATENCY_TARGET}x or less)")
    if rate < RATE_TARGET or latency > LATENCY_TARGET:
        sys.exit(1)


if __name__ == "__main__":
    main()
