"""docs/groups.md: its example is run, and its table has every key with its default."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from tests.support.command import trunkline
from tests.support.hub import RunningHub
from tests.support.pages import REPOSITORY, blocks_of
from tests.support.peer import peer
from trunkline.settings.executor_groups import GroupSettings

PAGE: Final = REPOSITORY / "docs" / "groups.md"


def rows() -> dict[str, str]:
    """The defaults of the table, by key."""
    found = re.findall(r"^\| (`[^|]*`) \| ([^|]*) \|", PAGE.read_text(), re.MULTILINE)
    return {name: default.strip("` ") for names, default in found for name in re.findall(r"`(\w+)`", names)}


def test_the_table_has_every_key_with_its_default() -> None:
    table = rows()
    assert table.keys() == GroupSettings.model_fields.keys()
    for name, field in GroupSettings.model_fields.items():
        if field.default not in (None, ()) and field.default_factory is None:
            assert table[name] == str(field.default), name


def write_files(folder: Path) -> None:
    for block in blocks_of(PAGE):
        if block.rule.startswith("file: "):
            (folder / block.rule.removeprefix("file: ")).write_text(block.code)


def test_the_check_runs(tmp_path: Path) -> None:
    write_files(tmp_path)
    (command,) = [block.code.split() for block in blocks_of(PAGE) if block.rule == "run"]
    done = trunkline(*command[1:], cwd=tmp_path)
    assert [line for line in done.stdout.splitlines() if line.startswith("group")] == ["group text", "group model"]
    assert (done.returncode, done.stdout.count("text.upper"), done.stdout.count("model.predict")) == (0, 2, 1)


async def test_the_example_runs(tmp_path: Path) -> None:
    write_files(tmp_path)
    with RunningHub((), arguments=("--config", "hub.toml"), cwd=tmp_path) as hub:
        hub.ready()
        async with peer(hub.url) as connection:
            assert await connection.result("model.predict") == "models/large in model"
            assert await connection.result("text.answer", {"technique": "deep"}) == "deep: model"
            assert {await connection.result("text.answer") for _ in range(6)} == {"basic: text"}
            told = {await connection.result("text.upper", {"text": "a"}) for _ in range(30)}
            assert told == {"A (text-0)", "A (text-1)", "A (model-0)"}
            executors = (await connection.result("health.detailed"))["executors"]
            assert [each["worker_id"] for each in executors] == ["text-0", "text-1", "model-0"]
