"""Pipelines on a real hub: whose they are, how many, and what becomes of them; the check is a client's here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.hub import DEBUG_METHODS, RunningHub, ready_hub
from tests.support.peer import Peer, peer
from trunkline.client import connect
from trunkline.client.serving import ServedCall
from trunkline.edge.access.tokens import new_token
from trunkline_protocol.errors import ErrorCode, RpcError

TOKENS = {name: new_token() for name in ("ada", "bob", "root")}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    """A hub with two principals that have no role, and an admin."""
    roles = {"root": '["admin", "callee"]'}
    tokens: Path = tmp_path_factory.mktemp("tokens") / "tokens.toml"
    tokens.write_text(
        "".join(
            f'[[tokens]]\nname = "{name}"\nsha256 = "{digest}"\nroles = {roles.get(name, "[]")}\n'
            for name, (_token, digest) in TOKENS.items()
        )
    )
    tokens.chmod(0o600)
    env = {
        "TRUNKLINE_TOKENS_FILE": str(tokens),
        "TRUNKLINE_MAX_PIPELINES": "3",
        "TRUNKLINE_MAX_PIPELINES_PER_PRINCIPAL": "2",
    }
    with ready_hub(DEBUG_METHODS, env=env) as running:
        yield running


def check(params: Any, _call: ServedCall) -> Any:
    if params["technique"] == "wrong":
        errors = [{"path": "technique", "message": "no such"}, {"path": "options.top_k", "message": "too many"}]
        raise RpcError(ErrorCode.INVALID_CONFIGURATION, "pipeline: all wrong", data={"errors": errors})
    return params


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {TOKENS[name][0]}"}


@pytest.fixture
async def ada(shared: RunningHub) -> AsyncIterator[Peer]:
    async with connect(shared.url, token=TOKENS["root"][0]) as checker:
        await checker.register("rag.check", check)
        async with peer(shared.url, bearer("ada")) as connected:
            yield connected
            for pipeline_id in await connected.result("pipeline.list"):
                await connected.result("pipeline.destroy", {"pipeline_id": pipeline_id})


async def test_a_pipeline_is_its_principals_own(shared: RunningHub, ada: Peer) -> None:
    config = {"options": {"collection": "books"}, "technique_params": {"max_sentences": 2}}
    by_name = await ada.result("pipeline.initialize", {"technique": "basic", "config": config})
    by_position = await ada.result("pipeline.initialize", ["hybrid"])
    assert await ada.result("pipeline.list") == [by_name, by_position]
    found = await ada.result("pipeline.get", {"pipeline_id": by_name})
    assert (found["technique"], found["config"], found["principal"]) == ("basic", config, "ada")
    async with peer(shared.url, bearer("bob")) as bob, peer(shared.url, bearer("root")) as root:
        assert await bob.result("pipeline.list") == []
        for method in ("pipeline.get", "pipeline.destroy"):
            error = await bob.error(method, [by_name])
            assert (error["code"], error["data"]["maybe_executed"]) == (ErrorCode.PIPELINE_NOT_FOUND, False)
            assert error["message"] == (await bob.error(method, ["0" * 32]))["message"].replace("0" * 32, by_name)
        assert set(await root.result("pipeline.list")) == {by_name, by_position}
        assert (await root.result("pipeline.destroy", [by_position]))["destroyed"]
    assert await ada.result("pipeline.list") == [by_name]
    assert (await ada.error("pipeline.get", [by_position]))["code"] == ErrorCode.PIPELINE_NOT_FOUND


async def test_what_is_wrong_is_said_at_once_and_nothing_is_kept(ada: Peer) -> None:
    error = await ada.error("pipeline.initialize", ["wrong", {}])
    assert error["code"] == ErrorCode.INVALID_CONFIGURATION
    assert [problem["path"] for problem in error["data"]["errors"]] == ["technique", "options.top_k"]
    error = await ada.error("pipeline.initialize", ["basic", {"text": "x" * 20_000}])
    assert error["code"] == ErrorCode.INVALID_PARAMS
    assert "16384" in error["message"]
    assert await ada.result("pipeline.list") == []


async def test_their_number_is_bounded_for_each_and_for_all(shared: RunningHub, ada: Peer) -> None:
    made = [await ada.request("pipeline.initialize", ["basic"]) for _ in range(3)]  # checked at the same time
    outcomes = [await ada.reply(number) for number in made]
    refused = [reply["error"] for reply in outcomes if "error" in reply]
    assert [error["data"]["limit"] for error in refused] == ["TRUNKLINE_MAX_PIPELINES_PER_PRINCIPAL"]
    async with peer(shared.url, bearer("bob")) as bob:
        own = await bob.result("pipeline.initialize", ["basic"])
        error = await bob.error("pipeline.initialize", ["basic"])
        assert (error["code"], error["data"]["limit"]) == (ErrorCode.RESOURCE_EXHAUSTED, "TRUNKLINE_MAX_PIPELINES")
        await bob.result("pipeline.destroy", [own])
        await bob.result("pipeline.destroy", [await bob.result("pipeline.initialize", ["basic"])])


async def test_without_the_pack_the_error_says_so(debug_peer: Peer) -> None:
    error = await debug_peer.error("pipeline.initialize", ["basic"])
    assert (error["code"], error["data"]["cause"]) == (ErrorCode.PIPELINE_INITIALIZATION_FAILED, "METHOD_NOT_FOUND")
