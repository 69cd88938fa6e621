"""Types of chunks, results of streams and errors: what a method declares is told, and held against what it does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import ModuleType
from typing import Any, Literal

import pytest

from tests.methods.packs import declared
from tests.support.openrpc import discover
from trunkline.methods.chunk_types import chunk_hints
from trunkline.methods.context import Chunk
from trunkline.methods.declaration import RegistrationError
from trunkline.methods.local import LocalMethods
from trunkline.methods.registry import Registry
from trunkline_protocol.errors import ErrorCode, RpcError


@pytest.fixture
async def methods() -> AsyncIterator[LocalMethods]:
    async with LocalMethods(declared) as local:
        yield local


def described() -> dict[str, Any]:
    registry = Registry()
    registry.add_module(declared)
    return discover(registry.catalogue().methods)


def method_of(document: dict[str, Any], name: str) -> dict[str, Any]:
    return next(each for each in document["methods"] if each["name"] == name)


async def pieces_of(methods: LocalMethods, pieces: list[Any], told: Any) -> list[tuple[str, Any]]:
    params = {"pieces": pieces, "told": told}
    return [(chunk.type, chunk.data) async for chunk in methods.stream("declared.story", params)]


async def test_declared_chunks_pass(methods: LocalMethods) -> None:
    said: list[list[Any]] = [["note", {"text": "a"}], ["data", "word"], ["aside", {"text": "b"}], ["number", 3]]
    assert await pieces_of(methods, said, {"words": 1}) == [tuple(each) for each in said]
    assert [chunk.data async for chunk in methods.stream("declared.plainly", {"kind": "number"})] == [1]
    assert [chunk.type async for chunk in methods.stream("declared.open")] == ["whatever"]


@pytest.mark.parametrize(
    ("piece", "words"),
    [
        (["other", {"text": "a"}], "a chunk of type 'other'; it declares 'data', 'note', 'aside', 'number'"),
        (["note", {"text": 1}], "does not promise: text"),
        (["number", "three"], "does not promise"),
        (["data", 5], "does not promise"),
    ],
)
async def test_another_chunk_is_refused_by_its_index(methods: LocalMethods, piece: list[Any], words: str) -> None:
    with pytest.raises(RpcError, match=words) as caught:
        await pieces_of(methods, [["data", "first"], piece], {"words": 1})
    assert (caught.value.code, caught.value.data["index"]) == (ErrorCode.SERIALIZATION_ERROR, 1)


@pytest.mark.parametrize("told", [None, {}, {"words": "many"}])
async def test_a_declared_result_of_a_stream_has_to_come(methods: LocalMethods, told: Any) -> None:
    with pytest.raises(RpcError, match=r"declared\.story returned what its signature does not promise"):
        await pieces_of(methods, [], told)


async def test_errors_keep_their_data_if_they_are_as_declared(methods: LocalMethods) -> None:
    async def raised(code: int, data: dict[str, Any]) -> RpcError:
        with pytest.raises(RpcError) as caught:
            await methods.call("declared.find", {"code": code, "data": data})
        return caught.value

    found = await raised(404, {"known": ["a"]})
    assert (found.code, found.data) == (404, {"known": ["a"]})
    for code in (ErrorCode.RATE_LIMITED, 405):
        assert (await raised(code, {"any": 1})).code == code
    unfit = await raised(404, {"known": "a"})
    assert unfit.code == ErrorCode.SERIALIZATION_ERROR
    assert "as data of error 404 what its signature does not promise: known" in unfit.message
    assert "not found" in unfit.message


def test_what_is_declared_is_discovered() -> None:
    document = described()
    story = method_of(document, "declared.story")
    chunks = story["x-trunkline"]["chunks"]
    assert list(chunks) == ["data", "note", "aside", "number"]
    assert chunks["data"] == {"type": "string"}
    assert chunks["number"] == {"type": "integer"}
    assert chunks["note"]["properties"] == {"text": {"title": "Text", "type": "string"}}
    assert {"type": "string"} in story["x-trunkline"]["chunk"]["anyOf"]
    assert story["result"]["schema"]["title"] == "Told"
    assert "errors" not in story
    assert "chunks" not in method_of(document, "declared.open")["x-trunkline"]
    assert [(each["code"], each["message"]) for each in method_of(document, "declared.find")["errors"]] == [
        (404, "APPLICATION_ERROR"),
        (ErrorCode.RATE_LIMITED, "RATE_LIMITED"),
    ]
    assert method_of(document, "declared.find")["errors"][0]["x-trunkline"]["data"]["required"] == ["known"]


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (Chunk[str, int], "a chunk's type is a Literal"),
        (Chunk[Literal["a"], int] | Chunk[Literal["a"], str], "'a' are declared twice"),
        (int | Chunk[Literal["data"], str], "'data' are declared twice"),
    ],
)
def test_chunks_that_cannot_be_declared(item: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        chunk_hints(item, "m.f")


def registered(text: str) -> None:
    module = ModuleType("m")
    exec(f"from trunkline import method\n{text}", vars(module))
    Registry().add_module(module)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("@method('m.f', result=int)\ndef f() -> int: return 1", "result= is for streams"),
        ("@method('m.f', errors={404: int})\ndef f() -> int: return 1", r"error\.data is an object"),
        ("@method('m.f', errors=[404])\ndef f() -> int: return 1", "is no mapping"),
    ],
)
def test_declarations_that_are_refused(text: str, words: str) -> None:
    with pytest.raises(RegistrationError, match=words):
        registered(text)
