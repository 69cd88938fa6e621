"""The ``trunkline`` command: as a process of its own, or, much quicker, inside this one."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Final
from unittest import mock

from tests.support.hub import clean_environment
from tests.support.timing import SCALE

COMMAND: Final = (sys.executable, "-m", "trunkline.cli")

NO_HUB: Final = "ws://127.0.0.1:9/ws"
"""Where no hub listens."""

_one_at_a_time = threading.Lock()


def trunkline_process(
    *arguments: str, env: Mapping[str, str] | None = None, cwd: Path | None = None, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command as a process: what is shown is the interpreter's start and end as well."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        env=clean_environment(env),
        cwd=cwd,
        input=stdin,
        timeout=60 * SCALE,
    )
    return _without_traceback(done)


def trunkline(
    *arguments: str, env: Mapping[str, str] | None = None, cwd: Path | None = None, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command's ``main`` in this process, with files as standard input and outputs.

    Not for what changes the process itself: a hub, or a relay. Any exception but SystemExit is the caller's.
    """
    from trunkline.cli.main import main

    code: int | str | None = None
    with (
        _files(stdin or "") as (source, out, err),
        mock.patch.dict(os.environ, clean_environment(env), clear=True),
        contextlib.chdir(cwd or Path.cwd()),
        mock.patch.multiple(sys, argv=["trunkline", *arguments], stdin=source, stdout=out, stderr=err),
    ):
        try:
            main()
        except SystemExit as end:
            code = end.code
        said = [_text(file) for file in (out, err)]
    assert code is None or isinstance(code, int), f"exit code {code!r}"
    return _without_traceback(subprocess.CompletedProcess(["trunkline", *arguments], code or 0, *said))


@contextlib.contextmanager
def _files(stdin: str) -> Iterator[list[IO[str]]]:
    """Standard input and both outputs, while nobody else has them."""
    assert _one_at_a_time.acquire(blocking=False), "outputs and working directory are the whole process's"
    try:
        with contextlib.ExitStack() as opened:
            source, out, err = (opened.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8")) for _ in range(3))
            source.write(stdin)
            source.seek(0)
            yield [source, out, err]
    finally:
        _one_at_a_time.release()


def _text(file: IO[str]) -> str:
    file.flush()
    file.seek(0)
    return file.read()


def _without_traceback(done: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    assert "Traceback" not in done.stderr + done.stdout
    return done


def requires_failure(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """Exit code, words on standard error, and nothing on standard output."""
    assert done.returncode == code, done
    assert done.stdout == "", "errors go to stderr"
    for word in words:
        assert word in done.stderr
    assert "\x1b" not in done.stderr
