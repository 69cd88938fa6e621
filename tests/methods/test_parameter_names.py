"""Parameters whose names Python keeps for itself."""

from __future__ import annotations

import types

import pytest

from trunkline.methods.declaration import method
from trunkline.methods.local import LocalMethods
from trunkline.methods.registry import Registry
from trunkline_protocol.errors import RpcError


@method("names.echo")
async def echo(class_: str, async_: bool = False, plain_: int = 0) -> list[object]:
    return [class_, async_, plain_]


module = types.ModuleType("names")
module.echo = echo  # type: ignore[attr-defined]


async def test_a_keyword_is_written_with_an_underscore_and_called_without() -> None:
    async with LocalMethods(module) as methods:
        assert await methods.call("names.echo", {"class": "a", "async": True, "plain_": 1}) == ["a", True, 1]
        assert await methods.call("names.echo", ["a", True]) == ["a", True, 0]
        with pytest.raises(RpcError, match=r"async_: Extra inputs"):
            await methods.call("names.echo", {"class": "a", "async_": True})


def test_the_catalogue_has_the_name_without() -> None:
    registry = Registry()
    registry.add_module(module)
    assert [parameter.name for parameter in registry.methods["names.echo"].info.parameters] == [
        "class", "async", "plain_",
    ]  # fmt: skip
