from __future__ import annotations

import contextlib
import json
import logging
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.support.audit_lines import call_line
from tests.support.timing import PATIENCE, SCALE, SOON, eventually
from trunkline.observe.audit import CLOSE_SECONDS, MAX_TEXT_CHARS, AuditLog
from trunkline_protocol.errors import ErrorCode


@contextlib.contextmanager
def opened(path: Path, **options: Any) -> Iterator[AuditLog]:
    log = AuditLog(path, **options)
    try:
        yield log
    finally:
        log.close()


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def one_call(log: AuditLog, method: str = "m", code: int = 0) -> None:
    log.add(call_line(method, code))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.log"


def test_a_line_says_who_what_and_how_it_ended(path: Path) -> None:
    before = datetime.now(UTC)
    with opened(path) as log:
        one_call(log, "rag.execute")
    (line,) = lines(path)
    said = datetime.fromisoformat(line.pop("time"))
    assert abs((said - before).total_seconds()) < 60
    assert line == {
        "event": "call",
        "principal": "alice",
        "tenant": "acme",
        "connection": 17,
        "peer": "10.0.0.5:50312",
        "method": "rag.execute",
        "outcome": "ok",
        "code": 0,
        "duration_ms": 12.346,
    }


def test_times_have_microseconds_and_go_on(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(path) as log:
        for half_seconds in range(3):
            now = 1_700_000_000.25 + half_seconds / 2
            monkeypatch.setattr(time, "time", lambda now=now: now)
            log.add(call_line(time=datetime.fromtimestamp(now, UTC)))
            log.event("connected")
    times = [line["time"] for line in lines(path)]
    assert times == sorted(times)
    assert [each[18:23] for each in times] == ["0.250", "0.250", "0.750", "0.750", "1.250", "1.250"]
    assert all(len(each) == len("2026-03-01T09:30:00.123456Z") and each.endswith("Z") for each in times)


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        (0, "ok"),
        (2002, "WORKER_OVERLOADED"),
        (-32601, "METHOD_NOT_FOUND"),
        (77, "APPLICATION_ERROR"),
        (-1, "APPLICATION_ERROR"),
    ],
)
def test_outcomes(path: Path, code: int, outcome: str) -> None:
    with opened(path) as log:
        one_call(log, code=code)
        one_call(log, code=ErrorCode.CANCELLED)
    first, second = lines(path)
    assert (first["outcome"], first["code"]) == (outcome, code)
    assert (second["outcome"], second["code"]) == ("CANCELLED", -32800)


def test_events(path: Path) -> None:
    with opened(path) as log:
        log.event("refused", peer="p:1", code=6001, reason='the "token"\nis not valid', principal=None)
    (line,) = lines(path)
    assert line.pop("time")
    assert line == {
        "event": "refused",
        "peer": "p:1",
        "code": 6001,
        "reason": 'the "token"\nis not valid',
        "principal": None,
    }


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(st.lists(st.text(st.characters(), max_size=300), min_size=1))
@example(["\ud800 alone", 'a "quoted"\nline', "\x00\x1f\u2028"])
def test_what_peers_choose_stays_in_its_line(path: Path, texts: list[str]) -> None:
    path.unlink(missing_ok=True)
    with opened(path) as log:
        for text in texts:
            names: dict[str, Any] = dict.fromkeys(("principal", "tenant", "peer", "via", "target", "request_id"), text)
            log.add(call_line(text, **names))
            log.event("auth", reason=text)
    written = path.read_bytes().split(b"\n")
    assert len(written) == 2 * len(texts) + 1
    for text, raw in zip(texts, written[::2], strict=False):
        expected = text.encode("utf-8", "replace").decode()
        if len(text) <= MAX_TEXT_CHARS:
            assert json.loads(raw)["method"] == expected


def test_long_names_are_cut(path: Path) -> None:
    with opened(path) as log:
        one_call(log, "x" * 1_000_000)
        log.event("refused", reason="x" * 1_000_000)
    assert path.stat().st_size < 2000
    assert all("x…" in json.dumps(line, ensure_ascii=False) for line in lines(path))


def test_only_the_owner_may_read_it_and_no_child_inherits_it(path: Path) -> None:
    with opened(path) as log:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert not os.get_inheritable(log._file.descriptor)


def test_it_appends(path: Path) -> None:
    path.write_text('{"old": true}\n')
    for _ in range(2):
        with opened(path) as log:
            one_call(log)
    assert [line.get("old") for line in lines(path)] == [True, None, None]


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"TRUNKLINE_AUDIT_FILE: .*cannot be opened: No such file"):
        AuditLog(tmp_path / "none" / "audit.log")


def test_lines_arrive_without_closing_and_in_order(path: Path) -> None:
    with opened(path) as log:
        for burst in range(3):
            for number in range(1000):
                one_call(log, f"m{burst}.{number}")
            eventually(lambda: path.read_bytes().count(b"\n") == 1000 * (burst + 1), "the burst is written")  # noqa: B023
    assert [line["method"] for line in lines(path)] == [f"m{b}.{n}" for b in range(3) for n in range(1000)]
    assert log.lost == 0


def test_a_full_disk_loses_lines_and_says_so(tmp_path: Path, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.symlink_to("/dev/full")
    with opened(path) as log:
        for _ in range(3):
            one_call(log)
        eventually(lambda: log.lost == 3, "the lines are counted as lost")
        one_call(log)
        eventually(lambda: log.lost == 4, "the next one, too")
        errors = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert len(errors) == 1, "the hub's log must not fill as well"
        assert "No space left on device" in str(vars(errors[0]))
        path.unlink()
        log.reopen()
        eventually(lambda: path.exists() and lines(path), "the loss is told, although nobody calls")
        one_call(log, "later")
    told, later = lines(path)
    assert (told["event"], told["count"]) == ("lost", 4)
    assert later["method"] == "later"
    assert log.lost == 4
    assert "is written again" in caplog.text


def accounted(text: bytes) -> int:
    """Calls that are in whole lines, and those that such lines say are missing."""
    seen = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith(b"\n")]
    return sum(line["count"] if line["event"] == "lost" else 1 for line in seen)


