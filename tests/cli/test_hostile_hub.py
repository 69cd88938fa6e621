"""What a hub, or those who use it, put into names, values and errors reaches no terminal as a control character."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
import threading
from collections.abc import Iterator
from typing import Any, Final

import pytest
from websockets.sync.server import ServerConnection, serve

from tests.support.command import trunkline
from trunkline.cli.show.console import TextConsole
from trunkline.cli.show.tables import EventPrinter, StreamPrinter
from trunkline.cli.talk import print_json
from trunkline.client import Event
from trunkline.observe.logs import configure_logs

HOSTILE: Final = "a[/x]\x1b[31m\x1b]0;t\x07\r\x9b2J\x7f\u202e:smile:[bold]\\"
"""Markup that closes what is not open, escape sequences of C0 and C1, a sign that turns lines around, an emoji code."""

CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

JOB: Final = {
    "id": HOSTILE, "method": HOSTILE, "status": "failed", "progress": HOSTILE, "last_error": None, "attempts": 1,
    "error": {"code": 1, "message": HOSTILE, "data": {"type": HOSTILE}}, "priority": "low", "principal": HOSTILE,
    "tenant": HOSTILE, "created_at": 1, "started_at": 1, "finished_at": 1,
}  # fmt: skip
ANSWERS: Final[dict[str, Any]] = {
    "rpc.discover": {
        "openrpc": "1.3.2",
        "info": {"title": HOSTILE, "version": "1"},
        "methods": [{"name": HOSTILE, "summary": HOSTILE, "params": [{"name": HOSTILE}], "result": {}}],
    },
    "jobs.list": {"jobs": [JOB], "cursor": None},
    "jobs.get": JOB | {"result": {HOSTILE: HOSTILE}},
    "jobs.cancel": {"id": HOSTILE, "status": "failed", "cancelled": False},
    "collections.list": {
        "collections": [
            {"name": HOSTILE, "dimension": 3, "metric": HOSTILE, "index": {"kind": HOSTILE, HOSTILE: 1}, "model": "m"},
            {"name": HOSTILE, "error": HOSTILE},
        ]
    },
    "publish": {"topic": HOSTILE, "epoch": HOSTILE, "offset": 1},
    "history": {
        "events": [{"topic": HOSTILE, "epoch": "e", "offset": 1, "data": {HOSTILE: HOSTILE}, "published_at": 1}],
        "epoch": "e", "offset": 1, "more": False, "gap": None, "topic": HOSTILE,
    },
    "echo": {HOSTILE: [HOSTILE]},
    "executors.reload": {"executors": [], "methods": 1, "added": [HOSTILE], "removed": [HOSTILE], "failed": [HOSTILE]},
}  # fmt: skip

COMMANDS: Final = {
    "discover": ["discover"],
    "call": ["call", "echo"],
    "jobs list": ["jobs", "list"],
    "jobs list --json": ["jobs", "list", "--json"],
    "jobs get": ["jobs", "get", "x"],
    "jobs cancel": ["jobs", "cancel", "x"],
    "jobs watch": ["jobs", "watch", "x"],
    "collections list": ["collections", "list"],
    "publish": ["publish", "a.b", "1"],
    "history": ["history", "a.b"],
    "history --json": ["history", "a.b", "--json"],
    "subscribe": ["subscribe", "a.b"],
    "reload": ["reload"],
    "stream": ["stream", "echo"],
    "top": ["top", "--once"],
    "top --json": ["top", "--json"],
    "generate-client": ["generate-client", "--language", "typescript", "--output", "-"],
}


class HostileHub:
    """Answers what is asked by :data:`ANSWERS`, or everything with an error; notifications come first."""

    def __init__(self, *, fails: bool) -> None:
        self._fails = fails
        self._server = serve(self._talk, "127.0.0.1", 0, subprotocols=None, select_subprotocol=_first)
        self.url = f"ws://127.0.0.1:{self._server.socket.getsockname()[1]}/ws"
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> HostileHub:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._thread.join()

    def _talk(self, connection: ServerConnection) -> None:
        for text in connection:
            message = json.loads(text)
            if "id" not in message:
                continue
            reply: dict[str, Any] = {"jsonrpc": "2.0", "id": message["id"]}
            method = message["method"]
            if not self._fails and method in ANSWERS:
                reply["result"] = ANSWERS[method]
            else:
                reply["error"] = {"code": 1, "message": HOSTILE, "data": {"type": HOSTILE, HOSTILE: HOSTILE}}
            connection.send(json.dumps(reply))


def _first(_connection: ServerConnection, offered: Any) -> Any:
    return offered[0] if offered else None


@pytest.fixture(scope="module")
def answering() -> Iterator[HostileHub]:
    with HostileHub(fails=False) as hub:
        yield hub


@pytest.fixture(scope="module")
def failing() -> Iterator[HostileHub]:
    with HostileHub(fails=True) as hub:
        yield hub


def require_plain(text: str) -> None:
    found = CONTROL.search(text)
    assert found is None, f"{found[0]!r} in {text!r}" if found else ""


@pytest.mark.parametrize("name", COMMANDS)
def test_answers(answering: HostileHub, name: str) -> None:
    done = trunkline(*COMMANDS[name], env={"TRUNKLINE_URL": answering.url})
    require_plain(done.stdout + done.stderr)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_errors(failing: HostileHub, name: str) -> None:
    done = trunkline(*COMMANDS[name], env={"TRUNKLINE_URL": failing.url})
    require_plain(done.stdout + done.stderr)
    assert done.returncode != 0 or name.startswith("top"), "top shows what it got"
    assert "a[/x]" in done.stderr + done.stdout or name == "top --json", "the words are there, as text"


def test_names_are_text_in_tables(answering: HostileHub) -> None:
    for name in ("discover", "jobs list", "collections list"):
        done = trunkline(*COMMANDS[name], env={"TRUNKLINE_URL": answering.url})
        assert done.returncode == 0, done.stderr
        assert "a[/x]" in done.stdout
        assert ":smile:[bold]\\" in done.stdout


def test_json_means_the_same(answering: HostileHub) -> None:
    done = trunkline("call", "echo", "--url", answering.url)
    assert json.loads(done.stdout) == ANSWERS["echo"]


class Screen(io.StringIO):
    """A standard output that says it is a terminal."""

    def isatty(self) -> bool:
        """It is."""
        return True


def terminal(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """Put a terminal in place of both outputs."""
    shown = Screen()
    monkeypatch.setattr(sys, "stdout", shown)
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return shown


def without_styles(text: str) -> str:
    """What is left without the styles that our own console sets."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    printer = StreamPrinter(as_json=False)
    printer.chunk("partial_answer", {"text": f"{HOSTILE}\n\tnext"}, 0)
    printer.chunk("document", {"id": HOSTILE, "score": 1.0, "rank": HOSTILE}, 1)
    printer.chunk("metadata", {HOSTILE: HOSTILE}, 2)
    printer.chunk(HOSTILE, HOSTILE, 3)
    printer.result({"performance": {"total_time_ms": 1}})
    EventPrinter("pretty").event(Event(HOSTILE, {HOSTILE: HOSTILE}, "e", 1, 1, HOSTILE))
    print_json({HOSTILE: [HOSTILE]})
    TextConsole().print(HOSTILE)
    assert "\x1b[" in screen.getvalue(), "it has styles"
    assert "\x1b[31m\x1b]" not in screen.getvalue()
    require_plain(without_styles(screen.getvalue()))
    assert "\n\tnext" in screen.getvalue()


def test_logs_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        configure_logs("info", "pretty")
        try:
            raise ValueError(f"{HOSTILE}\n{HOSTILE}")
        except ValueError:
            extra = {"peer": HOSTILE, HOSTILE: "x", "nested": [HOSTILE]}
            logging.getLogger(HOSTILE).exception("method %s failed\n%s", HOSTILE, "next", extra=extra)
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    require_plain(without_styles(screen.getvalue()))
    assert "a[/x]" in screen.getvalue()
    assert "Traceback" in screen.getvalue()
