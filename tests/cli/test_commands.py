"""Exit codes, where output goes, and what it says; of each command at least once as a real process."""

from __future__ import annotations

import json
import os
import pty
import re
import socket
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.support.command import COMMAND, NO_HUB, requires_failure, trunkline, trunkline_process
from tests.support.hub import DEBUG_METHODS, MODULES, RunningHub, clean_environment, ready_hub
from tests.support.timing import PATIENCE, SCALE, START
from trunkline.cli.doctor import hub_data, local_checks
from trunkline.cli.show.tables import StreamPrinter

MOST_CPU_SECONDS = 2.5 * SCALE
"""Of hub and executor, from start to ready: two and a half times what it takes on a machine of 2020."""

# --- call ---


def test_call_prints_json_only(debug_hub: RunningHub) -> None:
    done = trunkline_process("call", "debug.echo", '{"value": [1, "ü", null]}', "--url", debug_hub.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == [1, "ü", None]
    assert "ü" in done.stdout
    assert "\x1b" not in done.stdout


def test_call_takes_an_array_and_standard_input(debug_hub: RunningHub) -> None:
    assert trunkline("call", "debug.echo", "[5]", "--url", debug_hub.url).stdout == "5\n"
    done = trunkline_process("call", "debug.echo", "-", "--url", debug_hub.url, stdin='{"value": "piped"}')
    assert json.loads(done.stdout) == "piped"


def test_call_takes_files(debug_hub: RunningHub, tmp_path: Path) -> None:
    file = tmp_path / "a=@b.bin"
    file.write_bytes(b"\xff\0")
    call = ("call", "debug.echo", "--url", debug_hub.url, "--file")
    assert json.loads(trunkline(*call, f"value=@{file}").stdout) == {"$bytes": "/wA="}
    for given in ("value", "value=x", f"=@{file}", "value=@", f"value=@{tmp_path / 'gone'}", f"value=@{tmp_path}"):
        requires_failure(trunkline(*call, given), 2, "--file")
    requires_failure(trunkline(*call, f"value=@{file}", "--file", f"value=@{file}"), 2, "have value already")
    requires_failure(trunkline("call", "debug.echo", "[1]", "--file", f"value=@{file}"), 2, "JSON object")


def test_the_url_may_come_from_the_environment(debug_hub: RunningHub) -> None:
    assert trunkline("call", "rpc.ping", env={"TRUNKLINE_URL": debug_hub.url}).returncode == 0


def test_a_failed_call_is_1(debug_hub: RunningHub) -> None:
    done = trunkline_process("call", "debug.fail", '{"message": "as asked"}', "--url", debug_hub.url)
    requires_failure(done, 1, "RuntimeError (id ", "INTERNAL_ERROR")


def test_a_passed_deadline_is_1(debug_hub: RunningHub) -> None:
    done = trunkline("call", "debug.sleep", '{"seconds": 30}', "--timeout-ms", "100", "--url", debug_hub.url)
    requires_failure(done, 1, "COMMUNICATION_TIMEOUT 1002")


@pytest.mark.parametrize("params", ["{", "5", '"x"', "null"])
def test_params_that_cannot_be_are_2(debug_hub: RunningHub, params: str) -> None:
    requires_failure(trunkline("call", "debug.echo", params, "--url", debug_hub.url), 2, "params")


@pytest.mark.parametrize("params", ['{"value": NaN}', '{"value": 1e400}', '{"value": 9007199254740993}'])
def test_params_json_cannot_carry_fail_clearly(debug_hub: RunningHub, params: str) -> None:
    done = trunkline("call", "debug.echo", params, "--url", debug_hub.url)
    assert done.returncode in (1, 2)
    assert done.stderr.startswith("trunkline: ")


def test_no_hub_is_3_and_says_how_to_start_one() -> None:
    requires_failure(trunkline_process("call", "rpc.ping", "--url", NO_HUB), 3, NO_HUB, "trunkline serve")


@pytest.mark.usefixtures("patient_doctor")
def test_a_refused_connection_is_3_with_the_reason(token_hub: RunningHub) -> None:
    url = ("--url", token_hub.url)
    requires_failure(trunkline("call", "rpc.ping", *url), 3, "token")
    requires_failure(trunkline("call", "rpc.ping", *url, "--token", "wrong"), 3, "token")
    assert trunkline("call", "rpc.ping", *url, env={"TRUNKLINE_TOKEN": "t0k"}).returncode == 0
    for options, whom in (((), "who has no token"), (("--token", "wrong"), "this token")):
        said = trunkline("doctor", *url, *options).stdout
        assert f"is not known: the hub refuses {whom} (HTTP 403: " in said
        assert "start one" not in said


@pytest.mark.parametrize("url", ["not a url", "127.0.0.1:8765", "http://127.0.0.1:1/ws", "ws://"])
def test_a_url_that_cannot_be_is_2_and_says_how_to_write_it(url: str) -> None:
    done = trunkline("call", "rpc.ping", "--url", url)
    requires_failure(done, 2, url, "write it like ws://127.0.0.1:8765/ws")
    assert "start one with" not in done.stderr, "no hub that is started would have this URL"


# --- stream ---


def test_stream_prints_chunks_and_summary(debug_hub: RunningHub) -> None:
    done = trunkline_process("stream", "debug.count", '{"n": 3}', "--json", "--url", debug_hub.url)
    assert done.returncode == 0
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["index"] for line in lines[:3]] == [0, 1, 2]
    assert lines[3] == {"result": {"chunks": 3}}


