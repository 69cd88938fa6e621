"""The pure parts of ``make check-instructions``, and its counter of Python functions."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from bench.instructions.__main__ import report
from bench.instructions.bytecode import BYTECODE, CALLS, Bytecode
from bench.instructions.callgrind import INSTRUCTIONS, read_profile
from bench.instructions.compare import WHOLE, Growth, PerUnit, Row, Sample, above, grown, per_unit, rows, smaller, table
from bench.instructions.dialogue import Calls

PROFILE = """\
version: 1
creator: callgrind-3.19.0
positions: line
events: Ir

ob=(1) /usr/bin/python3.11
fl=(1) ceval.c
fn=(1) _PyEval_EvalFrameDefault
10 100
+3 20
cob=(2) /lib/orjson.so
cfi=(2) ???
cfn=(2) 0x000000000004f2a0
calls=7 0
* 5000
-2 3
fn=(3) _PyEval_EvalFrameDefault'2
4 1000
cfn=(1)
calls=1 10
4 700

ob=(2)
fl=(2)
fn=(2)
0 5000
fn=(4) 0x0000000000050000
0 11

totals: 6134
"""


def test_a_profile_has_each_function_s_own_instructions() -> None:
    """Not those of what it calls; recursions count together; of a library without names its own name is told."""
    found = read_profile(PROFILE.splitlines(keepends=True))
    assert found == {"_PyEval_EvalFrameDefault": 1123, "orjson.so": 5011}
    assert sum(found.values()) == 6134


def sample(
    part: str, units: int, seconds: float, hub: dict[str, int], executor: dict[str, int] | None = None
) -> Sample:
    return Sample(part, "call", units, seconds, {"hub": hub, "executor": executor or {}})


def test_what_time_costs_is_taken_off_before_it_is_divided() -> None:
    idle = sample("idle", 5, 5.0, {"tick": 500, "never else": 5})
    calls = sample("calls", 100, 2.0, {"tick": 200, "route": 400_000})
    found = per_unit([idle, calls])["hub", "calls"]
    assert found == {"tick": 0.0, "route": 4000.0, "never else": -0.02}


BEFORE = {
    ("hub", "calls"): {"a": 60_000.0, "b": 40_000.0},
    ("hub", "events"): {"a": 9_000.0},
    ("executor", "events"): {},
}
AFTER = {
    ("hub", "calls"): {"a": 60_100.0, "b": 40_500.0, "c": 4_000.0},
    ("hub", "events"): {"a": 9_200.0},
    ("executor", "events"): {"x": 5.0},
}
UNITS = {"calls": "call", "events": "delivery"}


def test_rows_are_the_processes_that_take_part_and_each_as_a_whole() -> None:
    assert rows(BEFORE, AFTER, UNITS)[:3] == [
        Row("hub", "calls", "call", 100_000.0, 104_600.0),
        Row("hub", "events", "delivery", 9_000.0, 9_200.0),
        Row("hub", WHOLE, "one of each", 109_000.0, 113_800.0),
    ]
    assert not [row for row in rows(BEFORE, AFTER, UNITS) if row.process == "executor" and row.part == "events"]


def test_above_the_limit_is_above_it() -> None:
    found = [Row("hub", str(after), "call", 100.0, after) for after in (50.0, 102.0, 102.9, 104.0)]
    assert [row.part for row in above(found, 0.03)] == ["104.0"]


def test_of_two_runs_the_one_that_needed_less_counts_part_by_part() -> None:
    assert smaller(BEFORE, AFTER) == BEFORE
    assert smaller(AFTER, BEFORE) == BEFORE
    first = {("hub", "calls"): {"a": 1.0}, ("hub", "events"): {"a": 4.0}}
    second = {("hub", "calls"): {"a": 2.0}, ("hub", "events"): {"a": 1.0, "b": 1.0}}
    assert smaller(first, second) == {("hub", "calls"): {"a": 1.0}, ("hub", "events"): {"a": 1.0, "b": 1.0}}


def test_what_grew_is_told_once_where_it_grew_most() -> None:
    assert grown(BEFORE, AFTER, BEFORE, 0.004, 5) == [
        Growth("hub", "calls", "c", 0.0, 4_000.0),
        Growth("hub", "calls", "b", 40_000.0, 40_500.0),
        Growth("hub", "events", "a", 9_000.0, 9_200.0),
        Growth("executor", "events", "x", 0.0, 5.0),
    ]
    assert [growth.function for growth in grown(BEFORE, AFTER, BEFORE, 0.03, 5)] == ["c", "x"]
    assert [growth.function for growth in grown(BEFORE, AFTER, BEFORE, 0.0, 1)] == ["c", "x"]
    assert [growth.function for growth in grown(BEFORE, AFTER, [("hub", "events")], 0.0, 5)] == ["a"]


def test_columns_of_a_table_are_as_wide_as_what_is_in_them() -> None:
    assert table(("name", "n"), [("a", "1,000"), ("longer", "2")], 1) == [
        "name        n",
        "a       1,000",
        "longer      2",
    ]


@pytest.mark.parametrize(("after", "fails"), [(102_000, False), (104_000, True), (50_000, False)])
def test_a_report_fails_above_the_limit_and_names_the_function(
    after: int, fails: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    def found(instructions: float, bytecode: float) -> dict[str, PerUnit]:
        part = "hub", Calls.name
        return {
            INSTRUCTIONS: {part: {"eval": instructions}},
            BYTECODE: {part: {"router.py:route": bytecode}},
            CALLS: {part: {"x": 5.0}},
        }

    passed = report(found(100_000, 300), found(after, 300 + 40 * fails), 0.03)
    assert passed is not fails
    said = capsys.readouterr().out
    assert ("router.py:route" in said) is fails
    assert (f"hub, {Calls.name}: +4.00 %, and +3.0 % is allowed" in said) is fails


PROGRAM = """
import sys

class Router:
    def route(self, n):
        return list(len(str(i)) for i in range(n))

print("ready", flush=True)
for line in sys.stdin:
    Router().route(int(line))
    print("done", flush=True)
"""


def count_program(folder: Path) -> dict[str, dict[str, int]]:
    """What is counted of a program that is asked for three numbers, after five that are not counted."""
    folder.mkdir()
    counter = Bytecode(folder)
    counter.command()
    program = folder / "server" / "program.py"
    program.parent.mkdir()
    program.write_text(PROGRAM)
    environment = {"PYTHONPATH": ":".join(map(str, counter.python_path())), "PATH": ""}
    with subprocess.Popen(
        [sys.executable, str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        for asked in ("5\n", "3\n"):
            counter.begin(running.pid)
            running.stdin.write(asked)
            running.stdin.flush()
            assert running.stdout.readline() == "done\n"
        found = counter.take(running.pid)
        running.stdin.close()
    return found


def test_python_functions_are_counted_exactly_and_named_wherever_they_lie(tmp_path: Path) -> None:
    found = count_program(tmp_path / "before")
    assert found["calls"]["program.py:Router.route.<locals>.<genexpr> -> builtins.len"] == 3
    assert found["bytecode"]["program.py:Router.route.<locals>.<genexpr>"] > 3 * 5
    assert found["bytecode"]["program.py:Router.route"] > 5
    assert count_program(tmp_path / "after") == found
