"""Generated files under the compilers their users have: what is right compiles, what is wrong is refused."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
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


ANY = {"hostile": hostile(), "empty": document(), "one": document(method("m"))}


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


def compile_typescript(folder: Path) -> str:
    """What the compiler says of all files there."""
    done = subprocess.run([TSC], cwd=folder, capture_output=True, text=True, timeout=120 * SCALE)
    assert (done.returncode == 0) == (done.stdout == ""), done.stdout + done.stderr
    return done.stdout


def tsc(folder: Path, described: Any, use: str) -> set[int]:
    """Compile the client and a program that uses it; the lines of the program that are refused."""
    (folder / "hub.ts").write_text(GENERATORS["typescript"](described))
    lines = ['import type { Hub } from "trunkline";', 'import { typed } from "./hub.js";', "declare const plain: Hub;"]
    (folder / "use.ts").write_text("\n".join([*lines, "const hub = typed(plain);", use, "export { hub };"]))
    said = compile_typescript(folder)
    assert "hub.ts(" not in said, said
    return {int(line) - len(lines) - 1 for line in re.findall(r"^use\.ts\((\d+),", said, re.MULTILINE)}


@with_tsc
def test_a_real_hub_in_typescript(typescript: Path, real: Any) -> None:
    right = """\
const upper: string = await hub.call("lab.upper", { text: "a" }, { timeoutMs: 1000 });
await hub.call("rpc.ping");
await hub.call("rpc.ping", {});
const moved = await hub.call("lab.move", { point: { x: 1, born: null }, by: { x: 2, y: 3 } });
const x: number = moved.x;
for await (const chunk of hub.stream("lab.counted", { n: 3 }, { window: { items: 3 } })) {
  const data: number = chunk.data;
  void data;
}
const orders = await hub.on<{ done: number }>("orders.*", ({ done }, { topic }) => { use(done, topic); });
await orders.unsubscribe();
function use(..._values: unknown[]): void {}
void upper; void x;"""
    wrong = [
        'await hub.call("lab.upper");',
        'await hub.call("lab.upper", { text: 5 });',
        'await hub.call("lab.upper", { text: "a", more: 1 });',
        'await hub.call("lab.nope", {});',
        'hub.stream("lab.upper", { text: "a" });',
        'await hub.call("lab.counted", { n: 3 });',
        'hub.stream("lab.counted", { n: 3 }, { window: { item: 3 } });',
        'await hub.call("rpc.ping", { a: 1 });',
        'export const n: number = await hub.call("lab.upper", { text: "a" });',
        'await hub.call("lab.upper", { text: "a" }, { timeout: 5 });',
    ]
    first = len(right.splitlines()) + 1
    assert tsc(typescript, real, "\n".join([right, *wrong])) == set(range(first, first + len(wrong)))


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
def test_any_document_compiles_in_typescript(typescript: Path) -> None:
    for name, described in ANY.items():
        (typescript / f"{name}.ts").write_text(GENERATORS["typescript"](described))
        use = f'import type {{ Hub }} from "trunkline";\nimport {{ typed }} from "./{name}.js";\n'
        (typescript / f"use_{name}.ts").write_text(f"{use}declare const plain: Hub;\nexport const hub = typed(plain);")
    assert compile_typescript(typescript) == ""


# --- Python ---


@pytest.fixture(scope="session")
def mypy_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What mypy knows of the standard library and of the client, for all tests of this process."""
    return tmp_path_factory.mktemp("mypy")


@pytest.fixture
def python(tmp_path: Path, mypy_cache: Path) -> Python:
    """A folder, to which mypy comes with what it knows."""
    return Python(tmp_path, mypy_cache)


