"""While a form is read the loop goes on: how many turns it has meanwhile, whatever the form and however it arrives."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final, cast

import pytest
from starlette.datastructures import Headers
from starlette.types import Message

from tests.support.forms import form, part
from trunkline.edge.context import EdgeContext
from trunkline.edge.http.uploads import FORM_PIECE, read_upload
from trunkline.hub.principal import ANONYMOUS
from trunkline_protocol.catalogue import MethodInfo, Parameter

AT_ONCE: Final = 256 * 1024
"""What a server may hand over as one part of a body."""

METHOD: Final = MethodInfo("text.keep", parameters=[Parameter("text", schema={"type": "string"}, required=True)])


def context() -> EdgeContext:
    """Limits alone: nobody is connected."""
    nothing = cast(Any, None)
    return EdgeContext(nothing, nothing, nothing, 1, 16 * AT_ONCE, 1, 1, auth_call=False)


async def turns_while(boundary: str, parts: list[bytes]) -> tuple[int, str]:
    """Turns of the loop while a form in these parts is read, each of which comes in a turn; and its field "text"."""
    messages = [
        {"type": "http.request", "body": body, "more_body": number < len(parts)} for number, body in enumerate(parts, 1)
    ]

    async def receive() -> Message:
        await asyncio.sleep(0)
        return messages.pop(0)

    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    headers = Headers({"content-type": f"multipart/form-data; boundary={boundary}"})
    counting = asyncio.create_task(count())
    await asyncio.sleep(0)
    try:
        params = await read_upload(context(), ANONYMOUS, {"query_string": b""}, headers, receive, METHOD)
    finally:
        counting.cancel()
    return turns, json.loads(params)["text"]


@pytest.mark.parametrize("filler", ["x", "\r\n-", "\r\n--_x", "\r\n--_-x"], ids=repr)
@pytest.mark.parametrize("count", [1, 3])
async def test_a_large_form_leaves_the_loop_a_turn_for_each_piece(filler: str, count: int) -> None:
    text = filler * (count * AT_ONCE // len(filler))
    body = form(part("text", text.encode()), boundary="_")
    size = -(-len(body) // count)
    turns, got = await turns_while("_", [body[at : at + size] for at in range(0, len(body), size)])
    assert got == text
    assert turns >= len(body) // FORM_PIECE
    assert FORM_PIECE <= 32 * 1024


async def test_a_small_form_is_read_at_once() -> None:
    turns, got = await turns_while("_", [form(part("text", b"small"), boundary="_")])
    assert (turns, got) == (1, "small")
