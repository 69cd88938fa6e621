"""Types of chunks, errors and packs in generated files: what narrows narrows, and what is wrong is refused."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.generate.compilers import Python, tsc, with_tsc
from tests.generate.documents import document, method
from tests.methods.packs import declared
from tests.support.openrpc import discover
from tests.support.timing import SCALE
from trunkline.control.method import listed_methods
from trunkline.generate import GENERATORS
from trunkline.methods.packs import PACKS, installed_packs
from trunkline.methods.registry import Registry

pytestmark = pytest.mark.timeout(180 * SCALE)

STRING, INTEGER = {"type": "string"}, {"type": "integer"}

with_packs = pytest.mark.skipif(set(installed_packs()) != set(PACKS), reason="packs are not installed")


def described(*modules: Any) -> dict[str, Any]:
    registry = Registry()
    for module in modules:
        registry.add_module(module)
    return discover([*listed_methods(), *registry.catalogue().methods])


def packs() -> dict[str, Any]:
    return described(*(import_module(pack.module) for pack in PACKS.values()))


@with_tsc
def test_chunks_and_errors_narrow_in_typescript(typescript: Path) -> None:
    right = """\
import { isErrorOf, type CallError } from "./hub.js";
const story = hub.stream("declared.story", { pieces: [] });
for await (const piece of story) {
  if (piece.type === "number") { const n: number = piece.data; void n; }
  else if (piece.type === "data") { const s: string = piece.data; void s; }
  else { const t: string = piece.data.text; const at: number = piece.index; void t; void at; }
}
export const words: number = (await story.result).words;
for await (const { type, data } of hub.stream("declared.open")) { const t: string = type; void t; void data; }
try {
  await hub.call("declared.find", { code: 404, data: {} });
} catch (error: unknown) {
  if (!isErrorOf(error, "declared.find")) throw error;
  if (error.code === 404) { const known: string[] = error.data.known; void known; }
  else if (error.code === 6003) { const limit: string | undefined = error.data.limit; void limit; }
  else if (error.code === -32602) { const field: string | undefined = error.data.errors?.[0]?.field; void field; }
  else { const also: boolean = error.data.retryable; const any: unknown = error.data; void also; void any; }
  const ms: number | undefined = error.data.retry_after_ms ?? error.retryAfterMs; void ms;
}
export function undeclared(error: CallError<"declared.open">): string | undefined {
  return error.code === 6003 ? error.data.limit : error.message;
}
declare const failed: CallError<"declared.find">;"""
    wrong = [
        'for await (const piece of hub.stream("declared.story", { pieces: [] })) { piece.data.text; }',
        'for await (const piece of story) { if (piece.type === "nuber") { } }',
        'for await (const piece of story) { if (piece.type === "number") { piece.data.text; } }',
        "(await story.result).wrods;",
        'isErrorOf(failed, "declared.nope");',
        "if (failed.code === 404) { failed.data.konwn; }",
        "if (failed.code === 6003) { failed.data.known; }",
        "failed.data.known;",
    ]
    first = len(right.splitlines()) + 1
    assert tsc(typescript, described(declared), "\n".join([right, *wrong])) == set(range(first, first + len(wrong)))


@with_tsc
def test_events_are_typed_by_topic_and_pattern_in_typescript(typescript: Path) -> None:
    number = {"type": "object", "title": "Number", "properties": {"n": INTEGER}, "required": ["n"]}
    word = {"type": "object", "title": "Word", "properties": {"word": STRING}, "required": ["word"]}
    topics = {"orders.*": number, "orders.total": word, "news.>": word, "a.*.b": number}
    own = {topic: {"summary": topic, "data": data} for topic, data in topics.items()}
    whole = described(declared)
    whole["x-trunkline"]["topics"].update(own)
    right = """\
