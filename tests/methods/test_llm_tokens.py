"""Tokens of language models are counted for the tenant whose call asked for them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from typing_extensions import override

pytest.importorskip("faiss")

from tests.hub.tenants import as_one_of, hub_of_tenants
from tests.methods.llm_endpoint import Endpoint
from tests.methods.packs import word_embeddings
from tests.methods.test_generated import QUESTION
from tests.support.libraries import skip_without
from tests.support.peer import Peer
from tests.support.timing import until
from trunkline import Context
from trunkline.methods import rag, vectors
from trunkline.testing import MockHub

skip_without("openai")


class TellingEndpoint(Endpoint):
    """Tells the tokens of an answer where it is asked to. ``options`` is what it does with the member that asks."""

    def __init__(self, options: str) -> None:
        super().__init__()
        self.options = options

    @override
    async def complete(self, request: Request) -> Response:
        asked = await request.json()
        wants = asked.get("stream_options", {}).get("include_usage", False) and self.options == "taken"
        self.usage = {"prompt_tokens": 40, "completion_tokens": 5, "total_tokens": 45} if wants else None
        if "stream_options" in asked and self.options == "refused":
            self.requests.append(asked)
            return JSONResponse({"error": {"message": "unknown argument"}}, 400)
        return await super().complete(request)


@asynccontextmanager
async def asking(folder: Path, endpoint: Endpoint) -> AsyncIterator[tuple[MockHub, Peer, Peer]]:
    given = {"llm_base_url": endpoint.base_url, "llm_model": "tiny-llm"}
    packs = (word_embeddings, vectors, rag)
    async with (
        hub_of_tenants(folder, *packs, pack_settings=given) as mock,
        as_one_of(mock, "acme") as acme,
        as_one_of(mock, "root") as root,
    ):
        await acme.result("collections.create", {"name": "pets"})
        items = [{"id": "cats", "text": "A cat sleeps."}]
        await acme.result("vectors.upsert", {"collection": "pets", "items": items})
        yield mock, acme, root


async def tokens_of(root: Peer, tenant: str) -> tuple[int, ...]:
    days = (await root.result("tenants.usage", {"tenant": tenant}))["days"]
    names = ("llm_requests", "llm_requests_untold", "prompt_tokens", "completion_tokens")
    return tuple(sum(day[name] for day in days) for name in names)


async def test_tokens_are_the_tenants_that_asked(tmp_path: Path) -> None:
    with TellingEndpoint("taken") as endpoint:
        async with asking(tmp_path, endpoint) as (mock, acme, root):
            for _ in range(2):
                assert (await acme.result("rag.execute", QUESTION))["answer"]
            streamed = await acme.request("rag.stream", QUESTION)
            assert (await acme.reply(streamed))["result"]["answer"]
            assert await tokens_of(root, "acme") == (3, 0, 120, 15)
            assert await tokens_of(root, "bolt") == (0, 0, 0, 0)
            async with as_one_of(mock, "bolt") as bolt:
                assert "no collection" in (await bolt.error("rag.execute", QUESTION))["message"]
            assert await tokens_of(root, "bolt") == (0, 0, 0, 0)


@pytest.mark.parametrize(("options", "requests"), [("ignored", 2), ("refused", 3)])
async def test_an_endpoint_that_does_not_tell_is_counted_as_such(tmp_path: Path, options: str, requests: int) -> None:
    with TellingEndpoint(options) as endpoint:
        async with asking(tmp_path, endpoint) as (_, acme, root):
            for _ in range(2):
                assert (await acme.result("rag.execute", QUESTION))["answer"] == "The cat sleeps [1]."
            assert len(endpoint.requests) == requests, "what is refused once is not asked again"
            assert await tokens_of(root, "acme") == (2, 2, 0, 0)


async def test_an_answer_that_is_cancelled_was_a_request(tmp_path: Path) -> None:
    with TellingEndpoint("taken") as endpoint:
        endpoint.mode = "silent"
        async with asking(tmp_path, endpoint) as (_, acme, root):
            asked = await acme.request("rag.execute", QUESTION)
            await until(lambda: endpoint.sent, "it has begun")
            await acme.cancel(asked)

            async def counted() -> bool:
                return await tokens_of(root, "acme") == (1, 1, 0, 0)

            await until(counted, "it is counted")


async def test_a_fault_of_the_endpoint_stays_what_it_is(tmp_path: Path) -> None:
    with TellingEndpoint("taken") as endpoint:
        endpoint.mode = "400"
        async with asking(tmp_path, endpoint) as (_, acme, root):
            error = await acme.error("rag.execute", QUESTION)
            assert error["data"]["http_status"] == 400
            endpoint.mode = "answer"
            await acme.result("rag.execute", QUESTION)
            assert await tokens_of(root, "acme") == (1, 0, 40, 5), "the options were not what it refused"


async def test_methods_of_ones_own_count_theirs(tmp_path: Path) -> None:
    async def ask(ctx: Context, prompt: int | float, told: bool = True) -> None:
        ctx.count_tokens(prompt, 2, told=told)  # type: ignore[arg-type]

    async def outer(ctx: Context) -> Any:
        return await ctx.call("llm.ask", {"prompt": 7})

    async with hub_of_tenants(tmp_path) as mock, as_one_of(mock, "acme") as acme, as_one_of(mock, "root") as root:
        mock.method("llm.ask", ask)
        mock.method("llm.outer", outer)
        await acme.result("llm.outer")
        assert await tokens_of(root, "acme") == (1, 0, 7, 2)
        for wrong in (-1, 1.5, 2**60):
            await acme.error("llm.ask", {"prompt": wrong})
        await acme.result("llm.ask", {"prompt": 1})
        assert await tokens_of(root, "acme") == (2, 0, 8, 4), "the executor is well"
