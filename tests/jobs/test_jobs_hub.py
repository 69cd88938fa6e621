"""Jobs of a real hub with a real executor: what may be one, whose they are, what is said of them, and their end."""

from __future__ import annotations

import asyncio
import hashlib
import json
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.hub import DEBUG_METHODS, MODULES, RunningHub, ready_hub
from tests.support.jobs import job, until
from tests.support.match import require
from tests.support.peer import Peer, peer
from tests.support.timing import PATIENCE, eventually
from trunkline_protocol.errors import ErrorCode

ENV = {"TRUNKLINE_JOB_BYTES": "4096", "TRUNKLINE_JOBS_WAITING_PER_PRINCIPAL": "4", "TRUNKLINE_JOBS_KEPT": "20"}

TOKENS = """
[roles.reader]
methods = ["labours.*", "jobs.*"]
subscribe = ["jobs.*"]
publish = [">"]

[roles.narrow]
methods = ["labours.where", "jobs.*"]
"""


@pytest.fixture(scope="module")
def hub() -> Iterator[RunningHub]:
    """One executor, so one job at a time."""
    with ready_hub(DEBUG_METHODS, "labours", cwd=MODULES, env=ENV) as running:
        yield running


@pytest.fixture(scope="module")
def strict_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    """One with principals: ann and bob read, carl may little, root is an admin. A token is its principal's name."""
    file = tmp_path_factory.mktemp("tokens") / "tokens.toml"
    entries = [("ann", "reader"), ("bob", "reader"), ("carl", "narrow"), ("root", "admin")]
    file.write_text(
        TOKENS
        + "".join(
            f'[[tokens]]\nname = "{name}"\nroles = ["{role}"]\nsha256 = "{hashlib.sha256(name.encode()).hexdigest()}"\n'
            for name, role in entries
        )
    )
    env = {"TRUNKLINE_TOKENS_FILE": str(file)}
    with ready_hub(DEBUG_METHODS, "labours", cwd=MODULES, env=env) as running:
        yield running


def as_who(hub: RunningHub, name: str) -> Any:
    return peer(hub.url, headers={"Authorization": f"Bearer {name}"})


async def test_a_job_runs_and_keeps_its_result(hub: RunningHub, tmp_path: Path) -> None:
    async with peer(hub.url) as one:
        made = await job(one, "labours.steps", {"folder": str(tmp_path), "count": 3})
        require({"status": "queued", "attempts": 0, "method": "labours.steps", "priority": "low"}, made)
        over = await until(one, made["id"])
        require({"status": "succeeded", "attempts": 1, "progress": {"done": 3, "total": 3}, "error": None}, over)
        assert over["result"]["steps"] == 3
        assert over["created_at"] <= over["started_at"] <= over["finished_at"]
        require({"status": "succeeded", "cancelled": False}, await one.result("jobs.cancel", {"id": made["id"]}))
        assert (tmp_path / "steps").read_text().split() == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("params", "code", "words"),
    [
        ({"method": "labours.nothing"}, ErrorCode.METHOD_NOT_FOUND, "labours.nothing"),
        ({"method": "labours.once"}, ErrorCode.INVALID_PARAMS, "idempotent=True"),
        ({"method": "debug.count", "params": {"n": 1}}, ErrorCode.INVALID_PARAMS, "streams"),
        ({"method": "rpc.ping"}, ErrorCode.INVALID_PARAMS, "the hub answers it itself"),
        ({"method": "jobs.create"}, ErrorCode.INVALID_PARAMS, "the hub answers it itself"),
        ({"method": "labours.where", "params": 5}, ErrorCode.INVALID_PARAMS, "params: must be an object or array"),
        ({"method": "labours.where", "params": {"x": "y" * 5000}}, ErrorCode.INVALID_PARAMS, "may have 4096"),
        ({"method": "labours.where", "idempotency_key": ""}, ErrorCode.INVALID_PARAMS, "idempotency_key"),
        ({"method": "labours.where", "priority": "urgent"}, ErrorCode.INVALID_PARAMS, "priority"),
        ({}, ErrorCode.INVALID_PARAMS, "method"),
    ],
)
async def test_what_cannot_be_a_job(hub: RunningHub, params: dict[str, Any], code: int, words: str) -> None:
    async with peer(hub.url) as one:
        error = await one.error("jobs.create", params)
        assert error["code"] == code
        assert words in error["message"]


