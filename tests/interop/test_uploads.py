"""Forms and files as other HTTP clients send them: Node's fetch with FormData, aiohttp."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from typing import Final

import aiohttp
import pytest

from tests.support.hub import MODULES, RunningHub, ready_hub
from tests.support.timing import PATIENCE

DATA: Final = bytes(range(256)) * 4096

NODE: Final = """
const url = process.argv[1] + "/api/v1/files/";
const data = new Uint8Array(256 * 4096).map((_, at) => at % 256);
const form = new FormData();
form.append("audio", new Blob([data], { type: "audio/wav" }), "speech.wav");
form.append("language", "hr");
form.append("speed", "1.5");
for (const tag of ["a", "ß"]) form.append("tags", tag);
const told = await (await fetch(url + "told", { method: "POST", body: form })).json();
const options = new FormData();
options.append("options", new Blob([JSON.stringify({ n: 1 })], { type: "application/json" }));
const sizes = await (await fetch(url + "sizes", { method: "POST", body: options })).json();
const headers = { "content-type": "audio/wav", accept: "application/octet-stream" };
const same = await (await fetch(url + "same", { method: "POST", body: data, headers })).arrayBuffer();
console.log(JSON.stringify({ told, sizes, same: Buffer.from(same).equals(Buffer.from(data)) }));
"""


@pytest.fixture(scope="module")
def files_hub() -> Iterator[RunningHub]:
    with ready_hub("files", cwd=MODULES) as hub:
        yield hub


TOLD: Final = {
    "size": len(DATA), "sha256": hashlib.sha256(DATA).hexdigest(), "language": "hr", "speed": 1.5, "tags": ["a", "ß"]
}  # fmt: skip


def test_node(files_hub: RunningHub) -> None:
    command = ["node", "--input-type=module", "-e", NODE, f"http://127.0.0.1:{files_hub.port}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"told": TOLD, "sizes": [[], [], {"n": 1}], "same": True}


async def test_aiohttp(files_hub: RunningHub) -> None:
    url = f"http://127.0.0.1:{files_hub.port}/api/v1/files/"
    form = aiohttp.FormData([("language", "hr"), ("speed", "1.5"), ("tags", "a"), ("tags", "ß")])
    form.add_field("audio", DATA, filename="čevapi.wav", content_type="audio/wav")
    named = aiohttp.FormData()
    named.add_field("file", DATA, filename="čevapi.wav", content_type="audio/wav")
    async with aiohttp.ClientSession() as session:
        async with session.post(url + "told", data=form) as answer:
            assert await answer.json() == TOLD
        async with session.post(url + "named", data=named) as answer:
            assert (await answer.json())["media_type"] == "audio/wav"
        headers = {"Content-Type": "audio/wav", "Accept": "application/octet-stream"}
        async with session.post(url + "same", data=DATA, headers=headers) as answer:
            assert await answer.read() == DATA
