"""The queues of a pool: one for each lane and executor, plus one a lane for calls that may run anywhere."""

from __future__ import annotations

from typing import Final

from trunkline_protocol.backlog import Backlog
from trunkline_protocol.catalogue import Lane

ANYWHERE: Final = -1
"""The queue of calls that any executor may take."""

PoolBacklog = Backlog[tuple[Lane, int]]
"""Keys are a lane and the executor a call has to run on, or :data:`ANYWHERE`."""
