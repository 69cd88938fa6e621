"""What executors report beside the outcomes of calls: figures of methods, and tokens of language models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from trunkline.control.tenant_usage import TenantUsage
from trunkline.executors import ipc
from trunkline.executors.handle import ExecutorHandle, FrameHandler
from trunkline.observe.figures import ExecutorFigures
from trunkline_protocol.tokens import TokensUsed

_tokens: Final = msgspec.json.Decoder(TokensUsed)


def reports(figures: ExecutorFigures, usage: Callable[[], TenantUsage]) -> dict[int, FrameHandler]:
    """What takes the frames of executors that report something, by their kind."""

    def used(handle: ExecutorHandle, call_id: int, body: bytes) -> None:
        call = handle.in_flight.get(call_id)
        if call is not None and usage().is_on:
            usage().count_tokens(call.tenant, _tokens.decode(body))

    return {
        ipc.STATS: lambda handle, _call_id, body: figures.update(handle.index, handle.pid, body),
        ipc.USED: used,
    }