@dataclass(frozen=True)
class Python:
    folder: Path
    cache: Path

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The interpreter, in the folder."""
        command = [sys.executable, *arguments]
        environment = clean_environment()
        return subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=120 * SCALE
        )

    def check(self, *files: str) -> str:
        """What mypy says of these files."""
        strict = ["--strict", "--config-file=", "--hide-error-context", f"--cache-dir={self.cache}"]
        done = self.run("-m", "mypy", *strict, *files)
        assert done.returncode in (0, 1), done.stdout + done.stderr
        return done.stdout

    def refused(self, described: Any, use: str) -> set[int]:
        """The lines of a program that are refused, where the client is generated from a document."""
        (self.folder / "generated.py").write_text(GENERATORS["python"](described))
        lines = ["from typing import Any, assert_type", "from generated import *"]
        lines.append("async def use(hub: TypedHub) -> None:")
        (self.folder / "use.py").write_text("\n".join([*lines, *(f"    {line}" for line in use.splitlines()), ""]))
        said = self.check("use.py", "generated.py")
        found = re.findall(r"^(\S+?):(\d+): error", said, re.MULTILINE)
        assert {name for name, _ in found} <= {"use.py"}, said
        return {int(line) - len(lines) for _, line in found}


def test_a_real_hub_in_python(python: Python, real: Any) -> None:
    use = """\
assert_type(await hub.call("lab.upper", {"text": "a"}, timeout_ms=1000), str)
await hub.call("rpc.ping")
await hub.call("rpc.ping", {})
assert_type((await hub.call("lab.move", {"point": {"x": 1, "born": None}, "by": {"x": 2, "y": 3}}))["x"], float)
async for chunk in hub.stream("lab.counted", {"n": 3}): assert_type(chunk.data, int)
async for chunk in await hub.stream("lab.counted", {"n": 3}): assert_type(chunk.data, int)
await hub.call("lab.upper")
await hub.call("lab.upper", {"text": 5})
await hub.call("lab.upper", {"text": "a", "more": 1})
await hub.call("lab.nope", {})
await hub.stream("lab.upper", {"text": "a"})
await hub.call("rpc.ping", {"a": 1})
n: int = await hub.call("lab.upper", {"text": "a"})
await hub.call("lab.counted", {"n": 3})"""
    assert python.refused(real, use) == {7, 8, 9, 10, 11, 12, 13, 14}


def test_chunks_summaries_items_and_recursion_in_python(python: Python) -> None:
    use = """\
stream = hub.stream("streamed")
async for chunk in stream: assert_type(chunk.data, str)
assert_type(stream.result, Summary)
assert_type(await stream.wait(), Summary)
item: StreamedItem = 1.5
wrong: StreamedItem = "x"
await hub.call("typed", {"kind": "a", "tree": {"next": {"next": {}}}})
await hub.call("typed", {"kind": "c", "tree": {}})
await hub.call("typed", {"kind": "a", "tree": {"next": {"next": 1}}})"""
    assert python.refused(RICH, use) == {6, 8, 9}


def test_any_document_passes_in_python(python: Python) -> None:
    for name, described in ANY.items():
        (python.folder / f"{name}.py").write_text(GENERATORS["python"](described))
        use = f"from {name} import *\nasync def use(hub: TypedHub) -> None: ...\n"
        (python.folder / f"use_{name}.py").write_text(use)
    said = python.check(*(f"{part}{name}.py" for name in ANY for part in ("", "use_")))
    assert "error" not in said, said
    done = python.run("-c", f"import {', '.join(ANY)}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


async def test_the_generated_class_talks_to_a_real_hub(tmp_path: Path, lab_hub: RunningHub, real: Any) -> None:
    space: dict[str, Any] = {"__name__": "generated"}
    exec(compile(GENERATORS["python"](real), "generated.py", "exec"), space)
    async with connect(lab_hub.url) as plain:
        hub = space["TypedHub"](plain)
        assert await hub.call("lab.upper", {"text": "a"}, timeout_ms=10_000) == "A"
        stream = hub.stream("lab.counted", {"n": 3})
        assert [chunk.data async for chunk in stream] == [0, 1, 2]
        assert stream.result == {"counted": 3}
