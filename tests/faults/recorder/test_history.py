"""What is written can be read again, whoever was killed meanwhile; and the command line judges it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.recorder import __main__ as command
from tests.faults.recorder.checker import HISTORY, LEDGER
from tests.faults.recorder.history import Appender, BadLine, Execution, read_history, read_ledger, recorder_in
from tests.faults.recorder.samples import Sample
from tests.support.hub import MODULES, clean_environment
from tests.support.timing import eventually

WRITE_ON: str = "import recorded\nwhile True: recorded.executed('w' * 200)"
"""An executor that does nothing else."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / HISTORY).mkdir()
    return tmp_path


@pytest.fixture
def writers(folder: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    env = clean_environment({"RECORDER_LEDGER": str(folder / LEDGER), "RECORDER_LIFE": "1"})
    running = [subprocess.Popen([sys.executable, "-c", WRITE_ON], cwd=MODULES, env=env) for _ in range(3)]
    yield running
    for process in running:
        process.kill()
        process.wait()


def test_a_ledger_has_whole_lines_whoever_was_killed(folder: Path, writers: list[subprocess.Popen[bytes]]) -> None:
    ledger = folder / LEDGER

    def all_write() -> bool:
        text = ledger.read_bytes() if ledger.exists() else b""
        return all(b'"by": "%d"' % process.pid in text for process in writers)

    eventually(all_write, "all of them write")
    for process in writers:
        process.kill()
    for process in writers:
        process.wait()
    assert len(read_ledger(ledger)) > 100


def test_what_a_killed_process_left_of_a_line_spoils_no_other(folder: Path) -> None:
    ledger = folder / LEDGER
    appender = Appender(ledger)
    lines = [Execution(time=float(n), work="w", life=1, by="1") for n in range(2)]
    appender.write(lines[0])
    with ledger.open("ab") as file:
        file.write(b'\n{"time": 30943')
    appender.write(lines[1])
    appender.close()
    assert read_ledger(ledger) == lines


def test_lines_of_all_processes_come_in_the_order_of_time(folder: Path) -> None:
    recorders = [recorder_in(folder / HISTORY, name) for name in ("b", "a")]
    for recorder in recorders:
        op = recorder.next_op()
        recorder.invoke(op, "call", work=op, expect=1)
    for recorder in recorders:
        recorder.end(f"{recorder.process}:1", "ok", value=1)
        recorder.close()
    lines = read_history(folder / HISTORY)
    assert [(line.process, line.kind) for line in lines] == [
        ("b", "invoke"), ("a", "invoke"), ("b", "ok"), ("a", "ok")
    ]  # fmt: skip


@pytest.mark.parametrize(
    "line", [b"{]}", b'{"time":1,"process":"a","kind":"other"}', b'{"time":1,"kind":"ok","more":1}']
)
def test_what_is_no_history_is_named(folder: Path, line: bytes) -> None:
    (folder / HISTORY / "a.jsonl").write_bytes(b'{"time":1,"process":"a","kind":"state"}\n' + line + b"\n")
    with pytest.raises(BadLine, match=r"a\.jsonl:2"):
        read_history(folder / HISTORY)


def written(folder: Path, sample: Sample) -> Path:
    for name, lines in ((f"{HISTORY}/all.jsonl", sample.lines), (LEDGER, sample.ledger)):
        appender = Appender(folder / name)
        for line in lines:
            appender.write(line)
        appender.close()
    return folder


def test_a_folder_is_judged(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sample = Sample()
    sample.call("a:1")
    assert command.main(["--check", str(written(folder, sample))]) == 0
    assert "violations: 0" in capsys.readouterr().out


def test_violations_are_printed_and_are_an_exit_code(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sample = Sample()
    sample.call("a:1", executed=2)
    assert command.main(["--check", str(written(folder, sample))]) == 1
    out = capsys.readouterr().out
    assert "violations: 1\nat-most-once a:1: executed 2 times" in out
