"""A hub that tests of one slot share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.hub import DEBUG_METHODS, MODULES, RunningHub, ready_hub


@pytest.fixture(scope="session")
def slot_hub() -> Iterator[RunningHub]:
    """One executor that runs one coroutine at a time."""
    with ready_hub(DEBUG_METHODS, "lab", cwd=MODULES, env={"TRUNKLINE_MAX_CONCURRENCY": "1"}) as hub:
        yield hub
