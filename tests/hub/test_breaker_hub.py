"""Circuit breakers on a real hub: a method that fails is not tried for a while, and comes back by itself."""

from __future__ import annotations

from pathlib import Path

from tests.edge.http.http_client import send
from tests.support.hub import MODULES, RunningHub, ready_hub
from tests.support.peer import peer
from tests.support.timing import until
from trunkline_protocol.errors import ErrorCode

OFTEN = {"trunkline.control.sampling:SECONDS": 0.05}


def metric(hub: RunningHub, line: str) -> float:
    page = send(hub, "/metrics", method="GET").body.decode()
    return next(float(each.rpartition(" ")[2]) for each in page.splitlines() if each.startswith(line))


async def test_a_method_that_fails_is_given_a_rest(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.touch()
    asked = {"broken": str(broken)}
    env = {"TRUNKLINE_BREAKER_RATIO": "0.5", "TRUNKLINE_BREAKER_CALLS": "5", "TRUNKLINE_BREAKER_SECONDS": "300"}
    with ready_hub("fickle", cwd=MODULES, env=env, constants=OFTEN) as hub:
        async with peer(hub.url) as client:

            async def refused() -> bool:
                error = await client.error("fickle.ask", asked)
                assert error["data"]["retryable"]
                return bool(error["code"] == ErrorCode.WORKER_UNAVAILABLE)

            await until(refused, "the breaker opens")
            error = await client.error("fickle.ask", asked)
            assert (error["data"]["maybe_executed"], error["data"]["breaker"]) == (False, "open")
            assert 0 < error["data"]["retry_after_ms"] <= 300_000
            assert metric(hub, "trunkline_breakers_opened_total") == 1
            causes = (await client.result("health.detailed"))["causes"]
            assert any("fickle.ask" in cause and "breaker" in cause for cause in causes)
            # Where there are to be none it closes; the next time it opens, it is for a moment.
            await client.result("config.update", {"config": {"breaker_ratio": 0}})
            await until(lambda: metric(hub, 'trunkline_breakers{state="open"}') == 0, "it is closed")
            await client.result("config.update", {"config": {"breaker_ratio": 0.5, "breaker_seconds": 0.3}})
            await until(refused, "it opens again")
            broken.unlink()

            async def serves() -> bool:
                return "result" in await client.call("fickle.ask", asked)

            await until(serves, "a probe goes through")
            for _ in range(10):
                await until(serves, "it closes")
            assert metric(hub, 'trunkline_breakers{state="open"}') == 0
            assert metric(hub, 'trunkline_breakers{state="half_open"}') == 0


async def test_without_the_setting_every_call_is_tried(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.touch()
    with ready_hub("fickle", cwd=MODULES, constants=OFTEN) as hub:
        async with peer(hub.url) as client:
            for _ in range(50):
                error = await client.error("fickle.ask", {"broken": str(broken)})
                assert error["code"] == ErrorCode.DATABASE_CONNECTION_ERROR
            changes = {"breaker_ratio": 0.9, "breaker_calls": 1}
            assert (await client.result("config.update", {"config": changes}))["changed"] == sorted(changes)

            async def refused() -> bool:
                error = await client.error("fickle.ask", {"broken": str(broken)})
                return bool(error["code"] == ErrorCode.WORKER_UNAVAILABLE)

            await until(refused, "it can be set while the hub runs")
