"""Modules that cannot be loaded leave nothing behind: pure, without an executor."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest

from tests.support.modules import endings
from trunkline.methods.loading import load_error, load_modules
from trunkline.methods.registry import RegistrationError, Registry, method
from trunkline_protocol.catalogue import Catalogue, ModuleFailure, not_loaded
from trunkline_protocol.errors import ErrorCode, RpcError


def module_of(name: str, *methods: str, load: Any = None) -> types.ModuleType:
    """A module with one class that has these methods and this load step."""
    members: dict[str, Any] = {} if load is None else {"load": load}
    for each in methods:

        async def serve(self: Any) -> str:
            return "served"

        members[each.replace(".", "_")] = method(each)(serve)
    made = types.ModuleType(name)
    made.__dict__["Pack"] = type("Pack", (), {**members, "__module__": name})
    return made


@pytest.fixture
def loadable(monkeypatch: pytest.MonkeyPatch) -> Any:
    def add(*modules: types.ModuleType) -> list[str]:
        for each in modules:
            monkeypatch.setitem(sys.modules, each.__name__, each)
        return [each.__name__ for each in modules]

    return add


@pytest.mark.parametrize("kind", endings.BAD)
async def test_whatever_a_load_step_raises_the_others_are_loaded(loadable: Any, kind: str) -> None:
    loaded: list[str] = []

    def well(_self: Any, _settings: Any) -> None:
        loaded.append("well")

    def badly(_self: Any, _settings: Any) -> None:
        endings.end_badly(kind)

    names = loadable(module_of("bad", "bad.one", "bad.two", load=badly), module_of("good", "good.one", load=well))
    registry = Registry()
    (failure,) = await load_modules(registry, names, {})
    assert (failure.module, failure.methods) == ("bad", ["bad.one", "bad.two"])
    assert failure.code == ErrorCode.PIPELINE_INITIALIZATION_FAILED
    assert endings.BAD[kind][1] in failure.message
    assert (list(registry.methods), registry.packs, loaded) == (["good.one"], ["good"], ["well"])
    assert len(registry.instances) == 1


async def test_a_module_that_is_refused_halfway_leaves_nothing_behind(loadable: Any) -> None:
    names = loadable(module_of("first", "a.one"), module_of("second", "b.one", "a.one"), module_of("third", "b.one"))
    registry = Registry()
    (failure,) = await load_modules(registry, names, {})
    assert failure.module == "second"
    assert RegistrationError.__name__ in failure.message
    assert list(registry.methods) == ["a.one", "b.one"], "what it had registered already is free again"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RpcError(ErrorCode.INVALID_CONFIGURATION, "no model"), ErrorCode.INVALID_CONFIGURATION),
        (RpcError(ErrorCode.WORKER_UNAVAILABLE, "later"), ErrorCode.PIPELINE_INITIALIZATION_FAILED),
        (ModuleNotFoundError("No module named 'x'"), ErrorCode.MISSING_DEPENDENCIES),
        (ImportError("cannot import name"), ErrorCode.PIPELINE_INITIALIZATION_FAILED),
        (SystemExit(2), ErrorCode.PIPELINE_INITIALIZATION_FAILED),
    ],
    ids=repr,
)
def test_the_code_is_never_one_that_asks_to_try_again(error: BaseException, code: int) -> None:
    said = load_error(error)
    assert said.code == code
    assert not said.retryable


@pytest.mark.parametrize(
    ("module", "advice"),
    [
        ("no_such_methods", "looked for in the hub's working directory and on PYTHONPATH"),
        ("no_such_package.methods", "looked for in the hub's working directory and on PYTHONPATH"),
        ("no_such_methods.py", "name it as import does: no_such_methods"),
        ("sub/methods.py", "name it as import does: sub.methods"),
    ],
)
async def test_a_module_that_is_not_found_is_told_where_it_is_looked_for(module: str, advice: str) -> None:
    (failure,) = await load_modules(Registry(), [module], {})
    assert failure.code == ErrorCode.MISSING_DEPENDENCIES
    assert failure.message.endswith(advice)
    assert "install" not in failure.message


def test_what_a_module_needs_and_is_not_there_is_to_be_installed() -> None:
    error = load_error(ModuleNotFoundError("No module named 'faiss'", name="faiss"), "trunkline.methods.vectors")
    assert error.message.endswith("install it or leave the module out")


def test_which_names_are_refused_for_a_module() -> None:
    at_load = ModuleFailure("a", ErrorCode.INVALID_CONFIGURATION, "no model", ["a.one"])
    at_import = ModuleFailure("b", ErrorCode.MISSING_DEPENDENCIES, "no x")
    error = not_loaded("a.one", [at_import, at_load], alone=False)
    assert error is not None
    assert (error.code, error.data) == (4001, {"modules": ["a"], "known": True})
    error = not_loaded("z.one", [at_load, at_import], alone=False)
    assert error is not None
    assert (error.code, error.data) == (4002, {"modules": ["b"], "known": False})
    assert not_loaded("z.one", [at_load], alone=False) is None, "it cannot be one of its methods"
    assert not_loaded("z.one", [at_load], alone=True) is not None
    assert not_loaded("z.one", [], alone=True) is None


def test_an_executor_of_before_says_nothing_of_failures() -> None:
    assert Catalogue([]).failed == []
