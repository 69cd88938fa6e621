"""What a hub writes is for its user alone: whatever the umask, and what former versions left open as well."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.hub import DEBUG_METHODS, MODULES, RunningHub, clean_environment, ready_hub
from tests.support.jobs import until
from tests.support.peer import peer
from trunkline.private_files import make_private

VECTORS = "trunkline.methods.vectors"


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def open_to_others(root: Path) -> list[str]:
    """Everything from a folder on that somebody else could use, with its mode."""
    found = []
    for path in [root, *root.rglob("*")]:
        with contextlib.suppress(FileNotFoundError):  # a hub that runs may have put another in its place
            mode = path.lstat().st_mode
            if not stat.S_ISLNK(mode) and stat.S_IMODE(mode) != (0o700 if stat.S_ISDIR(mode) else 0o600):
                found.append(f"{path} {stat.S_IMODE(mode):o}")
    return found


def expose(root: Path) -> None:
    """As a former version left it."""
    for path in [root, *root.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)


async def fill(hub: RunningHub, data: Path) -> None:
    """A collection with an index, snapshots and segments; a job; a file of a method's own."""
    async with peer(hub.url) as connection:
        index = {"kind": "hnsw", "m": 8}
        await connection.result("collections.create", {"name": "books", "dimension": 2, "model": "m", "index": index})
        for first in range(0, 300, 100):
            items = [{"id": f"i{n}", "vector": [n + 1, 0.1], "text": f"text {n}"} for n in range(first, first + 100)]
            await connection.result("vectors.upsert", {"collection": "books", "items": items})
        await connection.result("collections.create", {"name": "empty", "dimension": 2, "model": "m"})
        made = await connection.result("jobs.create", {"method": "labours.where", "params": {}})
        await until(connection, made["id"], "succeeded")
        await connection.result("surroundings.write", {"path": str(data / "models" / "own" / "file")})


async def test_whatever_the_umask_nothing_is_open_to_others(tmp_path: Path) -> None:
    """Nor, after its start, what a former version left open."""
    data, socket = tmp_path / "above" / "data", tmp_path / "hub.sock"
    arguments = ["--data", str(data), "--uds", str(socket), "--uds-mode", "666", "--port", "0"]
    env = {"TRUNKLINE_AUDIT_FILE": str(tmp_path / "audit.jsonl")}
    modules = (DEBUG_METHODS, VECTORS, "labours", "surroundings")
    with umask(0), ready_hub(*modules, cwd=MODULES, arguments=arguments, env=env) as hub:
        await fill(hub, data)
        assert open_to_others(data) == []
        assert stat.S_IMODE(socket.stat().st_mode) == 0o666, "which is what was asked for"
    assert open_to_others(data) == [], "nor what it writes when it stops"
    assert (data / "collections" / "books").is_dir()
    assert list((data / "jobs").rglob("*.*")), "there were files to look at"
    assert stat.S_IMODE((tmp_path / "audit.jsonl").stat().st_mode) == 0o600
    (data / "notes.txt").write_text("")
    expose(data)
    assert len(open_to_others(data)) > 10
    with RunningHub(modules, cwd=MODULES, arguments=["--data", str(data)]) as hub:
        assert open_to_others(data) == [], "before anybody is let in"
        async with peer(hub.ready().url) as connection:
            assert (await connection.result("collections.stats", {"name": "books"}))["count"] == 300
        assert open_to_others(data) == []


def test_a_folder_that_is_not_the_hubs_alone_is_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with ``--data .`` or ``--data /var/lib``. What is the hub's in it is closed."""
    shared, elsewhere = tmp_path / "shared", tmp_path / "elsewhere"
    (shared / "jobs").mkdir(parents=True)
    (shared / "jobs" / "one").write_text("")
    elsewhere.write_text("")
    (shared / "jobs" / "link").symlink_to(elsewhere)
    (shared / "others").mkdir()
    expose(shared)
    elsewhere.chmod(0o644)

    def modes() -> list[int]:
        paths = (shared, shared / "others", elsewhere, shared / "jobs", shared / "jobs" / "one")
        return [stat.S_IMODE(path.stat().st_mode) for path in paths]

    make_private(shared)
    assert modes() == [0o755, 0o755, 0o644, 0o700, 0o600]
    (shared / "others").rmdir()
    (shared / "others").write_text("")
    with monkeypatch.context() as patch:
        patch.chdir(shared)
        make_private(shared)
    make_private(shared, [shared / "hub.sock"])
    assert modes()[0] == 0o755
    make_private(shared)
    assert modes() == [0o700, 0o600, 0o644, 0o700, 0o600]


def test_what_cannot_be_closed_is_said_and_holds_up_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "a").write_text("")
    (tmp_path / "jobs" / "a").chmod(0o644)
    immutable = subprocess.run(["chattr", "+i", str(tmp_path / "jobs" / "a")], capture_output=True)
    if immutable.returncode:
        pytest.skip("only root may make a file that cannot be changed, and not on every file system")
    try:
        make_private(tmp_path)
        make_private(tmp_path / "not there")
    finally:
        subprocess.run(["chattr", "-i", str(tmp_path / "jobs" / "a")], check=True)
    (record,) = caplog.records
    assert "permissions cannot be removed" in record.message
    assert vars(record)["files"] == 1


def test_a_hub_over_standard_input_writes_privately_too(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "trunkline.cli", "stdio", "--framing", "ndjson", "--data", str(tmp_path / "data")]
    command += ["--packs", "none", "--methods", "surroundings", "--executors", "1"]
    file = tmp_path / "data" / "collections" / "x" / "file"
    message = f'{{"jsonrpc":"2.0","id":1,"method":"surroundings.write","params":{{"path":"{file}"}}}}\n'
    with umask(0):
        subprocess.run(command, input=message, text=True, env=clean_environment(), cwd=MODULES, check=True)
    assert file.is_file()
    assert open_to_others(tmp_path / "data") == []


async def test_an_export_is_for_its_owner(tmp_path: Path) -> None:
    with ready_hub(VECTORS) as hub:
        async with peer(hub.url) as connection:
            await connection.result("collections.create", {"name": "books", "dimension": 2, "model": "m"})
        (tmp_path / "books.jsonl").write_text("of a former version")
        (tmp_path / "books.jsonl.part").write_text("left unfinished")
        command = [
            sys.executable,
            "-m",
            "trunkline.cli",
            "collections",
            "export",
            "books",
            str(tmp_path / "books.jsonl"),
        ]
        with umask(0):
            await asyncio.to_thread(subprocess.run, [*command, "--url", hub.url], env=clean_environment(), check=True)
    assert stat.S_IMODE((tmp_path / "books.jsonl").stat().st_mode) == 0o600
