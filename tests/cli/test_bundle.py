"""``trunkline doctor --bundle``: what is in it, what is not, and what becomes of it where the hub says nothing."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import signal
import subprocess
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import websockets

from tests.support.command import COMMAND, NO_HUB, requires_failure, trunkline
from tests.support.hub import RunningHub, clean_environment, ready_hub
from tests.support.match import require
from tests.support.peer import peer
from tests.support.small_disk import fill, small_disk
from tests.support.timing import PATIENCE, until

TOKEN: Final = "planted-static-token-1f7c"
READER: Final = "planted-readers-token-99ab"
PASSWORD: Final = "planted-database-password"
OF_A_URL: Final = "planted-password-of-a-url"
IN_A_QUERY: Final = "planted-token-in-a-query"
SAID: Final = "planted text that a method says of a patient"
IN_A_TOKENS_FILE: Final = "planted-comment-of-the-tokens-file"
PLANTED: Final = (TOKEN, READER, PASSWORD, OF_A_URL, IN_A_QUERY, SAID, IN_A_TOKENS_FILE, "Ann Smith")

LONG: Final = ("--part-seconds", str(6 * PATIENCE))
"""Where it is not about deadlines: a busy machine needs its time."""

OF_THE_HUB: Final = (
    "health.json", "system.json", "settings.json", "figures.json", "figures_5m.json", "calls.json", "topics.json",
    "jobs.json", "methods.json", "executors.json", "connections.json", "rates.json", "log.json", "metrics.txt",
)  # fmt: skip
OF_THIS_MACHINE: Final = (
    "checks.json", "checks.txt", "versions.json", "limits.json", "processes.json", "settings_here.json",
    "data_folder.json",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Planted:
    """A hub with secrets in all places that have some, and the environment of who asks it."""

    hub: RunningHub
    env: dict[str, str]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planted]:
    folder = tmp_path_factory.mktemp("planted")
    tokens = folder / "tokens.toml"
    digest = hashlib.sha256(READER.encode()).hexdigest()
    tokens.write_text(
        f'# {IN_A_TOKENS_FILE}\n[[tokens]]\nname = "Ann Smith"\nsha256 = "{digest}"\nroles = ["reader"]\n'
        '[roles.reader]\nmethods = ["debug.*", "system.info"]\n'
    )
    env = {
        "TRUNKLINE_TOKEN": TOKEN,
        "TRUNKLINE_TOKENS_FILE": str(tokens),
        "TRUNKLINE_OTLP_ENDPOINT": f"http://ada:{OF_A_URL}@127.0.0.1:9/v1",
        "DATABASE_PASSWORD": PASSWORD,
    }
    with ready_hub(env=env) as hub:
        yield Planted(hub, env | {"TRUNKLINE_EXECUTOR_ENV": "DATABASE_PASSWORD"})


def files(data: bytes) -> dict[str, bytes]:
    """What is in an archive, unpacked."""
    with zipfile.ZipFile(io.BytesIO(data)) as zipped:
        assert zipped.testzip() is None
        return {name: zipped.read(name) for name in zipped.namelist()}


def states(found: dict[str, bytes]) -> dict[str, str | None]:
    """By the manifest: of each part why it is missing, None where it is there."""
    listed = json.loads(found["manifest.json"])["parts"]
    assert {each["file"] for each in listed if each["state"] == "present"} == found.keys() - {"manifest.json"}
    assert all(each["at"] and (each["error"] is None) == (each["state"] == "present") for each in listed)
    return {each["file"]: each["error"] for each in listed}


def bundle(given: Planted, file: Path, *options: str) -> dict[str, bytes]:
    url = f"{given.hub.url}?access_token={IN_A_QUERY}"
    done = trunkline("doctor", "--bundle", str(file), "--url", url, *options, env=given.env, cwd=file.parent)
    assert (done.returncode, done.stdout) == (0, ""), done
    assert not [secret for secret in PLANTED if secret in done.stderr and "--no-redact" not in options]
    return files(file.read_bytes())


async def asked_by_ann(hub: RunningHub) -> None:
    """She makes a method fail until that is a cause of health, which is looked at now and then, and is in the log."""
    async with peer(hub.url, {"Authorization": f"Bearer {READER}"}) as ann:
        for _ in range(6):
            await ann.error("debug.fail", {"message": f"{SAID}: Bearer {TOKEN}"})
            await ann.error("debug.count", {"n": 3, "fail_at": 0})
    async with peer(hub.url, {"Authorization": f"Bearer {TOKEN}"}) as admin:

        async def is_a_cause() -> bool:
            return any("debug.fail fails" in cause for cause in (await admin.result("health.detailed"))["causes"])

        await until(is_a_cause, "health names what fails")


async def test_everything_is_there_and_no_secret_is(planted: Planted, tmp_path: Path) -> None:
    await asked_by_ann(planted.hub)
    file = tmp_path / "hub.zip"
    found = await asyncio.to_thread(bundle, planted, file, *LONG)
    assert states(found) == dict.fromkeys((*OF_THIS_MACHINE, *OF_THE_HUB))
    assert oct(file.stat().st_mode & 0o777) == "0o600"
    assert os.listdir(tmp_path) == [file.name], "nothing is left beside it"
    everything = b"\n".join(found.values())
    assert not [secret for secret in PLANTED if secret.encode() in everything]
    said = {name: json.loads(data) for name, data in found.items() if name.endswith(".json")}

    settings = said["settings.json"]["settings"]
    assert settings["token"] == {"value": "***", "source": "environment", "live": False}
    assert settings["otlp_endpoint"]["value"] == "http://***@127.0.0.1:9/v1"
    assert (settings["executors"]["source"], settings["max_calls"]["source"]) == ("command line", "default")
    assert said["settings_here.json"]["settings"]["executors"]["source"] == "default"

    failing = {each["method"]: each for each in said["health.json"]["methods"]}
    assert failing["debug.fail"]["last_error"]["type"] == "INTERNAL_ERROR"
    assert any("debug.fail fails" in cause for cause in said["health.json"]["causes"])
    assert "debug.fail fails" in found["checks.txt"].decode()
    assert {"settings", "disk", "open files"} <= {each["name"] for each in said["checks.json"]}
    require({"name": "hub", "state": "failed"}, {k: said["checks.json"][-1][k] for k in ("name", "state")})
    assert b"trunkline_calls_total" in found["metrics.txt"]
    assert any(record["logger"].startswith("trunkline") for record in said["log.json"]["records"])
    assert any("File " in record.get("exception", "") for record in said["log.json"]["records"])
    assert said["system.json"]["pid"] == said["processes.json"][0]["pid"] == planted.hub.process.pid
    assert {each["pid"] for each in said["processes.json"][1:]} >= planted.hub.executor_pids()
    data_folder = said["data_folder.json"]
    assert (data_folder["folder"], data_folder["whose"]) == (str(planted.hub.data), "named by the hub")
    (disk,) = [each["detail"] for each in said["checks.json"] if each["name"] == "disk"]
    assert disk.endswith(f", for the hub's data folder {planted.hub.data}")
    assert said["versions.json"]["packages"]["picows"].startswith("2.3")
    assert said["limits.json"]["nofile"][0] > 0
    assert "debug.echo" in {each["name"] for each in said["methods.json"]["methods"]}


async def test_who_asked_is_a_number_unless_names_are_wanted(planted: Planted, tmp_path: Path) -> None:
    async with peer(planted.hub.url, {"Authorization": f"Bearer {READER}"}) as ann:
        sleeping = await ann.request("debug.sleep", {"seconds": 600})
        plain = await asyncio.to_thread(bundle, planted, tmp_path / "plain.zip", *LONG)
        full = await asyncio.to_thread(bundle, planted, tmp_path / "full.zip", "--no-redact", *LONG)
        await ann.send({"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {"id": sleeping}})

    def principals(found: dict[str, bytes], file: str, part: str) -> set[str]:
        listed: list[dict[str, Any]] = json.loads(found[file])[part]
        return {each["principal"] for each in listed}

    for file, part in (("calls.json", "calls"), ("connections.json", "connections")):
        assert "Ann Smith" in principals(full, file, part)
        assert {name.rstrip("0123456789") for name in principals(plain, file, part)} - {"token"} == {"principal-"}
    (name,) = {
        each["principal"] for each in json.loads(plain["calls.json"])["calls"] if each["method"] == "debug.sleep"
    }
    assert name in principals(plain, "connections.json", "connections"), "the same one everywhere"
    assert json.loads(full["manifest.json"])["redacted"] is False
    secrets = (TOKEN, READER, PASSWORD, OF_A_URL, IN_A_QUERY, IN_A_TOKENS_FILE)
    assert not [secret for secret in secrets if secret.encode() in b"\n".join(full.values())]


def test_what_a_token_may_not_see_is_named(planted: Planted, tmp_path: Path) -> None:
    found = bundle(planted, tmp_path / "hub.zip", "--token", READER, *LONG)
    why = states(found)
    for name in ("settings.json", "calls.json", "topics.json", "log.json", "executors.json", "connections.json"):
        assert "FORBIDDEN" in str(why[name]), name
    assert why["system.json"] is None, "what it may see is there"
    assert {name for name in OF_THIS_MACHINE if why[name] is not None} == set()
    assert not [secret for secret in PLANTED if secret.encode() in b"\n".join(found.values())]


def test_a_wrong_token_is_why_nothing_of_the_hub_is_there(planted: Planted, tmp_path: Path) -> None:
    found = bundle(planted, tmp_path / "hub.zip", "--token", "planted-wrong-token", *LONG)
    why = states(found)
    (refused,) = {why[name] for name in OF_THE_HUB if name != "metrics.txt"}
    assert str(refused).startswith("no connection: the hub refuses this token (HTTP 403: ")
    assert str(refused) in found["checks.txt"].decode()
    assert b"start one" not in found["checks.txt"]
    assert "401" in str(why["metrics.txt"])
    assert b"planted-wrong-token" not in b"\n".join(found.values())


def test_a_hub_that_does_not_answer_is_told_of_in_time(planted: Planted, tmp_path: Path) -> None:
    os.kill(planted.hub.process.pid, signal.SIGSTOP)
    try:
        found = bundle(planted, tmp_path / "hub.zip", "--part-seconds", "2")
    finally:
        os.kill(planted.hub.process.pid, signal.SIGCONT)
    why = states(found)
    assert all(str(why[name]) == "no connection: the hub does not answer within 2 s" for name in OF_THE_HUB[:-1])
    assert why["metrics.txt"] is not None
    if why["processes.json"] is None:  # it was found within 2 s
        (hub, *_executors) = json.loads(found["processes.json"])
        assert (hub["pid"], hub["status"]) == (planted.hub.process.pid, "stopped")
    assert all(each["seconds"] < 4 * PATIENCE for each in json.loads(found["manifest.json"])["parts"])


async def test_a_hub_that_falls_silent_after_the_handshake_costs_its_own_parts(tmp_path: Path) -> None:
    async def say_nothing(connection: websockets.ServerConnection) -> None:
        async for _frame in connection:
            pass

    async with websockets.serve(say_nothing, "127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/ws"
        arguments = ("doctor", "--bundle", "hub.zip", "--url", url, "--part-seconds", "3")
        done = await asyncio.to_thread(trunkline, *arguments, cwd=tmp_path)
    assert done.returncode == 0, done
    found = await asyncio.to_thread(lambda: files((tmp_path / "hub.zip").read_bytes()))
    why = states(found)
    assert {why[name] for name in OF_THE_HUB if name != "metrics.txt"} == {"not there within 3 s"}
    listed = json.loads(found["manifest.json"])["parts"]
    assert max(each["seconds"] for each in listed) < 3 + PATIENCE, "it is not asked to tidy up either"


def test_without_a_hub_there_is_what_is_here(tmp_path: Path) -> None:
    (tmp_path / "hub.toml").write_text(
        f'data = "stored"\nllm_api_key = "{PASSWORD}"\n[groups.work]\nmethods = ["work"]\n'
        f'env = {{ LEVEL = "{READER}" }}\nsettings = {{ dsn = "{TOKEN}" }}\n'
    )
    (tmp_path / "stored" / "collections" / "papers").mkdir(parents=True)
    (tmp_path / "stored" / "collections" / "papers" / "collection.sqlite").write_text(SAID)
    arguments = ("--bundle", "hub.zip", "--url", NO_HUB, "--config", "hub.toml", *LONG)
    done = trunkline("doctor", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done
    found = files((tmp_path / "hub.zip").read_bytes())
    why = states(found)
    assert all(why[name] for name in OF_THE_HUB)
    (line,) = [line for line in done.stderr.splitlines() if "health.json" in line]
    assert line.startswith(f"missing: {', '.join(OF_THE_HUB[:9])}"), "one line for one cause"
    assert "log.json: no connection: nothing listens there" in line
    assert line.endswith("; start one with: trunkline serve")
    assert why["processes.json"] == "no process that this user may see listens on port 9"
    assert not [secret for secret in PLANTED if secret.encode() in b"\n".join(found.values())]
    listing = json.loads(found["data_folder.json"])
    assert listing["folder"] == str(tmp_path / "stored")
    assert listing["whose"] == "named by this shell's settings; the hub has not said which it has"
    sizes = {each["path"]: each["bytes"] for each in listing["files"]}
    assert sizes["collections/papers/collection.sqlite"] == len(SAID)
    groups = json.loads(found["settings_here.json"])["settings"]["groups"]["value"]
    assert (groups["work"]["env"], groups["work"]["settings"]) == ({"LEVEL": "***"}, {"dsn": "***"})


def test_a_file_that_exists_is_replaced_by_force_alone(tmp_path: Path) -> None:
    file = tmp_path / "hub.zip"
    file.write_text("kept")
    arguments = ("doctor", "--bundle", str(file), "--url", NO_HUB)
    requires_failure(trunkline(*arguments, cwd=tmp_path), 2, "exists: --force replaces it")
    assert file.read_text() == "kept"
    assert trunkline(*arguments, "--force", cwd=tmp_path).returncode == 0
    assert "manifest.json" in files(file.read_bytes())


def test_a_bundle_may_go_to_standard_output(tmp_path: Path) -> None:
    command = [*COMMAND, "doctor", "--bundle", "-", "--url", NO_HUB, *LONG]
    done = subprocess.run(command, capture_output=True, env=clean_environment(), cwd=tmp_path, check=True)
    found = files(done.stdout)
    assert states(found)["versions.json"] is None
    whose = json.loads(found["data_folder.json"])["whose"]
    assert "this shell's default; the hub's is not known" in whose
    assert f"; {whose}\n" in found["checks.txt"].decode(), "the check of the disk says so, too"
    assert b"missing: health.json, " in done.stderr


def test_a_disk_without_room_ends_it_with_words(tmp_path: Path) -> None:
    with small_disk(tmp_path) as disk:
        fill(disk / "filler")
        done = trunkline("doctor", "--bundle", str(disk / "hub.zip"), "--url", NO_HUB, cwd=tmp_path)
        requires_failure(done, 1, "hub.zip: No space left on device")
        assert [each.name for each in disk.iterdir()] == ["filler"]
