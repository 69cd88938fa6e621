"""Progress of ``trunkline call``: what reports mean, and where they are shown."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cli.test_pubsub_commands import read_all
from tests.support.command import COMMAND, trunkline
from tests.support.hub import RunningHub, clean_environment
from tests.support.timing import PATIENCE
from trunkline.cli.show.progress import LINE_SECONDS, Lines, read_report


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "0 %"),
        (0.254, "25 %"),
        (1, "100 %"),
        (17, "17"),
        (True, "true"),
        (None, "null"),
        ("half way", "half way"),
        ([1, 2], "[1,2]"),
        ({"step": 3}, '{"step":3}'),
        ({"done": 1200, "total": 4800}, "25 %  1,200 of 4,800"),
        ({"done": 9, "total": 4}, "100 %  9 of 4"),
        ({"done": 5, "total": None}, "5"),
        ({"done": 0, "total": 0}, "0 of 0"),
        ({"done": "many"}, '{"done":"many"}'),
        (
            {"documents_done": 1, "documents_total": 2, "passages_done": 30, "passages_total": 40, "stage": "embedding",
             "current": "a.pdf"},
            "75 %  embedding, 1 of 2 documents, 30 of 40 passages, a.pdf",
        ),
        (
            {"documents_done": 1, "documents_total": 4, "passages_done": 0, "passages_total": None},
            "25 %  1 of 4 documents, 0 passages",
        ),
        ({"stage": "loading"}, "loading"),
        ({"kind": "begin", "title": "Indexing", "percentage": 0}, "0 %  Indexing"),
        ({"kind": "report", "message": "3/25 files", "percentage": 12}, "12 %  3/25 files"),
        ({"kind": "report", "message": "still there"}, "still there"),
        ({"kind": "end"}, ""),
    ],
)  # fmt: skip
def test_what_reports_say(value: Any, words: str) -> None:
    assert str(read_report(value)) == words


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["done", "total", "percentage", "kind"]), inner),
)


@given(json_values)
def test_any_json_can_be_read(value: Any) -> None:
    reading = read_report(value)
    assert reading.fraction is None or 0 <= reading.fraction <= 1


def test_lines_come_with_changes_at_most_one_a_second_and_the_last_one_always() -> None:
    now = 10.0
    written: list[str] = []
    lines = Lines(written.append, lambda: now)
    lines.report(0.1)
    lines.report(0.2)
    lines.report(0.3)
    assert written == ["10 %"]
    now += LINE_SECONDS
    lines.report(0.4)
    assert written == ["10 %", "40 %"]
    now += LINE_SECONDS
    lines.report(0.4)
    assert written == ["10 %", "40 %"], "nothing new"
    lines.report("a\nb\x1b[31m")
    lines.report(1)
    lines.flush()
    lines.flush()
    assert written == ["10 %", "40 %", "a\ufffdb\ufffd[31m", "100 %"]


# --- the command ---

REPORTS = json.dumps({"values": [{"done": 1, "total": 4}, {"done": 4, "total": 4, "current": "the last [bold]"}]})


def test_without_a_terminal_nothing_is_said_unless_asked_for(lab_hub: RunningHub) -> None:
    done = trunkline("call", "lab.reports", REPORTS, "--url", lab_hub.url)
    assert (done.returncode, done.stdout, done.stderr) == (0, '"done"\n', "")
    done = trunkline("call", "lab.reports", REPORTS, "--progress", "--url", lab_hub.url)
    assert (done.returncode, done.stdout) == (0, '"done"\n')
    assert done.stderr.splitlines() == ["25 %  1 of 4", "100 %  4 of 4, the last [bold]"]


@pytest.mark.parametrize("option", [[], ["--no-progress"]])
def test_a_bar_on_a_terminal_that_is_gone_in_the_end(lab_hub: RunningHub, option: list[str]) -> None:
    parent, child = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "call", "lab.reports", REPORTS, *option, "--url", lab_hub.url],
        stdout=subprocess.PIPE, stderr=child, env=clean_environment({"TERM": "xterm-256color", "COLUMNS": "120"}),
    )  # fmt: skip
    os.close(child)
    said = read_all(parent)
    out, _ = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (0, b'"done"\n')
    if option:
        assert said == ""
        return
    words = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said)
    assert "lab.reports" in words
    assert "100%" in words
    assert "4 of 4, the last [bold]" in words
    assert said.rstrip().endswith("\x1b[2K"), "the bar is wiped away"


def test_a_call_that_fails_leaves_no_bar(lab_hub: RunningHub) -> None:
    values = json.dumps({"values": [0.5], "more": 1})
    done = trunkline("call", "lab.reports", values, "--progress", "--url", lab_hub.url)
    assert (done.returncode, done.stdout) == (1, "")
    assert "INVALID_PARAMS" in done.stderr
