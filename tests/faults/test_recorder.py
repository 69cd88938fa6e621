"""Faults 12 to 14, 23, 24 and 29 together: a short run of the recorder; and a broken client does not go unnoticed."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.faults.recorder import checker, summary
from tests.faults.recorder.history import Appender, recorder_in
from tests.faults.recorder.lives import HubLives
from tests.faults.recorder.nemesis import CUTS, EXECUTOR_KILLS, HUB_ENDS, MISDEEDS, schedule
from tests.faults.recorder.node import missing_for_node
from tests.faults.recorder.operations import Rule, Violation
from tests.faults.recorder.run import KINDS, Outcome, Plan, run
from tests.faults.recorder.workload import PATIENT_MS, Part, Worker
from tests.support.proxy import Proxy
from tests.support.timing import PATIENCE, SOON, eventually
from trunkline.client import DisconnectedError, Event, Hub, connect

SEED, SECONDS = 20261121, 10.0

pytestmark = pytest.mark.timeout(60 + 12 * PATIENCE)


# --- a run ---


@pytest.fixture(scope="module")
def kinds() -> list[str]:
    return [kind for kind in KINDS if kind != "node" or missing_for_node() is None]


@pytest.fixture(scope="module")
def outcome(kinds: list[str], tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    plan = Plan(SEED, SECONDS, len(kinds), tmp_path_factory.mktemp("recorder") / "run", kinds)
    return asyncio.run(run(plan))


def test_a_run_breaks_no_rule(outcome: Outcome) -> None:
    assert not outcome.violations, checker.described(outcome.violations) + "\n" + summary.described(outcome.record)


def test_much_was_broken_in_it(outcome: Outcome) -> None:
    broken = summary.faults(outcome.record)
    assert sum(broken[kind] for kind in CUTS) >= 5
    assert sum(broken[kind] for kind in EXECUTOR_KILLS) >= 2
    assert sum(broken[kind] for kind in HUB_ENDS) >= 1
    assert all(broken[kind] for kind in MISDEEDS)
    resumed = sum(line.resumed is True for line in outcome.record.states)
    assert resumed >= 3, "sessions went on"


def test_much_was_done_in_it(outcome: Outcome, kinds: list[str]) -> None:
    for what in ("call", "keyed call", "stream", "input", "publish"):
        assert summary.outcomes(outcome.record)[what]["ok"] >= 5, summary.described(outcome.record)
    processes = {line.process.partition("-")[0] for line in outcome.record.lines if line.kind == "ok"}
    assert processes >= set(kinds)


def test_the_javascript_client_took_part(kinds: list[str]) -> None:
    if "node" not in kinds:
        missing = missing_for_node() or ""
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)


def test_a_seed_is_a_schedule() -> None:
    assert schedule(7, 30, 3) == schedule(7, 30, 3) != schedule(8, 30, 3)
    for seed in range(50):
        kinds = [fault.kind for fault in schedule(seed, 5, 2)]
        assert sum(kind in CUTS for kind in kinds) >= 5
        assert sum(kind in EXECUTOR_KILLS for kind in kinds) >= 2
        assert sum(kind in HUB_ENDS for kind in kinds) >= 1


# --- broken clients ---


class Wrapped:
    """A client that does as the real one; subclasses break one thing."""

    patience = PATIENCE
    """Seconds until it should have ended everything."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub

    def __getattr__(self, name: str) -> Any:
        return getattr(self.hub, name)


class Resends(Wrapped):
    """Sends again what may have been executed."""

    async def call(self, method: str, params: Any, **options: Any) -> Any:
        try:
            return await self.hub.call(method, params, **options)
        except DisconnectedError:
            return await self.hub.call(method, params, **options)


class Denies(Wrapped):
    """Says that nothing was executed."""

    async def call(self, method: str, params: Any, **options: Any) -> Any:
        try:
            return await self.hub.call(method, params, **options)
        except DisconnectedError as error:
            raise DisconnectedError(str(error), maybe_executed=False) from None


class Forgets(Wrapped):
    """Never tells the outcome of what was cut."""

    patience = SOON

    async def call(self, method: str, params: Any, **options: Any) -> Any:
        try:
            return await self.hub.call(method, params, **options)
        except DisconnectedError:
            await asyncio.Event().wait()


