"""What ``trunkline top`` makes of what it hears, and how that looks: no hub, no terminal, no clock."""

from __future__ import annotations

import io
import json
from typing import Any

import msgspec
import pytest
from rich.console import Console

from trunkline.cli.show.top.board import CALLS, EXECUTORS, HEALTH, METHODS, METRICS, TOPICS, Board, ConnectionStatus
from trunkline.cli.show.top.view import count, duration, ms, render, share
from trunkline.terminal_text import plain
from trunkline_protocol.health_reports import MethodHealth

TIMES: dict[str, Any] = {f"{kind}p{q}_ms": 1.5 for kind in ("", "wait_", "run_") for q in (50, 95, 99)}
FIGURES: dict[str, Any] = TIMES | {
    "connections": 7, "subscriptions": 3, "streams": 2, "calls_in_flight": 12, "calls_waiting": 4,
    "calls_per_second": 12345.6, "errors_per_second": 3.0, "errors": {"CANCELLED": 3}, "events_per_second": 9.0,
    "deliveries_per_second": 90.0, "bytes_in_per_second": 0.0, "bytes_out_per_second": 0.0, "buffered_bytes": 0,
    "events_dropped": 0, "p50_ms": 0.31, "p95_ms": 12.25, "p99_ms": 1234.5, "rss_mb": 61.2,
}  # fmt: skip


def executor(number: int, status: str = "ready", **more: Any) -> dict[str, Any]:
    return {
        "worker_id": f"executor-{number}", "group": "main", "status": status, "pid": 100 + number,
        "uptime_seconds": 9.0, "slots": 512, "slots_leaving": 0, "active_requests": 0, "request_count": 0,
        "error_count": 0, "error_rate": 0.0, "pipelines_loaded": 1, "restarts": 0, "restart_causes": {},
        "last_restart": None, "last_failure": None, "latency_ms": 0.2, "cpu_percent": None,
        "memory_usage": {"rss_mb": 36.8, "vms_mb": 43.3, "percent": 0.15},
    } | more  # fmt: skip


def health(*executors: dict[str, Any], status: str = "healthy", causes: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "status": status, "ready": True, "since": 1, "causes": list(causes), "groups": [], "methods": [],
        "methods_more": 0, "executors": list(executors), "uptime_seconds": 4000.0, "worker_id": "hub",
        "request_count": 0, "error_count": 0, "error_rate": 0.0, "active_requests": 0, "memory_usage": None,
        "cpu_percent": None, "pipelines_loaded": 1, "timestamp": "2026-11-30T00:00:00Z", "connections": 1,
        "waiting_requests": 0,
    }  # fmt: skip


def stats(number: int, **errors: int) -> dict[str, Any]:
    return TIMES | {
        "count": number, "success": number - sum(errors.values()), "errors": errors, "mean_ms": 1.5, "max_ms": 1.5,
        "bytes_in": 0, "bytes_out": 0,
    }  # fmt: skip


def metrics(seconds: float, **methods: dict[str, Any]) -> dict[str, Any]:
    return {
        "window_seconds": seconds, "request_count": 0, "error_count": 0, "requests_per_second": 0.0, "total": stats(0),
        "active_requests": 0, "waiting_requests": 0, "methods": methods, "tenants": {}, "workers": {},
    }  # fmt: skip


def running(method: str, age_ms: float) -> dict[str, Any]:
    return {
        "call": 1, "method": method, "id": 1, "principal": "boss", "tenant": "default", "connection": 1,
        "state": "running",
        "executor": "executor-0", "age_ms": age_ms, "running_ms": age_ms - 30_000.0, "chunks": 0, "depth": 0,
        "trace_id": None,
    }  # fmt: skip


def topic(name: str, offset: int, epoch: str = "e", **more: Any) -> dict[str, Any]:
    return {
        "topic": name, "epoch": epoch, "offset": offset, "kept": 2, "kept_bytes": 10, "oldest_at": None,
        "subscribers": 1, **more,
    }  # fmt: skip


def topics(*listed: dict[str, Any]) -> dict[str, Any]:
    return {"topics": list(listed), "more": 0, "subscribed": []}


@pytest.fixture
def board() -> Board:
    """One that has heard everything, at second 100."""
    board = Board("ws://127.0.0.1:8765/ws", ConnectionStatus("connected", 0.0))
    board.hear(METRICS, FIGURES, 100.0)
    board.hear(HEALTH, health(executor(0, "busy", active_requests=3), executor(1)), 100.0)
    told = executor(0, "busy") | {
        "cpu_percent": 97.4,
        "running": [running("debug.sleep", 61_500.0) | {"parked": False}],
    }
    board.hear(EXECUTORS, {"executors": [told, executor(1) | {"cpu_percent": None, "running": []}]}, 100.0)
    called = {"a.few": stats(6), "b.many": stats(600, CANCELLED=60)}
    board.hear(METHODS, metrics(60.0, **called), 100.0)
    board.hear(CALLS, {"calls": [running("debug.sleep", 61_500.0)], "more": 0}, 100.0)
    board.hear(TOPICS, topics(topic("jobs.1", 10), topic("jobs.2", 5)), 99.0)
    board.hear(TOPICS, topics(topic("jobs.1", 11), topic("jobs.2", 45)), 101.0)
    return board


