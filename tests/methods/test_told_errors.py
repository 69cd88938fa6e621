"""What callers are told of exceptions that were not meant for them, and what the log has."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import AsyncIterator, Iterator
from types import ModuleType
from typing import Any

import pytest
from pydantic import BaseModel, field_serializer

from trunkline.methods.context import Context
from trunkline.methods.declaration import method
from trunkline.methods.loading import load_modules
from trunkline.methods.local import LocalMethods, _LocalHost, _Outcome
from trunkline.methods.registry import Registry
from trunkline.methods.runner import MethodRunner
from trunkline_protocol.catalogue import not_loaded
from trunkline_protocol.errors import ErrorCode, RpcError

SECRET = "postgres://user:secret@db"


class Guarded(BaseModel):
    """A model whose serialiser fails."""

    value: int = 1

    @field_serializer("value")
    def _write(self, value: int) -> int:
        raise ValueError(SECRET)


def module() -> ModuleType:
    """Methods that raise, each at another place."""

    async def raising() -> None:
        raise ValueError(SECRET)

    async def grouped() -> None:
        raise ExceptionGroup(SECRET, [KeyError(SECRET)])

    def plain() -> None:
        raise KeyError(SECRET)

    async def stream() -> AsyncIterator[int]:
        yield 1
        raise ValueError(SECRET)

    def plain_stream() -> Iterator[int]:
        yield 1
        raise ValueError(SECRET)

    def declared() -> Guarded:
        return Guarded()

    async def undeclared() -> Any:
        return {"inside": [Guarded()]}

    made = ModuleType("told")
    for function in (raising, grouped, plain, stream, plain_stream, declared, undeclared):
        setattr(made, function.__name__, method(f"told.{function.__name__}")(function))
    return made


async def outcome(name: str, **options: bool) -> RpcError:
    """The error that a runner with these options gives for a method."""
    registry = Registry()
    registry.add_module(module())
    runner = MethodRunner(registry, **options)
    sink = _Outcome()
    context = Context(_LocalHost(LocalMethods()), 1, name, b"", 1e9, 0, "me", b"")
    try:
        runner.start(1, b"{}", context, sink)
        with pytest.raises(RpcError) as caught:
            await sink.future
    finally:
        runner.close()
    return caught.value


TOLD = {
    "told.raising": (ErrorCode.INTERNAL_ERROR, "ValueError"),
    "told.grouped": (ErrorCode.INTERNAL_ERROR, "ExceptionGroup of KeyError"),
    "told.plain": (ErrorCode.INTERNAL_ERROR, "KeyError"),
    "told.stream": (ErrorCode.INTERNAL_ERROR, "ValueError"),
    "told.plain_stream": (ErrorCode.INTERNAL_ERROR, "ValueError"),
    "told.declared": (ErrorCode.SERIALIZATION_ERROR, "ValueError"),
    "told.undeclared": (ErrorCode.SERIALIZATION_ERROR, "ValueError"),
}


@pytest.mark.parametrize("name", TOLD)
async def test_callers_get_type_and_id_and_the_log_the_text(name: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        error = await outcome(name)
    code, kind = TOLD[name]
    assert error.code == code
    found = re.search(rf"{name} .*: {kind} \(id ([0-9a-f]{{8}})\)$", error.message)
    assert found is not None, error.message
    assert error.data == {"error_id": found[1]}
    assert SECRET not in str(error.to_wire())
    assert found[1] in caplog.text
    assert SECRET in caplog.text


@pytest.mark.parametrize("name", TOLD)
async def test_with_debug_callers_get_the_text_and_the_traceback(name: str) -> None:
    error = await outcome(name, debug=True)
    assert SECRET in error.message
    assert error.data["traceback"]


@pytest.mark.parametrize(
    ("data", "why"), [(threading.Lock(), "_thread.lock"), (Guarded(), SECRET)], ids=["lock", "model"]
)
async def test_an_error_that_cannot_be_sent_has_an_id_and_the_log_why(
    data: Any, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def refusing() -> None:
        raise RpcError(418, "no coffee", data={"value": data})

    made = ModuleType("unsendable")
    made.__dict__["refusing"] = method("unsendable.refusing")(refusing)
    async with LocalMethods(made) as local:
        with caplog.at_level(logging.WARNING), pytest.raises(RpcError) as caught:
            await local.call("unsendable.refusing")
    error = caught.value
    found = re.search(r"no coffee .*\(id ([0-9a-f]{8})\)$", error.message)
    assert found is not None, error.message
    assert (error.code, error.data["error_id"]) == (ErrorCode.INTERNAL_ERROR, found[1])
    assert SECRET not in str(error.to_wire())
    assert why in caplog.text
    assert (
        f"unsendable.refusing: to send RpcError: no coffee (APPLICATION_ERROR 418) failed (id {found[1]})"
        in caplog.text
    )


async def test_local_methods_tell_the_text() -> None:
    async with LocalMethods(module()) as local:
        with pytest.raises(RpcError, match=SECRET):
            await local.call("told.raising")


async def test_a_module_that_does_not_load_tells_callers_no_text(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def load(_self: Any, _settings: Any) -> None:
        raise OSError(SECRET)

    async def served(_self: Any) -> None:
        """Nothing."""

    made = ModuleType("unloadable")
    members = {"load": load, "served": method("unloadable.served")(served), "__module__": "unloadable"}
    made.__dict__["Pack"] = type("Pack", (), members)
    monkeypatch.setitem(__import__("sys").modules, "unloadable", made)
    for settings, is_told in (({}, False), ({"debug": True}, True)):
        failed = await load_modules(Registry(), ["unloadable"], settings)
        refusal = not_loaded("unloadable.served", failed, alone=True)
        assert refusal is not None
        assert (SECRET in refusal.message, "OSError" in refusal.message) == (is_told, True)
        assert SECRET in failed[0].words, "whoever runs the hub is told"
    assert SECRET in caplog.text