@pytest.mark.parametrize("method", ["jobs.get", "jobs.cancel"])
async def test_an_unknown_id_is_named(hub: RunningHub, method: str) -> None:
    async with peer(hub.url) as one:
        require(
            {"code": ErrorCode.INVALID_PARAMS, "message": {"$contains": "'nope'"}},
            await one.error(method, {"id": "nope"}),
        )


async def test_wrong_params_of_the_method_fail_the_job(hub: RunningHub) -> None:
    async with peer(hub.url) as one:
        over = await until(one, (await job(one, "labours.steps", {"count": "many"}))["id"])
        require({"status": "failed", "attempts": 1, "result": None, "error": {"code": ErrorCode.INVALID_PARAMS}}, over)


async def test_what_may_help_again_is_tried_again(hub: RunningHub, tmp_path: Path) -> None:
    async with peer(hub.url) as one:
        params = {"folder": str(tmp_path), "code": ErrorCode.RESOURCE_EXHAUSTED, "times": 1}
        made = await job(one, "labours.fail", params)
        over = await until(one, made["id"])
        require({"status": "succeeded", "attempts": 2, "result": "at last", "last_error": None}, over)


async def test_a_result_that_is_too_large_fails_the_job(hub: RunningHub) -> None:
    async with peer(hub.url) as one:
        over = await until(one, (await job(one, "labours.large", {"length": 5000}))["id"])
        require({"code": ErrorCode.RESOURCE_EXHAUSTED, "data": {"limit": "TRUNKLINE_JOB_BYTES"}}, over["error"])


async def test_an_input_that_kills_executors_fails_the_job(tmp_path: Path) -> None:
    with ready_hub("labours", cwd=MODULES, env={"TRUNKLINE_QUARANTINE_KILLS": "2"}) as hub:
        async with peer(hub.url) as one:
            over = await until(
                one, (await job(one, "labours.deadly", {"folder": str(tmp_path)}))["id"], within=3 * PATIENCE
            )
            require({"status": "failed", "attempts": 2, "error": {"data": {"quarantined": True}}}, over)
            assert (tmp_path / "deaths").read_text() == "xx"
            hub.executor_pids()


async def test_attempts_and_their_time_are_bounded(tmp_path: Path) -> None:
    env = {"TRUNKLINE_JOB_ATTEMPTS": "2"}
    with ready_hub(DEBUG_METHODS, "labours", cwd=MODULES, env=env) as hub:
        async with peer(hub.url) as one:
            params = {"folder": str(tmp_path), "code": ErrorCode.RESOURCE_EXHAUSTED, "times": 9}
            over = await until(one, (await job(one, "labours.fail", params))["id"])
            require({"status": "failed", "attempts": 2, "error": {"message": "as asked, 2"}}, over)
            await one.result("config.update", {"config": {"job_seconds": 0.5}})
            slow = await job(one, "labours.steps", {"folder": str(tmp_path), "count": 1, "hold_at": 0})
            over = await until(one, slow["id"])
            require({"status": "failed", "attempts": 1, "error": {"code": ErrorCode.COMMUNICATION_TIMEOUT}}, over)


# --- keys, pages, limits ---


async def test_the_same_key_is_the_same_job(hub: RunningHub) -> None:
    async with peer(hub.url) as one:
        asked = {"method": "labours.where", "params": {}, "idempotency_key": "k"}
        ids = [await one.request("jobs.create", asked) for _ in range(3)]
        made = {(await one.reply(each))["result"]["id"] for each in ids}
        assert len(made) == 1
        await until(one, next(iter(made)))
        assert (await one.result("jobs.create", asked))["id"] in made
        by_metadata = {"method": "labours.where"}
        again = await one.result("jobs.create", by_metadata, metadata={"idempotency_key": "k"})
        assert again["id"] in made
        error = await one.error("jobs.create", {**asked, "params": {"x": 1}})
        require({"code": ErrorCode.INVALID_PARAMS, "data": {"idempotency": "mismatch"}}, error)