def drawn(board: Board, now: float = 101.0, width: int = 80, height: int | None = None) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False, color_system=None)
    console.print(render(board, now, height))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def line(text: str, word: str) -> str:
    return next(each for each in text.splitlines() if each.startswith(word))


def words(text: str, word: str) -> str:
    return " ".join(line(text, word).split())


def test_all_of_it_fits_eighty_columns(board: Board) -> None:
    text = drawn(board)
    assert all(len(each) <= 80 for each in text.splitlines())
    assert line(text, "trunkline").split() == ["trunkline", "ws://127.0.0.1:8765/ws", "live"]
    assert line(text, "healthy") == "healthy  2 of 2 executors working; up 1 h 6 min"
    assert "calls/s 12,346   errors/s 3   p50 0.31 p95 12.2 p99 1,234 ms" in text
    assert "queue 4" in text
    assert words(text, "executor-0") == "executor-0 busy 97 % 37 MB 0 debug.sleep 31 s + 2", (
        "without its time in the queue"
    )
    assert line(text, "executor-1").split()[:3] == ["executor-1", "ready", "-"]
    assert line(text, "b.many").split()[1:4] == ["10", "10", "%"]
    assert text.index("b.many") < text.index("a.few"), "the busiest first"
    assert words(text, "debug.sleep") == "debug.sleep 1 min 1 s running executor-0 boss"
    assert line(text, "jobs.2").split() == ["jobs.2", "20", "45", "1", "2"]
    assert text.index("jobs.2") < text.index("jobs.1"), "the liveliest first"


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("height", [5, 12, 24, 60])
def test_it_never_needs_more_room_than_there_is(board: Board, width: int, height: int) -> None:
    board.hear(HEALTH, health(*(executor(number) for number in range(64))), 100.0)
    lines = drawn(board, width=width, height=height).splitlines()
    assert len(lines) <= max(height, 5)
    assert all(len(each) <= width for each in lines)


def test_what_is_wrong_is_said_in_words(board: Board) -> None:
    words = "it was ended by SIGKILL"
    last = {"cause": "signal", "words": words, "number": 1, "at": 1}
    away = executor(1, "down", pid=None, restarts=1, last_failure=words, last_restart=last, memory_usage=None)
    causes = (f"executor-1 is down: {words}",)
    board.hear(HEALTH, health(executor(0), away, status="degraded", causes=causes), 100.0)
    text = drawn(board, width=100)
    assert line(
        text, "degraded"
    ) == "degraded  executor-1 is down: it was ended by SIGKILL; 1 of 2 executors working; " + ("up 1 h 6 min")
    assert line(text, "executor-1").split() == ["executor-1", "down", "-", "-", "1", *words.split()]


def test_figures_of_a_process_are_not_shown_for_its_successor(board: Board) -> None:
    board.hear(HEALTH, health(executor(0, pid=7), executor(1)), 101.0)
    assert [(row.cpu_percent, row.running) for row in board.executors] == [(None, []), (None, [])]


def test_old_figures_are_called_old(board: Board) -> None:
    assert board.freshness(103.0) == "live"
    assert board.freshness(104.5) == "stale: connected, but no figures for 4 s"
    assert not board.is_live(104.5)
    board.link = ConnectionStatus("reconnecting", 102.0, "the connection was lost (close 1006)", 3)
    words = "reconnecting for 8 s (attempt 3): the connection was lost (close 1006); figures are 10 s old"
    assert board.freshness(110.0) == words
    assert not board.is_live(102.5), "however young they are"
    assert "reconnecting for 8 s" in drawn(board, 110.0)
    board.link = ConnectionStatus("connected", 111.0)
    board.hear(METRICS, FIGURES, 112.0)
    assert board.freshness(112.5) == "live"


def test_what_the_hub_refuses_is_said_and_the_rest_is_shown(board: Board) -> None:
    for source in (METRICS, EXECUTORS, CALLS, TOPICS):
        board.refuse(source, f"worker may not use {source}")
    text = drawn(board)
    assert "no live figures: worker may not use system.metrics" in drawn(board, width=120)
    assert "IN FLIGHT: worker may not use system.calls" in text
    assert "jobs.1" not in text
    assert "b.many" in text
    assert "calls/s -" in text
    board.hear(CALLS, {"calls": [running("late.one", 5.0)], "more": 1200}, 102.0)
    assert "IN FLIGHT (and 1,200 more)" in drawn(board)
    assert CALLS not in board.refused


