"""schemathesis makes requests of ``/openapi.json``, as nobody, a reader and another tenant; and what it may not find.

No answer is a fault of the hub's, each is as the document says, and none has what another tenant keeps, or a token.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.edge.http.http_client import JSON, send
from tests.interop.packages import library
from tests.support.hub import RunningHub, ready_hub
from tests.support.jobs import until
from tests.support.peer import peer
from trunkline_protocol.errors import ErrorCode

EXAMPLES: Final = 6
"""Requests of each operation, by each principal."""

SECRET: Final = "planted-secret-of-acme-4711"
TOKENS: Final = {
    name: f"token-of-{name}-{hashlib.sha256(name.encode()).hexdigest()}" for name in ("acme", "rival", "reader")
}

MODULE: Final = '''
"""Methods of several kinds of params and results."""

from collections.abc import AsyncIterator
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from trunkline import Context, method


class Line(BaseModel):
    sku: Annotated[str, Field(min_length=1, max_length=20)]
    count: Annotated[int, Field(ge=1, le=1000)] = 1


@method("shop.order", idempotent=True)
async def order(lines: Annotated[list[Line], Field(min_length=1, max_length=5)], note: str | None = None) -> list[Line]:
    """Order."""
    return lines


@method("shop.count")
def count(numbers: list[float], kind: Literal["sum", "max"] = "sum") -> float | None:
    """A figure of some numbers."""
    return None if not numbers else float(len(numbers))


@method("shop.watch")
async def watch(n: Annotated[int, Field(ge=0, le=3)], ctx: Context) -> AsyncIterator[Line]:
    """A stream."""
    for number in range(n):
        yield Line(sku=str(number))


@method("shop.keep", idempotent=True)
async def keep(text: str) -> str:
    """Keep a text."""
    return text
'''

ENTRIES: Final = """
deny_by_default = true

[roles.all]
methods = [">"]
subscribe = ["{tenant}.>"]
publish = ["{tenant}.>"]
collections = ["{tenant}.*"]

[roles.reader]
methods = ["shop.*", "health.*", "system.*", "rpc.*", "jobs.*", "topics.*", "collections.*", "vectors.*"]
collections = ["public"]
"""


def entry(name: str, tenant: str, role: str) -> str:
    digest = hashlib.sha256(TOKENS[name].encode()).hexdigest()
    return f'[[tokens]]\nname = "{name}"\ntenant = "{tenant}"\nroles = ["{role}"]\nsha256 = "{digest}"\n'


@dataclass(frozen=True)
class Planted:
    """A hub in which a tenant keeps something, and its document."""

    hub: RunningHub
    document: dict[str, Any]
    names: dict[str, Any]
    """What it is called, by the names of params."""

    def aimed(self, path: str, body: Any) -> Any:
        """A body with these names where the operation has params for them."""
        content = self.document["paths"][path].get("post", {}).get("requestBody", {}).get("content", {})
        known = content.get("application/json", {}).get("schema", {}).get("properties", {})
        return (body if isinstance(body, dict) else {}) | {key: self.names[key] for key in self.names if key in known}


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planted]:
    folder: Path = tmp_path_factory.mktemp("shop")
    (folder / "shop.py").write_text(MODULE)
    tokens = folder / "tokens.toml"
    tokens.write_text(
        ENTRIES + entry("acme", "acme", "all") + entry("rival", "rival", "all") + entry("reader", "acme", "reader")
    )
    tokens.chmod(0o600)
    env = {"TRUNKLINE_TOKENS_FILE": str(tokens)}
    with ready_hub("shop", "trunkline.methods.vectors", cwd=folder, env=env) as hub:
        names = asyncio.run(plant(hub))
        document = hub.get("/openapi.json", {"Authorization": f"Bearer {TOKENS['rival']}"}).json()
        yield Planted(hub, document, names)


async def plant(hub: RunningHub) -> dict[str, Any]:
    """Leave the secret wherever a tenant can keep something; returns what that is called."""
    async with peer(hub.url, headers={"Authorization": f"Bearer {TOKENS['acme']}"}) as acme:
        await acme.result("publish", {"topic": "acme.news", "data": SECRET})
        job = await acme.result("jobs.create", {"method": "shop.keep", "params": {"text": SECRET}})
        await acme.result("collections.create", {"name": "acme.notes", "dimension": 2})
        item = {"id": "note-1", "vector": [1.0, 0.0], "text": SECRET, "metadata": {"note": SECRET}}
        await acme.result("vectors.upsert", {"collection": "acme.notes", "items": [item]})
        await acme.result("shop.keep", {"text": SECRET}, metadata={"idempotency_key": SECRET})
        await until(acme, job["id"])
    return {"id": job["id"], "collection": "acme.notes", "name": "acme.notes", "ids": ["note-1"], "topic": "acme.news"}


def test_its_owner_finds_it(planted: Planted) -> None:
    own = {"Authorization": f"Bearer {TOKENS['acme']}"}
    for path, params in {"jobs/get": {}, "vectors/get": {}, "vectors/search": {"vector": [1.0, 0.0]}}.items():
        answer = send(planted.hub, f"/api/v1/{path}", planted.aimed(f"/api/v1/{path}", params), JSON | own)
        assert answer.status == 200, answer
        assert SECRET in answer.body.decode()


@pytest.mark.timeout(400)
@pytest.mark.parametrize("who", [None, "rival", "reader"])
def test_no_request_finds_a_fault_or_what_is_anothers(planted: Planted, who: str | None) -> None:
    schemathesis = library("schemathesis")
    schema = schemathesis.openapi.from_dict(planted.document)
    headers = {} if who is None else {"Authorization": f"Bearer {TOKENS[who]}"}
    statuses: Counter[int] = Counter()
    for found in schema.get_all_operations():
        operation = found.ok()

        @settings(
            max_examples=EXAMPLES, derandomize=True, database=None, deadline=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(case=operation.as_strategy())
        def ask(case: Any) -> None:
            for is_aimed in (False, True):
                if is_aimed:
                    case.body = planted.aimed(case.operation.path, case.body)
                answer = case.call(base_url=f"http://127.0.0.1:{planted.hub.port}", headers=headers, timeout=60)
                statuses[answer.status_code] += 1
                require_typed(answer, case)
                require_nothing_of_others(answer)
                case.validate_response(answer, checks=checks())
                if case.media_type != "application/json":
                    break

        ask()
    assert sum(statuses.values()) > 3 * len(planted.document["paths"])
    if who is not None:
        assert statuses[200] > len(planted.document["paths"]) / 2, statuses


def checks() -> list[Any]:
    known = library("schemathesis.specs.openapi.checks")
    return [known.status_code_conformance, known.content_type_conformance, known.response_schema_conformance]


def require_typed(answer: Any, case: Any) -> None:
    """No fault of the hub's: it is full or starts, the caller's own deadline passed, or there is no pack for it."""
    if answer.status_code < 500:
        return
    error = json.loads(answer.text)["error"]
    error = error.get("trunkline", error)
    late = error["code"] == ErrorCode.COMMUNICATION_TIMEOUT and {"X-Timeout-Ms", "Prefer"} & {*(case.headers or ())}
    no_rag = error["code"] == ErrorCode.PIPELINE_INITIALIZATION_FAILED and error["data"]["cause"] == "METHOD_NOT_FOUND"
    assert answer.status_code == 503 or late or no_rag, (answer.status_code, answer.text)


def require_nothing_of_others(answer: Any) -> None:
    said = answer.text + str(answer.headers)
    assert SECRET not in said, answer.text
    assert not [token for token in TOKENS.values() if token in said]