async def test_metadata_goes_on_but_what_meant_the_call_alone_does_not(hub: RunningHub) -> None:
    async with peer(hub.url) as one:
        metadata = {"tenant": "t1", "timeout_ms": 5000, "progress_token": 7, "idempotency_key": "m"}
        made = await one.result("jobs.create", {"method": "labours.where", "priority": "high"}, metadata=metadata)
        result = (await until(one, made["id"]))["result"]
        require({"tenant": "t1", "priority": "high", "progress_token": made["id"]}, result["metadata"])
        assert "idempotency_key" not in result["metadata"]
        assert result["remaining"] > 80_000


async def test_pages_are_the_newest_first_and_whole(hub: RunningHub) -> None:
    async with peer(hub.url) as one:
        made = []
        for _ in range(5):
            made.append((await job(one, "labours.where"))["id"])
            await until(one, made[-1])
        seen: list[str] = []
        params: dict[str, Any] = {"limit": 2, "status": "succeeded"}
        while True:
            page = await one.result("jobs.list", params)
            assert len(page["jobs"]) <= 2
            seen += [each["id"] for each in page["jobs"]]
            if page["cursor"] is None:
                break
            params["cursor"] = page["cursor"]
        assert seen[:5] == made[::-1]
        assert len(seen) == len(set(seen))
        for bad in ({"cursor": "x"}, {"limit": 0}, {"limit": 201}, {"status": "done"}):
            require({"code": ErrorCode.INVALID_PARAMS}, await one.error("jobs.list", bad))


async def test_jobs_that_are_over_are_kept_so_many(hub: RunningHub) -> None:
    async with peer(hub.url) as one:
        first = (await job(one, "labours.where", idempotency_key="first"))["id"]
        for _ in range(21):
            await until(one, (await job(one, "labours.where"))["id"])
        require({"code": ErrorCode.INVALID_PARAMS}, await one.error("jobs.get", {"id": first}))
        again = (await job(one, "labours.where", idempotency_key="first"))["id"]
        assert again != first
        await until(one, again)  # or it would be one of those that wait in the next test
    await asyncio.to_thread(eventually, lambda: not (hub.data / "jobs" / f"{first}.job").exists(), "its file is gone")


async def test_so_many_may_wait(hub: RunningHub, tmp_path: Path) -> None:
    async with peer(hub.url) as one:
        params = {"folder": str(tmp_path), "count": 1, "hold_at": 0}
        made = [(await job(one, "labours.steps", params))["id"] for _ in range(4)]
        error = await one.error("jobs.create", {"method": "labours.steps", "params": params})
        require(
            {"code": ErrorCode.RESOURCE_EXHAUSTED, "data": {"limit": "TRUNKLINE_JOBS_WAITING_PER_PRINCIPAL"}}, error
        )
        (tmp_path / "go").touch()
        for each in made:
            assert (await until(one, each))["status"] == "succeeded"


# --- the end ---


async def test_cancel_reaches_the_executor_and_a_queued_job_never_starts(hub: RunningHub, tmp_path: Path) -> None:
    marker = tmp_path / "m"
    async with peer(hub.url) as one:
        running = await job(one, "labours.work", {"marker": str(marker)})
        await asyncio.to_thread(eventually, (tmp_path / "m.started").exists, "it runs")
        queued = await job(one, "labours.steps", {"folder": str(tmp_path), "count": 1})
        require({"status": "cancelled", "cancelled": True}, await one.result("jobs.cancel", {"id": queued["id"]}))
        ids = [await one.request("jobs.cancel", {"id": running["id"]}) for _ in range(2)]
        for each in ids:
            require({"status": "cancelled", "cancelled": True}, (await one.reply(each))["result"])
        await asyncio.to_thread(eventually, marker.exists, "the executor was told")
        require({"status": "cancelled", "cancelled": False}, await one.result("jobs.cancel", {"id": running["id"]}))
        require({"status": "cancelled", "result": None, "attempts": 1}, await until(one, running["id"]))
        await until(one, (await job(one, "labours.where"))["id"])  # the one slot is free again
        assert not (tmp_path / "starts").exists()