class Raises(Wrapped):
    """Ends what was cut with something of its own."""

    async def call(self, method: str, params: Any, **options: Any) -> Any:
        try:
            return await self.hub.call(method, params, **options)
        except DisconnectedError:
            raise KeyError(method) from None


class Rekeys(Wrapped):
    """Sends each call under a key of its own."""

    async def call(self, method: str, params: Any, *, idempotency_key: str, **options: Any) -> Any:
        key = f"{idempotency_key} {random.random()}"
        return await self.hub.call(method, params, idempotency_key=key, **options)


class Confuses(Wrapped):
    """Gives a call the result of the one before."""

    before: Any = None

    async def call(self, method: str, params: Any, **options: Any) -> Any:
        result, self.before = self.before, await self.hub.call(method, params, **options)
        return result


class Invents(Wrapped):
    """Succeeds by itself."""

    async def call(self, method: str, params: Any, **options: Any) -> Any:
        return params["value"]


class DropsChunks(Wrapped):
    """Loses one in the middle."""

    async def stream(self, *args: Any, **options: Any) -> Any:
        stream = await self.hub.stream(*args, **options)
        return Chunks(stream, lambda chunk: [] if chunk.index == 2 else [chunk])


class DoublesChunks(Wrapped):
    """Gives one twice."""

    async def stream(self, *args: Any, **options: Any) -> Any:
        stream = await self.hub.stream(*args, **options)
        return Chunks(stream, lambda chunk: [chunk, chunk] if chunk.index == 2 else [chunk])


class Chunks:
    """A stream with some of its chunks changed."""

    def __init__(self, stream: Any, change: Callable[[Any], list[Any]]) -> None:
        self._stream = stream
        self._change = change

    @property
    def result(self) -> Any:
        return self._stream.result

    async def __aiter__(self) -> AsyncIterator[Any]:
        async for chunk in self._stream:
            for each in self._change(chunk):
                yield each


class PublishesTwice(Wrapped):
    """As one that publishes again without a key."""

    async def publish(self, topic: str, data: Any, **options: Any) -> Any:
        await self.hub.publish(topic, data, **options)
        return await self.hub.publish(topic, data, **options)


class ChangesEvents(Wrapped):
    """Hands events out as ``change`` says."""

    def change(self, event: Event) -> list[Event]:
        raise NotImplementedError

    @asynccontextmanager
    async def subscribe(self, topic: str) -> AsyncIterator[Any]:
        async with self.hub.subscribe(topic) as events:
            yield Events(events, self.change)


class Events:
    """A subscription with some of its events changed."""

    def __init__(self, events: Any, change: Callable[[Event], list[Event]]) -> None:
        self.position = events.position
        self._events = events
        self._change = change

    async def __aiter__(self) -> AsyncIterator[Any]:
        async for item in self._events:
            for each in self._change(item):
                yield each


class DropsEvents(ChangesEvents):
    def change(self, event: Event) -> list[Event]:
        return [] if event.data.endswith("2") else [event]


class ChangesData(ChangesEvents):
    def change(self, event: Event) -> list[Event]:
        return [replace(event, data="other") if event.data.endswith("2") else event]


class DoublesEvents(ChangesEvents):
    def change(self, event: Event) -> list[Event]:
        return [event, event]


@dataclass
class Bench:
    """A hub with a ledger, behind a proxy, for one client."""

    ledger: Path
    history: Path
    proxy: Proxy

    @asynccontextmanager
    async def worker(self, kind: Callable[[Hub], Any], *, session: bool = True) -> AsyncIterator[Worker]:
        part = Part("a", 1, [], self.history, self.ledger)
        with closing(recorder_in(self.history, part.name)) as recorder, closing(Appender(self.ledger)) as ledger:
            async with connect(self.proxy.url, session=session) as hub:
                yield Worker(kind(hub), part, recorder, ledger)

    async def executed(self, times: int) -> None:
        """Wait until so much work has begun."""
        begun = lambda: self.ledger.read_bytes().count(b"\n") >= times  # noqa: E731
        await asyncio.to_thread(eventually, begun, f"{times} lines in the ledger")

    def violations(self) -> list[Violation]:
        return checker.check(checker.read_record(self.history.parent))


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mutants") / checker.LEDGER


