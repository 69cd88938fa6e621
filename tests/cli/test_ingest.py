"""``trunkline ingest`` against a real hub: what is sent, what is said, exit codes, Ctrl-C."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from tests.support.libraries import skip_without

skip_without("faiss", "pypdf", "docx", "reportlab")

from tests.methods.document_files import pdf, word_model  # noqa: E402
from tests.support.command import COMMAND, requires_failure, trunkline, trunkline_process  # noqa: E402
from tests.support.hub import RunningHub, clean_environment, ready_hub  # noqa: E402
from tests.support.timing import PATIENCE, START, eventually  # noqa: E402
from trunkline.cli.prune import prune_documents  # noqa: E402

ROOT = Path(__file__).parents[2]
METHODS = ("tests.methods.packs.slow_embeddings", "trunkline.methods.vectors", "trunkline.methods.documents")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The hub's documents root."""
    return tmp_path_factory.mktemp("root")


@pytest.fixture(scope="module")
def hub(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    env = {
        "TRUNKLINE_MODEL": word_model(tmp_path_factory.mktemp("model")),
        "TRUNKLINE_DOCUMENTS_ROOT": str(root),
        "SIGNALS": str(root),
    }
    with ready_hub(*METHODS, cwd=ROOT, env=env) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    books = tmp_path / "books"
    (books / "sub").mkdir(parents=True)
    (books / "cat.md").write_text("# Cats\n\nA cat sat.")
    (books / "sub" / "dog.txt").write_text("A dog ran.")
    (books / "pets.pdf").write_bytes(pdf("A fish swam."))
    (books / "picture.png").write_bytes(b"\x89PNG")
    return books


def ingest(hub: RunningHub, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return trunkline("ingest", *arguments, "--url", hub.url, cwd=cwd)


def sources(hub: RunningHub, collection: str) -> list[str]:
    params = {"collection": collection, "text": "a", "top_k": 100}
    done = trunkline("call", "vectors.search", json.dumps(params), "--url", hub.url)
    return sorted(match["metadata"]["source"] for match in json.loads(done.stdout)["matches"])


def test_files_of_this_machine_are_sent(hub: RunningHub, folder: Path) -> None:
    done = trunkline_process("ingest", "books", "--collection", "sent", "--url", hub.url, cwd=folder.parent)
    assert (done.returncode, done.stderr) == (0, ""), done
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["documents", "3", "failed", "0,", "ignored", "1"],
        ["passages", "3", "embedded", "3,", "skipped", "0"],
    ]
    assert sources(hub, "sent") == ["books/cat.md", "books/pets.pdf", "books/sub/dog.txt"]
    none = ingest(hub, ".", "--collection", "sent", "--include", "*.jpg", cwd=folder)
    assert "nothing was read" in none.stdout
    assert ".md" in none.stdout
    assert "--include" in none.stdout
    again = ingest(hub, ".", "--collection", "sent", "--exclude", "*.pdf", cwd=folder.parent)
    assert "embedded 0, skipped 2" in again.stdout


def test_a_file_outside_the_working_directory_is_called_by_its_path(hub: RunningHub, folder: Path) -> None:
    arguments = (str(folder / "cat.md"), str(folder / "sub"), "--collection", "outside")
    assert ingest(hub, *arguments, cwd=ROOT).returncode == 0
    assert sources(hub, "outside") == [str(folder / "cat.md"), str(folder / "sub" / "dog.txt")]


def test_a_bad_file_is_named_and_does_not_stop_the_others(hub: RunningHub, folder: Path) -> None:
    (folder / "bad.pdf").write_bytes(b"garbage")
    (folder / "guess.txt").write_bytes(b"caf\xe9")
    with (folder / "large.txt").open("wb") as large:
        large.truncate(12 * 2**20)
    done = ingest(hub, "books", "--collection", "bad", cwd=folder.parent)
    assert done.returncode == 1
    assert "books/bad.pdf: it is no pdf, although its name says so" in done.stdout
    assert "books/large.txt: it has 12,582,912 bytes, and at most 11,534,336 can be sent" in done.stdout
    assert "use --server-path" in done.stdout
    assert "books/guess.txt: it is not UTF-8, and was read as windows-1252" in done.stdout
    assert sources(hub, "bad") == ["books/cat.md", "books/guess.txt", "books/pets.pdf", "books/sub/dog.txt"]


def test_the_largest_file_that_is_sent_fits_into_a_message(hub: RunningHub, tmp_path: Path) -> None:
    (tmp_path / "large.pdf").write_bytes(pdf("A fish swam.").ljust(11 * 2**20, b"\n"))
    done = ingest(hub, "large.pdf", "--collection", "large", cwd=tmp_path)
    assert "connection" not in done.stdout + done.stderr
    assert sources(hub, "large") == ["large.pdf"], done


def test_many_files_go_in_several_calls(hub: RunningHub, tmp_path: Path) -> None:
    for number in range(600):
        (tmp_path / f"{number}.txt").write_text(f"text {number}")
    done = ingest(hub, ".", "--collection", "many", cwd=tmp_path)
    assert done.returncode == 0, done
    assert "documents       600" in done.stdout
    assert "embedded 600," in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("nowhere", "--collection", "c"), 2, "nowhere: no such file or folder"),
        (("cat.md", "--collection", "c", "--job"), 2, "add --server-path"),
        (("cat.md",), 2, "--collection"),
        (("cat.md", "--collection", "a/b"), 1, "4001|-32602"),
        (("/etc", "--collection", "c", "--server-path"), 1, "path '/etc' is outside"),
        (("cat.md", "sub/../cat.md", "--collection", "twice"), 0, ""),
    ],
)
def test_what_cannot_be_is_said(
    hub: RunningHub, folder: Path, arguments: tuple[str, ...], code: int, says: str
) -> None:
    done = ingest(hub, *arguments, cwd=folder)
    assert done.returncode == code, done
    assert re.search(says, done.stderr), done


