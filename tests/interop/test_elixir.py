"""Elixir: the example project behind a port, a BEAM that is killed, and gun, a WebSocket client that is not ours."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import psutil
import pytest

from tests.support.hub import clean_environment, is_alive, ready_hub
from tests.support.timing import PATIENCE, SCALE, eventually

ROOT: Final = Path(__file__).parents[2]
EXAMPLE: Final = ROOT / "examples" / "elixir"
BUILD: Final = ROOT / "build" / "elixir"
RABBITMQ: Final = ROOT / "build" / "rabbitmq-server"
TRUNKLINE: Final = Path(sys.executable).with_name("trunkline")
GUN: Final = Path(__file__).with_name("elixir") / "gun.exs"


def missing(what: str) -> None:
    """Skip; in CI everything has to be there."""
    if os.environ.get("CI") == "true":
        pytest.fail(what)
    pytest.skip(what)


@pytest.fixture(scope="module", autouse=True)
def mix() -> None:
    """The example, compiled."""
    if shutil.which("mix") is None:
        missing("elixir is missing: apt-get install --no-install-recommends elixir")
    subprocess.run(["mix", "compile"], cwd=EXAMPLE, env=environment(), check=True, timeout=120 * SCALE)


def environment() -> dict[str, str]:
    # A locale without UTF-8 would make Elixir read and print Latin-1.
    return clean_environment(
        {"MIX_BUILD_PATH": str(BUILD), "TRUNKLINE": str(TRUNKLINE), "LANG": "C.UTF-8", "ELIXIR_ERL_OPTIONS": "+fnu"}
    )


@pytest.mark.timeout(300 * SCALE)
def test_the_example_s_own_tests() -> None:
    """Calls from 100 processes, streams, cancels, events, 5 MB, kill -9 and restart, the end of input."""
    done = subprocess.run(
        ["mix", "test"], cwd=EXAMPLE, env=environment(), capture_output=True, text=True, timeout=280 * SCALE
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert " 0 failures" in done.stdout


def test_the_example_is_formatted() -> None:
    done = subprocess.run(["mix", "format", "--check-formatted"], cwd=EXAMPLE, env=environment(), capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


BEAM: Final = """
args = ["--packs", "none", "--methods", "trunkline.methods.debug", "--executors", "2"]
{:ok, _} = Trunkline.start_link(name: Hub, command: System.get_env("TRUNKLINE"), args: args)
{:ok, _} = Trunkline.stream(Hub, "debug.count", %{n: 1_000_000, interval_ms: 10})
receive do {:trunkline, _, {:chunk, _, _}} -> :ok end
IO.puts("#{System.pid()} #{Trunkline.os_pid(Hub)}")
Process.sleep(:infinity)
"""


def test_kill_9_of_the_beam_ends_hub_and_executors() -> None:
    program = subprocess.Popen(
        ["elixir", "-pa", str(BUILD / "lib" / "trunkline" / "ebin"), "-e", BEAM],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment(),
    )  # fmt: skip
    with program:
        assert program.stdout is not None
        beam, hub = map(int, program.stdout.readline().split())
        children = psutil.Process(hub).children
        eventually(lambda: len(children()) == 2, "both executors are there")
        family = [hub, *(child.pid for child in children())]
        os.kill(beam, signal.SIGKILL)
    eventually(lambda: not any(map(is_alive, family)), "hub and executors are gone", 2 * PATIENCE)


@pytest.fixture(scope="module")
def gun() -> list[str]:
    """Code paths of gun and cowlib, out of Debian's rabbitmq-server; it is unpacked and not installed."""
    if not [*RABBITMQ.rglob("gun.beam")]:
        packages = sorted(RABBITMQ.glob("*.deb"))
        if not packages or shutil.which("dpkg") is None:
            missing("gun is taken from Debian's rabbitmq-server: make deps-debian fetches the package")
        subprocess.run(["dpkg", "-x", str(packages[-1]), str(RABBITMQ)], check=True)
    return [str(path) for name in ("gun", "cowlib") for path in RABBITMQ.rglob(f"{name}-*/ebin")]


def test_gun(gun: list[str]) -> None:
    """Call, stream, pings and close at /ws; join, call and heartbeat at /socket."""
    assert len(gun) == 2
    paths = [part for path in (*gun, str(BUILD / "lib" / "trunkline" / "ebin")) for part in ("-pa", path)]
    answers_within = 1.5 * SCALE
    env = {"TRUNKLINE_PING_INTERVAL": "0.2", "TRUNKLINE_PING_TIMEOUT": str(answers_within)}
    with ready_hub(env=env) as hub:
        done = subprocess.run(
            ["elixir", *paths, str(GUN), str(hub.port), str(round(1000 * (answers_within + 1.5)))],
            capture_output=True, text=True, env=environment(), timeout=60 * SCALE,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.splitlines() == ["json-rpc: ok", "phoenix: ok"]
