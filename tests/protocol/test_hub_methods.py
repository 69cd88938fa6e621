"""What is made of the table of hub methods is as the table says, and its names stand in no other list."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from scripts.sources import ROOT, modules

from scripts import write_tables as writer
from trunkline.client import engine
from trunkline_protocol.codecs import command_bus, dspy_port
from trunkline_protocol.hub_methods import METHODS, NOTIFICATIONS, about_calls, reserved

ASKS = ROOT / "clients" / "dashboard" / "src" / "hub" / "asks.json"
NAMES = METHODS.keys() | NOTIFICATIONS.keys()

ELSEWHERE = {
    "server/trunkline/client/engine.py",  # see below
    "server/trunkline/cli/show/top/board.py",  # what it asks for
    "server/trunkline/edge/access/grants.py",  # keys of the tokens file
    "server/trunkline/hub/principal.py",  # rights, called as there
}
"""Files in which some of the names stand together for another reason."""


IN_WORDS = {"rpc.discover", "system.info"}
ELSEWHERE_OR_IN_WORDS = IN_WORDS | {
    "conversations.answer", "conversations.get",
    "health.check", "health.detailed", "jobs.create", "jobs.get", "metrics.get", "rag.feedback",
    "session.open", "system.calls", "system.failure", "system.topics",
}  # fmt: skip
"""Methods whose results SPEC.md does not list right behind what they take: it has a table, or tells in words."""


def test_the_specification_has_the_table() -> None:
    text = writer.SPEC.read_text()
    assert writer.specification(text) == text, "run python -m scripts.write_tables"


@pytest.mark.parametrize("row", METHODS.values(), ids=METHODS)
def test_the_specification_gives_params_and_results_as_they_are(row: Any) -> None:
    text = writer.SPEC.read_text()
    signatures = list(re.finditer(rf"`{re.escape(row.name)} (\{{[^`]*\}})`", text))
    assert signatures, "SPEC.md says nowhere what it takes"
    for signature in signatures:
        assert _members(signature[1]) == {field.encode_name: field.required for field in _fields(row.params)}
    results = [re.match(r"[^`\n]{0,80}`(\{[^`]*\})`", text[signature.end() :]) for signature in signatures]
    told = [set(_members(result[1])) for result in results if result is not None]
    assert told or row.name in ELSEWHERE_OR_IN_WORDS or not _is_struct(row.result)
    for names in told:
        assert names == {field.encode_name for field in _fields(row.result)}
    if not told and row.name not in IN_WORDS:
        assert not {field.encode_name for field in _fields(row.result)} - set(re.findall(r"\w+", text))


@pytest.mark.parametrize("row", NOTIFICATIONS.values(), ids=NOTIFICATIONS)
def test_the_specification_shows_each_notification(row: Any) -> None:
    text = writer.SPEC.read_text()
    signatures = re.findall(rf"`{re.escape(row.name)} (\{{[^`]*\}})`", text)
    assert signatures or f'"method":"{row.name}"' in text, "SPEC.md says nowhere what it carries"
    for signature in signatures:
        assert _members(signature).keys() <= {field.encode_name for field in _fields(row.params)}


def test_the_javascript_tests_have_the_names() -> None:
    assert writer.SHARED.read_text() == writer.shared(), "run python -m scripts.write_tables"


def test_the_dashboard_has_the_types_of_the_reports() -> None:
    assert writer.REPORTS.read_text() == writer.report_types(), "run python -m scripts.write_tables"


def test_the_python_client_understands_what_the_hub_sends() -> None:
    [match] = [node for node in ast.walk(_parsed(Path(engine.__file__))) if isinstance(node, ast.Match)]
    cases = {case.pattern.value.value for case in match.cases if isinstance(case.pattern, ast.MatchValue)}  # type: ignore[attr-defined]  # each is text
    assert cases == {row.name for row in NOTIFICATIONS.values() if row.from_hub}


def test_the_dashboard_asks_for_what_there_is() -> None:
    asked = [value for value in _values(json.loads(ASKS.read_text())) if isinstance(value, dict) and "method" in value]
    assert asked
    for ask in asked:
        msgspec.convert(ask["params"], METHODS[ask["method"]].params, strict=True)


def test_dialects_translate_to_what_there_is() -> None:
    own = {name for name in (*dspy_port.METHODS.values(), *command_bus._METHODS.values()) if reserved(name)}
    assert own == {"auth", "health.check", "tenants.create"}


@pytest.mark.parametrize("row", METHODS.values(), ids=METHODS)
def test_a_row_describes_itself(row: Any) -> None:
    assert row.summary[0].isupper()
    assert not row.summary.endswith(".")
    assert ("(role admin)" in row.summary) is (row.right == "admin")
    assert ("(role callee)" in row.summary) is (row.right == "callee")
    assert row.params.__struct_config__.forbid_unknown_fields
    assert "$defs" in msgspec.json.schema(row.result) or not _is_struct(row.result)


def test_a_notification_refers_to_a_param_of_its_own() -> None:
    for row in NOTIFICATIONS.values():
        params = {field.encode_name for field in _fields(row.params)}
        assert row.refers_to is None or row.refers_to in params
    assert about_calls("caller").keys() & about_calls("callee").keys() == set()


def test_the_names_stand_in_no_other_list() -> None:
    found: dict[str, set[str]] = {}
    for path in modules().values():
        here = str(path.relative_to(ROOT))
        if path.name == "hub_methods.py" or here in ELSEWHERE:
            continue
        for names in _lists(_parsed(path)):
            if len(names) > 1:
                found.setdefault(here, set()).update(names)
    assert not found, "read them from trunkline_protocol/hub_methods.py"


def _members(text: str) -> dict[str, bool]:
    """What ``{a, b?: {c}}`` lists, and whether it has to be there."""
    found: dict[str, bool] = {}
    depth, member = 0, ""
    for sign in f"{text[1:-1]},":
        depth += (sign in "{[(") - (sign in "}])")
        if sign != "," or depth:
            member += sign
            continue
        if name := re.match(r"\s*(\w+)(\?)?", member):
            found[name[1]] = name[2] is None
        member = ""
    return found


def _fields(described: Any) -> tuple[msgspec.structs.FieldInfo, ...]:
    return msgspec.structs.fields(described) if _is_struct(described) else ()


def _is_struct(described: Any) -> bool:
    return isinstance(described, type) and issubclass(described, msgspec.Struct)


def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def _lists(tree: ast.Module) -> Iterator[set[str]]:
    """The names of each collection, and of each ``match``."""
    for node in ast.walk(tree):
        match node:
            case ast.Set(members) | ast.List(members) | ast.Tuple(members):
                parts: list[Any] = members
            case ast.Dict(keys):
                parts = keys
            case ast.Match(_, cases):
                parts = [part for case in cases for part in ast.walk(case.pattern)]
            case _:
                continue
        yield {part.value for part in parts if isinstance(part, ast.Constant) and part.value in NAMES}


def _values(value: Any) -> Iterator[Any]:
    yield value
    if isinstance(value, dict):
        for member in value.values():
            yield from _values(member)
