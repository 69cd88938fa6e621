"""The code of README, docs/ and the examples, run as it stands there, against a real hub.

A comment before each block of code says what becomes of it:

- ``<!-- run -->``: it ends well.
- ``<!-- run, connected -->``: so it does as the body of a program that has a connection, ``hub``.
- ``<!-- run, staying: 1 3 -->``: each line of a shell block is a command; those with these numbers go on.
- ``<!-- run until: TEXT -->``: it says so, while ``orders.42`` is published, and is ended then.
- ``<!-- file: NAME -->``: it is a file, for the others; ``<!-- methods: NAME -->``: one that the hub serves.
- ``<!-- elsewhere: TEST -->``: another test runs it; ``<!-- not run: WHY -->``.

Other than in the text are: the port; the model, which is a tiny one; the data folder; and, where a block serves, packs.
``$ID`` is the newest job. README starts the ``trunkline`` that is installed; the other pages have it forked, which
spares its imports (``forked_programs.py``).
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from tests.support.forked_programs import forked_program
from tests.support.hub import RunningHub, clean_environment
from tests.support.pages import REPOSITORY, Block, blocks_of, pages
from tests.support.peer import peer
from tests.support.timing import PATIENCE, START, eventually
from tests.support.tiny_model import tiny_model

__all__ = ["tiny_model"]

CLIENTS: Final = REPOSITORY / "clients"
PAGES: Final = [
    page
    for page in pages()
    if page.parent == REPOSITORY / "docs" or page.is_relative_to(REPOSITORY / "examples") or page.name == "README.md"
    if not page.is_relative_to(CLIENTS)
]
FORKED: Final = "forked"
NO_CODE: Final = ("", "json", "mermaid")
BLOCKS: Final = {
    page: [block for block in blocks_of(page) if block.rule or block.language not in NO_CODE] for page in PAGES
}
RUN: Final = [page for page, blocks in BLOCKS.items() if any(block.rule.startswith("run") for block in blocks)]
RULE: Final = re.compile(
    r"run|run, connected|run, staying: .+|run until: .+|file: .+|methods: .+|elsewhere: .+|not run: .+"
)

CONNECTED: Final = {
    "js": 'import {{ connect }} from "trunkline";\nconst hub = await connect("{url}");\n{code}\nawait hub.close();\n',
    "python": "import asyncio\nfrom trunkline.client import connect\n\nasync def main():\n"
    '    async with connect("{url}") as hub:\n{code}\nasyncio.run(main())\n',
}


def test_each_block_says_what_becomes_of_it() -> None:
    found = [block for blocks in BLOCKS.values() for block in blocks]
    assert len(found) > 40
    for block in found:
        assert RULE.fullmatch(block.rule), f"{block}: {block.rule!r}"


def test_few_blocks_are_not_run() -> None:
    skipped = [str(block) for blocks in BLOCKS.values() for block in blocks if block.rule.startswith("not run: ")]
    assert len(skipped) <= 11, skipped


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A reader's folder: the environment beside it, the client installed, the files that the pages show."""
    path = tmp_path_factory.mktemp("reader")
    (path / ".venv").symlink_to(sys.prefix)
    (path / "node_modules").mkdir()
    (path / "node_modules" / "trunkline").symlink_to(CLIENTS / "js")
    for name in ("handbook", "manuals"):
        (path / name).mkdir()
        (path / name / "reset.md").write_text("# Reset\n\nHold the red button to reset it. Error E4711 goes away.\n")
    (path / "jwks.json").write_text(public_key())
    for block in (each for blocks in BLOCKS.values() for each in blocks):
        if found := re.fullmatch(r"(?:file|methods): (.*)", block.rule):
            (path / found[1]).write_text(block.code)
    with forked_program() as program:
        if program is not None:
            (path / FORKED).symlink_to(program.parent)
        yield path


def public_key() -> str:
    """A set with the public key of an identity provider."""
    from cryptography.hazmat.primitives.asymmetric import rsa
    from jwt.algorithms import RSAAlgorithm

    key = json.loads(RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 2048).public_key()))
    return json.dumps({"keys": [key | {"kid": "1", "alg": "RS256"}]})


@pytest.fixture(scope="module")
def hub(folder: Path, tiny_model: Path) -> Iterator[RunningHub]:
    """What ``make run`` starts, with another model and the methods of the pages; its collections have an item."""
    methods = [
        block.rule.removeprefix("methods: ").removesuffix(".py")
        for blocks in BLOCKS.values()
        for block in blocks
        if block.rule.startswith("methods: ")
    ]
    env = {"TRUNKLINE_MODEL": str(tiny_model), "TRUNKLINE_DOCUMENTS_ROOT": str(folder)}
    arguments = ("--packs", "embeddings,vectors,documents,rag")
    with RunningHub(methods, cwd=folder, env=env, arguments=arguments) as running:
        running.wait_for("^ready:", within=6 * PATIENCE)  # it loads torch
        asyncio.run(fill(running))
        yield running.ready()


async def fill(hub: RunningHub) -> None:
    async with peer(hub.url) as filler:
        for name in ("python-reference", "handbook"):
            await filler.result("collections.create", {"name": name})
            item = {"id": "1", "text": "a closure is a function with its variables", "metadata": {"source": "a.md"}}
            await filler.result("vectors.upsert", {"collection": name, "items": [item]})


