"""Hubs that tests share: started once, used by tests that do not hurt them."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import AsyncIterator, Callable, Generator, Iterator

import pytest
from hypothesis import settings

from tests.support.hub import DEBUG_METHODS, MODULES, RunningHub, ready_hub
from tests.support.peer import Peer, peer
from tests.support.timing import SCALE
from tests.support.unit import UnitPart
from tests.support.virtual_time import VirtualClockLoop

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that runs the tests in the background ignores Ctrl-C for them, and programs they start inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop of a test: that of its program, or one on which nothing has to be waited for."""
    if item.get_closest_marker("virtual_time"):
        return {"virtual": VirtualClockLoop}
    return {"real": asyncio.new_event_loop}


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--unit``, which ``make test-unit`` gives."""
    parser.addoption("--unit", action="store_true", help="run the unit part: no process, no network, no ML")


def pytest_configure(config: pytest.Config) -> None:
    """Select the unit part where it was asked for; what ``@given`` tries without a word is as much as elsewhere.

    A test that hangs is ended later where all takes longer.
    """
    if config.getoption("timeout") is None:
        config.option.timeout = float(config.getini("timeout")) * SCALE
    if config.getoption("unit"):
        config.pluginmanager.register(UnitPart())
    from tests.fuzz.profile import fuzzing  # which looks at what the unit part sets

    settings.register_profile("tests", fuzzing(100))
    settings.load_profile("tests")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Whatever is read stays, so that the collector of garbage need not look at it again and again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Reports that can go from worker to worker: what tests log on purpose may be no Unicode."""
    report = yield
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
    return report


@pytest.fixture(scope="session")
def debug_hub() -> Iterator[RunningHub]:
    """Two executors with the debug methods. Do not crash, load or stop it."""
    with ready_hub(DEBUG_METHODS, executors=2) as hub:
        print(f"\nhub: listening after {hub.listening_after:.2f} s, ready after {hub.ready_after:.2f} s")
        yield hub


@pytest.fixture(scope="session")
def well_hub() -> Iterator[RunningHub]:
    """One like ``debug_hub``, for tests that ask how it is: none makes a method of it fail, which degrades a hub."""
    with ready_hub(DEBUG_METHODS, executors=2) as hub:
        yield hub


@pytest.fixture(scope="session")
def lab_hub() -> Iterator[RunningHub]:
    """One that also serves the tests' own module ``lab``, from its working directory."""
    with ready_hub(DEBUG_METHODS, "lab", cwd=MODULES, executors=2) as hub:
        yield hub


@pytest.fixture
async def debug_peer(debug_hub: RunningHub) -> AsyncIterator[Peer]:
    """A connection to the shared hub."""
    async with peer(debug_hub.url) as connected:
        yield connected


@pytest.fixture
async def lab_peer(lab_hub: RunningHub) -> AsyncIterator[Peer]:
    """A connection to the hub with the tests' methods."""
    async with peer(lab_hub.url) as connected:
        yield connected