@pytest.fixture(scope="module")
def lives(ledger: Path) -> Iterator[HubLives]:
    lives = HubLives(ledger, ledger.parent)
    try:
        asyncio.run(lives.start())
        yield lives
        asyncio.run(lives.end())
    finally:
        lives.discard()


@pytest.fixture
def folder(ledger: Path, tmp_path: Path) -> Path:
    """Of one test's run; the ledger is the hub's, and begins anew."""
    (tmp_path / checker.HISTORY).mkdir()
    (tmp_path / checker.LEDGER).symlink_to(ledger)
    ledger.write_bytes(b"")
    return tmp_path


@pytest.fixture
async def bench(lives: HubLives, ledger: Path, folder: Path) -> AsyncIterator[Bench]:
    async with Proxy(lives.port) as proxy:
        yield Bench(ledger, folder / checker.HISTORY, proxy)


async def cut_while_it_runs(bench: Bench, worker: Worker, patience: float) -> None:
    """Without a session, a cut ends the call, whose answer cannot have come."""
    bench.proxy.stall("to_client")
    worker.begin(worker.call("recorded.echo", 7, 0.3, timeout_ms=PATIENT_MS))
    await bench.executed(1)
    bench.proxy.cut()
    bench.proxy.resume()
    await worker.settle(patience)


async def call_twice(_bench: Bench, worker: Worker, _patience: float) -> None:
    for value in (1, 2):
        await worker.call("recorded.echo", value, 0, timeout_ms=PATIENT_MS)


async def call_twice_under_a_key(_bench: Bench, worker: Worker, _patience: float) -> None:
    for _ in range(2):
        await worker.call("recorded.echo", 7, 0, key="k", timeout_ms=PATIENT_MS)


async def read_a_stream(_bench: Bench, worker: Worker, _patience: float) -> None:
    await worker.stream("recorded.count", 5, 0)


async def publish_three(_bench: Bench, worker: Worker, patience: float) -> None:
    begun = asyncio.Event()
    topic = f"mutants.{random.randrange(10**9)}"
    worker.begin(worker.read(topic, begun))
    await begun.wait()
    works = [(await worker.publish(topic))[0] for _ in range(3)]
    await worker.finish({topic: works[-1]}, 0)
    await worker.settle(patience)


Doing = Callable[[Bench, Worker, float], Awaitable[None]]


@pytest.mark.parametrize("doing", [cut_while_it_runs, call_twice, call_twice_under_a_key, read_a_stream, publish_three])
async def test_a_client_that_is_not_broken_breaks_no_rule(bench: Bench, doing: Doing) -> None:
    async with bench.worker(Wrapped) as worker:
        await doing(bench, worker, PATIENCE)
    found = bench.violations()
    assert not found, checker.described(found)


@pytest.mark.parametrize(
    ("mutant", "doing", "rule"),
    [
        (Resends, cut_while_it_runs, "at-most-once"),
        (Denies, cut_while_it_runs, "fail-not-executed"),
        (Forgets, cut_while_it_runs, "one-outcome"),
        (Raises, cut_while_it_runs, "explained"),
        (Wrapped, cut_while_it_runs, "sessions-hold"),
        (Rekeys, call_twice_under_a_key, "keyed-once"),
        (Confuses, call_twice, "right-result"),
        (Invents, call_twice, "ok-executed"),
        (DropsChunks, read_a_stream, "stream-whole"),
        (DoublesChunks, read_a_stream, "stream-whole"),
        (PublishesTwice, publish_three, "publish-once"),
        (DropsEvents, publish_three, "event-order"),
        (DropsEvents, publish_three, "event-delivered"),
        (ChangesData, publish_three, "event-data"),
        (DoublesEvents, publish_three, "event-once"),
    ],
)
async def test_a_broken_client_is_found_out(bench: Bench, mutant: type[Wrapped], doing: Doing, rule: Rule) -> None:
    async with bench.worker(mutant, session=False) as worker:
        await doing(bench, worker, mutant.patience)
    found = bench.violations()
    assert rule in {violation.rule for violation in found}, checker.described(found)
