"""Large params are read beside the loop, in pieces, and mean the same as small ones."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator
from types import ModuleType
from typing import Annotated, Any

import pytest
from pydantic import AfterValidator, BaseModel, Field

from trunkline.methods.declaration import method
from trunkline.methods.local import LocalMethods
from trunkline.methods.pieces import LARGE, PIECE, pieces_of
from trunkline_protocol.errors import ErrorCode, RpcError

readers: set[int] = set()


def noted(value: str) -> str:
    """The value; which thread validates it is noted."""
    readers.add(threading.get_ident())
    return value


class Row(BaseModel):
    """An item of a long list."""

    key: str
    data: bytes = b""


async def floats(values: list[float], more: str = "none") -> list[Any]:
    """How many there are, the last one, and what else was given."""
    return [len(values), values[-1], more]


async def rows(values: list[Row]) -> list[Any]:
    """How many there are, and the last one's members."""
    return [len(values), values[-1].key, values[-1].data]


async def few(values: Annotated[list[int], Field(max_length=10)]) -> int:
    """How many there are."""
    return len(values)


async def read_by(text: Annotated[str, AfterValidator(noted)]) -> bool:
    """Whether this thread, the loop's, has validated the text."""
    return threading.get_ident() in readers


@pytest.fixture
async def methods() -> AsyncIterator[LocalMethods]:
    module = ModuleType("large")
    for function in (floats, rows, few, read_by):
        module.__dict__[function.__name__] = method(f"large.{function.__name__}")(function)
    readers.clear()
    async with LocalMethods(module) as local:
        yield local


async def test_what_is_large_is_read_on_another_thread(methods: LocalMethods) -> None:
    assert await methods.call("large.read_by", {"text": "a" * LARGE}) is False
    assert await methods.call("large.read_by", {"text": "a"}) is True


async def test_a_long_list_is_what_it_was(methods: LocalMethods) -> None:
    values = [index / 7 for index in range(100_000)]
    assert await methods.call("large.floats", {"values": values}) == [100_000, values[-1], "none"]
    assert await methods.call("large.floats", [values, "x"]) == [100_000, values[-1], "x"]
    many = [{"key": f"[{index}", "data": b"\xff"} for index in range(20_000)]
    assert await methods.call("large.rows", {"values": many}) == [20_000, "[19999", b"\xff"]


async def test_what_is_wrong_in_a_long_list_is_named_by_its_index(methods: LocalMethods) -> None:
    for name, values in (("floats", [1.5] * 80_000 + ["no"]), ("few", list(range(100_000)))):
        with pytest.raises(RpcError) as caught:
            await methods.call(f"large.{name}", {"values": values})
        assert caught.value.code == ErrorCode.INVALID_PARAMS
        assert ("values.80000: " if name == "floats" else "at most 10") in caught.value.message


async def test_the_loop_goes_on_while_a_long_list_is_read(methods: LocalMethods) -> None:
    """It waits for one piece at a time: for a part of what reading the whole in one go takes, in time of this process's
    threads, so that others count for nothing.
    """
    values = [index / 7 for index in range(800_000)]
    params = json.dumps({"values": values}).encode()
    binding = methods._registry.methods["large.floats"].binding
    began = time.process_time()
    binding._reader.read(params)
    whole = time.process_time() - began
    gaps = [await gap_while(asyncio.to_thread(binding.arguments, params)) for _ in range(3)]
    assert min(gaps) < whole / 2, f"{gaps} of {whole}"


async def gap_while(work: Any) -> float:
    """The longest time that the loop stood still until the work was done."""
    task = asyncio.ensure_future(work)
    longest, last = 0.0, time.process_time()
    while not task.done():
        await asyncio.sleep(0)
        now = time.process_time()
        longest, last = max(longest, now - last), now
    return longest


@pytest.mark.parametrize(
    "items",
    [[], [1], list(range(100_000)), ["a,b[", '"'] * 20_000, [[1, [2]], {"a": [3]}] * 10_000, [1.5e300, None, True]],
)
def test_pieces_have_the_items_in_order(items: list[Any]) -> None:
    array = json.dumps(items).encode()
    pieces = list(pieces_of(array))
    assert [item for piece in pieces for item in json.loads(piece)] == items
    assert all(len(piece) < 2 * PIECE for piece in pieces)