def test_stream_prints_answers_as_running_text(lab_hub: RunningHub) -> None:
    done = trunkline("stream", "lab.typed", "--url", lab_hub.url)
    assert (done.returncode, done.stdout) == (0, "hello\n")
    assert "\x1b" not in done.stderr


def test_stream_prints_the_result_of_a_method_that_is_no_stream(debug_hub: RunningHub) -> None:
    done = trunkline("stream", "debug.echo", '{"value": "ü"}', "--url", debug_hub.url)
    assert (done.returncode, done.stdout) == (0, '"ü"\n')
    done = trunkline("stream", "debug.count", '{"n": 0}', "--url", debug_hub.url)
    assert (done.returncode, done.stdout) == (0, "\n")


def test_chunks_and_summaries_of_other_shapes_than_those_of_rag_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    printer = StreamPrinter(as_json=False)
    printer.chunk("document", {"score": None}, 0)
    for summary in ({"performance": {"ms": 1}}, {"performance": 2}, {"performance": {"total_time_ms": "3"}}, [4], None):
        printer.result(summary)
    out, _ = capsys.readouterr()
    assert out.startswith('{"score": null}\n')


def test_a_stream_that_fails_is_1_after_its_chunks(debug_hub: RunningHub) -> None:
    done = trunkline("stream", "debug.count", '{"n": 5, "fail_at": 2}', "--json", "--url", debug_hub.url)
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 2
    assert "PIPELINE_EXECUTION_ERROR" in done.stderr


# --- discover, doctor ---


def test_discover(debug_hub: RunningHub) -> None:
    table = trunkline_process("discover", "--url", debug_hub.url)
    assert table.returncode == 0
    assert re.search(r"debug\.count .* stream", table.stdout)
    assert "\x1b" not in table.stdout
    document = json.loads(trunkline("discover", "--json", "--url", debug_hub.url).stdout)
    assert document["openrpc"].startswith("1.3")
    names = [line.split()[0] for line in table.stdout.splitlines()[1:]]
    assert names == [method["name"] for method in document["methods"]], "a line each: in a pipe nothing is wrapped"


def test_discover_without_a_hub() -> None:
    requires_failure(trunkline("discover", "--url", NO_HUB), 3, NO_HUB)


