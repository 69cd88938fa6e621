"""``trunkline check``: what an executor would load, and what is wrong, without a hub."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.command import requires_failure, trunkline

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
    assert lines["shop.watch"] == "shop.watch async generator name routing_key=name"
    assert lines["shop.price"] == "shop.price coroutine item http=prices/one"
    assert list(folder.glob("data*")) == [], "nothing is left behind"


OPTIONS = """
from collections.abc import Iterator
from trunkline import Batch, method

@method("m.all", max_calls=9, rate=0.5, recovery=("retry", "restart_worker"), runs_as="method", technique="how",
        max_timeout_ms=60000)
def every(how: str) -> int:
    return 1

@method("m.few", max_concurrency=2)
async def few() -> int:
    return 1

@method("m.plain_batch", batch=Batch(max_items=8, max_wait_ms=2))
def plain_batch(x: list[int]) -> list[int]:
    return x

@method("m.batch", batch=Batch())
async def batch(x: list[int]) -> list[int]:
    return x

@method("m.steps")
def steps() -> Iterator[int]:
    yield 1
"""


def test_each_option_is_told_and_the_kind_is_that_of_the_function(tmp_path: Path) -> None:
    (tmp_path / "options.py").write_text(OPTIONS)
    done = trunkline("check", "options", cwd=tmp_path)
    lines = {line.split()[0]: " ".join(line.split()[1:]) for line in done.stdout.splitlines()}
    assert lines["m.all"] == (
        "function how technique=how, max_timeout_ms=60000, max_calls=9, rate=0.5, recovery=retry+restart_worker, "
        "runs_as=method"
    )
    assert lines["m.few"] == "coroutine max_concurrency=2"
    assert lines["m.plain_batch"] == "function, batch of 8 x max_wait_ms=2"
    assert lines["m.batch"] == "coroutine, batch of 32 x"
    assert lines["m.steps"] == "generator"
    said = json.loads(trunkline("check", "options", "--json", cwd=tmp_path).stdout)
    told = {each["name"]: (each["kind"], each["batch"]) for each in said["methods"]}
    assert told["m.plain_batch"] == ("function", {"max_items": 8, "max_wait_ms": 2})
    assert told["m.few"] == ("coroutine", None)


GROUPED = """
import os, resource
from trunkline import method

class Grouped:
    def load(self, settings):
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        told = settings["group"], settings.get("mine"), os.environ.get("MINE"), files
        if settings.get("mine") != "one":
            raise RuntimeError(f"here: {told}")

    @method("grouped.f")
    def f(self) -> int:
        return 1
"""
HUB = """
packs = ["embeddings"]
[groups.one]
methods = ["grouped", "not_there_either"]
settings = { mine = "one" }
[groups.two]
methods = ["grouped"]
settings = { mine = "two" }
env = { MINE = "second" }
rlimits = { nofile = 300 }
[groups.unchecked]
methods = ["not_there_either"]
python = "no/such/python"
"""


def test_modules_are_checked_with_what_each_of_their_groups_sets(folder: Path) -> None:
    (folder / "grouped.py").write_text(GROUPED)
    (folder / "hub.toml").write_text(HUB)
    done = trunkline("check", "--config", "hub.toml", "shop", "grouped", cwd=folder)
    assert done.returncode == 1, done
    one, two, default = done.stdout.split("group ")[1:]
    assert (one.splitlines()[0], "grouped.f" in one, "shop" in one) == ("one", True, False)
    assert two.startswith("two\n")
    assert "here: ('two', 'two', 'second', 300)" in two
    assert (default.splitlines()[0], "shop.order" in default) == ("default", True)
    said = json.loads(trunkline("check", "--config", "hub.toml", "shop", "grouped", "--json", cwd=folder).stdout)
    assert {(each["name"], each["group"]) for each in said["methods"] if each["name"] != "shop.order"} == {
        ("grouped.f", "one"), ("shop.watch", "default"), ("shop.price", "default"),
    }  # fmt: skip
    assert [(each["module"], each["group"]) for each in said["failed"]] == [("grouped", "two")]


def test_what_no_group_names_has_the_settings_of_the_group_default(folder: Path) -> None:
    (folder / "grouped.py").write_text(GROUPED)
    (folder / "hub.toml").write_text('[groups.default]\nsettings = { mine = "one" }\n')
    done = trunkline("check", "--config", "hub.toml", "grouped", cwd=folder)
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "group default"), done


def test_an_interpreter_that_is_not_there_is_a_fault_of_the_configuration(folder: Path) -> None:
    (folder / "hub.toml").write_text(HUB)
    done = trunkline("check", "--config", "hub.toml", "not_there_either", cwd=folder)
    requires_failure(done, 2, "groups.unchecked.python: there is no interpreter")


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
    ("text", "start_timeout", "words"),
    [
        ("import os\nos._exit(7)", 60, "it exited with code 7"),
        ("import time\ntime.sleep(60)", 3, "it was not ready after"),
    ],
    ids=["exit", "hang"],
)
def test_a_module_that_ends_or_hangs_its_process(tmp_path: Path, text: str, start_timeout: int, words: str) -> None:
    (tmp_path / "rude.py").write_text(text)
    done = trunkline("check", "rude", cwd=tmp_path, env={"TRUNKLINE_START_TIMEOUT": str(start_timeout)})
    assert done.returncode == 1
    assert words in done.stdout
