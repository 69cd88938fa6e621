"""``trunkline collections``: there and back, through a real hub."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("faiss")

from tests.support.command import requires_failure, trunkline, trunkline_process
from tests.support.hub import RunningHub, ready_hub


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    data = tmp_path_factory.mktemp("data")
    with ready_hub(arguments=("--packs", "vectors", "--data", str(data)), executors=1) as running:
        yield running


def run(hub: RunningHub, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return trunkline("collections", *arguments, "--url", hub.url, **options)


def call(hub: RunningHub, method: str, **params: Any) -> Any:
    done = trunkline("call", method, json.dumps(params), "--url", hub.url)
    assert done.returncode == 0, done
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def books(hub: RunningHub) -> str:
    described = {"dimension": 2, "metric": "dot", "index": {"kind": "hnsw", "m": 8}, "metadata": {"by": "me"}}
    call(hub, "collections.create", name="books", model="mine", **described)
    items = [{"id": f"é{n}", "vector": [n, 0.1], "text": f"text\n{n}", "metadata": {"n": n}} for n in range(300)]
    call(hub, "vectors.upsert", collection="books", items=items)
    return "books"


def test_a_file_of_a_collection_makes_the_same_again(hub: RunningHub, books: str, tmp_path: Path) -> None:
    file = tmp_path / "books.jsonl"
    done = trunkline_process("collections", "export", books, str(file), "--url", hub.url)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [path.name for path in tmp_path.iterdir()] == ["books.jsonl"]
    lines = file.read_text().splitlines()
    assert len(lines) == 301
    done = run(hub, "import", "again", str(file))
    assert (done.returncode, done.stderr) == (0, "imported 300 items\n")
    assert run(hub, "import", "again", str(file)).returncode == 0, "once more is harmless"
    one, other = (json.loads(run(hub, "stats", name).stdout) for name in (books, "again"))
    same = ("dimension", "metric", "index", "metadata", "model", "count")
    assert [one[part] for part in same] == [other[part] for part in same]
    through_pipes = trunkline_process("collections", "export", "again", "-", "--url", hub.url).stdout.splitlines()
    assert sorted(through_pipes[1:]) == sorted(lines[1:])
    pipe = "\n".join(through_pipes)
    done = trunkline_process("collections", "import", "third", "-", "--url", hub.url, stdin=pipe)
    assert (done.returncode, done.stderr) == (0, "imported 300 items\n")


def test_lists_and_stats(hub: RunningHub, books: str) -> None:
    names = [each["name"] for each in json.loads(run(hub, "list", "--json").stdout)]
    assert (names, books in names) == (sorted(names), True)
    heading, *rows = run(hub, "list").stdout.splitlines()
    assert heading.split() == ["name", "dimension", "metric", "index", "model"]
    assert [books, "2", "dot", "hnsw", "m=8", "mine"] in [row.split() for row in rows]
    assert json.loads(run(hub, "stats", books).stdout)["count"] == 300


def test_rebuilding_can_change_the_index(hub: RunningHub) -> None:
    call(hub, "collections.create", name="small", dimension=2)
    done = run(hub, "rebuild", "small", "--kind", "hnsw", "--set", "m=32", "--set", "ef_search=50")
    assert json.loads(done.stdout)["index"] == {"kind": "hnsw", "m": 32, "ef_search": 50}
    requires_failure(run(hub, "rebuild", "small", "--kind", "tree"), 1, "index")
    requires_failure(
        run(hub, "rebuild", "small", "--kind", "hnsw", "--set", "m"), 2, "--set m: write it as NAME=NUMBER"
    )
    requires_failure(run(hub, "rebuild", "small", "--set", "m=3"), 2, "--set needs --kind")


def test_another_tenants_are_named_with_the_tenant(hub: RunningHub, books: str, tmp_path: Path) -> None:
    file = str(tmp_path / "books.jsonl")
    assert trunkline_process("collections", "export", books, file, "--url", hub.url).returncode == 0
    acme = ("--tenant", "acme")
    assert run(hub, "import", books, file, *acme).stderr == "imported 300 items\n"
    assert run(hub, "delete", books, "--yes", "--tenant", "bolt").returncode == 1
    described = json.loads(run(hub, "stats", books, *acme).stdout)
    assert (described["tenant"], described["count"]) == ("acme", 300)
    heading, row = run(hub, "list", *acme).stdout.splitlines()
    assert (heading.split()[-1], row.split()[-1]) == ("tenant", "acme")
    assert run(hub, "delete", books, "--yes", *acme).returncode == 0
    assert json.loads(run(hub, "list", "--json", *acme).stdout) == []
    assert json.loads(run(hub, "stats", books).stdout)["count"] == 300


def test_deleting_is_not_done_by_mistake(hub: RunningHub) -> None:
    call(hub, "collections.create", name="gone", dimension=2)
    requires_failure(run(hub, "delete", "gone", stdin=""), 2, "add --yes")
    assert run(hub, "delete", "gone", "--yes").returncode == 0
    requires_failure(run(hub, "stats", "gone"), 1, "there is no collection 'gone'")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"id": "a", "vector": [1, 0]}\n\n{"id": ', "line 3 is not JSON"),
        ("[]", "line 1 is not a JSON object"),
        (
            '{"id": "a", "vector": [1, 0]}\n{"id": "b", "vector": [1]}',
            "item 0 of the input: items[1].vector has 1 numbers",
        ),
        ('{"id": "a", "text": "no model is here"}', "embeddings.create"),
    ],
)
def test_a_bad_file_is_named(hub: RunningHub, tmp_path: Path, text: str, says: str) -> None:
    call(hub, "collections.create", name="bad", dimension=2)
    file = tmp_path / "bad.jsonl"
    file.write_text(text)
    requires_failure(run(hub, "import", "bad", str(file)), 1, says)


def test_files_that_cannot_be(hub: RunningHub, books: str, tmp_path: Path) -> None:
    missing = tmp_path / "no" / "file"
    failed = trunkline_process("collections", "import", "bad", str(missing), "--url", hub.url)
    requires_failure(failed, 1, f"{missing}: No such file or directory")
    requires_failure(run(hub, "export", books, str(missing)), 1, f"{missing}: No such file or directory")
    kept = tmp_path / "kept.jsonl"
    kept.write_text("kept")
    requires_failure(run(hub, "export", "unknown", str(kept)), 1, "there is no collection 'unknown'")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("kept.jsonl", "kept")]
    requires_failure(trunkline("collections", "list", "--url", "ws://127.0.0.1:9/ws"), 3, "no hub at")