async def test_cancel_and_success_have_one_outcome(hub: RunningHub) -> None:
    async with peer(hub.url) as one:
        for _ in range(10):
            made = await job(one, "labours.where")
            said = await one.result("jobs.cancel", {"id": made["id"]})
            over = await until(one, made["id"])
            assert said["status"] == over["status"]
            assert said["cancelled"] == (over["status"] == "cancelled")
            assert (over["result"] is None) == (over["status"] == "cancelled")


# --- events ---


def is_over(job: dict[str, Any]) -> bool:
    return job["status"] not in ("queued", "running")


async def events(one: Peer, topic: str, last: Callable[[dict[str, Any]], bool] = is_over) -> list[Any]:
    """Up to the last one."""
    found: list[Any] = []
    while not found or not last(found[-1]):
        message = one.others.pop(0) if one.others else await one.receive()
        if message.get("method") == "event":
            assert message["params"]["topic"] == topic
            found.append(message["params"]["data"])
    return found


async def test_events_tell_progress_and_the_end(hub: RunningHub, tmp_path: Path) -> None:
    async with peer(hub.url) as one:
        made = await job(one, "labours.steps", {"folder": str(tmp_path), "count": 2, "hold_at": 1})
        topic = f"jobs.{made['id']}"
        await one.result("subscribe", {"topic": "jobs.*"})
        async with peer(hub.url) as other:
            start = await other.result("subscribe", {"topic": topic})
        await one.result("subscribe", {"topic": topic, "recover": {"epoch": start["epoch"], "offset": 0}})
        held = await events(one, topic, lambda job: (job["progress"] or {}).get("done") == 1)
        assert [held[0]["status"], held[-1]["status"]] == ["queued", "running"]
        (tmp_path / "go").touch()
        said = await events(one, topic)
        assert {each["id"] for each in said} == {made["id"]}
        require({"status": "succeeded", "result": {"steps": 2}, "progress": {"done": 2, "total": 2}}, said[-1])
        async with peer(hub.url) as late:
            start = await late.result("subscribe", {"topic": topic})
            recover = {"epoch": start["epoch"], "offset": 0}
            await late.result("subscribe", {"topic": topic, "recover": recover})
            assert await events(late, topic) == held + said


async def test_only_the_hub_speaks_of_jobs_and_wildcards_do_not_hear_it(hub: RunningHub, tmp_path: Path) -> None:
    async with peer(hub.url) as one, peer(hub.url) as other:
        for pattern in ("jobs.*", "jobs.>", ">", "*.*"):
            await other.result("subscribe", {"topic": pattern})
        made = await job(one, "labours.where")
        topic = f"jobs.{made['id']}"
        await until(one, made["id"])
        for method in ("publish", "labours.ask"):
            params = {"topic": topic, "data": {"status": "failed"}}
            error = await one.error(method, params if method == "publish" else {"method": "publish", "params": params})
            assert error["code"] == ErrorCode.FORBIDDEN
        await one.result("publish", {"topic": "jobs.42", "data": 1})  # anybody's
        message = await other.receive()
        assert message["params"]["topic"] == "jobs.42"


# --- whose ---


