"""A setting's default stands once: rooms, the command line, and the tables of the documents have the same one."""

from __future__ import annotations

import ast
import importlib
import inspect
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from pydantic_core import PydanticUndefined

from tests.support.pages import pages
from trunkline import defaults
from trunkline.config import Settings
from trunkline_protocol import backlog

ROOT: Final = Path(__file__).parents[1]
SERVER: Final = ROOT / "server"

SHARED: Final[dict[str, Any]] = {
    **{name.lower(): value for name, value in vars(defaults).items() if name.isupper()},
    **{name.lower(): getattr(backlog, name) for name in vars(backlog) if name.startswith("QUEUE_")},
}
"""What rooms and settings have from one place, by the setting's name."""


def setting_of(node: ast.expr) -> str | None:
    """The setting that an argument is, as in ``settings.port`` or ``self.settings.port``."""
    if isinstance(node, ast.Attribute) and node.attr in Settings.model_fields:
        return node.attr if ast.unparse(node.value).endswith("settings") else None
    return None


def arguments(module: Path) -> Iterator[tuple[str, inspect.Parameter, str]]:
    """Each parameter of a class or function of ours that the module gives a setting to, and the setting."""
    name = ".".join(module.relative_to(SERVER).with_suffix("").parts)
    tree = ast.parse(module.read_text())
    loaded: Any = None
    classes = [None, *(node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))]
    for within in classes:
        for call in ast.walk(within or tree):
            if not isinstance(call, ast.Call):
                continue
            given: list[tuple[int | str | None, str | None]] = [
                *((place, setting_of(node)) for place, node in enumerate(call.args)),
                *((keyword.arg, setting_of(keyword.value)) for keyword in call.keywords),
            ]
            if not any(setting for _where, setting in given):
                continue
            loaded = loaded or importlib.import_module(name)
            names = vars(loaded) | ({"cls": getattr(loaded, within.name)} if within else {})
            callee = names.get(ast.unparse(call.func))
            if not callable(callee):
                continue
            parameters = list(inspect.signature(callee).parameters.values())
            for where, setting in given:
                if setting is not None:
                    by_name = {parameter.name: parameter for parameter in parameters}
                    parameter = parameters[where] if isinstance(where, int) else by_name[str(where)]
                    yield f"{name}: {ast.unparse(call.func)}({parameter.name})", parameter, setting


def test_what_a_setting_is_given_to_has_no_other_default() -> None:
    found = [
        triple
        for module in sorted((SERVER / "trunkline").rglob("*.py"))
        if "settings" in (text := module.read_text()) and "settings." in text
        for triple in arguments(module)
    ]
    assert {"max_sessions_per_principal", "queue_limit", "job_seconds", "max_concurrency"} <= {s for _w, _p, s in found}
    others = {
        where: (parameter.default, Settings.model_fields[setting].default)
        for where, parameter, setting in found
        if parameter.default not in (inspect.Parameter.empty, None)
        and "factory" not in str(parameter.default)
        and parameter.default != Settings.model_fields[setting].default
    }
    assert others == {}


def test_what_rooms_and_settings_share_is_not_written_down_again() -> None:
    """Where the settings are written, the shared ones are names, and every shared one is a setting's."""
    sources = {Path(inspect.getfile(part)) for part in Settings.__mro__ if part.__module__.startswith("trunkline.")}
    classes = [
        node for source in sources for node in ast.parse(source.read_text()).body if isinstance(node, ast.ClassDef)
    ]
    written = {
        node.target.id: node.value.args[0]
        for settings in classes
        for node in settings.body
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and isinstance(node.value, ast.Call)
        and node.value.args
    }
    for name, value in SHARED.items():
        setting = name.removeprefix("default_")
        assert Settings.model_fields[setting].default == value, setting
        assert isinstance(written[setting], (ast.Name, ast.Attribute)), f"{setting} has a number of its own"


UNITS: Final = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "s": 1, "days": 86_400, "": 1}
NUMBER: Final = re.compile(r"([\d,]*\d(?:\.\d+)?) ?(KiB|MiB|GiB|days|s)?(?![\w.])")
NAME: Final = re.compile(r"`(TRUNKLINE)?(_[A-Z_]+)`")


def documented() -> Iterator[tuple[str, str, float]]:
    """Each setting and its default where a table has a row of settings and as many numbers beside them."""
    for page in (ROOT / "README.md", ROOT / "protocol" / "SPEC.md", *sorted((ROOT / "docs").glob("*.md"))):
        for number, line in enumerate(page.read_text().splitlines(), 1):
            cells = [cell.strip() for cell in line.strip("|").split(" | ")] if line.startswith("|") else []
            for names, values in itertools.pairwise(cells):
                settings = [match[2].strip("_").lower() for match in NAME.finditer(names)]
                numbers = [
                    float(match[1].replace(",", "")) * UNITS[match[2] or ""] for match in NUMBER.finditer(values)
                ]
                if settings and len(settings) == len(numbers):
                    where = f"{page.relative_to(ROOT)}:{number}"
                    yield from ((where, *pair) for pair in zip(settings, numbers, strict=True))


def test_tables_of_the_documents_have_the_settings_own_defaults() -> None:
    found = list(documented())
    others = [
        (where, name, number, Settings.model_fields[name].default)
        for where, name, number in found
        if name not in Settings.model_fields
        or (
            isinstance(Settings.model_fields[name].default, (int, float))
            and Settings.model_fields[name].default != number
        )
    ]
    assert others == []
    assert len({name for _where, name, _number in found}) >= 30


@pytest.mark.parametrize("name", Settings.model_fields)
def test_a_setting_is_on_a_page_and_is_read(name: str) -> None:
    named = re.compile(rf"(?<![A-Z_])(TRUNKLINE)?_?{name.upper()}(?![A-Z_])")
    assert any(named.search(page.read_text()) for page in pages() if page.name != "CHANGELOG.md")
    read = re.compile(rf"\bsettings\.{name}\b")
    assert any(read.search(module.read_text()) for module in (SERVER / "trunkline").rglob("*.py"))


@pytest.mark.parametrize(
    "name", [name for name, field in Settings.model_fields.items() if field.default is PydanticUndefined]
)
def test_only_what_depends_on_the_machine_is_computed(name: str) -> None:
    assert name == "executors"
