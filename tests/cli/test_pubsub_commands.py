"""``trunkline subscribe``, ``publish`` and ``token``: the real commands against a real hub, or a scripted one."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import pty
import re
import select
import shlex
import signal
import subprocess
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.client.scripted import ScriptedHub, event, gap, scripted_hub
from tests.support.command import COMMAND, NO_HUB, requires_failure, trunkline, trunkline_process
from tests.support.hub import RunningHub, clean_environment
from tests.support.timing import PATIENCE, SCALE, START
from trunkline.client import Event, connect
from trunkline.edge.access.tokens import TokensFile


class Subscriber:
    """A running ``trunkline subscribe`` that has subscribed."""

    def __init__(self, process: Process) -> None:
        self.process = process

    async def line(self) -> str:
        assert self.process.stdout is not None
        return (await asyncio.wait_for(self.process.stdout.readline(), PATIENCE)).decode()

    async def end(self) -> tuple[int, str, str]:
        """Wait for its end: exit code, what is left of stdout, stderr."""
        out, err = await asyncio.wait_for(self.process.communicate(), PATIENCE)
        assert b"Traceback" not in err
        assert b"Exception ignored" not in err
        assert self.process.returncode is not None
        return self.process.returncode, out.decode(), err.decode()


@asynccontextmanager
async def subscriber(
    hub: ScriptedHub, *arguments: str, env: Mapping[str, str] | None = None
) -> AsyncIterator[Subscriber]:
    process = await asyncio.create_subprocess_exec(
        *COMMAND, "subscribe", *arguments, "--url", hub.url, stdout=PIPE, stderr=PIPE, env=clean_environment(env)
    )
    try:
        await hub.wait_for("subscribe", within=START)
        yield Subscriber(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def published(hub: RunningHub, topic: str, *arguments: str, **options: Any) -> str:
    done = trunkline("publish", topic, *arguments, "--url", hub.url, **options)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout.strip()


def recovered(hub: RunningHub, topic: str, position: str, count: int, *arguments: str) -> list[str]:
    """What is published after a position."""
    done = trunkline("subscribe", topic, "--recover", position, "--count", str(count), *arguments, "--url", hub.url)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout.splitlines()


def before(position: str) -> str:
    epoch, _, offset = position.rpartition(":")
    return f"{epoch}:{int(offset) - 1}"


# --- there and back, through a real hub ---


def test_publish_prints_a_position_that_subscribe_takes(debug_hub: RunningHub) -> None:
    done = trunkline_process("publish", "cli.a", '{"done": [1, "ü"]}', "--url", debug_hub.url)
    assert (done.returncode, done.stderr) == (0, ""), done
    first = done.stdout.strip()
    assert re.fullmatch(r"[\w.]+:\d+", first)
    published(debug_hub, "cli.a", "null")
    recover = ("--recover", before(first), "--count", "2", "--url", debug_hub.url)
    lines = trunkline_process("subscribe", "cli.a", *recover).stdout.splitlines()
    assert re.fullmatch(r'\d\d:\d\d:\d\d\.\d{3}  cli\.a  \{"done":\[1,"ü"\]\}', lines[0])
    assert lines[1].endswith("  cli.a  null")
    assert len(lines) == 2


def test_history_prints_what_is_kept_and_what_is_not(debug_hub: RunningHub) -> None:
    positions = [published(debug_hub, "cli.kept", str(n)) for n in range(3)]

    def kept(*arguments: str) -> tuple[list[str], str]:
        done = trunkline("history", "cli.kept", "--format", "data", *arguments, "--url", debug_hub.url)
        assert done.returncode == 0, done
        return done.stdout.splitlines(), done.stderr

    assert kept("--limit", "2") == (["1", "2"], "")
    assert kept("--after", positions[1]) == (["2"], "")
    assert kept("--after", before(positions[0]), "--limit", "1") == (
        ["0"],
        f"trunkline: more follows: --after {positions[0]}\n",
    )
    events, said = kept("--after", "gone.0:7")
    assert events == ["0", "1", "2"]
    assert "gap" in said
    wrong = trunkline("history", "cli.*", "--after", positions[0], "--url", debug_hub.url)
    assert (wrong.returncode, "--after" in wrong.stderr) == (2, True)


def test_json_lines(debug_hub: RunningHub) -> None:
    first = published(debug_hub, "cli.b", '{"a": 1}')
    (line,) = recovered(debug_hub, "cli.b", before(first), 1, "--json")
    epoch, _, offset = first.rpartition(":")
    said = json.loads(line)
    assert abs(said.pop("published_at") / 1000 - time.time()) < 60
    position = {"epoch": epoch, "offset": int(offset)}
    assert said == {"type": "event", "topic": "cli.b", "data": {"a": 1}, "publisher": "anonymous"} | position


@pytest.mark.parametrize(
    ("arguments", "stdin", "data"),
    [
        (["-"], '{"a":\n1}\n', {"a": 1}),
        ([], "[2]", [2]),
        (["--text"], "two\nlines\n", "two\nlines"),
        (["--text", "-"], "plain", "plain"),
        (["--text", "5"], None, "5"),
        (["--text", ""], None, ""),
        (['"quoted"'], None, "quoted"),
    ],
)
async def test_what_data_may_be(debug_hub: RunningHub, arguments: list[str], stdin: str | None, data: Any) -> None:
    async with connect(debug_hub.url) as client, client.subscribe("cli.data") as events:
        position = await asyncio.to_thread(published, debug_hub, "cli.data", *arguments, stdin=stdin)
        item = await asyncio.wait_for(anext(events), PATIENCE)
    assert isinstance(item, Event)
    assert (item.data, str(item.position)) == (data, position)


def test_the_same_key_is_the_same_event(debug_hub: RunningHub) -> None:
    first = published(debug_hub, "cli.key", "1", "--idempotency-key", "k")
    assert published(debug_hub, "cli.key", "1", "--idempotency-key", "k") == first
    assert published(debug_hub, "cli.key", "1") != first


def test_a_position_that_is_gone_is_a_gap(debug_hub: RunningHub) -> None:
    published(debug_hub, "cli.gone", "1")
    with subprocess.Popen(
        [*COMMAND, "subscribe", "cli.gone", "--recover", "gone:1", "--json", "--url", debug_hub.url],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=clean_environment(),
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        said = json.loads(process.stdout.readline())
        assert (said["type"], said["from"], said["to"], said["reason"]) == ("gap", 1, 1, "epoch")
        assert "cli.gone: some events were not delivered (1 to 1)" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE)


# --- what a scripted hub says ---


async def test_gaps_stand_in_their_place_and_on_stderr() -> None:
    async with scripted_hub() as hub, subscriber(hub, "a", "--count", "2") as running:
        await hub.send(event("a", 1, "x"), gap("a", 2, 4), event("a", 5, "y"))
        code, out, err = await running.end()
    assert code == 0
    assert [line.split("  ")[-1] for line in out.splitlines()] == ['"x"', "2-4 slow_consumer", '"y"']
    assert err == "trunkline: gap: a: 3 events were not delivered (2 to 4): this connection was read too slowly\n"


async def test_gaps_as_json() -> None:
    async with scripted_hub() as hub, subscriber(hub, "a", "--json", "--count", "1") as running:
        await hub.send(gap("a", 1, 1, "odd_reason"), event("a", 2))
        code, out, err = await running.end()
    said = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert said[0] == {
        "type": "gap", "topic": "a", "epoch": "e1", "from": 1, "to": 1, "count": 1, "reason": "odd_reason"
    }  # fmt: skip
    assert said[1]["type"] == "event"
    assert err == "trunkline: gap: a: 1 event was not delivered (1 to 1): odd_reason\n"


async def test_data_alone() -> None:
    async with scripted_hub() as hub, subscriber(hub, "a", "--format", "data", "--count", "3") as running:
        await hub.send(event("a", 1, {"x": "ü\n"}), gap("a", 2, 2), event("a", 3), event("a", 4, "s"))
        code, out, err = await running.end()
    assert (code, out) == (0, '{"x":"ü\\n"}\nnull\n"s"\n')
    assert err.startswith("trunkline: gap: a: 1 event was not delivered (2 to 2)")


async def test_json_that_people_can_read() -> None:
    async with scripted_hub() as hub, subscriber(hub, "a", "--format", "json", "--count", "2") as running:
        await hub.send(event("a", 1, {"x": [1]}), gap("a", 2, 2), event("a", 3))
        _, out, _ = await running.end()
    assert '  "topic": "a",\n' in out
    decoder, items = json.JSONDecoder(), []
    while out := out.lstrip():
        item, end = decoder.raw_decode(out)
        items.append(item)
        out = out[end:]
    assert [item["type"] for item in items] == ["event", "gap", "event"]
    assert items[0]["data"] == {"x": [1]}


async def test_ndjson_is_what_json_was_called_first() -> None:
    lines = []
    for arguments in (["--json"], ["--format", "ndjson"]):
        async with scripted_hub() as hub, subscriber(hub, "a", *arguments, "--count", "1") as running:
            await hub.send(event("a", 1, 5))
            lines.append((await running.end())[1])
    assert lines[0] == lines[1]
    assert json.loads(lines[0])["data"] == 5


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the next event ends it")
@pytest.mark.parametrize("form", ["json", "ndjson", "data"])
async def test_each_format_ends_quietly_when_nobody_reads(debug_hub: RunningHub, form: str) -> None:
    async with connect(debug_hub.url) as client:
        position = await client.publish(f"cli.unread.{form}", "x" * 10)
        options = f"--since {before(str(position))} --format {form} --url {debug_hub.url}"
        pipeline = f"trunkline subscribe cli.unread.{form} {options} | head -1"
        code, _, err = await asyncio.to_thread(in_a_shell, pipeline)
    assert (code, err) == (141, "")


async def test_every_line_is_flushed() -> None:
    env = {"PYTHONUNBUFFERED": ""}
    async with scripted_hub() as hub, subscriber(hub, "a", env=env) as running:
        for offset in (1, 2):
            await hub.send(event("a", offset, offset))
            assert (await running.line()).endswith(f"  a  {offset}\n")


async def test_several_topics_print_an_event_once() -> None:
    async with scripted_hub() as hub, subscriber(hub, "jobs.*", "jobs.1", "logs", "--count", "3") as running:
        await hub.wait_for("subscribe", 2)
        await hub.send(event("jobs.1", 1, 1), event("logs", 1, 2), event("jobs.1", 2, 3))
        code, out, _ = await running.end()
    assert code == 0
    assert [line.split("  ", 1)[1] for line in out.splitlines()] == ["jobs.1  1", "logs  2", "jobs.1  3"]


async def test_ctrl_c_ends_quietly_with_130() -> None:
    async with scripted_hub() as hub, subscriber(hub, "a") as running:
        await hub.send(event("a", 1))
        await running.line()
        running.process.send_signal(signal.SIGINT)
        assert await running.end() == (130, "", "")


async def test_a_lost_connection_is_1_and_says_how_to_go_on() -> None:
    async with scripted_hub() as hub, subscriber(hub, "a") as running:
        await hub.send(event("a", 7))
        await running.line()
        await running.line()
        await hub.cut()
        code, _, err = await running.end()
    assert code == 1
    assert "trunkline: the connection was lost" in err
    assert "trunkline: resume with: --recover e1:7" in err


# --- pipes ---


def in_a_shell(pipeline: str) -> tuple[int, str, str]:
    """Run a pipeline; its exit code is that of the first command that failed."""
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", pipeline.replace("trunkline", shlex.join(COMMAND))],
        capture_output=True, text=True, env=clean_environment(), timeout=30 * SCALE,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_head_ends_a_subscription_that_has_more_to_say(debug_hub: RunningHub) -> None:
    position = published(debug_hub, "cli.head", "1")
    published(debug_hub, "cli.head", "2")
    published(debug_hub, "cli.head", "3")
    pipeline = f"trunkline subscribe cli.head --recover {before(position)} --url {debug_hub.url} | head -1"
    code, out, err = in_a_shell(pipeline)
    assert (code, err) == (141, "")
    assert out.endswith("  cli.head  1\n")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the next event ends it")
async def test_head_ends_a_subscription_at_once(debug_hub: RunningHub) -> None:
    """No second event comes that could show that nobody reads."""
    async with connect(debug_hub.url) as client:
        position = await client.publish("cli.once", 1)
    pipeline = f"trunkline subscribe cli.once --recover {before(str(position))} --url {debug_hub.url} | head -1"
    code, out, err = await asyncio.to_thread(in_a_shell, pipeline)
    assert (code, err) == (141, "")
    assert out.endswith("  cli.once  1\n")


@pytest.mark.parametrize(
    "command", [("discover", "--json"), ("stream", "debug.count", '{"n": 10000}', "--json"), ("call", "rpc.discover")]
)
def test_no_command_complains_when_nobody_reads(debug_hub: RunningHub, command: tuple[str, ...]) -> None:
    unread, output = os.pipe()
    os.close(unread)  # before it writes, however little that is: it would fit into the pipe
    try:
        done = subprocess.run(
            [*COMMAND, *command, "--url", debug_hub.url],
            stdout=output, stderr=subprocess.PIPE, text=True, env=clean_environment(), timeout=30 * SCALE,
        )  # fmt: skip
    finally:
        os.close(output)
    assert (done.returncode, done.stderr) == (141, "")


# --- a terminal ---


async def test_colours_on_a_terminal_only_and_no_control_characters() -> None:
    parent, child = pty.openpty()
    async with scripted_hub() as hub:
        process = await asyncio.create_subprocess_exec(
            *COMMAND, "subscribe", "a", "--count", "1", "--url", hub.url,
            stdout=child, stderr=child, env=clean_environment({"TERM": "xterm-256color"}),
        )  # fmt: skip
        os.close(child)
        await hub.wait_for("subscribe", within=START)
        await hub.send(gap("a", 1, 1), event("a", 2, "\x1b[31m \x9b31m [bold]"))
        said = await asyncio.to_thread(read_all, parent)
        assert await asyncio.wait_for(process.wait(), PATIENCE) == 0
    assert "subscribed to a; Ctrl-C ends" in said
    assert "\x1b[36ma\x1b[0m" in said, "the topic has a colour"
    assert '"\\u001b[31m \\u009b31m [bold]"' in said
    assert said.count("1 to 1") == 1, "where both outputs are the terminal, a gap is told once"


def read_all(descriptor: int) -> str:
    said = b""
    try:
        while select.select([descriptor], [], [], START)[0] and (part := os.read(descriptor, 4096)):
            said += part
    except OSError:  # Linux says so when the other end is closed
        pass
    finally:
        os.close(descriptor)
    return said.decode()


# --- wrong usage ---


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["subscribe", "a..b"], ["'a..b'", "orders.*"]),
        (["subscribe", "a", "--recover", "5"], ["'5'", "EPOCH:OFFSET"]),
        (["subscribe", "a", "b", "--recover", "e:5"], ["one topic"]),
        (["subscribe", "a.*", "--recover", "e:5"], ["without wildcards"]),
        (["subscribe", "a", "--since", "5"], ["EPOCH:OFFSET"]),
        (["subscribe", "a", "--json", "--format", "data"], ["--format ndjson"]),
        (["publish", "a.*", "1"], ["'a.*'"]),
        (["publish", "a", "{"], ["not JSON", "--text"]),
        (["token", "a\nb"], ["is not a name"]),
    ],
)
def test_wrong_usage_is_2_before_anything_is_sent(arguments: list[str], words: list[str]) -> None:
    url = [] if arguments[0] == "token" else ["--url", NO_HUB]
    requires_failure(trunkline(*arguments, *url), 2, *words)


@pytest.mark.parametrize("arguments", [["subscribe"], ["publish"], ["subscribe", "a", "--count", "0"]])
def test_missing_or_impossible_arguments_are_2(arguments: list[str]) -> None:
    assert trunkline(*arguments).returncode == 2


def test_input_that_is_not_utf8_is_2() -> None:
    done = subprocess.run(
        [*COMMAND, "publish", "a", "-", "--url", NO_HUB], input=b"\xff", capture_output=True, env=clean_environment()
    )
    assert done.returncode == 2
    assert b"UTF-8" in done.stderr
    assert b"Traceback" not in done.stderr


def test_what_the_hub_refuses_is_1(debug_hub: RunningHub) -> None:
    requires_failure(trunkline("publish", "system.x", "1", "--url", debug_hub.url), 1, "FORBIDDEN 6002")


@pytest.mark.parametrize("arguments", [["subscribe", "a"], ["publish", "a", "1"]])
def test_no_hub_is_3(arguments: list[str]) -> None:
    requires_failure(trunkline(*arguments, "--url", NO_HUB), 3, NO_HUB)


# --- token ---


def test_token_prints_an_entry_without_the_secret_and_the_secret_beside_it(tmp_path: Path) -> None:
    done = trunkline_process("token", 'ci "quoted" ü', "--role", "callee")
    assert done.returncode == 0
    (secret,) = re.findall(r"^    (\S+)$", done.stderr, re.MULTILINE)
    assert secret not in done.stdout
    assert hashlib.sha256(secret.encode()).hexdigest() in done.stdout
    file = tmp_path / "tokens.toml"
    file.write_text(done.stdout + trunkline("token").stdout)
    file.chmod(0o600)
    tokens = TokensFile.load(file)
    assert len(tokens) == 2
    principal = tokens.find(secret)
    assert principal is not None
    assert principal.name == 'ci "quoted" ü'


def test_token_as_json() -> None:
    first, second = (json.loads(trunkline("token", "ci", "--json").stdout) for _ in range(2))
    assert first["token"] != second["token"]
    assert len(first["token"]) >= 43
    assert first == {
        "token": first["token"],
        "name": "ci",
        "sha256": hashlib.sha256(first["token"].encode()).hexdigest(),
    }


def test_help_is_there() -> None:
    text = trunkline("--help").stdout
    for command in ("subscribe", "publish", "token"):
        assert command in text
    text = re.sub(r"\x1b\[[0-9;]*m", "", trunkline("subscribe", "--help").stdout)
    for option in ("--format", "--json", "--since", "--count", "--recover", "--url", "--token"):
        assert option in text
