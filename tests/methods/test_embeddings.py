"""``embeddings.create`` with a real model."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.support.timing import PATIENCE, SOON, START, until
from trunkline.methods import embeddings
from trunkline.methods.embeddings import model as model_module
from trunkline.methods.embeddings.model import find_model, load_model
from trunkline.methods.figures import FIGURES
from trunkline.methods.local import LocalMethods
from trunkline_protocol.errors import RpcError
from trunkline_protocol.principals import Principal

np = pytest.importorskip("numpy")
pytestmark = [pytest.mark.ml, pytest.mark.asyncio(loop_scope="module")]

NAME = "sentence-transformers/all-MiniLM-L6-v2"


@pytest.fixture(scope="module", autouse=True)
def _library() -> None:
    """Only here, for it takes seconds: each of the tests' processes reads this file, whichever tests it runs."""
    pytest.importorskip("sentence_transformers")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def methods() -> AsyncIterator[LocalMethods]:
    if not find_model(NAME).local:
        pytest.skip("the packaged model is not installed")
    async with LocalMethods(embeddings, settings={"model": "all-MiniLM-L6-v2"}) as local:
        yield local


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tiny(tiny_model: Path) -> AsyncIterator[LocalMethods]:
    async with LocalMethods(embeddings, settings={"model": str(tiny_model)}) as local:
        yield local


async def create(methods: LocalMethods, input: Any, **params: Any) -> Any:
    return await methods.call("embeddings.create", {"input": input, **params})


async def vectors(methods: LocalMethods, *texts: str) -> Any:
    return np.array([item["embedding"] for item in (await create(methods, list(texts)))["data"]])


async def test_the_answer_has_openais_shape(methods: LocalMethods) -> None:
    answer = await create(methods, "hello world")
    (item,) = answer.pop("data")
    assert answer == {"object": "list", "model": NAME, "usage": {"prompt_tokens": 4, "total_tokens": 4}}
    assert (item["object"], item["index"], len(item["embedding"])) == ("embedding", 0, 384)


async def test_vectors_have_length_1_and_mean_something(methods: LocalMethods) -> None:
    cat, kitten, car = await vectors(methods, "a cat", "a small kitten", "a fast car")
    assert [np.linalg.norm(each) for each in (cat, kitten, car)] == pytest.approx([1, 1, 1], abs=1e-5)
    assert cat @ kitten > cat @ car + 0.2


async def test_base64_is_the_same_as_little_endian_float32(methods: LocalMethods) -> None:
    numbers = (await create(methods, "a cat"))["data"][0]["embedding"]
    encoded = (await create(methods, "a cat", encoding_format="base64"))["data"][0]["embedding"]
    assert np.frombuffer(base64.b64decode(encoded), "<f4") == pytest.approx(numbers, abs=1e-6)


async def test_the_order_of_the_input_is_kept_over_batches(methods: LocalMethods) -> None:
    texts = [f"number {i} " * (1 + i * 37 % 60) for i in range(40)]
    together = await vectors(methods, *texts)
    for i in (0, 7, 20, 39):
        assert (await vectors(methods, texts[i]))[0] == pytest.approx(together[i], abs=1e-4)


async def test_usage_counts_what_is_read(methods: LocalMethods) -> None:
    assert (await create(methods, ["hello", "hello world", "x " * 5000]))["usage"]["total_tokens"] == 3 + 4 + 256


@pytest.mark.parametrize(
    ("params", "code", "says"),
    [
        ({"input": []}, -32602, "input is empty"),
        ({"input": ""}, -32602, r"input\[0\] is an empty text"),
        ({"input": ["a", ""]}, -32602, r"input\[1\] is an empty text"),
        ({"input": ["a"] * 2049}, -32602, "2049 texts, more than 2048"),
        ({"input": [1, 2]}, -32602, "input"),
        ({"input": "a", "encoding_format": "hex"}, -32602, "encoding_format"),
        ({"input": "a", "model": "text-embedding-3-small"}, 4001, f"is not loaded; this hub has {NAME}"),
        ({"input": "a", "model": ""}, 4001, "is not loaded"),
    ],
)
async def test_what_cannot_be_embedded_is_refused(methods: LocalMethods, params: Any, code: int, says: str) -> None:
    with pytest.raises(RpcError, match=says) as caught:
        await methods.call("embeddings.create", params)
    assert caught.value.code == code


