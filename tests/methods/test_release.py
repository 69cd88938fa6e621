"""Packs let go of what other executors get."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from trunkline import method
from trunkline.methods.registry import Registry


def pack(name: str, released: list[str], error: Exception | None = None) -> ModuleType:
    """A module with one class, which has two keys, ``NAME-a`` and ``NAME-b``."""

    class Stateful:
        async def release(self, is_released: Callable[[str], bool]) -> None:
            if error is not None:
                raise error
            released.extend(key for key in (f"{name}-a", f"{name}-b") if is_released(key))

        @method(f"{name}.get", routing_key="key")
        async def get(self, key: str) -> str:
            return key

    module = ModuleType(name)
    Stateful.__module__ = name
    vars(module)["Stateful"] = Stateful
    return module


def registered(*modules: Any) -> Registry:
    registry = Registry()
    for module in modules:
        registry.add_module(module)
    return registry


async def test_each_pack_is_asked_for_what_is_released() -> None:
    released: list[str] = []
    registry = registered(pack("one", released), pack("two", released))
    await registry.release(lambda key: key.endswith("a"))
    assert released == ["one-a", "two-a"]


async def test_one_that_fails_does_not_keep_the_others_and_is_told() -> None:
    released: list[str] = []
    registry = registered(pack("one", released, OSError("full")), pack("two", released))
    with pytest.raises(OSError, match="full"):
        await registry.release(lambda _key: True)
    assert released == ["two-a", "two-b"]


async def test_packs_without_state_have_nothing_to_do() -> None:
    from trunkline.methods import debug

    await registered(debug).release(lambda _key: True)