@pytest.fixture
def patient_doctor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is not about time: a busy machine needs its own."""
    monkeypatch.setattr("trunkline.cli.doctor.HUB_SECONDS", 6.0 * PATIENCE)


@pytest.mark.usefixtures("patient_doctor")
def test_doctor_finds_the_hub(well_hub: RunningHub) -> None:
    done = trunkline("doctor", "--url", well_hub.url)
    assert re.search(r"ok\s+picows: 2\.3", done.stdout)
    assert re.search(r"ok\s+hub: \S+ is healthy", done.stdout)
    assert re.search(rf"disk: .* free of .*, for the hub's data folder {re.escape(str(well_hub.data))}\n", done.stdout)


@pytest.mark.usefixtures("patient_doctor")
def test_doctor_without_a_hub_warns(tmp_path: Path) -> None:
    done = trunkline("doctor", "--url", NO_HUB, cwd=tmp_path)
    assert re.search(
        r"warning\s+hub: \S+ \S+ \S+ \S+ is not known: nothing listens there .*; start one with: ", done.stdout
    )
    assert re.search(r"disk: .*; it is this shell's default; the hub's is not known: TRUNKLINE_DATA or", done.stdout)
    assert re.search(r"open files: \d+ for what this shell starts; a hub that runs has its own", done.stdout)
    assert done.returncode in (0, 1)
    both = trunkline("doctor", "--url", "ws://localhost:9/ws", cwd=tmp_path)
    assert "; start one with: trunkline serve" in both.stdout, "where the name has two addresses, too"


def test_doctor_shows_a_disk_that_a_setting_names_as_it_is(tmp_path: Path) -> None:
    said = trunkline("doctor", "--url", NO_HUB, env={"TRUNKLINE_DATA": str(tmp_path)}).stdout
    assert re.search(rf"disk: .*{re.escape(str(tmp_path))}\b", said)
    assert "the hub's is not known" not in said


@pytest.mark.parametrize(
    ("size", "low", "state"), [("1.2e+10", 0, "ok"), ("12000000000", 1, "warning"), ("0", 0, "failed")]
)
def test_the_disk_of_a_hub_is_what_it_says(size: str, low: int, state: str) -> None:
    page = f"trunkline_disk_free_bytes 3e9\ntrunkline_disk_bytes {size}\ntrunkline_disk_low {low}\n"
    said = hub_data({"settings": {"data": {"value": "/srv/papers"}}}, page)
    (disk,) = [each for each in local_checks(data=said) if each.name == "disk"]
    assert disk.state == state
    assert "the hub's data folder /srv/papers" in disk.detail
    assert hub_data(None, page) is None, "whose folder that is is not known"
    assert hub_data({}, "trunkline_uptime_seconds 3\n") is None, "an older hub has no such figures"


def test_doctor_does_not_call_for_another_hub_where_one_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trunkline.cli.doctor.HUB_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as stopped:  # the kernel accepts, as for a process that is stopped
        url = f"ws://127.0.0.1:{stopped.getsockname()[1]}/ws"
        said = trunkline("doctor", "--url", url).stdout
    assert f"hub: the health of {url} is not known: the hub does not answer within 0.05 s\n" in said
    assert "start one" not in said


# --- serve ---


SERVE = ("serve", "--packs", "none", "--no-demo")


def test_a_taken_port_is_2_and_says_so(debug_hub: RunningHub) -> None:
    done = trunkline_process(*SERVE, "--port", str(debug_hub.port), "--methods", DEBUG_METHODS)
    requires_failure(done, 2, f"127.0.0.1:{debug_hub.port}", "in use")


def test_an_unknown_pack_is_2_and_lists_what_there_is() -> None:
    requires_failure(trunkline_process("serve", "--packs", "embedings"), 2, "embedings", "embeddings")


def test_reachable_without_authentication_is_2() -> None:
    requires_failure(trunkline(*SERVE, "--host", "0.0.0.0"), 2, "0.0.0.0", "TRUNKLINE_TOKEN")


@pytest.mark.parametrize(
    ("env", "named"),
    [
        ({"TRUNKLINE_QUEUE_LIMIT": "many"}, "queue_limit"),
        ({"TRUNKLINE_LOG_LEVEL": "loud"}, "log_level"),
        ({"TRUNKLINE_PORT": "99999"}, "port"),
    ],
)
def test_a_bad_setting_is_2_and_named(env: dict[str, str], named: str) -> None:
    requires_failure(trunkline(*SERVE, env=env), 2, named)


@pytest.mark.parametrize("hook", ["no_module:f", "os:nothing"])
def test_a_hook_that_cannot_be_loaded_is_2(hook: str) -> None:
    done = trunkline_process(*SERVE, env={"TRUNKLINE_AUTHENTICATE": hook})
    requires_failure(done, 2, "TRUNKLINE_AUTHENTICATE")


def test_a_secret_is_not_repeated_in_errors() -> None:
    done = trunkline(*SERVE, env={"TRUNKLINE_TOKEN": "t0ps3cret", "TRUNKLINE_PORT": "x"})
    requires_failure(done, 2, "port")
    assert "t0ps3cret" not in done.stderr


@pytest.mark.parametrize("text", ['hots = "localhost"', "port = ", 'port = "x"'])
def test_a_bad_configuration_file_is_2(tmp_path: Path, text: str) -> None:
    config = tmp_path / "trunkline.toml"
    config.write_text(text)
    requires_failure(trunkline(*SERVE, "--config", str(config)), 2)


def test_a_configuration_file_that_is_not_there_is_2() -> None:
    requires_failure(trunkline(*SERVE, "--config", "/no/such/file.toml"), 2, "/no/such/file.toml")


def test_command_line_over_environment_over_file(tmp_path: Path) -> None:
    config = tmp_path / "trunkline.toml"
    config.write_text('executors = 3\nqueue_limit = 7\nlog_level = "error"\nmethods = ["lab"]\n')
    hub = RunningHub(
        (),
        arguments=["--config", str(config)],
        env={"TRUNKLINE_LOG_LEVEL": "info", "TRUNKLINE_EXECUTORS": "2"},
        cwd=MODULES,
        executors=1,
    )
    with hub:
        ready = hub.wait_for(r"^ready: (\d+) executors", within=START)
        assert ready[1] == "1", "the command line wins"
        hub.wait_for('"event": "listening"')  # said at level info: the environment wins over the file
        done = trunkline("call", "lab.upper", '["x"]', "--url", hub.url)
        assert json.loads(done.stdout) == "X", "the file's methods are served"


def test_what_serve_says_and_that_it_starts_quickly() -> None:
    """In seconds of CPU, since how long a busy machine takes says nothing. ``bench/startup.py`` has the real time."""
    with ready_hub() as hub:
        spent = sum(cpu_seconds(pid) for pid in (hub.process.pid, *hub.executor_pids()))
        assert spent < MOST_CPU_SECONDS, f"{spent:.2f} s of CPU until it was ready"
        assert re.fullmatch(r"trunkline \S+ listening on ws://127\.0\.0\.1:\d+/ws", hub.stdout[0])
        assert re.fullmatch(r"ready: 1 executors?, \d+ methods", hub.stdout[1])
        hub.wait_for("Try next")
        assert all(json.loads(line)["event"] for line in hub.stderr), "logs are JSON where nobody looks"


def cpu_seconds(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


# --- the command itself ---


def test_help_names_commands_and_options() -> None:
    text = trunkline_process("--help").stdout
    for command in ("serve", "call", "stream", "discover", "doctor"):
        assert command in text
    text = re.sub(r"\x1b\[[0-9;]*m", "", trunkline("serve", "--help").stdout)
    for option in ("--host", "--port", "--packs", "--methods", "--executors", "--data", "--config", "--demo"):
        assert option in text
    for option in ("--url", "--token", "--timeout-ms"):
        assert option in trunkline("call", "--help").stdout


def test_version() -> None:
    from trunkline.version import __version__

    assert trunkline_process("--version").stdout == f"trunkline {__version__}\n"


@pytest.mark.parametrize("arguments", [["nope"], ["call"], ["serve", "--port", "x"], ["serve", "--bogus"]])
def test_wrong_usage_is_2(arguments: list[str]) -> None:
    assert trunkline(*arguments).returncode == 2


def on_a_terminal(*arguments: str, env: dict[str, str] | None = None) -> str:
    """What a person would see."""
    parent, child = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, *arguments],
        stdout=child,
        stderr=subprocess.DEVNULL,
        env=clean_environment({"TERM": "xterm-256color"} | (env or {})),
    ) as process:
        os.close(child)
        said = b""
        try:
            while part := os.read(parent, 4096):
                said += part
        except OSError:  # Linux says so when the other end is closed
            pass
        finally:
            os.close(parent)
        process.wait(30 * SCALE)
    return said.decode()


def test_colours_on_a_terminal_only(debug_hub: RunningHub) -> None:
    assert "\x1b[" in on_a_terminal("call", "debug.echo", '{"value": {"a": 1}}', "--url", debug_hub.url)
    plain = on_a_terminal("call", "debug.echo", '{"value": {"a": 1}}', "--url", debug_hub.url, env={"NO_COLOR": "1"})
    assert "\x1b[3" not in plain
