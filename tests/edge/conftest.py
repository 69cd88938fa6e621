"""Hubs whose patience with peers is the tests'."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.support.hub import DEBUG_METHODS, MODULES, RunningHub, ready_hub
from trunkline.edge import transport
from trunkline.edge.http import body, protocol
from trunkline.edge.websocket import listener

LIMIT: Final = 64 * 1024
"""Bytes of a message that the patient and the impatient hub take."""

IMPATIENCE: Final = 0.6
"""Seconds after which the impatient hub gives a peer up, whatever it waits for."""

CLOSE_TIMEOUTS: Final = tuple(f"{module.__name__}:CLOSE_TIMEOUT" for module in (transport, listener))
PATIENCES: Final = (f"{protocol.__name__}:LINGER_SECONDS", f"{body.__name__}:BODY_GRACE", *CLOSE_TIMEOUTS)
IMPATIENT: Final = dict.fromkeys(PATIENCES, IMPATIENCE)
PATIENT: Final = dict.fromkeys(PATIENCES, 60.0)
SERVED: Final[dict[str, Any]] = {"cwd": MODULES, "env": {"TRUNKLINE_MAX_MESSAGE_BYTES": str(LIMIT)}}

TOKEN: Final = "s3cret/token+?>"
"""Of the guarded hub: not every door can carry it as it is."""

ORIGIN: Final = "https://app.example"


@pytest.fixture(scope="session")
def impatient_hub() -> Iterator[RunningHub]:
    """One that waits :data:`IMPATIENCE` for peers that do not go on, for tests that wait for just that.

    Whoever has something to send it in time may stand still meanwhile: that is for ``patient_hub``.
    """
    with ready_hub(DEBUG_METHODS, "files", constants=IMPATIENT, **SERVED) as hub:
        yield hub


@pytest.fixture(scope="session")
def patient_hub() -> Iterator[RunningHub]:
    """One that waits a minute for peers that do not go on: what ends sooner does not end for that."""
    with ready_hub(DEBUG_METHODS, "files", constants=PATIENT, **SERVED) as hub:
        yield hub


@pytest.fixture(scope="session")
def token_hub() -> Iterator[RunningHub]:
    """One that wants :data:`TOKEN`; pages of :data:`ORIGIN` may ask it."""
    with ready_hub(env={"TRUNKLINE_TOKEN": TOKEN, "TRUNKLINE_ALLOWED_ORIGINS": f"{ORIGIN}/"}) as hub:
        yield hub