def test_without_a_hub_it_is_3(folder: Path) -> None:
    done = trunkline("ingest", "cat.md", "--collection", "c", "--url", "ws://127.0.0.1:9/ws", cwd=folder)
    requires_failure(done, 3, "no hub at")


def test_the_hub_reads_its_own_files(hub: RunningHub, root: Path) -> None:
    (root / "own").mkdir()
    (root / "own" / "cat.md").write_text("A cat sat.")
    done = ingest(hub, "own", "--collection", "own", "--server-path", cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, ""), done
    assert sources(hub, "own") == ["own/cat.md"]


def test_as_a_job_it_is_followed_to_its_end(hub: RunningHub, root: Path) -> None:
    (root / "job").mkdir()
    (root / "job" / "cat.md").write_text("A cat sat.")
    (root / "job" / "bad.pdf").write_text("no pdf")
    done = ingest(hub, "job", "--collection", "job", "--server-path", "--job", cwd=ROOT)
    assert done.returncode == 1, done
    assert re.search("trunkline: job [0-9a-f]+", done.stderr)
    assert "documents         2   failed 1, ignored 0" in done.stdout
    assert "job/bad.pdf: it is no pdf" in done.stdout
    assert sources(hub, "job") == ["job/cat.md"]


def test_control_c_cancels(hub: RunningHub, root: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("these words wait")
    command = [*COMMAND, "ingest", "a.txt", "--collection", "waits", "--url", hub.url]
    with subprocess.Popen(
        command, cwd=tmp_path, env=clean_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        eventually((root / "waiting").exists, "the text is being embedded", START)
        running.send_signal(signal.SIGINT)
        stdout, stderr = running.communicate(timeout=PATIENCE)
    assert (running.returncode, stdout, stderr) == (130, "", "")
    eventually(lambda: not (root / "waiting").exists(), "the embedding was cancelled")


def test_on_a_terminal_there_is_a_bar(hub: RunningHub, folder: Path) -> None:
    ours, theirs = pty.openpty()
    command = [*COMMAND, "ingest", ".", "--collection", "bar", "--url", hub.url]
    env = clean_environment({"TERM": "xterm", "COLUMNS": "100"})
    with subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=theirs, text=True) as running:
        os.close(theirs)
        shown = b""
        while chunk := read_terminal(ours):
            shown += chunk
        assert running.wait(PATIENCE) == 0
        assert running.stdout is not None
        assert "documents         3" in running.stdout.read()
    os.close(ours)
    plain = re.sub(rb"\x1b\[[\d;?]*[A-Za-z]", b"", shown).decode()
    assert re.search(r"documents ━+ 3/3 3 passages", plain), plain


def read_terminal(handle: int) -> bytes:
    try:
        return os.read(handle, 65_536)
    except OSError:  # the other end is closed
        return b""


def test_it_is_listed(hub: RunningHub) -> None:
    document: Any = json.loads(trunkline("discover", "--json", "--url", hub.url).stdout)
    (method,) = [each for each in document["methods"] if each["name"] == "documents.process"]
    assert [each["name"] for each in method["params"]] == [
        "collection", "sources", "options", "create", "async",
    ]  # fmt: skip


def test_files_of_the_same_name_outside_are_kept_apart(hub: RunningHub, tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    for version in ("v1", "v2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "README.md").write_text(f"Of {version}.")
        done = ingest(hub, f"../{version}/README.md", "--collection", "versions", cwd=here)
        assert done.returncode == 0, done.stderr
    assert sources(hub, "versions") == [str(tmp_path / version / "README.md") for version in ("v1", "v2")]


def test_names_that_are_no_text_and_links_to_themselves_stop_nothing(hub: RunningHub, tmp_path: Path) -> None:
    books = tmp_path / "odd"
    books.mkdir()
    for byte in (b"\xff", b"\xfe"):
        Path(os.fsdecode(os.fsencode(books) + b"/a" + byte + b".txt")).write_text(f"Of {byte!r}.")
    (books / "self.md").symlink_to("self.md")
    (books / "good.md").write_text("Good words.")
    done = ingest(hub, "odd", "--collection", "odd", cwd=tmp_path)
    assert done.returncode == 1
    assert "failed 1," in done.stdout
    assert "odd/self.md: " in done.stdout
    found = sources(hub, "odd")
    assert len(found) == 3
    assert "odd/good.md" in found


def test_documents_whose_file_is_gone_are_pruned_when_told_to(hub: RunningHub, folder: Path) -> None:
    ingest(hub, "books", "--collection", "pruned", cwd=folder.parent)
    (folder / "cat.md").unlink()
    (folder / "sub" / "dog.txt").rename(folder / "sub" / "hound.txt")
    dry = ingest(hub, "books", "--collection", "pruned", "--prune", cwd=folder.parent)
    assert re.search(r"books/cat\.md\n  books/sub/dog\.txt\npruned +2 .*would be deleted", dry.stdout), dry.stdout
    before = ["books/cat.md", "books/pets.pdf", "books/sub/dog.txt", "books/sub/hound.txt"]
    assert sources(hub, "pruned") == before
    ingest(hub, "books", "--collection", "pruned", "--prune", "--yes", cwd=folder.parent)
    assert sources(hub, "pruned") == ["books/pets.pdf", "books/sub/hound.txt"]
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    done = ingest(hub, "books", "--collection", "pruned", "--prune", "--yes", cwd=folder.parent)
    assert "nothing is pruned: there is no file in it" in done.stderr
    assert sources(hub, "pruned") == ["books/pets.pdf", "books/sub/hound.txt"]


def test_what_came_from_elsewhere_or_from_no_file_is_never_pruned(hub: RunningHub, folder: Path) -> None:
    (folder.parent / "other").mkdir()
    (folder.parent / "other" / "here.md").write_text("It is here.")
    ingest(hub, "here.md", "--collection", "kept", cwd=folder.parent / "other")
    ingest(hub, ".", "--collection", "kept", cwd=folder)
    text = {"collection": "kept", "sources": [{"text": "A note.", "source": "notes/42"}]}
    assert trunkline("call", "documents.process", json.dumps(text), "--url", hub.url).returncode == 0
    (folder / "cat.md").unlink()
    done = ingest(hub, ".", "--collection", "kept", "--prune", "--yes", cwd=folder)
    assert re.search(r"\n  cat\.md\npruned +1 .*deleted\nleft +1 +documents of which", done.stdout), done.stdout
    assert sources(hub, "kept") == ["here.md", "notes/42", "pets.pdf", "sub/dog.txt"]


async def test_nothing_is_pruned_below_a_folder_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    called: list[str] = []

    class OneDocument:
        async def call(self, method: str, params: Any) -> Any:
            called.append(method)
            return {"documents": [{"source": "gone.md", "file": f"{tmp_path}/sub/gone.md"}], "cursor": None}

    def unreadable(top: Any, onerror: Any) -> Iterator[Any]:
        yield str(tmp_path), ["sub"], ["here.md"]
        onerror(PermissionError(13, "Permission denied", f"{tmp_path}/sub"))

    monkeypatch.setattr(os, "walk", unreadable)
    await prune_documents(cast("Any", OneDocument()), "c", [str(tmp_path)], delete=True)
    assert called == ["documents.list"]
    assert "nothing is pruned: [Errno 13] Permission denied" in capsys.readouterr().err
