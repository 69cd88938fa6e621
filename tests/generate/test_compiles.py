"""Generated files under the compilers their users have: what is right compiles, what is wrong is refused."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.generate.documents import document, hostile, method
from tests.support.hub import RunningHub, clean_environment
from tests.support.timing import SCALE
from trunkline.client import connect
from trunkline.generate import GENERATORS

CLIENTS = Path(__file__).parents[2] / "clients"
TSC = CLIENTS / "node_modules" / ".bin" / "tsc"

pytestmark = pytest.mark.timeout(180 * SCALE)

with_tsc = pytest.mark.skipif(
    not (TSC.exists() and (CLIENTS / "js/dist/index.d.ts").exists() and shutil.which("node")),
    reason="the JavaScript client is not built here (make setup)",
)

RICH = document(
    method("plain"),
    method(
        "typed",
        {
            "kind": {"enum": ["a", "b"]},
            "tree": {
                "$defs": {"Node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}}}},
                "$ref": "#/$defs/Node",
            },
        },
        {"type": "array", "items": {"type": "integer"}},
    ),
    method(
        "streamed",
        {},
        {"type": "object", "title": "Summary", "properties": {"n": {"type": "integer"}}, "required": ["n"]},
        streaming=True,
        chunk={"type": "string"},
        input={"type": "number"},
    ),
)


@pytest.fixture
async def real(lab_hub: RunningHub) -> Any:
    """What a running hub says of itself."""
    async with connect(lab_hub.url) as hub:
        return await hub.call("rpc.discover")


# --- TypeScript ---


@pytest.fixture
def typescript(tmp_path: Path) -> Iterator[Path]:
    """A folder as that of a user who installed the package ``trunkline``."""
    (tmp_path / "node_modules").symlink_to(CLIENTS / "node_modules")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    options = {
        "strict": True, "noEmit": True, "module": "NodeNext", "target": "ES2022", "types": [], "lib": ["ES2023", "DOM"],
        "exactOptionalPropertyTypes": True, "noUncheckedIndexedAccess": True, "noUnusedLocals": True,
        "verbatimModuleSyntax": True, "erasableSyntaxOnly": True, "isolatedModules": True,
    }  # fmt: skip
    (tmp_path / "tsconfig.json").write_text(json.dumps({"compilerOptions": options, "include": ["*.ts"]}))
    yield tmp_path
    (tmp_path / "node_modules").unlink()


def tsc(folder: Path, described: Any, use: str = "") -> set[int]:
    """Compile the client and a program that uses it; the lines of the program that are refused."""
    (folder / "hub.ts").write_text(GENERATORS["typescript"](described))
    lines = ['import type { Hub } from "trunkline";', 'import { typed } from "./hub.js";', "declare const plain: Hub;"]
    (folder / "use.ts").write_text("\n".join([*lines, "const hub = typed(plain);", use, "export { hub };"]))
    done = subprocess.run([TSC], cwd=folder, capture_output=True, text=True, timeout=120 * SCALE)
    assert "hub.ts(" not in done.stdout, done.stdout
    assert (done.returncode == 0) == (done.stdout == ""), done.stdout + done.stderr
    return {int(line) - len(lines) - 1 for line in re.findall(r"^use\.ts\((\d+),", done.stdout, re.MULTILINE)}


@with_tsc
def test_a_real_hub_in_typescript(typescript: Path, real: Any) -> None:
    right = """\
const upper: string = await hub.call("lab.upper", { text: "a" }, { timeoutMs: 1000 });
await hub.call("rpc.ping");
await hub.call("rpc.ping", {});
const moved = await hub.call("lab.move", { point: { x: 1, born: null }, by: { x: 2, y: 3 } });
const x: number = moved.x;
for await (const chunk of hub.stream("lab.counted", { n: 3 })) { const data: number = chunk.data; void data; }
void upper; void x;"""
    assert tsc(typescript, real, right) == set()
    wrong = [
        'await hub.call("lab.upper");',
        'await hub.call("lab.upper", { text: 5 });',
        'await hub.call("lab.upper", { text: "a", more: 1 });',
        'await hub.call("lab.nope", {});',
        'hub.stream("lab.upper", { text: "a" });',
        'await hub.call("rpc.ping", { a: 1 });',
        'export const n: number = await hub.call("lab.upper", { text: "a" });',
        'await hub.call("lab.upper", { text: "a" }, { timeout: 5 });',
    ]
    assert tsc(typescript, real, "\n".join(wrong)) == set(range(1, len(wrong) + 1))


@with_tsc
def test_chunks_summaries_items_and_recursion_in_typescript(typescript: Path) -> None:
    use = """\
