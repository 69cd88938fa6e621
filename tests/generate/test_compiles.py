"""Generated files under the compilers their users have: what is right compiles, what is wrong is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.generate.compilers import Python, compile_typescript, tsc, with_tsc
from tests.generate.documents import document, hostile, method
from tests.support.hub import RunningHub
from tests.support.timing import SCALE
from trunkline.client import connect
from trunkline.generate import GENERATORS

pytestmark = pytest.mark.timeout(180 * SCALE)

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


def test_one_method_alone_is_typed_in_python(python: Python) -> None:
    """One signature is no overload, and what the plain hub gives is of any type."""
    call = document(method("a.b", result={"type": "string"}))
    assert python.refused(call, 'assert_type(await hub.call("a.b"), str)\nawait hub.call("a.c")') == {2}
    stream = document(method("a.s", result={"type": "integer"}, streaming=True, chunk={"type": "string"}))
    use = """\
stream = hub.stream("a.s")
assert_type(await stream.wait(), int)
async for chunk in stream: assert_type(chunk.data, str)"""
    assert python.refused(stream, use) == set()
