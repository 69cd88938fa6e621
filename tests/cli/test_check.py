"""``trunkline check``: what an executor would load, and what is wrong, without a hub."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.command import trunkline

SHOP = '''
from collections.abc import AsyncIterator
from trunkline import Context, method

class Shop:
    def load(self, settings):
        print("loads")

    @method("shop.order", idempotent=True, timeout_ms=5000)
    def order(self, item: str, count: int = 1) -> str:
        """Orders something."""
        return item * count

    @method("shop.watch", routing_key="name")
    async def watch(self, name: str, ctx: Context) -> AsyncIterator[int]:
        yield 1

@method("shop.price", http="prices/one")
async def price(item: str) -> int:
    return 1
'''

BROKEN = {
    "no_import": ("import no_such_package\n", 4002, "no_import.py:1"),
    "no_syntax": ("\n\ndef broken(:\n", 3002, "no_syntax.py, line 3"),
    "no_load": (
        "from trunkline import method\nclass A:\n    def load(self, settings):\n        raise OSError('no model')\n"
        "    @method('a.b')\n    def b(self) -> int:\n        return 1\n",
        3002,
        "no_load.py:4",
    ),
    "no_methods": ("x = 1\n", 3002, "no_methods"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(SHOP)
    for name, (text, _code, _where) in BROKEN.items():
        (tmp_path / f"{name}.py").write_text(text)
    return tmp_path


def test_what_is_served_is_listed_with_its_kind_and_options(folder: Path) -> None:
    done = trunkline("check", "shop", cwd=folder)
    assert done.returncode == 0, done
    lines = {line.split()[0]: " ".join(line.split()) for line in done.stdout.splitlines()}
    assert lines["shop.order"] == "shop.order function item, count? idempotent, timeout_ms=5000"
    assert lines["shop.watch"] == "shop.watch stream name routing_key=name"
    assert lines["shop.price"] == "shop.price coroutine item http=prices/one"
    assert list(folder.glob("data*")) == [], "nothing is left behind"


def test_all_that_is_wrong_is_told_with_its_place(folder: Path) -> None:
    done = trunkline("check", "shop", *BROKEN, "not_there", cwd=folder)
    assert done.returncode == 1
    assert "shop.order" in done.stdout, "the others are listed"
    for name, (_text, _code, where) in BROKEN.items():
        (line,) = (line for line in done.stdout.splitlines() if f"module {name} " in line)
        assert where in line
    assert "there is no module not_there" in done.stdout


def test_as_json(folder: Path) -> None:
    done = trunkline("check", "shop", *BROKEN, "--json", cwd=folder)
    assert done.returncode == 1
    said = json.loads(done.stdout)
    assert {method["name"] for method in said["methods"]} == {"shop.order", "shop.watch", "shop.price"}
    assert {each["module"]: each["code"] for each in said["failed"]} == {name: each[1] for name, each in BROKEN.items()}


@pytest.mark.parametrize(
    ("text", "words"),
    [("import os\nos._exit(7)", "it exited with code 7"), ("import time\ntime.sleep(60)", "it was not ready after")],
    ids=["exit", "hang"],
)
def test_a_module_that_ends_or_hangs_its_process(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "rude.py").write_text(text)
    done = trunkline("check", "rude", cwd=tmp_path, env={"TRUNKLINE_START_TIMEOUT": "3"})
    assert done.returncode == 1
    assert words in done.stdout
