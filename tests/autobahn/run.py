"""Runs the Autobahn suite against the real edge: ``python -m tests.autobahn.run [case ...]`` (``make autobahn``).

The suite is a program for Python 2.7 and is installed into ``build/autobahn`` at the first run. Without a Python 2.7
this says so and skips. Exits with 1 for any FAILED case, wrong close or case that was not run.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.autobahn.echo import echo_server
from tests.autobahn.report import EXPECTED_CASES, faults, read_report, table
from trunkline.hosting.runtime import event_loop_runner

SUITE: Final = "autobahntestsuite==0.8.2"
ROOT: Final = Path(__file__).parents[2]
BUILD: Final = ROOT / "build" / "autobahn"
PACKAGES: Final = BUILD / SUITE.replace("==", "-")
REPORTS: Final = BUILD / "reports"
SPEC: Final = Path(__file__).with_name("fuzzingclient.json")
PATIENCE: Final = 1800
"""Seconds for the whole suite; it takes five minutes on two cores."""


class Skipped(Exception):
    """Something outside is missing; the message names it."""


def find_python2() -> str:
    """A Python 2.7: ``$PYTHON2``, ``python2.7`` on the path, or one of pyenv's.

    Raises:
        Skipped: there is none, or it has no pip.
    """
    candidates = [os.environ.get("PYTHON2"), shutil.which("python2.7"), *_pythons_of_pyenv()]
    for candidate in filter(None, candidates):
        if _says(candidate, "import sys; print(sys.version_info[:2] == (2, 7))") == "True":
            if _says(candidate, "import pip; print(True)") != "True":
                raise Skipped(f"{candidate} has no pip: run `{candidate} -m ensurepip`")
            return candidate
        if candidate == os.environ.get("PYTHON2"):
            raise Skipped(f"PYTHON2={candidate} is not a Python 2.7")
    raise Skipped(
        "no Python 2.7, which the Autobahn suite needs: set PYTHON2, put python2.7 on the PATH, or `pyenv install 2.7`"
    )


def _pythons_of_pyenv() -> list[str]:
    pyenv = shutil.which("pyenv")
    if pyenv is None:
        root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    else:
        root = Path(subprocess.run([pyenv, "root"], capture_output=True, text=True, check=True).stdout.strip())
    return [str(folder / "bin" / "python") for folder in sorted((root / "versions").glob("2.7*"), reverse=True)]


def _says(python: str, code: str) -> str:
    try:
        return subprocess.run([python, "-c", code], capture_output=True, text=True).stdout.strip()
    except OSError:
        return ""


def install(python2: str) -> None:
    """Put the suite into its own folder, unless it is there."""
    done = PACKAGES / ".installed"
    if done.exists():
        return
    print(f"installing {SUITE} for {python2} into {PACKAGES.relative_to(ROOT)}", flush=True)
    shutil.rmtree(PACKAGES, ignore_errors=True)
    pip = [python2, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-warn-script-location"]
    subprocess.run([*pip, "--target", str(PACKAGES), SUITE], check=True)
    (PACKAGES / "zope" / "__init__.py").touch()  # a namespace package that --target leaves without one
    done.touch()


async def run_suite(python2: str, cases: list[str]) -> Path:
    """Run the cases; returns the path of the report."""
    shutil.rmtree(REPORTS, ignore_errors=True)
    REPORTS.mkdir(parents=True)
    async with echo_server() as port:
        spec = json.loads(SPEC.read_text())
        spec["servers"] = [{"agent": "trunkline", "url": f"ws://127.0.0.1:{port}/ws"}]
        spec["outdir"] = str(REPORTS)
        spec["cases"] = cases or spec["cases"]
        path = BUILD / "fuzzingclient.json"
        path.write_text(json.dumps(spec))
        with (BUILD / "wstest.log").open("w") as log:
            process = await asyncio.create_subprocess_exec(
                python2,
                "-c",
                "from autobahntestsuite.wstest import run; run()",
                *("-m", "fuzzingclient", "-s", str(path)),
                env=os.environ | {"PYTHONPATH": str(PACKAGES), "PYTHONDONTWRITEBYTECODE": "1"},
                cwd=BUILD,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            try:
                status = await asyncio.wait_for(process.wait(), PATIENCE)
            finally:
                if process.returncode is None:
                    process.kill()
    if status != 0:
        raise SystemExit(f"wstest ended with {status}; see {log.name}")
    return REPORTS / "index.json"


def main(cases: list[str]) -> int:
    try:
        python2 = find_python2()
    except Skipped as reason:
        print(f"SKIPPED: {reason}")
        return 0
    install(python2)
    report = event_loop_runner()(run_suite(python2, cases))
    found = read_report(report)
    print(table(found))
    wrong = faults(found, {} if cases else EXPECTED_CASES)
    for line in wrong:
        print("WRONG", line)
    print(f"details: {(REPORTS / 'index.html').relative_to(ROOT)}")
    return 1 if wrong or not found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
