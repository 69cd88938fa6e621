"""Builds the wheel, installs it into an empty environment, starts a hub from it and makes a call.

Run by ``make check``. The environment sees nothing of this checkout: what was not packed is missing.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REQUIRED = {
    "trunkline/py.typed",
    "trunkline_protocol/py.typed",
    "trunkline/cli/main.py",
    "trunkline/edge/http/static/index.html",
    "trunkline_protocol/codecs/jsonrpc.py",
}


def build(into: Path) -> Path:
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", into, ROOT], check=True, stdout=subprocess.DEVNULL
    )
    (wheel,) = into.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    missing = REQUIRED - names
    assert not missing, f"the wheel lacks {missing}"
    stray = {name for name in names if not name.startswith(("trunkline/", "trunkline_protocol/", "trunkline-"))}
    assert not stray, f"the wheel carries {stray}"
    return wheel


def install(wheel: Path, environment: Path) -> Path:
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    command: list[str | Path] = [
        python,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "-q",
        "install",
        "-c",
        ROOT / "constraints.txt",
        wheel,
    ]
    subprocess.run(command, check=True)
    return python


def serve_and_call(trunkline: Path, folder: Path) -> None:
    command: list[str | Path] = [
        trunkline,
        "serve",
        "--port",
        "0",
        "--packs",
        "none",
        "--methods",
        "trunkline.methods.debug",
    ]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True, stderr=subprocess.PIPE) as hub:
        assert hub.stdout is not None
        assert hub.stderr is not None
        try:
            listening = re.search(r"listening on (\S+)", hub.stdout.readline())
            assert listening is not None
            url = listening[1]
            assert hub.stdout.readline().startswith("ready")
            call: list[str | Path] = [trunkline, "call", "debug.echo", '{"value": [1, "ü"]}', "--url", url]
            answer = subprocess.run(call, cwd=folder, check=True, capture_output=True, text=True, timeout=30)
            assert json.loads(answer.stdout) == [1, "ü"], answer.stdout
        finally:
            hub.terminate()
        assert hub.wait(timeout=20) == 0, hub.stderr.read()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        wheel = build(place / "dist")
        python = install(wheel, place / "environment")
        serve_and_call(python.with_name("trunkline"), place)
        print(f"{wheel.name}: {wheel.stat().st_size / 1000:.0f} kB, installed alone, serves and answers")


if __name__ == "__main__":
    main()
