from __future__ import annotations

import logging
import multiprocessing
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextvars import copy_context
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.methods import context_of
from trunkline.executors.output import OutputLines
from trunkline.executors.output_records import (
    MAX_EXCEPTION_CHARS,
    MAX_RECORD_BYTES,
    OutputRecord,
    cut,
    decode_record,
    encode_record,
    scalars,
)
from trunkline.executors.printing import (
    MAX_UNFINISHED,
    PrintedLines,
    RecordHandler,
    RecordWriter,
    finish_output,
    tell_by_records,
)
from trunkline.methods.context import CURRENT_CALL

texts = st.text(st.characters(codec=None), max_size=200)


@given(st.lists(st.builds(OutputRecord, st.just("INFO"), texts.map(lambda text: cut(text, 4096)))), st.integers(1, 99))
def test_records_come_through_however_the_pipe_cuts_them(records: list[OutputRecord], step: int) -> None:
    data = b"".join(map(encode_record, records))
    lines = OutputLines()
    said = [line for at in range(0, len(data), step) for line in lines.feed(data[at : at + step], at / 1e9)]
    assert [decode_record(line) for line in said] == records[: len(said)]
    assert len(said) + lines.lines_left_out == len(records)


@given(st.text(max_size=20_000), st.text("é\U0001f600\0", max_size=20_000))
def test_a_record_is_bounded_and_one_line(text: str, wide: str) -> None:
    record = OutputRecord("INFO", cut(text, 4096), exception=cut(wide, MAX_EXCEPTION_CHARS), extra=scalars({"a": wide}))
    line = encode_record(record)
    assert len(line) <= MAX_RECORD_BYTES
    assert line.count(b"\n") == 1
    assert decode_record(line.decode().rstrip("\n")) is not None


def test_a_cut_text_keeps_its_end() -> None:
    assert cut("a" * 100 + "the cause", 40).endswith("the cause")
    assert len(cut("a" * 100, 40)) == 40


class Unreadable:
    def __str__(self) -> str:
        raise RuntimeError


def test_members_are_what_a_line_can_carry() -> None:
    said = scalars({"n": 1, "large": 2**80, "list": [1], "lone": "\ud800", "odd": Unreadable(), "none": None})
    assert said == {
        "n": 1,
        "large": str(2**80),
        "list": "[1]",
        "lone": "\\ud800",
        "odd": "(its text cannot be read: RuntimeError)",
        "none": None,
    }
    assert len(scalars({str(n): n for n in range(100)})) == 20


@pytest.mark.parametrize("line", ["\x1e", "\x1e{}", "\x1enull", '\x1e{"level": 1, "text": ""}', "plain"])
def test_what_only_looks_like_a_record_is_a_line(line: str) -> None:
    assert decode_record(line) is None


@pytest.fixture
def told() -> Iterator[Any]:
    """A writer of records into a pipe, and what came out of it, read as records."""
    reader, writer = os.pipe()

    def read() -> list[OutputRecord | None]:
        os.write(writer, b"end\n")
        data = b""
        while not data.endswith(b"end\n"):
            data += os.read(reader, 65536)
        return [decode_record(line) for line in data.decode().split("\n")[:-2]]

    yield RecordWriter(writer), read
    os.close(writer)
    os.close(reader)


def logger_for(writer: RecordWriter, own: tuple[str, ...] = (), level: str = "INFO") -> logging.Logger:
    logger = logging.Logger("mine", level)
    logger.addHandler(RecordHandler(writer, own, level))
    return logger


