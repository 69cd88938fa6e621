"""A result or chunk above what clients are sent: its caller is told, and the connection lives."""

from __future__ import annotations

import pytest

from tests.support.hub import RunningHub
from trunkline.client import connect
from trunkline.hub.connection import MAX_SENT_BYTES
from trunkline_protocol.errors import RpcError


async def test_a_result_that_no_socket_has_to_take_is_1003(lab_hub: RunningHub) -> None:
    async with connect(lab_hub.url) as client:
        large = await client.call("lab.later", {"seconds": 0, "size": MAX_SENT_BYTES - 2})
        assert len(large) == MAX_SENT_BYTES - 2
        with pytest.raises(RpcError, match=str(MAX_SENT_BYTES)) as caught:
            await client.call("lab.later", {"seconds": 0, "size": MAX_SENT_BYTES})
        assert (caught.value.code, caught.value.maybe_executed) == (1003, True)
        assert await client.call("debug.echo", {"value": 1}) == 1