@pytest.mark.ml
@pytest.mark.timeout(240)
@pytest.mark.parametrize("page", RUN, ids=[str(page.relative_to(REPOSITORY)) for page in RUN])
async def test_page(page: Path, folder: Path, hub: RunningHub) -> None:
    for block in BLOCKS[page]:
        try:
            await run(block, folder, hub)
        except Exception as error:
            error.add_note(f"{block}:\n{block.code}")
            raise


async def run(block: Block, folder: Path, hub: RunningHub) -> None:
    if not block.rule.startswith("run"):
        return
    if block.language == "js" and (shutil.which("node") is None or not (CLIENTS / "js" / "dist").exists()):
        pytest.skip("needs Node.js and the built client: make setup")
    serves = "trunkline serve" in block.code
    port = free_port() if serves else hub.port
    env = clean_environment(await variables(block, folder, port, hub))
    code = block.code.replace("8765", str(port))
    command = command_of(block, code, folder, f"ws://127.0.0.1:{port}/ws")
    if block.rule.startswith("run until: "):
        with started(command, folder, env) as process:
            async with publishing(hub):
                await said(process, block.rule.removeprefix("run until: "))
            if "node.lookup" in code:
                async with peer(hub.url) as caller:
                    assert await caller.result("node.lookup", {"key": "a"}) == 1
    elif block.rule.startswith("run, staying: "):
        staying = {int(number) for number in block.rule.removeprefix("run, staying: ").split()}
        await take_lines(code.splitlines(), staying, folder, env, hub)
    else:
        with started(command, folder, env, stderr=subprocess.PIPE) as process:
            words = await asyncio.to_thread(process.communicate, timeout=START)
        assert process.returncode == 0, "\n".join(words)


async def variables(block: Block, folder: Path, port: int, hub: RunningHub) -> dict[str, str]:
    """The environment that a block has."""
    path = f"{folder / '.venv' / 'bin'}:{os.environ['PATH']}"
    if block.page.name != "README.md":
        path = f"{folder / FORKED}:{path}"
    found = {"PATH": path, "TRUNKLINE_URL": f"ws://127.0.0.1:{port}/ws", "TRUNKLINE_DATA": str(hub.data)}
    if "trunkline serve" in block.code:
        found |= {"TRUNKLINE_PORT": str(port), "TRUNKLINE_PACKS": "none", "TRUNKLINE_DATA": str(folder / f"data{port}")}
    if "$ID" in block.code:
        async with peer(hub.url) as caller:
            found["ID"] = (await caller.result("jobs.list", {"limit": 1}))["jobs"][0]["id"]
    return found


def command_of(block: Block, code: str, folder: Path, url: str) -> list[str]:
    if block.language == "sh":
        return ["bash", "-ec", code]
    if block.rule == "run, connected":
        body = textwrap.indent(code, " " * 8) if block.language == "python" else code
        code = CONNECTED[block.language].format(url=url, code=body)
    suffix = {"js": "mjs", "python": "py"}[block.language]
    script = folder / f"{block.page.stem}{block.line}.{suffix}"
    script.write_text(code)
    node = ["node", "--experimental-websocket", "--no-warnings"]  # as browsers and later versions have one
    return [*node, str(script)] if suffix == "mjs" else [sys.executable, str(script)]


@contextmanager
def started(
    command: list[str], folder: Path, env: dict[str, str], *, stderr: int = subprocess.STDOUT
) -> Iterator[subprocess.Popen[str]]:
    """A command in a process group of its own, which is ended with the block."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.communicate(timeout=PATIENCE)


async def said(process: subprocess.Popen[str], text: str) -> None:
    """Wait until a process, which may have just been started, says something."""
    assert process.stdout is not None
    heard = ""
    async with asyncio.timeout(START):
        while text not in heard:
            line = await asyncio.to_thread(process.stdout.readline)
            assert line, f"it ended and did not say {text!r}:\n{heard}"
            heard += line


@asynccontextmanager
async def publishing(hub: RunningHub) -> AsyncIterator[None]:
    """``orders.42`` is published all the time."""

    async def publish() -> None:
        async with peer(hub.url) as publisher:
            while True:
                await publisher.result("publish", {"topic": "orders.42", "data": {"done": 7}})
                await asyncio.sleep(0.05)

    task = asyncio.create_task(publish())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])  # cancelled while it connects, it closes its socket only then


async def take_lines(lines: list[str], staying: set[int], folder: Path, env: dict[str, str], hub: RunningHub) -> None:
    """Run commands one after the other, those that stay beside the others; in the end these have said something."""
    with ExitStack() as stack:
        going: list[subprocess.Popen[str]] = []
        for number, line in enumerate(lines, 1):
            before = subscriptions(hub)
            process = stack.enter_context(started(["bash", "-ec", line], folder, env))
            if number not in staying:
                assert await asyncio.to_thread(process.wait, START) == 0, line
            elif "trunkline serve" in line:
                await said(process, "ready:")
            else:
                going.append(process)
                await asyncio.to_thread(eventually, partial(has_more_than, before, hub), line, START)
        for process in going:
            await said(process, "\n")


def has_more_than(count: float, hub: RunningHub) -> bool:
    return subscriptions(hub) > count


def subscriptions(hub: RunningHub) -> float:
    found = re.search(rb"^trunkline_subscriptions ([0-9.]+)$", hub.get("/metrics").body, re.MULTILINE)
    assert found is not None
    return float(found[1])


def free_port() -> int:
    """A port that a program may listen at later: below those that the system gives to whoever asks for any."""
    while True:
        with socket.socket() as listener, suppress(OSError):
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", port := random.randrange(20_000, 32_000)))
            return port