import type { EventData } from "./hub.js";
await hub.on("system.executors", ({ executors }) => executors.map(({ worker_id }) => worker_id.length));
for await (const event of await hub.subscribe("orders.total")) { if ("data" in event) event.data.word.length; }
await hub.on("orders.42", ({ n }) => n.toFixed());
await hub.on("orders.*", (data) => { if ("n" in data) data.n.toFixed(); });
await hub.on("orders.total", ({ word }) => word.length);
await hub.on("news.of.today", ({ word }, { topic }) => word + topic);
await hub.on("a.x.b", ({ n }) => n.toFixed());
await hub.on<{ done: number }>("elsewhere", ({ done }) => done);
export const deep: unknown = null as EventData<"orders.4.2">;
export const wide: unknown = null as EventData<">">;
declare const id: string;
await hub.on(`orders.${id}`, (data) => ("n" in data ? data.n : data.word.length));
await hub.publish("orders.42", { n: 1 });
await hub.publish("elsewhere", "anything");"""
    wrong = [
        'await hub.on("orders.42", ({ word }) => word);',
        'await hub.on("orders.total", ({ n }) => n);',
        'await hub.on("news.of.today", ({ n }) => n);',
        'await hub.on("system.executors", ({ fnord }) => fnord);',
        'await hub.publish("orders.42", { n: "1" });',
        'await hub.publish("news.of.today", {});',
        'const deepened: EventData<"orders.4.2"> = { n: 1 }; deepened.n;',
        'await hub.on("elsewhere", (data) => data.n);',
    ]
    first = len(right.splitlines()) + 1
    assert tsc(typescript, whole, "\n".join([right, *wrong])) == set(range(first, first + len(wrong)))


@with_packs
@with_tsc
def test_the_packs_in_typescript(typescript: Path) -> None:
    use = """\
import { isErrorOf, type Answer, type PartialAnswer, type TypedStream } from "./hub.js";
const answer = await hub.call("rag.execute", { query: "", technique: "basic", technique_params: { weight: 2 } });
export const same: Answer = answer;
export const best: number | undefined = answer.retrieved_documents[0]?.score;
const filling = answer.metadata.filling;
export const filled: number | undefined = filling && "items" in filling ? filling.items : filling?.documents_done;
const stream: TypedStream<"rag.stream"> = hub.stream("rag.stream", { query: "?", options: { top_k: 3 } });
let text = "";
for await (const { type, data } of stream) {
  if (type === "partial_answer") { const part: PartialAnswer = data; text += part.text; }
  if (type === "document") { const rank: number = data.rank; void rank; }
  if (type === "metadata") { const model: string = data.embedding_model; void model; }
}
export const whole: string = (await stream.result).answer + text;
export const job = await hub.call("documents.process", { collection: "a", sources: [{ text: "b" }], async: true });
export const id: string | undefined = "job" in job ? job.job.id : job.documents[0]?.source;
export const gone: number = (await hub.call("documents.delete", { collection: "a", source: "b" })).deleted;
export const lists: number | undefined = (await hub.call("collections.stats", { name: "a" })).index.lists;
export const exported: number = (await hub.stream("collections.export", { name: "a" }).result).exported;
const [vector] = (await hub.call("embeddings.create", { input: "a" })).data;
export const numbers: string | number[] | undefined = vector?.embedding;
try { await hub.call("rag.check", { technique: "basic" }); } catch (error) {
  if (isErrorOf(error, "rag.check") && error.code === 4001) { error.data.errors?.map(({ path }) => path.length); }
}
await hub.call("rag.execute", { query: "?", technique: "hybird" });
await hub.call("rag.execute", { query: "?", technique_params: { wieght: 2 } });
answer.metadata.fnord;
answer.retrieved_documents[0]?.metadata.title.length;"""
    assert tsc(typescript, packs(), use) == {25, 26, 27, 28}


def test_chunks_and_errors_narrow_in_python(python: Python) -> None:
    use = """\