def test_a_slow_disk_never_holds_up_a_call(path: Path) -> None:
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # it does not read: the writing thread is stuck for good
    total = 5000
    with opened(path, buffer_lines=500) as log:
        slowest = 0.0
        for _ in range(total):
            began = time.perf_counter()
            one_call(log)
            slowest = max(slowest, time.perf_counter() - began)
        assert slowest < PATIENCE, "it waits for a reader that never comes"
        assert len(log._lines) <= 500, "what waits is bounded"
        assert log.lost > 0
        text = b""

        def drained() -> bool:
            nonlocal text
            with contextlib.suppress(BlockingIOError):
                while piece := os.read(reader, 65536):
                    text += piece
            return accounted(text) == total

        eventually(drained, "every call is there or among those that are said to be missing")
        assert 0 < log.lost < total
    os.close(reader)


def test_a_disk_that_comes_back_by_itself_is_told_what_is_missing(path: Path) -> None:
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with opened(path) as log:
        os.close(reader)  # from now on writing fails (EPIPE)
        one_call(log)
        one_call(log)
        eventually(lambda: log.lost == 2, "the lines are lost")
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        text = b""

        def told() -> bool:
            nonlocal text
            with contextlib.suppress(BlockingIOError):
                text += os.read(reader, 65536)
            return b"\n" in text

        eventually(told, "the loss is told without a further call")
        assert (json.loads(text)["event"], json.loads(text)["count"]) == ("lost", 2)
    os.close(reader)


TORN = """
import resource, signal, sys, time
from pathlib import Path
from tests.support.audit_lines import call_line
from trunkline.observe.audit import AuditLog
log = AuditLog(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))  # the write stops in the middle of a line
for number in range(50):
    log.add(call_line(f"m{number}"))
while not log.lost:
    time.sleep(0.01)  # until the write has failed, in the thread of the log
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
log.add(call_line("after"))
log.close()
print(log.lost)
"""


def test_a_torn_line_spoils_no_other(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", TORN, str(path)], capture_output=True, text=True, check=True)
    parsed, torn = [], 0
    for raw in path.read_bytes().splitlines():
        try:
            parsed.append(json.loads(raw))
        except ValueError:
            torn += 1
    assert torn == 1, "the limit was to cut a line in two"
    kept = [line["method"] for line in parsed if line["event"] == "call"]
    assert kept == [*(f"m{number}" for number in range(len(kept) - 1)), "after"]
    assert [line["count"] for line in parsed if line["event"] == "lost"] == [50 - (len(kept) - 1)] == [int(done.stdout)]


def test_rotation(tmp_path: Path, path: Path) -> None:
    old = tmp_path / "audit.log.1"
    with opened(path) as log:
        one_call(log, "before")
        eventually(path.read_bytes, "it is written")
        path.rename(old)
        log.reopen()
        eventually(path.exists, "there is a new file")
        one_call(log, "after")
    assert [line["method"] for line in lines(old)] == ["before"]
    assert [line["method"] for line in lines(path)] == ["after"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_rotation_that_fails_goes_on_in_the_old_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    with opened(folder / "audit.log") as log:
        moved = folder.rename(tmp_path / "moved")
        log.reopen()
        eventually(lambda: "cannot be opened again" in caplog.text, "it is complained of")
        one_call(log, "after")
    assert [line["method"] for line in lines(moved / "audit.log")] == ["after"]
    assert log.lost == 0


def test_closing_writes_what_waits(path: Path) -> None:
    log = AuditLog(path)
    for _ in range(10_000):
        one_call(log)
    log.close()
    assert len(lines(path)) == 10_000
    one_call(log)
    assert log.lost == 1, "after the end nothing is written, and nothing raised"
    assert len(lines(path)) == 10_000


def test_a_process_that_stands_still_while_it_closes_has_not_waited_for_the_disk(path: Path) -> None:
    log = AuditLog(path)
    one_call(log)
    writer, joined = log._writer, []

    class StandsStill:
        """At first the time to wait is over and the thread has not had its turn."""

        def join(self, timeout: float) -> None:
            joined.append(timeout)
            if len(joined) > 1:
                writer.join(PATIENCE)

        def is_alive(self) -> bool:
            return len(joined) == 1 or writer.is_alive()

    log._writer = StandsStill()  # type: ignore[assignment]
    log.close()
    assert len(joined) == 2
    assert len(lines(path)) == 1


def test_closing_does_not_wait_for_a_dead_disk(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    log = AuditLog(path)
    for _ in range(2000):
        one_call(log)
    began = time.monotonic()
    log.close()
    assert time.monotonic() - began < CLOSE_SECONDS + PATIENCE
    assert "does not answer" in caplog.text
    os.close(reader)  # the thread's write ends with EPIPE
    log._writer.join(SOON)


def test_a_line_is_cheap_for_the_event_loop(path: Path) -> None:
    number = 5000
    costs = []
    with opened(path) as log:
        for _ in range(9):
            began = time.thread_time()
            for _ in range(number):
                one_call(log, "rag.execute")
            costs.append((time.thread_time() - began) / number * 1e6)
            time.sleep(0.02)  # the writing thread takes its turn, and not the time of what is measured
    print(f"\naudit: {min(costs):.2f} us a line")
    assert min(costs) < 8 * SCALE, f"us a line: {costs}"  # about 1.5 on a machine that has nothing else to do