@pytest.mark.parametrize("name", [NAME, "all-MiniLM-L6-v2"])
async def test_the_loaded_model_may_be_named(methods: LocalMethods, name: str) -> None:
    assert (await create(methods, "a", model=name))["model"] == NAME


async def test_one_short_text_is_quick(methods: LocalMethods) -> None:
    times = []
    for _ in range(10):
        started = asyncio.get_running_loop().time()
        await create(methods, "how does the with statement work?", encoding_format="base64")
        times.append(asyncio.get_running_loop().time() - started)
    print(f"\none short text: best {min(times) * 1000:.1f} ms, median {sorted(times)[5] * 1000:.1f} ms")
    assert min(times) < SOON / 5


async def test_a_cancel_is_seen_between_batches(methods: LocalMethods) -> None:
    before = passes_so_far()
    call = asyncio.ensure_future(create(methods, [f"{i} long text " * 200 for i in range(500)]))
    await until(lambda: passes_so_far() > before, "it computes", START)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    cancelled = passes_so_far()
    await create(methods, "next")
    print(f"{passes_so_far() - cancelled:.0f} passes behind the cancel")
    assert passes_so_far() - cancelled <= 2, "the rest of it was not computed"


def packaged_copy(folder: Path) -> Path:
    """A package like the packaged model's, of links to it and a copy of its weights; returns the weights."""
    original = Path(find_model(NAME).path_or_name)
    copy = folder / model_module.PACKAGE / "model"
    copy.mkdir(parents=True)
    for file in original.iterdir():
        if file.name != model_module.WEIGHTS:
            (copy / file.name).symlink_to(file)
    shutil.copy(original / model_module.WEIGHTS, copy)
    (copy.parent / "__init__.py").touch()
    return copy / model_module.WEIGHTS


