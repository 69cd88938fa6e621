"""A hub with TLS as a process, on the loop that it really runs on: the command line and the clients reach it."""

from __future__ import annotations

import asyncio
import shutil
import signal
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.authority import Authority
from tests.support.command import trunkline_process
from tests.support.hub import RunningHub, clean_environment, ready_hub
from tests.support.timing import PATIENCE, START, until
from trunkline.client import connect

ROOT: Final = Path(__file__).parents[2]
TOKEN: Final = "s3cret"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def hub(authority: Authority) -> Iterator[RunningHub]:
    pair = authority.pair()
    env = {
        "TRUNKLINE_TOKEN": TOKEN,
        "TRUNKLINE_TLS_CERTIFICATE": str(pair.certificate),
        "TRUNKLINE_TLS_KEY": str(pair.key),
    }
    with ready_hub(env=env) as running:
        assert running.url.startswith("wss://")
        yield running


def test_the_command_line_trusts_whom_it_is_told_to(hub: RunningHub, authority: Authority) -> None:
    env = {"TRUNKLINE_TOKEN": TOKEN}
    stranger = trunkline_process("call", "rpc.ping", "--url", hub.url, env=env)
    assert (stranger.returncode, "SSL_CERT_FILE=ca.pem" in stranger.stderr) == (3, True), stranger.stderr
    trusting = env | {"SSL_CERT_FILE": str(authority.certificate), "TRUNKLINE_EXECUTOR_ENV": ""}
    friend = trunkline_process("call", "rpc.ping", "--url", hub.url, env=trusting)
    assert (friend.returncode, '"pong": true' in friend.stdout) == (0, True), friend.stderr
    health = trunkline_process("doctor", "--url", hub.url, env=trusting)
    assert "TLS" not in health.stdout
    assert hub.url in health.stdout, health.stdout


async def test_large_calls_and_streams_go_both_ways(hub: RunningHub, authority: Authority) -> None:
    value = "x" * (4 * 2**20)
    async with connect(hub.url, token=TOKEN, ssl=authority.trusting()) as client, asyncio.timeout(START):
        assert await client.call("debug.echo", {"value": value}) == value
        assert await asyncio.gather(*(client.call("debug.echo", {"value": n}) for n in range(200))) == [*range(200)]


def test_the_javascript_client_trusts_whom_node_is_told_to(hub: RunningHub, authority: Authority) -> None:
    node, client = shutil.which("node"), ROOT / "clients" / "js" / "dist" / "index.js"
    if node is None or not client.exists():
        pytest.skip("needs node, and the JavaScript client built: make build")
    script = (
        f"import {{ connect }} from {client.as_uri()!r};"
        f"const hub = await connect({hub.url!r}, {{ token: {TOKEN!r} }});"
        "console.log(JSON.stringify((await hub.call('rpc.ping')).pong)); await hub.close();"
    )
    env = clean_environment() | {"NODE_EXTRA_CA_CERTS": str(authority.certificate)}
    done = subprocess.run(
        [node, "--input-type=module", "-e", script],
        env=env,
        cwd=ROOT / "clients",
        capture_output=True,
        text=True,
        timeout=START,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "true"), done.stderr


async def ends(hub: RunningHub, authority: Authority) -> float:
    async with asyncio.timeout(PATIENCE):
        _reader, writer = await asyncio.open_connection("127.0.0.1", hub.port, ssl=authority.trusting())
    try:
        return ssl.cert_time_to_seconds(writer.get_extra_info("peercert")["notAfter"])
    finally:
        writer.close()


async def test_sighup_has_new_connections_get_the_new_certificate(hub: RunningHub, authority: Authority) -> None:
    async with connect(hub.url, token=TOKEN, ssl=authority.trusting()) as client:
        renewed = authority.pair(days=300)
        hub.process.send_signal(signal.SIGHUP)

        async def is_new() -> bool:
            return await ends(hub, authority) == renewed.ends

        await until(is_new, "the new certificate is shown")
        assert (await client.call("rpc.ping"))["pong"] is True