async def test_a_job_is_its_creators_and_an_admins(strict_hub: RunningHub, tmp_path: Path) -> None:
    async with as_who(strict_hub, "ann") as ann, as_who(strict_hub, "bob") as bob, as_who(strict_hub, "root") as root:
        params = {"folder": str(tmp_path), "count": 1, "hold_at": 0}
        made = await job(ann, "labours.steps", params, idempotency_key="k")
        assert made["principal"] == "ann"
        for method in ("jobs.get", "jobs.cancel"):
            require({"code": ErrorCode.INVALID_PARAMS}, await bob.error(method, {"id": made["id"]}))
        assert (await bob.result("jobs.list"))["jobs"] == []
        assert (await job(bob, "labours.steps", params, idempotency_key="k"))["id"] != made["id"]
        assert [each["id"] for each in (await ann.result("jobs.list"))["jobs"]] == [made["id"]]
        assert len((await root.result("jobs.list"))["jobs"]) == 2
        require({"cancelled": True}, await root.result("jobs.cancel", {"id": made["id"]}))
        require({"status": "cancelled"}, await until(ann, made["id"]))
        (tmp_path / "go").touch()


async def test_a_job_does_not_widen_what_its_creator_may_call(strict_hub: RunningHub) -> None:
    async with as_who(strict_hub, "carl") as carl:
        require({"code": ErrorCode.FORBIDDEN}, await carl.error("jobs.create", {"method": "labours.large"}))
        require({"status": "succeeded"}, await until(carl, (await job(carl, "labours.where"))["id"]))


@pytest.mark.parametrize("metadata", [{}, {"idempotency_key": "n"}], ids=["", "with a key"])
async def test_a_method_makes_jobs_for_its_caller(strict_hub: RunningHub, metadata: dict[str, str]) -> None:
    async with as_who(strict_hub, "ann") as ann, as_who(strict_hub, "bob") as bob:
        params = {"method": "labours.where", "params": {}}
        made = await ann.result("labours.later", params, metadata={**metadata, "tenant": "t1"})
        assert made["principal"] == "ann"
        over = await until(ann, made["id"])
        assert over["result"]["metadata"]["tenant"] == "t1"
        asked = {"method": "jobs.get", "params": {"id": made["id"]}}
        assert (await ann.result("labours.ask", asked))["id"] == made["id"]
        assert "no job" in (await bob.result("labours.ask", asked))["refused"]
        # ... and so does a job, on behalf of whoever made it.
        outer = await until(ann, (await job(ann, "labours.later", params))["id"])
        assert outer["result"]["principal"] == "ann"
        await until(ann, outer["result"]["id"])


async def test_methods_and_metrics_are_described(hub: RunningHub) -> None:
    async with peer(hub.url) as one:
        document = await one.result("rpc.discover")
        found = {each["name"]: each for each in document["methods"] if each["name"].startswith("jobs.")}
        assert set(found) == {"jobs.create", "jobs.get", "jobs.list", "jobs.cancel"}
        assert "result" in found["jobs.get"]["result"]["schema"]["properties"]
        assert found["jobs.list"]["result"]["schema"]["properties"]["jobs"]["items"]["properties"]["attempts"]
        made = await until(one, (await job(one, "labours.where"))["id"])
        json.dumps(made)
    assert 'trunkline_jobs{status="succeeded"}' in hub.get("/metrics").body.decode()


async def test_over_http_and_as_a_notification(hub: RunningHub) -> None:
    def post(message: dict[str, Any]) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{hub.port}/rpc",
            json.dumps({"jsonrpc": "2.0", **message}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.loads(answer.read() or b"null")

    asked = {"method": "jobs.create", "params": {"method": "labours.where", "idempotency_key": "http"}}
    made = (await asyncio.to_thread(post, {**asked, "id": 1}))["result"]
    async with peer(hub.url) as one:
        require({"status": "succeeded"}, await until(one, made["id"]))
        await one.notify("jobs.create", {"method": "labours.where", "idempotency_key": "quiet"})
        found = await one.result("jobs.create", {"method": "labours.where", "idempotency_key": "quiet"})
        require({"status": "succeeded"}, await until(one, found["id"]))
        assert [each["id"] for each in (await one.result("jobs.list", {"limit": 2}))["jobs"]] == [
            found["id"],
            made["id"],
        ]
