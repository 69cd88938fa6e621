"""A hub that wants a token, shared by the tests of the commands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest

from tests.support.hub import RunningHub, ready_hub

TOKEN: Final = "t0k"


@pytest.fixture(scope="session")
def token_hub() -> Iterator[RunningHub]:
    """A hub whose token is ``t0k``. Do not stop or load it."""
    with ready_hub(env={"TRUNKLINE_TOKEN": TOKEN}) as hub:
        yield hub
