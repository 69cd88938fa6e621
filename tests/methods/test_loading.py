"""Modules that cannot be loaded leave nothing behind: pure, without an executor."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.modules import endings
from trunkline.methods.declaration import method
from trunkline.methods.loading import load_error, load_modules
from trunkline.methods.registry import Registry
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
    assert "method a.one is defined twice" in failure.message
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
    said = load_error(error, "1a2b", texts=True)
    assert said.code == code
    assert not said.retryable


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


MISTAKES = {
    "no parentheses": ("@method\ndef f(x: int) -> int: return x", '@method needs a name: write @method("space.f")', 4),
    "unknown option": (
        "@method('m.f', idempotant=True)\ndef f(): ...",
        "an unexpected keyword argument 'idempotant'; write idempotent=",
        3,
    ),
    "no name": ("@method()\ndef f(): ...", "@method: missing a required argument: 'name'", 3),
    "a batch of none": ("from trunkline import Batch\nb = Batch(max_items=0)", "max_items=0 is no integer from 1", 4),
    "a batch that is none": ("@method('m.f', batch=8)\ndef f(x: list[int]): ...", "write batch=Batch(max_items=", 3),
    "timeouts that contradict": (
        "@method('m.f', timeout_ms=60000, max_timeout_ms=1000)\ndef f(): ...",
        "timeout_ms=60000 is above max_timeout_ms=1000",
        3,
    ),
    "a timeout of none": ("@method('m.f', timeout_ms=0)\ndef f(): ...", "timeout_ms=0 is no number of", 3),
    "a limit in text": ("@method('m.f', max_calls='1')\ndef f(): ...", "max_calls='1' is no number above zero", 3),
    "made in C": ("f = method('m.f')(len)", "len is made in C; write a def that calls it", 3),
    "below property": (
        "class M:\n  @property\n  @method('m.f')\n  def f(self): ...\n  @method('m.g')\n  def g(self): ...",
        "m.f is marked, but M.f is a property: a property is read, not called: leave it out, and mark a def",
        5,
    ),
    "below cached_property": (
        "import functools\nclass M:\n  @functools.cached_property\n  @method('m.f')\n  def f(self): ...",
        "m.f is marked, but M.f is a cached_property: a property is read",
        6,
    ),
    "above property": ("class M:\n  @method('m.f')\n  @property\n  def f(self): ...", "a function, not property", 4),
    "below partialmethod": (
        "import functools\nclass M:\n  f = functools.partialmethod(method('m.f')(lambda self, x: x), 1)",
        "M.f is a partialmethod: write a def that calls it, and mark that",
        5,
    ),
    "in a dict": (
        "served = {'f': method('m.f')(lambda: 1)}",
        "m.f is marked, but its module has it nowhere: keep it",
        3,
    ),
    "one def for two": (
        "@method('m.f')\ndef f(): ...\n@method('m.g')\ndef f(): ...",
        "m.f is marked, but its module has it nowhere",
        4,
    ),
    "below a decorator": (
        "def hide(f): return lambda: f()\n@hide\n@method('m.f')\ndef f(): ...",
        "a decorator above @method needs functools.wraps",
        6,
    ),
    "in a function": (
        "def make():\n  @method('m.f')\n  def f(): ...\nmake()",
        "m.f is marked, but its module has it nowhere",
        5,
    ),
    "load without settings": (
        "class M:\n  def load(self): ...\n  @method('m.f')\n  def f(self): ...",
        "class M: load cannot be called: too many positional arguments; write def load(self, settings)",
        4,
    ),
    "load with more": (
        "class M:\n  def load(self, settings, more): ...\n  @method('m.f')\n  def f(self): ...",
        "class M: load cannot be called: missing a required argument: 'more'",
        4,
    ),
    "hint under TYPE_CHECKING": ("@method('m.f')\ndef f(x: 'Decimal') -> int: return 1", "its hints name Decimal", 4),
    "positional only": ("@method('m.f')\ndef f(x: int, /): ...", "x is positional only", 4),
    "partial": ("import functools\nf = method('m.f')(functools.partial(print, 1))", "write a def that calls it", 4),
    "not callable": ("f = method('m.f')(42)", "marks a function, not int", 3),
    "a name with a space": ("@method('m f')\ndef f(): ...", "no spaces", 3),
    "a name with an escape": ("@method('m\\x1b[1m')\ndef f(): ...", "no control characters", 3),
    "a class that needs arguments": (
        "class M:\n  def __init__(self, name): ...\n  @method('m.f')\n  def f(self): ...\none, two = M(1), M(2)",
        "class M is made without arguments, but takes name",
        0,
    ),
    "a base of two classes": (
        "class B:\n  @method('m.f')\n  def f(self): ...\nclass C(B): ...\nclass D(B): ...",
        "method m.f is defined twice: here, and before in mistaken.py:4; a base class",
        4,
    ),
    "nothing marked": (
        "import json\ndef f(): ...\nclass C: ...",
        "no function marked with @method: of its own it has f, C; write @method(",
        0,
    ),
    "syntax": ("def f(:", "invalid syntax (mistaken.py, line 3)", 0),
    "import of what is missing": ("import not_there_at_all", "No module named 'not_there_at_all' (mistaken.py:3)", 0),
    "at import": ("{}['key']", "KeyError: 'key' (mistaken.py:3)", 0),
    "in load": (
        "class M:\n  def load(self, settings): settings['a key']\n  @method('m.f')\n  def f(self): ...",
        "KeyError: 'a key' (mistaken.py:4)",
        0,
    ),
}
HEAD = "from __future__ import annotations\nfrom trunkline import method\n"


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Writes a module, to be imported once."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(source: str) -> str:
        (tmp_path / "mistaken.py").write_text(HEAD + source)
        return "mistaken"

    yield write
    sys.modules.pop("mistaken", None)


@pytest.mark.parametrize("mistake", MISTAKES)
async def test_a_mistake_is_named_with_its_place(mistake: str, written: Any, caplog: pytest.LogCaptureFixture) -> None:
    source, words, line = MISTAKES[mistake]
    (failure,) = await load_modules(Registry(), [written(source)], {})
    assert words in failure.message
    if line:
        assert re.search(rf"\(mistaken\.py:[{line - 1}{line}]\)$", failure.message), failure.message
    assert sum("Traceback" in record.getMessage() for record in caplog.records) == 0


@pytest.mark.parametrize(
    ("source", "called"),
    [
        (
            "class M:\n  @classmethod\n  @method('m.f')\n  def f(cls, x: int) -> str: return f'{cls.__name__} {x}'",
            "M 1",
        ),
        (
            "class M:\n  @method('m.f')\n  @classmethod\n  def f(cls, x: int) -> str: return f'{cls.__name__} {x}'",
            "M 1",
        ),
        ("class M:\n  @method('m.f')\n  @staticmethod\n  def f(x: int) -> str: return f'S {x}'", "S 1"),
        ("class M:\n  def __call__(self, x: int) -> str: return f'C {x}'\nf = method('m.f')(M())", "C 1"),
        (
            "class B:\n  @method('m.f')\n  def f(self, x: int): return type(self).__name__\nclass C(B): ...",
            "C",
        ),
        ("@method('m.f')\ndef f(x: int) -> str: return f'{x}'\nalias = f", "1"),
        (
            "class M:\n  @method('m.f')\n  def f(self, x: int = 1) -> str: return f'P {x}'\n  read = property(f)",
            "P 1",
        ),
        (
            "import functools\n@method('m.g')\ndef g(): ...\n@functools.wraps(g)\ndef g(x: int): ...\n"
            "@method('m.f')\ndef f(x: int) -> str: return f'W {x}'",
            "W 1",
        ),
    ],
    ids=[
        "classmethod",
        "above classmethod",
        "staticmethod",
        "callable object",
        "the one subclass",
        "alias",
        "property beside",
        "wrapped",
    ],
)
async def test_what_can_be_called_is_served(source: str, called: str, written: Any) -> None:
    registry = Registry()
    assert await load_modules(registry, [written(source)], {}) == []
    assert registry.methods["m.f"].function(x=1) == called


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("no_such_module", ErrorCode.MISSING_DEPENDENCIES, "there is no module no_such_module"),
        ("no_such.module", ErrorCode.MISSING_DEPENDENCIES, "there is no module no_such"),
        ("mine.py", ErrorCode.INVALID_CONFIGURATION, "name the module: --methods mine"),
        ("./mine", ErrorCode.INVALID_CONFIGURATION, "name the module: --methods mine"),
        ("app/mine.py", ErrorCode.INVALID_CONFIGURATION, "name the module: --methods app.mine"),
    ],
)
async def test_a_module_that_is_not_there_is_told_from_one_that_it_imports(name: str, code: int, words: str) -> None:
    (failure,) = await load_modules(Registry(), [name], {})
    assert (failure.code, words in failure.message) == (code, True), failure
