"""``trunkline generate-client``: a real command where it talks to somebody, else in the tests' own process."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.generate.documents import document, method
from tests.support.command import NO_HUB, requires_failure
from tests.support.command import trunkline_process as trunkline
from tests.support.hub import RunningHub
from trunkline.cli.main import app
from trunkline.generate import GENERATORS

DOCUMENT = document(method("m", {"a": {"type": "string"}}))


@pytest.fixture
def described(tmp_path: Path) -> Path:
    path = tmp_path / "openrpc.json"
    path.write_text(json.dumps(DOCUMENT))
    return path


def generate(*arguments: str | Path, language: str = "typescript") -> list[str]:
    return ["generate-client", "--language", language, *map(str, arguments)]


@pytest.mark.parametrize("language", sorted(GENERATORS))
def test_it_asks_a_running_hub_and_writes_a_file(debug_hub: RunningHub, tmp_path: Path, language: str) -> None:
    path = tmp_path / "generated"
    done = trunkline(*generate(debug_hub.url, "--output", path, language=language))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    asked = trunkline("discover", "--json", "--url", debug_hub.url)
    assert path.read_text() == GENERATORS[language](json.loads(asked.stdout))
    assert '"debug.echo"' in path.read_text()


def test_the_url_may_come_from_the_environment(debug_hub: RunningHub) -> None:
    done = trunkline(*generate("--output", "-"), env={"TRUNKLINE_URL": debug_hub.url})
    assert done.returncode == 0
    assert '"debug.echo"' in done.stdout


def test_a_document_takes_no_hub(described: Path, tmp_path: Path) -> None:
    path = tmp_path / "hub.ts"
    done = trunkline(*generate("--document", described, "--output", path, NO_HUB))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert path.read_text() == GENERATORS["typescript"](DOCUMENT)


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ((), ["a.x", "a.y.z", "b.x"]),
        (("--include", "a.*"), ["a.x", "a.y.z"]),
        (("--include", "a.*", "--include", "b.x", "--exclude", "*.z"), ["a.x", "b.x"]),
        (("--exclude", "[ab].x"), ["a.y.z"]),
        (("--include", "nothing"), []),
    ],
)
def test_only_some_methods(tmp_path: Path, options: tuple[str, ...], kept: list[str]) -> None:
    path = tmp_path / "openrpc.json"
    path.write_text(json.dumps(document(*(method(name) for name in ("a.x", "a.y.z", "b.x")))))
    done = trunkline(*generate("--document", path, "--output", "-", *options))
    assert done.returncode == 0, done.stderr
    assert [name for name in ("a.x", "a.y.z", "b.x") if f'"{name}": {{' in done.stdout] == kept


def test_standard_input_and_output(described: Path) -> None:
    done = trunkline(*generate("--document", "-", "--output", "-", language="python"), stdin=described.read_text())
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == GENERATORS["python"](DOCUMENT)


def test_no_hub_is_3() -> None:
    requires_failure(trunkline(*generate(NO_HUB, "--output", "-")), 3, "no hub")


# --- in this process: what a start would add is shown above ---


def here(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, without a process of its own."""
    done = CliRunner().invoke(app, arguments)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)


def test_check_is_0_for_what_is_there_1_for_what_differs_and_writes_nothing(described: Path, tmp_path: Path) -> None:
    path = tmp_path / "hub.ts"
    command = generate("--document", described, "--output", path, "--check")
    requires_failure(here(*command), 1, "hub.ts", "generate it again")
    assert not path.exists()
    path.write_text(GENERATORS["typescript"](DOCUMENT))
    done = here(*command)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    path.write_text("edited")
    requires_failure(here(*command), 1, "hub.ts")
    assert path.read_text() == "edited"


def test_a_file_that_is_there_already_is_not_touched(described: Path, tmp_path: Path) -> None:
    path = tmp_path / "hub.ts"
    path.write_text(GENERATORS["typescript"](DOCUMENT))
    before = path.stat().st_mtime_ns
    assert here(*generate("--document", described, "--output", path)).returncode == 0
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize("text", ["{", "[]", '{"openrpc": "1.3.2"}', "[" * 200_000])
def test_what_is_no_document_is_2(tmp_path: Path, text: str) -> None:
    path = tmp_path / "openrpc.json"
    path.write_text(text)
    requires_failure(here(*generate("--document", path, "--output", "-")), 2, "openrpc.json")


def test_a_document_that_is_missing_is_2(tmp_path: Path) -> None:
    requires_failure(here(*generate("--document", tmp_path / "none.json", "--output", "-")), 2, "No such file")


def test_a_file_that_cannot_be_written_is_1(described: Path, tmp_path: Path) -> None:
    done = here(*generate("--document", described, "--output", tmp_path / "none" / "hub.ts"))
    requires_failure(done, 1, "none/hub.ts", "No such file")


def test_check_of_standard_output_is_2(described: Path) -> None:
    requires_failure(here(*generate("--document", described, "--output", "-", "--check")), 2, "--output")


@pytest.mark.parametrize("arguments", [["--language", "cobol", "--output", "-"], ["--language", "python"]])
def test_wrong_usage_is_2(arguments: list[str]) -> None:
    assert here("generate-client", *arguments).returncode == 2
