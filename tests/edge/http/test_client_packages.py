"""The clients that a hub serves: what is installed from its address calls it."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from starlette.requests import Request

from tests.support.hub import RunningHub
from trunkline.edge.http.client_packages import WHEEL, client_packages, client_wheel
from trunkline.version import __version__

PROGRAM = """
import asyncio, sys
from trunkline import connect

async def main():
    async with connect(sys.argv[1]) as hub:
        indexes = [chunk.data["index"] async for chunk in hub.stream("debug.count", {"n": 3})]
        print(await hub.call("debug.echo", {"value": indexes}))
    print([name for name in ("picows", "starlette", "uvicorn", "torch", "numpy", "pydantic") if name in sys.modules])

asyncio.run(main())
"""


def test_the_wheel_is_whole_and_always_the_same() -> None:
    wheel = client_wheel()
    assert wheel == client_wheel()
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        record = archive.read(f"trunkline_client-{__version__}.dist-info/RECORD").decode()
        rows = {name: (digest, size) for name, digest, size in csv.reader(io.StringIO(record))}
        assert rows.keys() == set(archive.namelist())
        for name, (digest, size) in rows.items():
            content = archive.read(name)
            if not name.endswith("RECORD"):
                assert int(size) == len(content)
                sha = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
                assert digest == f"sha256={sha}"
        metadata = archive.read(f"trunkline_client-{__version__}.dist-info/METADATA").decode()
        folders = {name.rsplit("/", 1)[0] for name in rows}
    needed = [line.split(": ")[1] for line in metadata.splitlines() if line.startswith("Requires-Dist")]
    assert {name.split(">")[0].split("<")[0] for name in needed} == {
        "msgspec",
        "orjson",
        "typing-extensions",
        "websockets",
    }
    assert not {"trunkline/edge", "trunkline/methods", "trunkline/executors"} & folders, "nothing of the server"


def test_the_wheel_says_what_the_mock_hub_needs(tmp_path: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(client_wheel())) as archive:
        archive.extractall(tmp_path)
    # In the place of what is installed here, whose dependencies it takes.
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import trunkline.testing"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ImportError: trunkline.testing runs a hub" in done.stderr.splitlines()[-1]
    assert "pip install trunkline" in done.stderr


def test_what_is_in_the_wheel_is_all_it_takes(debug_hub: RunningHub, tmp_path: Path) -> None:
    answer = debug_hub.get(f"/{WHEEL}")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/zip")
    with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
        archive.extractall(tmp_path)
    # Ahead of what is installed here, whose dependencies it takes.
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{PROGRAM}", debug_hub.url],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout.splitlines()) == (0, ["[0, 1, 2]", "[]"]), done.stderr


def test_the_page_says_how_to_install_each(debug_hub: RunningHub) -> None:
    text = debug_hub.get("/client").body.decode()
    base = f"http://127.0.0.1:{debug_hub.port}"
    for line in (
        f"npm install {base}/client.tgz",
        f'import {{ connect }} from "{base}/client.js"',
        f"pip install {base}/{WHEEL}",
    ):
        assert line in text
    assert f"ws://127.0.0.1:{debug_hub.port}/ws" in text


def test_no_other_host_is_given_them(debug_hub: RunningHub) -> None:
    for path in ("/client", "/client.js", "/client.tgz", f"/{WHEEL}"):
        assert debug_hub.get(path, {"Host": "evil.example"}).status == 403


def test_the_package_for_npm_is_that_of_this_version(debug_hub: RunningHub) -> None:
    answer = debug_hub.get("/client.tgz")
    if answer.status == 404:
        pytest.fail("make setup has not built it")
    assert answer.headers["content-type"] == "application/gzip"
    with tarfile.open(fileobj=io.BytesIO(answer.body)) as archive:
        package = archive.extractfile("package/package.json")
        assert package is not None
        assert json.load(package)["version"] == __version__
        assert {"package/dist/browser.js", "package/dist/msgpack.js"} <= set(archive.getnames())
    module = debug_hub.get("/client.js")
    assert (module.status, module.headers["content-type"]) == (200, "text/javascript; charset=utf-8")
    assert b"sourceMappingURL" not in module.body
    assert debug_hub.get("/client-msgpack.js").headers["content-type"] == "text/javascript; charset=utf-8"


async def test_a_hub_without_the_javascript_client_says_what_to_do() -> None:
    pages = client_packages(())
    request = Request(
        {"type": "http", "method": "GET", "path": "/client", "headers": [(b"host", b"hub:1")], "query_string": b""}
    )
    for path in ("/client", "/client.tgz", "/client.js"):
        answer = await pages[path](request)
        text = bytes(answer.body).decode()
        assert answer.status_code == (200 if path == "/client" else 404)
        assert "npm ci && npm run build" in text
        assert "pip install" in text
        assert "npm install http" not in text, "nothing is recommended that is not there"
    assert client_packages(("/client.tgz", "/client.js")).keys() == {"/client", f"/{WHEEL}"}
