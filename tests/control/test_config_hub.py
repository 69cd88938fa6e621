"""``config.*`` on real hubs: changes take effect on what is open already, as a whole or not at all."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from tests.edge.http.http_client import send
from tests.support.hub import DEBUG_METHODS, RunningHub, ready_hub
from tests.support.peer import Peer, peer
from tests.support.timing import until
from trunkline_protocol.errors import ErrorCode


async def test_settings_are_reported_and_secrets_are_not(tmp_path: Path) -> None:
    file = tmp_path / "hub.toml"
    file.write_text('llm_api_key = "k-123456789"\notlp_endpoint = "http://ada:s3cret@127.0.0.1:9"\nmax_calls = 50\n')
    env = {"TRUNKLINE_JWT_KEY": "a-key-that-is-long-enough-for-hmac-sha256", "TRUNKLINE_JWT_AUDIENCE": "hub"}
    env |= {"TRUNKLINE_TOKEN": "t0ken-of-the-test"}
    with ready_hub(DEBUG_METHODS, env=env, arguments=["--config", str(file)]) as hub:
        async with peer(hub.url, {"Authorization": "Bearer t0ken-of-the-test"}) as client:
            report = await client.result("config.get")
    settings = report["settings"]
    assert report["file"] == str(file)
    assert settings["max_calls"] == {"value": 50, "source": "file", "live": True}
    assert settings["executors"] == {"value": 1, "source": "command line", "live": False}
    assert settings["jwt_audience"] == {"value": "hub", "source": "environment", "live": False}
    assert settings["max_batch"] == {"value": 100, "source": "default", "live": False}
    assert settings["uds_mode"]["value"] == "600"
    assert {settings[name]["value"] for name in ("token", "jwt_key", "llm_api_key")} == {"***"}
    text = json.dumps(report)
    assert not [secret for secret in ("t0ken-of", "a-key-that", "k-1234", "s3cret") if secret in text]


async def test_an_update_reaches_open_connections_and_is_audited(tmp_path: Path) -> None:
    log = tmp_path / "audit.ndjson"
    with ready_hub(DEBUG_METHODS, env={"TRUNKLINE_AUDIT_FILE": str(log)}) as hub:
        async with peer(hub.url) as client:
            assert await client.result("debug.echo", {"value": 1}) == 1
            changed = await client.result("config.update", {"config": {"rate_limit": 0.001, "rate_burst": 3}})
            assert changed == {"changed": ["rate_burst", "rate_limit"], "persisted": False}
            await client.result("debug.echo", {"value": 1})
            source = (await client.result("config.get"))["settings"]["rate_limit"]
            assert source == {"value": 0.001, "source": "update", "live": True}
            await client.result("debug.echo", {"value": 1})
            assert (await client.error("debug.echo", {"value": 1}))["code"] == ErrorCode.RATE_LIMITED
        await until(lambda: '"event":"config"' in log.read_text(), "the change is audited")
        line = next(json.loads(line) for line in log.read_text().splitlines() if '"event":"config"' in line)
    assert (line["principal"], line["method"]) == ("anonymous", "config.update")
    assert line["changed"] == "rate_burst,rate_limit"


async def test_an_update_is_all_or_nothing(debug_peer: Peer) -> None:
    wrong = {"max_calls": 7, "rate_limit": -1, "executors": 9, "no_such": 1}
    error = await debug_peer.error("config.update", {"config": wrong})
    assert (error["code"], error["data"]["maybe_executed"]) == (ErrorCode.INVALID_CONFIGURATION, False)
    assert {problem["path"] for problem in error["data"]["errors"]} == {"rate_limit", "no_such"}
    error = await debug_peer.error("config.update", {"config": {"max_calls": 7, "port": 1, "model": "other"}})
    assert [problem["path"] for problem in error["data"]["errors"]] == ["model", "port"]
    assert "restart" in error["message"]
    settings = (await debug_peer.result("config.get"))["settings"]
    assert settings["max_calls"]["source"] == "default"


async def test_what_is_validated_changes_nothing(debug_peer: Peer) -> None:
    said = await debug_peer.result("config.validate", {"config": {"max_calls": 7, "executors": 5}})
    assert said == {"valid": True, "errors": [], "needs_restart": ["executors"]}
    assert (await debug_peer.result("config.validate", [{"max_calls": "many"}]))["errors"][0]["path"] == "max_calls"
    settings = (await debug_peer.result("config.get"))["settings"]
    assert settings["max_calls"]["source"] == "default"


def max_calls(hub: RunningHub) -> int:
    answer = send(hub, "/api/v1/config/get", {}).json()
    return int(answer["settings"]["max_calls"]["value"])


async def test_the_file_is_read_again_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "hub.toml"
    file.write_text("max_calls = 50\n")
    with ready_hub(DEBUG_METHODS, arguments=["--config", str(file)]) as hub:
        async with peer(hub.url) as client:
            await client.result("config.update", {"config": {"rate_burst": 77}})
            file.write_text("max_calls = 60\n")
            assert (await client.result("config.reload"))["changed"] == ["max_calls", "rate_burst"], (
                "the update is over"
            )
            for text in ("max_calls = 70\nmax_batch = 7\n", "max_calls = 70\nrate_limit = -1\n", "max_calls = \n"):
                file.write_text(text)
                error = await client.error("config.reload")
                assert error["code"] == ErrorCode.INVALID_CONFIGURATION, error
                assert max_calls(hub) == 60
            file.write_text("max_calls = 80\nexecutors = 1\n")
            hub.process.send_signal(signal.SIGHUP)
            await until(lambda: max_calls(hub) == 80, "the file is read again at SIGHUP")
            file.unlink()
            assert "no such configuration file" in (await client.error("config.reload"))["message"]
            hub.process.send_signal(signal.SIGHUP)
            hub.wait_for("no such configuration file")
            assert max_calls(hub) == 80