from trunkline import ErrorCode, RpcError
async for piece in hub.stream("declared.story", {"pieces": []}):
    if piece.type == "number": assert_type(piece.data, int)
    elif piece.type == "data": assert_type(piece.data, str)
    else: assert_type(piece.data, Note)
    assert_type(piece.index, int)
assert_type((await hub.stream("declared.story", {"pieces": []}).wait())["words"], int)
try: await hub.call("declared.find", {"code": 1, "data": {}})
except RpcError as error:
    if (missing := declared_data(error, "declared.find", 404)) is not None: assert_type(missing["known"], list[str])
    if (limit := error_data(error, ErrorCode.RATE_LIMITED)) is not None: assert_type(limit.get("limit"), str | None)
    if (wrong := error_data(error, -32602)) is not None: assert_type(wrong["errors"][0]["field"], str)
    declared_data(error, "declared.find", 404)["known"]
    missing["konwn"]
    limit["known"]
async for piece in hub.stream("declared.story", {"pieces": []}): piece.data["text"]
(await hub.stream("declared.story", {"pieces": []}).wait())["wrods"]"""
    assert python.refused(described(declared), use) == {13, 14, 15, 16, 17}


@with_packs
def test_the_packs_in_python(python: Python) -> None:
    use = """\
answer = await hub.call("rag.execute", {"query": "?", "technique": "hybrid", "technique_params": {"weight": 2}})
assert_type(answer["retrieved_documents"][0]["score"], float)
async for chunk in hub.stream("rag.stream", {"query": "?"}):
    if chunk.type == "partial_answer": assert_type(chunk.data["text"], str)
assert_type((await hub.call("documents.delete", {"collection": "a", "source": "b"}))["deleted"], int)
await hub.call("rag.execute", {"query": "?", "technique": "hybird"})
await hub.call("rag.execute", {"query": "?", "technique_params": {"wieght": 2}})
answer["metadata"]["fnord"]"""
    assert python.refused(packs(), use) == {6, 7, 8}


@with_packs
@pytest.mark.parametrize("language", sorted(GENERATORS))
def test_no_name_of_the_packs_has_a_number(language: str) -> None:
    written = GENERATORS[language](packs())
    names = re.findall(r"^(?:export type|class) (\w+)", written, re.MULTILINE)
    assert "RetrievedDocument" in names
    assert [name for name in names if name[-1].isdigit()] == []


def shape(title: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "title": title, "properties": properties, "required": list(properties)}


@pytest.mark.parametrize("language", sorted(GENERATORS))
def test_several_types_of_one_name_are_named_after_their_place(language: str) -> None:
    methods = [
        method("shop.buy", {"order": shape("Order", a=STRING)}, shape("Bill", a=STRING)),
        method("shop.send", {"order": shape("Order", a=STRING)}, shape("Bill", a=STRING)),
        method("mail.send", {"order": shape("Order", b=STRING)}),
        method("mail.read", {}, shape("Order", b=INTEGER)),
        method("mail.bill", {"bill": shape("Bill", a=INTEGER)}),
    ]
    written = GENERATORS[language](document(*methods))
    names = set(re.findall(r"^(?:export type|class) (\w*(?:Order|Bill)\w*)\b", written, re.MULTILINE))
    assert names >= {"ShopOrder", "MailOrder", "MailReadOrder", "Bill", "BillInput"}
    assert "Order" not in names


@pytest.mark.parametrize("language", sorted(GENERATORS))
def test_references_and_titles_of_one_type_have_one_name(language: str) -> None:
    node = shape("Node", next={"anyOf": [{"$ref": "#/components/schemas/Node"}, {"type": "null"}]})
    whole = document(method("a.a", {}, {"$ref": "#/components/schemas/Node"}), method("a.b", {}, node))
    written = GENERATORS[language](whole | {"components": {"schemas": {"Node": node}}})
    assert len(re.findall(r"^(?:export type|class) \w*Node\w*", written, re.MULTILINE)) == 1
