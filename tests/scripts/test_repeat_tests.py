"""What repeated runs print: each test that failed, and in which runs."""

from __future__ import annotations

import sys
from pathlib import Path

from scripts.repeat_tests import Run, failures, run, summary

PYTEST = """
=========================== short test summary info ============================
FAILED tests/hub/test_a.py::test_one[a - b] - AssertionError: {'a': 1}
ERROR tests/hub/test_b.py::test_two
SKIPPED [1] tests/hub/test_c.py:3: FAILED is only a word here
"""

NODE = """
✔ a call is answered (3.1ms)
▶ sessions
  ✖ a lost frame is sent again (12.25ms)
✖ failing tests:

test at build/test/session.test.mjs:1:1
✖ a lost frame is sent again (12.25ms)
"""


def test_a_failed_test_is_named_once_in_either_language() -> None:
    assert failures(PYTEST) == ("tests/hub/test_a.py::test_one[a - b]", "tests/hub/test_b.py::test_two")
    assert failures(NODE) == ("a lost frame is sent again",)
    assert failures("11151 passed in 480.12s") == ()


def test_who_failed_is_said_with_the_runs_and_a_red_run_always() -> None:
    said = summary([Run(0, 500, ()), Run(2, 520, ("a", "b")), Run(2, 480, ("a",)), Run(2, 9, ())])
    assert said.splitlines() == [
        "1 of 4 runs green; 9 to 520 s", "(no test: see its log): in 4", "a: in 2, 3", "b: in 2",
    ]  # fmt: skip


def test_a_run_has_the_status_and_the_names_of_its_command(tmp_path: Path) -> None:
    program = "import sys; print('FAILED tests/x.py::y - words', file=sys.stderr); sys.exit(3)"
    done = run([sys.executable, "-c", program], log := tmp_path / "log")
    assert (done.status, done.failed, log.read_text()) == (3, ("tests/x.py::y",), "FAILED tests/x.py::y - words\n")