import type { Item } from "./hub.js";
const stream = hub.stream("streamed");
for await (const { data, type } of stream) { data.toUpperCase(); type.toUpperCase(); }
export const n: number = (await stream.result).n;
export const item: Item<"streamed"> = 1.5;
export const wrong: Item<"streamed"> = "x";
await hub.call("typed", { kind: "a", tree: { next: { next: {} } } });
await hub.call("typed", { kind: "c", tree: {} });
await hub.call("typed", { kind: "a", tree: { next: { next: 1 } } });"""
    assert tsc(typescript, RICH, use) == {6, 8, 9}


@with_tsc
@pytest.mark.parametrize("described", [hostile(), document(), document(method("m"))], ids=["hostile", "empty", "one"])
def test_any_document_compiles_in_typescript(typescript: Path, described: Any) -> None:
    assert tsc(typescript, described) == set()


# --- Python ---


def mypy(folder: Path, described: Any, use: str = "") -> set[int]:
    """Check the client and a program that uses it; the lines of the program that are refused."""
    (folder / "generated.py").write_text(GENERATORS["python"](described))
    lines = ["from typing import Any, assert_type", "from generated import *", "async def use(hub: TypedHub) -> None:"]
    (folder / "use.py").write_text("\n".join([*lines, *(f"    {line}" for line in (use or "...").splitlines()), ""]))
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--hide-error-context", "use.py", "generated.py"],
        cwd=folder,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=120 * SCALE,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found = re.findall(r"^(\S+?):(\d+): error", done.stdout, re.MULTILINE)
    assert {name for name, _ in found} <= {"use.py"}, done.stdout
    return {int(line) - len(lines) for _, line in found}


def test_a_real_hub_in_python(tmp_path: Path, real: Any) -> None:
    use = """\
assert_type(await hub.call("lab.upper", {"text": "a"}, timeout_ms=1000), str)
await hub.call("rpc.ping")
await hub.call("rpc.ping", {})
assert_type((await hub.call("lab.move", {"point": {"x": 1, "born": None}, "by": {"x": 2, "y": 3}}))["x"], float)
async for chunk in await hub.stream("lab.counted", {"n": 3}): assert_type(chunk.data, int)
await hub.call("lab.upper")
await hub.call("lab.upper", {"text": 5})
await hub.call("lab.upper", {"text": "a", "more": 1})
await hub.call("lab.nope", {})
await hub.stream("lab.upper", {"text": "a"})
await hub.call("rpc.ping", {"a": 1})
n: int = await hub.call("lab.upper", {"text": "a"})"""
    assert mypy(tmp_path, real, use) == {6, 7, 8, 9, 10, 11, 12}


def test_chunks_summaries_items_and_recursion_in_python(tmp_path: Path) -> None:
    use = """\
stream = await hub.stream("streamed")
async for chunk in stream: assert_type(chunk.data, str)
assert_type(stream.result, Summary)
item: StreamedItem = 1.5
wrong: StreamedItem = "x"
await hub.call("typed", {"kind": "a", "tree": {"next": {"next": {}}}})
await hub.call("typed", {"kind": "c", "tree": {}})
await hub.call("typed", {"kind": "a", "tree": {"next": {"next": 1}}})"""
    assert mypy(tmp_path, RICH, use) == {5, 7, 8}


@pytest.mark.parametrize("described", [hostile(), document(), document(method("m"))], ids=["hostile", "empty", "one"])
def test_any_document_passes_in_python(tmp_path: Path, described: Any) -> None:
    assert mypy(tmp_path, described) == set()
    done = subprocess.run([sys.executable, "generated.py"], cwd=tmp_path, env=clean_environment(), capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


async def test_the_generated_class_talks_to_a_real_hub(tmp_path: Path, lab_hub: RunningHub, real: Any) -> None:
    space: dict[str, Any] = {"__name__": "generated"}
    exec(compile(GENERATORS["python"](real), "generated.py", "exec"), space)
    async with connect(lab_hub.url) as plain:
        hub = space["TypedHub"](plain)
        assert await hub.call("lab.upper", {"text": "a"}, timeout_ms=10_000) == "A"
        stream = await hub.stream("lab.counted", {"n": 3})
        assert [chunk.data async for chunk in stream] == [0, 1, 2]
        assert stream.result == {"counted": 3}
