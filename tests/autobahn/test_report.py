"""The reader of the suite's reports: what must not pass does not pass."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.autobahn.report import EXPECTED_CASES, Case, faults, read_report, table

GOOD = Case("1.1.1", "OK", "OK")
ONE = {"1": 1}


def report(folder: Path, agents: object) -> Path:
    path = folder / "index.json"
    path.write_text(json.dumps(agents))
    return path


def entry(behavior: str, close: str) -> dict[str, object]:
    return {"behavior": behavior, "behaviorClose": close, "duration": 1, "remoteCloseCode": 1000}


def test_cases_are_read_in_their_order(tmp_path: Path) -> None:
    cases = {"10.1.1": entry("OK", "OK"), "9.1.1": entry("NON-STRICT", "OK"), "1.2.10": entry("FAILED", "UNCLEAN")}
    assert read_report(report(tmp_path, {"trunkline": cases})) == [
        Case("1.2.10", "FAILED", "UNCLEAN"),
        Case("9.1.1", "NON-STRICT", "OK"),
        Case("10.1.1", "OK", "OK"),
    ]


@pytest.mark.parametrize("agents", [{}, {"one": {}, "other": {}}])
def test_a_report_is_of_one_server(tmp_path: Path, agents: object) -> None:
    with pytest.raises(ValueError, match="one server"):
        read_report(report(tmp_path, agents))


@pytest.mark.parametrize("behavior", ["OK", "NON-STRICT", "INFORMATIONAL"])
@pytest.mark.parametrize("close", ["OK", "INFORMATIONAL"])
def test_good_enough(behavior: str, close: str) -> None:
    assert faults([Case("1.1.1", behavior, close)], ONE) == []


@pytest.mark.parametrize("behavior", ["FAILED", "UNIMPLEMENTED", "", "something new"])
def test_any_other_behavior_is_a_fault(behavior: str) -> None:
    assert faults([Case("1.1.1", behavior, "OK")], ONE) == [f"1.1.1: {behavior}"]


@pytest.mark.parametrize("close", ["FAILED", "WRONG CODE", "UNCLEAN", "FAILED BY CLIENT", ""])
def test_a_wrong_close_is_a_fault(close: str) -> None:
    assert faults([Case("1.1.1", "OK", close)], ONE) == [f"1.1.1: close {close}"]


def test_cases_that_were_not_run_are_a_fault() -> None:
    assert faults([GOOD], {"1": 2, "7": 3}) == [
        "group 1: 1 of 2 cases were run",
        "group 7: 0 of 3 cases were run",
    ]
    assert len(faults([])) == len(EXPECTED_CASES)


def test_the_table_counts_by_group_and_names_what_is_not_ok() -> None:
    lines = table(
        [GOOD, Case("1.1.2", "NON-STRICT", "OK"), Case("7.1.1", "FAILED", "UNCLEAN"), Case("7.1.2", "OK", "WRONG CODE")]
    ).splitlines()
    assert [line.split() for line in lines[1:4]] == [
        ["1", "1", "1", "0", "0", "0"],
        ["7", "1", "0", "0", "1", "2"],
        ["all", "2", "1", "0", "1", "2"],
    ]
    assert lines[4] == "not OK: 1.1.2 NON-STRICT, 7.1.1 FAILED"
