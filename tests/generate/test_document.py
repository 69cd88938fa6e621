"""What becomes of a document as a whole."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest

from tests.generate.documents import HOSTILE, document, hostile, method
from trunkline.generate import GENERATORS, DocumentError, narrowed
from trunkline.generate.document import read_document

LANGUAGES = sorted(GENERATORS)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (None, "openrpc"),
        ([], "openrpc"),
        ({"openapi": "3.1.0"}, "openrpc"),
        ({"openrpc": "1.3.2"}, "list of methods"),
        ({"openrpc": "1.3.2", "methods": {}}, "list of methods"),
        (document({"params": []}), r"methods\[0\] has no name"),
        (document({"name": "m", "params": {}}), "m: params"),
        (document({"name": "m", "params": [{"schema": {}}]}), "m: a parameter"),
        (document(method("m"), method("m")), "twice"),
    ],
)
def test_what_is_no_document_is_refused(language: str, wrong: Any, words: str) -> None:
    with pytest.raises(DocumentError, match=words):
        GENERATORS[language](wrong)


@pytest.mark.parametrize("language", LANGUAGES)
def test_nesting_without_end_is_refused(language: str) -> None:
    schema: dict[str, Any] = {}
    for _ in range(100_000):
        schema = {"items": schema}
    with pytest.raises(DocumentError, match="deep"):
        GENERATORS[language](document(method("m", {"a": schema})))


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_text_depends_on_the_methods_and_not_on_their_order(language: str) -> None:
    described = hostile()
    first = GENERATORS[language](described)
    random.Random(7).shuffle(described["methods"])
    assert GENERATORS[language](described) == first


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_text_can_be_written_and_shows_all_it_says(language: str) -> None:
    text = GENERATORS[language](hostile())
    assert text.encode().decode() == text
    assert text.endswith("\n")
    assert all(sign.isprintable() or sign == "\n" for sign in text)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_header_tells_version_and_how_to_make_it_again(language: str) -> None:
    head = GENERATORS[language](document(version="1.2.3")).splitlines()[:6]
    assert any("Trunkline hub 1.2.3" in line for line in head)
    assert any(f"trunkline generate-client URL --language {language}" in line for line in head)


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_clients_say_themselves_is_left_out(language: str) -> None:
    text = GENERATORS[language](document(method("subscribe"), method("auth"), method("kept")))
    assert '"kept"' in text
    assert not re.search(r'("subscribe"|"auth")(: \{|\])', text)


def test_methods_of_clients_take_any_params() -> None:
    described = document(method("theirs", pack="client"), method("ours", pack="hub"))
    typescript = GENERATORS["typescript"](described)
    assert '"theirs": {\n    params: Record<string, unknown>;' in typescript
    assert '"ours": {\n    params: Record<string, never>;' in typescript
    python = GENERATORS["python"](described)
    assert 'Literal["theirs"], params: dict[str, Any] | None = None' in python
    assert 'Literal["ours"], params: dict[str, Never] | None = None' in python


def test_streams_and_inputs() -> None:
    described = document(
        method("feed", {}, {"type": "integer"}, streaming=True, chunk={"type": "string"}, input={"type": "number"})
    )
    typescript = GENERATORS["typescript"](described)
    assert "result: number;\n    chunk: string;\n    item: number;\n" in typescript
    python = GENERATORS["python"](described)
    assert "-> Stream[Chunk[str, str], int]:" in python
    assert 'FeedItem: TypeAlias = "float"' in python


def test_comments_cannot_be_left() -> None:
    described = document(method("m", {"a": {"type": "string", "description": HOSTILE}}, summary=HOSTILE))
    typescript = GENERATORS["typescript"](described)
    assert typescript.count("*/") == typescript.count("/*")
    python = GENERATORS["python"](described)
    compile(python, "generated", "exec")


@pytest.mark.parametrize(
    ("include", "exclude", "kept"),
    [
        ((), (), ["a.x", "a.y.z", "b.x"]),
        (("a.*",), (), ["a.x", "a.y.z"]),
        (("a.*", "b.x"), ("*.z",), ["a.x", "b.x"]),
        ((), ("[ab].x",), ["a.y.z"]),
        (("A.*",), (), []),
    ],
)
def test_only_some_methods(include: tuple[str, ...], exclude: tuple[str, ...], kept: list[str]) -> None:
    found = narrowed(document(*(method(name) for name in ("a.x", "a.y.z", "b.x"))), include, exclude)
    assert [each.name for each in read_document(found, ()).methods] == kept


@pytest.mark.parametrize("other", [None, [], {"openrpc": "1.3"}, {"openrpc": "1.3", "methods": 5}])
def test_what_is_no_document_is_left_to_who_reads_it(other: Any) -> None:
    assert narrowed(other, ("a.*",), ()) is other


def test_a_method_without_a_name_is_not_left_out_but_refused() -> None:
    found = narrowed({"openrpc": "1.3", "methods": [{"params": []}, 5]}, ("a.*",), ())
    with pytest.raises(DocumentError, match=r"methods\[0\] has no name"):
        read_document(found, ())


def described_errors() -> dict[str, Any]:
    data = {"type": "object", "properties": {"items": {"type": "integer"}}, "required": ["items"]}
    errors = [{"code": 404, "message": "", "x-trunkline": {"data": data}}, {"code": -7, "message": "no"}]
    return method("a.b") | {"errors": errors}


def test_declared_errors_are_read_by_their_code() -> None:
    (found,) = read_document(document(described_errors()), ()).methods
    assert [(error.code, error.data is None) for error in found.errors] == [(-7, True), (404, False)]
    with pytest.raises(DocumentError, match=r"a\.b: an error has no code"):
        read_document(document(method("a.b") | {"errors": [{"message": "no"}]}), ())


def test_what_a_method_declares_is_in_both_languages() -> None:
    chunks = {"note": {"type": "string"}, "count": {"type": "integer"}}
    stream = method("a.s", streaming=True, chunk={}, chunks=chunks)
    both = document(described_errors(), stream)
    typescript, python = GENERATORS["typescript"](both), GENERATORS["python"](both)
    for words in ("note: string;", "count: number;", "Failure<404, {", "items: number;"):
        assert words in typescript
    for words in ('Chunk[Literal["note"], str]', 'Chunk[Literal["count"], int]', "def declared_data(", "Literal[404]"):
        assert words in python