async def test_a_copy_with_one_changed_byte_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = packaged_copy(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert find_model(NAME).path_or_name == str(weights.parent)
    assert load_model(NAME).name == NAME
    with weights.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x01")
    with pytest.raises(RpcError, match="is not the file this release knows") as caught:
        load_model(NAME)
    assert caught.value.code == 3002


async def test_a_folder_without_a_model_says_so(tmp_path: Path) -> None:
    with pytest.raises(RpcError, match="cannot be loaded") as caught:
        load_model(str(tmp_path))
    assert caught.value.code == 3002


async def test_a_path_may_be_the_model_and_its_name_says_which(tiny_model: Path, tmp_path: Path) -> None:
    async with LocalMethods(embeddings, settings={"model": str(tiny_model)}) as methods:
        answer = await create(methods, ["a b c", "d"])
        assert [len(item["embedding"]) for item in answer["data"]] == [8, 8]
        assert answer["model"].startswith("model@")
        assert (await create(methods, "a", model=answer["model"]))["model"] == answer["model"]
    other = tmp_path / "model"
    shutil.copytree(tiny_model, other)
    assert load_model(str(other)).name == answer["model"], "the same model elsewhere is the same"
    from safetensors.torch import load_file, save_file

    weights = load_file(other / model_module.WEIGHTS)
    save_file({name: tensor * 1.01 for name, tensor in weights.items()}, other / model_module.WEIGHTS, {"format": "pt"})
    assert load_model(str(other)).name != answer["model"], "another one in the same place is not"


# --- calls at the same time ---


async def test_vectors_are_those_of_the_library(methods: LocalMethods) -> None:
    from trunkline.methods.embeddings.model import load_encoder

    texts = [f"text {i}: " + "the quick brown fox " * (i * 7 % 50) for i in range(30)]
    ours = await asyncio.gather(*(vectors(methods, text) for text in texts))
    wanted = load_encoder(find_model(NAME)).encode(texts, normalize_embeddings=True, show_progress_bar=False)
    assert np.concatenate(ours) == pytest.approx(wanted, abs=1e-5)


def counted(name: str) -> dict[tuple[str, ...], list[float]]:
    for figure in FIGURES.snapshot():
        if figure.name == name:
            return dict(figure.series)
    return {}


def passes_so_far() -> float:
    return sum(counted("trunkline_batch_size").get(("embeddings.create",), [0.0])[:-1])


def looked_up(outcome: str) -> float:
    return counted("trunkline_cache_requests").get(("embeddings", outcome), [0.0])[0]


async def test_calls_that_come_while_a_pass_runs_share_the_next(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with LocalMethods(embeddings, settings={"model": str(tiny_model)}) as local:
        service = local._registry.instances[0]._service
        run, gate, sizes = service.model.run, threading.Event(), []

        def gated(texts: Any) -> Any:
            sizes.append(len(texts))
            assert gate.wait(PATIENCE)
            return run(texts)

        monkeypatch.setattr(service, "model", replace(service.model, run=gated))
        before = looked_up("miss")
        calls = [asyncio.ensure_future(create(local, f"shared {i}")) for i in range(31)]
        while looked_up("miss") < before + 31:
            await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(*calls)
        assert len(sizes) <= 2
        assert sum(sizes) == 31


async def test_a_query_is_answered_while_a_large_call_goes_on(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with LocalMethods(embeddings, settings={"model": str(tiny_model)}) as local:
        service = local._registry.instances[0]._service
        run, begun, answered = service.model.run, threading.Event(), threading.Event()
        passes: list[list[str]] = []

        def noted(texts: Any) -> Any:
            if any("query" in given for given in passes):
                assert answered.wait(PATIENCE), "the rest of the large call holds up the answer"
            passes.append([each.text for each in texts])
            begun.set()
            return run(texts)

        monkeypatch.setattr(service, "model", replace(service.model, run=noted))
        large = asyncio.ensure_future(create(local, [f"large {i} " + "word " * 20 for i in range(2048)]))
        await asyncio.to_thread(begun.wait, PATIENCE)
        await asyncio.wait_for(create(local, "query"), PATIENCE)
        assert not large.done()
        answered.set()
        assert len((await large)["data"]) == 2048


async def test_a_text_that_was_embedded_is_not_embedded_again(tiny: LocalMethods) -> None:
    first = await create(tiny, ["kept", "kept", "other"])
    before = passes_so_far()
    again = await create(tiny, ["other", "kept", "kept"])
    assert passes_so_far() == before
    assert again["usage"] == first["usage"]
    assert [item["embedding"] for item in again["data"]] == [first["data"][i]["embedding"] for i in (2, 0, 1)]


async def test_a_text_of_another_tenant_is_embedded_again(tiny: LocalMethods) -> None:
    """The time of an answer, and whether it joins another's computation, would tell what others have asked for."""
    for tenant in ("acme", "bolt", "default"):
        before = looked_up("miss"), looked_up("hit")
        for _ in range(2):
            ann = Principal("ann", tenant=tenant)
            await tiny.call("embeddings.create", {"input": "known to one of them"}, principal=ann)
        assert (looked_up("miss"), looked_up("hit")) == (before[0] + 1, before[1] + 1)


async def test_a_cancelled_call_does_not_cancel_one_that_waits_for_the_same_text(tiny: LocalMethods) -> None:
    text = "wanted by two " + "x " * 9000  # long enough for its tokens to be made on the thread
    before = looked_up("joined")
    first = asyncio.ensure_future(create(tiny, text))
    await asyncio.sleep(0)
    second = asyncio.ensure_future(create(tiny, text))
    while looked_up("joined") == before:
        await asyncio.sleep(0)
    first.cancel()
    assert len((await asyncio.wait_for(second, PATIENCE))["data"]) == 1
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_a_call_whose_time_is_over_is_not_begun(tiny: LocalMethods) -> None:
    with pytest.raises(RpcError, match="the deadline passed before") as caught:
        await tiny.call("embeddings.create", {"input": "too late"}, timeout_ms=0)
    assert caught.value.code == 1002


async def test_what_is_not_finite_fails_its_own_call_alone(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with LocalMethods(embeddings, settings={"model": str(tiny_model)}) as local:
        service = local._registry.instances[0]._service
        run = service.model.run

        def run_with_nan(texts: Any) -> Any:
            made = run(texts)
            made[[each.text == "nan" for each in texts]] = np.nan
            return made

        monkeypatch.setattr(service, "model", replace(service.model, run=run_with_nan))
        outcomes = await asyncio.gather(*(create(local, text) for text in ("a", "nan", "b")), return_exceptions=True)
        assert [getattr(each, "code", 0) for each in outcomes] == [0, 3003, 0]


async def test_large_answers_have_their_numbers_as_json_too(tiny: LocalMethods) -> None:
    many = await create(tiny, [f"many {i}" for i in range(100)])
    few = await create(tiny, "many 99")
    assert many["data"][99]["embedding"] == few["data"][0]["embedding"]
    assert all(isinstance(number, float) for number in few["data"][0]["embedding"])


async def test_it_says_which_texts_were_cut(methods: LocalMethods) -> None:
    answer = await create(methods, ["short", "word " * 254, "word " * 255])
    assert answer["truncated"] == [2]
    assert [each["index"] for each in answer["data"]] == [0, 1, 2]
    assert "truncated" not in await create(methods, "word " * 254)
    assert (await create(methods, "word " * 255))["truncated"] == [0], "also where the vector was kept"


async def test_tokens_of_its_own_tokenizer_are_the_text(methods: LocalMethods) -> None:
    from tokenizers import Tokenizer

    reader = Tokenizer.from_file(str(Path(find_model(NAME).path_or_name) / "tokenizer.json"))
    reader.no_truncation()
    reader.no_padding()
    texts = ["How do I undo a git rebase? It's 3.14, don't!", "hello"]
    tokens = [reader.encode(text, add_special_tokens=False).ids for text in texts]
    answer = await create(methods, tokens)
    found = np.array([each["embedding"] for each in answer["data"]])
    assert np.allclose(found, await vectors(methods, *texts), atol=1e-5)
    assert (await create(methods, tokens[1]))["usage"]["prompt_tokens"] == 3


@pytest.mark.parametrize(
    "tokens",
    [
        pytest.param([5519, 527, 304, 95426, 433, 30], id="of cl100k_base"),
        pytest.param([578, 8415, 1903], id="of cl100k_base, all within the vocabulary"),
        pytest.param([101, 7592, 102], id="with marks"),
        pytest.param([-1], id="negative"),
        pytest.param([30522], id="behind the vocabulary"),
    ],
)
async def test_tokens_of_another_tokenizer_are_refused(methods: LocalMethods, tokens: list[int]) -> None:
    for given in (tokens, [[7592], tokens]):
        with pytest.raises(RpcError, match=r"input\[[01]\].*check_embedding_ctx_length") as caught:
            await create(methods, given)
        assert caught.value.code == -32602


@pytest.mark.parametrize("wrong", [[], [[]], [True], [1.5], [[1], "a"], [["a"]], None])
async def test_no_input(methods: LocalMethods, wrong: Any) -> None:
    with pytest.raises(RpcError) as caught:
        await create(methods, wrong)
    assert caught.value.code == -32602


async def test_dimensions_are_those_of_the_model(methods: LocalMethods) -> None:
    assert len((await create(methods, "a", dimensions=384))["data"][0]["embedding"]) == 384
    for wrong in (128, 385, 0):
        with pytest.raises(RpcError, match="dimensions") as caught:
            await create(methods, "a", dimensions=wrong)
        assert caught.value.code == -32602
    found = await methods.call("embeddings.model", {})
    assert found == {"model": NAME, "dimension": 384, "max_tokens": 256}


async def test_a_model_that_was_trained_for_it_has_shorter_vectors(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "nested"
    shutil.copytree(tiny_model, folder)
    for file in folder.rglob("config.json"):
        config = json.loads(file.read_text())
        if "hidden_size" in config:
            file.write_text(json.dumps(config | {"matryoshka_dimensions": [4]}))
    async with LocalMethods(embeddings, settings={"model": str(folder)}) as nested:
        whole, cut = [(await create(nested, "a", **more))["data"][0]["embedding"] for more in ({}, {"dimensions": 4})]
        assert np.allclose(cut, np.array(whole)[:4] / np.linalg.norm(whole[:4]))
        with pytest.raises(RpcError, match="dimensions"):
            await create(nested, "a", dimensions=3)