def test_topics_of_one_name_are_told_apart_by_their_tenants(board: Board) -> None:
    for offset in (0, 8):
        of_acme = topic("jobs.1", 2 * offset, tenant="acme")
        board.hear(TOPICS, topics(of_acme, topic("jobs.1", offset)), 110.0 + offset / 4)
    assert [(row.tenant, row.per_second) for row in board.topics] == [("acme", 8.0), ("default", 4.0)]
    assert "jobs.1 (acme)" in drawn(board)


def test_rates_of_topics_are_those_of_one_epoch(board: Board) -> None:
    board.hear(TOPICS, topics(topic("jobs.1", 1, "e2"), topic("new", 3)), 102.0)
    assert [row.per_second for row in board.topics] == [None, None]


def test_names_of_others_cannot_steer_the_terminal(board: Board) -> None:
    board.hear(TOPICS, topics(topic("a\x1b[31m\x9b1m", 1)), 102.0)
    board.hear(METHODS, metrics(1.0, **{"[bold]x\r\n": stats(1)}), 102.0)
    text = drawn(board)
    assert "\x1b" not in text
    assert "\x9b" not in text
    assert "[bold]x" in text


def test_as_data_is_json(board: Board) -> None:
    report = board.report(101.0)
    assert (report.state, report.live, report.status, report.age_seconds) == ("connected", True, "healthy", 1.0)
    said = json.loads(msgspec.json.encode(report))
    assert said["metrics"] == FIGURES
    assert [row["method"] for row in said["methods"]] == ["b.many", "a.few"]
    assert said["topics"][0]["per_second"] == 20.0


def test_before_anything_is_known() -> None:
    board = Board("ws://h/ws", ConnectionStatus("connected", 0.0))
    assert "unknown" in drawn(board)
    assert "first figures are due" in drawn(board, width=120)
    assert board.report(1.0).metrics is None


def test_lines_are_shared_out() -> None:
    assert share(None, [3, 100]) == [3, 20]
    assert share(10, [3, 100]) == [3, 7]
    assert share(3, [9, 9]) == [2, 1]
    assert share(-4, [1, 1]) == [0, 0]


def test_numbers_are_as_precise_as_they_are_large() -> None:
    assert [count(n) for n in (0, 0.25, 7.0, 99.5, 1234.5)] == ["0", "0.2", "7", "99.5", "1,234"]
    assert [ms(n) for n in (0.0, 0.123, 1.23, 123.4, 12345.6)] == ["0.00", "0.12", "1.2", "123", "12,346"]
    said = [duration(n) for n in (1.25, 59.9, 61, 3661, 90_000)]
    assert said == ["1.2 s", "59 s", "1 min 1 s", "1 h 1 min", "1 d 1 h"]
    assert plain("a\tb\x85") == "a\ufffdb\ufffd"


def test_methods_that_fail_or_are_not_served_are_those_of_the_judgement(board: Board) -> None:
    assert board.concern("a.few") is None
    failing: dict[str, Any] = {
        "method": "a.few",
        "group": "main",
        "status": "failing",
        "reason": "fails 100 %, 2.5/s",
        "since": 7,
    }
    said = health(executor(0, request_count=4, error_count=1), status="degraded") | {"methods": [failing]}
    board.hear(HEALTH, said, 101)
    expected = MethodHealth(**failing)
    assert board.concern("a.few") == expected
    assert board.report(101.0).concerned == [expected]
    shown = drawn(board, 101.0)
    assert "25 %" in shown, "of the calls of an executor"


def test_a_hub_that_tells_something_else_is_said_to_and_the_rest_is_shown(board: Board) -> None:
    board.hear(CALLS, {"calls": [{"method": "a.b"}], "more": 0}, 102.0)
    board.hear(HEALTH, {"status": "splendid"}, 102.0)
    text = drawn(board, width=200)
    assert "the hub tells system.calls otherwise than this version reads it" in line(text, "IN FLIGHT")
    assert "`call`" in board.refused[CALLS]
    assert "b.many" in text
    board.hear(CALLS, {"calls": [running("late.one", 5.0)], "more": 0}, 103.0)
    assert CALLS not in board.refused


def test_tenants_and_their_methods_are_shown_where_there_are_several(board: Board) -> None:
    assert "TENANT" not in drawn(board), "there is but one"
    used = {"failed": 30, "refused": 12, "seconds": 9.0, "executor_seconds": 2.5, "bytes_in": 1, "bytes_out": 1}
    told = metrics(60.0, **{"b.many": stats(600)})
    told["tenants"] = {"acme": {"b.many": stats(60, CANCELLED=6)}}
    told["by_tenant"] = {"acme": used | {"count": 60}, "bo\x1blt": used | {"count": 600}, "idle": used | {"count": 0}}
    board.hear(METHODS, told, 101.0)
    text = drawn(board)
    assert words(text, "acme") == "acme 1 50 % 12 2.5"
    assert words(text, "b.many (acme)").startswith("b.many (acme) 1 10 %")
    assert "\x1b" not in text
    assert [row.tenant for row in board.report(101.0).tenants] == ["bo\x1blt", "acme"]
    assert max(map(len, text.splitlines())) <= 80