def test_whose_a_record_is_says_its_context_not_what_else_runs(told: Any) -> None:
    writer, read = told
    logger = logger_for(writer)

    def speak(number: int) -> None:
        CURRENT_CALL.set(context_of(number, f"m.{number}", {"request_id": f"r{number}"}))
        logger.info("from %d", number)

    threads = [threading.Thread(target=copy_context().run, args=(speak, number)) for number in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    logger.info("from nobody")
    said = {record.text: (record.call_id, record.method, record.request_id) for record in read()}
    assert said == {f"from {n}": (n, f"m.{n}", f"r{n}") for n in (1, 2, 3)} | {"from nobody": (0, "", "")}


def test_a_record_that_does_not_fit_its_arguments_is_told_all_the_same(told: Any) -> None:
    writer, read = told
    logger_for(writer).info("%d of %s", "one")
    logger_for(writer).log(25, Unreadable())
    first, second = read()
    assert "one" not in first.text
    assert "arguments do not fit" in first.text
    assert second.level == "INFO"
    assert "RuntimeError" in second.text


@pytest.mark.parametrize(
    ("own", "level", "heard"), [((), "INFO", []), (("pytest",), "INFO", ["x"]), ((), "DEBUG", ["x"])]
)
def test_libraries_are_heard_from_warning_on(told: Any, own: tuple[str, ...], level: str, heard: list[str]) -> None:
    writer, read = told
    logger = logger_for(writer, own, level)
    path = str(pytest.__file__)
    logger.handle(logger.makeRecord("library", logging.INFO, path, 1, "x", (), None))
    logger.handle(logger.makeRecord("library", logging.WARNING, path, 1, "warned", (), None))
    assert [record.text for record in read()] == [*heard, "warned"]


def test_printed_lines_of_two_calls_do_not_mix(told: Any) -> None:
    writer, read = told
    out = PrintedLines(writer, sys.__stdout__ or sys.stdout)

    def write(number: int, text: str) -> None:
        CURRENT_CALL.set(context_of(number, f"m.{number}"))
        print(text, end="", file=out)

    for number, text in (
        (1, "one "),
        (2, "two "),
        (1, "goes on\n"),
        (2, "goes on\nand"),
        (3, "10%\r20%\r"),
        (3, "30%\n"),
    ):
        copy_context().run(write, number, text)
    out.finish()
    said = [(record.method, record.text) for record in read()]
    assert said == [("m.1", "one goes on"), ("m.2", "two goes on"), ("m.3", "30%"), ("", "and")]


def test_lines_without_an_end_are_bounded_in_number_and_length(told: Any) -> None:
    writer, read = told
    out = PrintedLines(writer, sys.__stdout__ or sys.stdout)

    def write(number: int) -> None:
        CURRENT_CALL.set(context_of(number, "m"))
        out.write(f"unfinished {number}")

    for number in range(MAX_UNFINISHED + 1):
        copy_context().run(write, number + 1)
    assert [record.text for record in read()] == ["unfinished 1"]
    out.write("x" * 5000)
    assert all(len(record.text) <= 2001 for record in read())


def test_a_forked_child_can_log_while_a_thread_of_its_parent_did(told: Any) -> None:
    writer, read = told
    with writer._lock:  # as another thread holds it at the moment of the fork
        child = multiprocessing.get_context("fork").Process(target=writer.write, args=("INFO", "from the child"))
        child.start()
    child.join()
    assert [record.text for record in read()] == ["from the child"]


def test_a_process_tells_what_it_logs_warns_and_prints_by_records(told: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    writer, read = told
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    with (
        open(os.dup(writer._descriptor), "w") as error,
        open(os.dup(writer._descriptor), "w") as out,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("always")
        monkeypatch.setattr(sys, "stderr", error)
        monkeypatch.setattr(sys, "stdout", out)
        try:
            tell_by_records("info", ["mine.methods"])
            logging.getLogger("mine").info("logged")
            logging.getLogger("mine").debug("not at this level")
            print("printed")
            print("half a line", end="", file=sys.stderr)
            warnings.warn("old", DeprecationWarning, stacklevel=1)
            finish_output()
            print("after the end")
        finally:
            logging.captureWarnings(capture=False)
            root.handlers[:] = handlers
            root.setLevel(level)
    said = [(record.logger, record.level, record.text) for record in read()]
    warned = said.pop(2)
    assert said == [
        ("mine", "INFO", "logged"),
        ("", "INFO", "printed"),
        ("", "INFO", "half a line"),
        ("", "INFO", "after the end"),
    ]
    assert warned[:2] == ("py.warnings", "WARNING")
    assert "DeprecationWarning: old" in warned[2]


def test_a_record_has_its_traceback_and_its_members(told: Any) -> None:
    writer, read = told
    logger = logger_for(writer)
    try:
        raise OSError("the disk is gone")
    except OSError:
        logger.exception("no luck", extra={"user": "ada"})
    logger.critical("plain", exc_info=(None, None, None))
    token = CURRENT_CALL.set(context_of(1, "m", {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}))
    logger.warning("traced")
    CURRENT_CALL.reset(token)
    failed, plain, traced = read()
    assert failed.exception.startswith("Traceback")
    assert failed.exception.endswith("OSError: the disk is gone")
    assert (failed.level, failed.extra) == ("ERROR", {"user": "ada"})
    assert (plain.level, plain.exception) == ("CRITICAL", "")
    assert (traced.trace_id, traced.method) == ("a" * 32, "m")


def test_standard_output_is_a_stream_like_others_for_programs_that_look(told: Any) -> None:
    writer, _ = told
    with open(os.dup(writer._descriptor), "w") as original:
        out = PrintedLines(writer, original)
        out.reconfigure(line_buffering=True)
        assert (out.encoding, out.writable(), out.fileno()) == ("utf-8", True, original.fileno())
        assert out.buffer is original.buffer
