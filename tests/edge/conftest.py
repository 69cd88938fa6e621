"""Hubs whose patience with peers is the tests'."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest

from tests.support.hub import RunningHub, ready_hub
from trunkline.edge import transport
from trunkline.edge.http import body, protocol
from trunkline.edge.websocket import listener

LIMIT: Final = 64 * 1024
"""Bytes of a message that the impatient hub takes."""

IMPATIENCE: Final = 0.6
"""Seconds after which the impatient hub gives a peer up, whatever it waits for."""

CLOSE_TIMEOUTS: Final = tuple(f"{module.__name__}:CLOSE_TIMEOUT" for module in (transport, listener))
IMPATIENT: Final = dict.fromkeys(
    (
        f"{protocol.__name__}:HEAD_TIMEOUT",
        f"{protocol.__name__}:LINGER_SECONDS",
        f"{body.__name__}:BODY_GRACE",
        *CLOSE_TIMEOUTS,
    ),
    IMPATIENCE,
)
PATIENT: Final = dict.fromkeys(CLOSE_TIMEOUTS, 60.0)

TOKEN: Final = "s3cret/token+?>"
"""Of the guarded hub: not every door can carry it as it is."""

ORIGIN: Final = "https://app.example"


@pytest.fixture(scope="session")
def impatient_hub() -> Iterator[RunningHub]:
    """One that waits :data:`IMPATIENCE` for peers that do not go on. It takes messages of :data:`LIMIT`."""
    with ready_hub(env={"TRUNKLINE_MAX_MESSAGE_BYTES": str(LIMIT)}, constants=IMPATIENT) as hub:
        yield hub


@pytest.fixture(scope="session")
def patient_hub() -> Iterator[RunningHub]:
    """One that waits a minute for a peer's answer to its close frame: what ends sooner does not end for that."""
    with ready_hub(constants=PATIENT) as hub:
        yield hub


@pytest.fixture(scope="session")
def token_hub() -> Iterator[RunningHub]:
    """One that wants :data:`TOKEN`; pages of :data:`ORIGIN` may ask it."""
    with ready_hub(env={"TRUNKLINE_TOKEN": TOKEN, "TRUNKLINE_ALLOWED_ORIGINS": f"{ORIGIN}/"}) as hub:
        yield hub
