"""Forms and files as the body of ``POST /api/v1/...``, at a real hub: what arrives, and what is refused."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pytest

from tests.edge.conftest import LIMIT
from tests.edge.http.http_client import JSON, send
from tests.support.forms import BOUNDARY, FORM, form, part
from tests.support.frames import raw_tcp
from tests.support.hub import MODULES, HttpAnswer, RunningHub, ready_hub
from tests.support.peer import peer
from tests.support.timing import PATIENCE
from trunkline_protocol.errors import ErrorCode

WAV: Final = {"Content-Type": "audio/wav"}
DATA: Final = bytes(range(256)) * 5 + b"\r\n--" + BOUNDARY.encode()[:-1] + b"\r\n"
MANY: Final = 50


@pytest.fixture(scope="module")
def files_hub() -> Iterator[RunningHub]:
    with ready_hub("files", cwd=MODULES) as hub:
        yield hub


def upload(hub: RunningHub, path: str, body: bytes, headers: dict[str, str] | None = None) -> HttpAnswer:
    return send(hub, f"/api/v1/files/{path}", body, FORM if headers is None else headers)


def error_of(answer: HttpAnswer) -> tuple[int, int]:
    return answer.status, answer.json()["error"]["code"]


def told(data: bytes, **others: Any) -> dict[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    return {"size": len(data), "sha256": digest, "language": "en", "speed": 1.0, "tags": None} | others


# --- what arrives ---


def test_a_form_is_params(files_hub: RunningHub) -> None:
    body = form(
        part("audio", DATA, "Content-Type: audio/wav", filename="speech.wav"),
        part("language", b"hr"), part("speed", b"1.5"), part("tags", b"a"), part("tags", "ß".encode()),
    )  # fmt: skip
    answer = upload(files_hub, "told", body)
    assert (answer.status, answer.json()) == (200, told(DATA, language="hr", speed=1.5, tags=["a", "ß"]))


def test_a_file_is_the_body_and_the_rest_the_query(files_hub: RunningHub) -> None:
    answer = upload(files_hub, "told?language=hr&speed=2&tags=a&tags=b%20c", DATA, WAV)
    assert (answer.status, answer.json()) == (200, told(DATA, language="hr", speed=2, tags=["a", "b c"]))


def test_a_form_has_a_query_too(files_hub: RunningHub) -> None:
    assert upload(files_hub, "told?language=hr", form(part("audio", DATA))).json() == told(DATA, language="hr")
    assert error_of(upload(files_hub, "told?language=hr", form(part("audio"), part("language", b"en"))))[0] == 422


@pytest.mark.parametrize("data", [b"", b"\0", b"\r\n", b"\r\n--", b"--" + BOUNDARY.encode(), os.urandom(300_000)])
def test_any_bytes(files_hub: RunningHub, data: bytes) -> None:
    octets = {"Accept": "application/octet-stream"}
    for body, headers in ((form(part("data", data)), FORM), (data, WAV)):
        answer = upload(files_hub, "same", body, headers | octets)
        assert (answer.status, answer.body) == (200, data)
        assert answer.headers.get("content-type") == ("application/octet-stream" if data else None)


def test_bytes_are_json_unless_they_are_asked_for(files_hub: RunningHub) -> None:
    for accept in ("*/*", "application/json", "application/octet-stream;q=0"):
        answer = upload(files_hub, "same", b"\xff", WAV | {"Accept": accept})
        assert (answer.headers["content-type"], answer.json()) == ("application/json", {"$bytes": "/w=="})
    octets = WAV | {"Accept": "application/octet-stream"}
    assert upload(files_hub, "told", b"", octets).json() == told(b"")
    assert upload(files_hub, "two", b"", octets).headers["content-type"] == "application/problem+json"


def test_files_with_their_names(files_hub: RunningHub) -> None:
    body = form(part("file", b"abc", "Content-Type: Audio/WAV; rate=16000", filename="../ä/é.wav"))
    assert upload(files_hub, "named", body).json() == {"size": 3, "name": "é.wav", "media_type": "audio/wav"}
    assert upload(files_hub, "named", b"abc", WAV).json() == {"size": 3, "name": None, "media_type": "audio/wav"}
    several = form(part("files", filename="a"), part("files", filename="b"), part("parts", b"12"))
    options = part("options", b'{"n":1}', "Content-Type: application/json", filename="blob")
    assert upload(
        files_hub, "sizes", several.replace(b"--\r\n", b"\r\n" + options + b"\r\n--" + BOUNDARY.encode() + b"--")
    )
    assert upload(files_hub, "sizes", several).json() == [["a", "b"], [2], None]
    assert upload(files_hub, "sizes", form(options)).json() == [[], [], {"n": 1}]


def test_the_same_file_may_be_json(files_hub: RunningHub) -> None:
    assert upload(files_hub, "named", json.dumps({"file": {"data": {"$bytes": "YWJj"}}}).encode(), JSON).json() == {
        "size": 3, "name": None, "media_type": None
    }  # fmt: skip


def test_where_several_are_declared_the_field_says(files_hub: RunningHub) -> None:
    body = form(
        part("value", b"5", filename="a"),
        part("anything", b"5", "Content-Type: application/json"),
        part("number", b"5"),
    )
    assert upload(files_hub, "either", body).json() == "(b'5', 5, 5)"
    assert upload(files_hub, "either", form(part("value", b"5"), part("anything", b"5"))).json() == "('5', '5', None)"


def test_headers_are_those_of_any_task(files_hub: RunningHub, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    headers = WAV | {"Idempotency-Key": "once", "X-Request-Id": "r1"}
    first = upload(files_hub, f"counted?marker={marker}", b"abc", headers)
    marker.unlink()
    again = upload(files_hub, f"counted?marker={marker}", b"abc", headers)
    assert (first.json(), again.json(), again.headers["x-request-id"]) == (3, 3, "r1")
    assert not marker.exists(), "the outcome was kept"
    assert upload(files_hub, f"counted?marker={marker}", b"abcd", headers).status == 422, "other params under the key"


async def test_methods_that_clients_serve_take_forms(files_hub: RunningHub) -> None:
    async with peer(files_hub.url) as callee:
        await callee.result("method.register", {"method": "forms.served"})
        answers: list[HttpAnswer] = []
        body = form(part("file", b"\xff", filename="a"), part("text", b"5"))
        asking = threading.Thread(target=lambda: answers.append(send(files_hub, "/api/v1/forms/served", body, FORM)))
        asking.start()
        call = await callee.receive()
        assert call["params"] == {"file": {"$bytes": "/w=="}, "text": "5"}
        await callee.send(json.dumps({"jsonrpc": "2.0", "id": call["id"], "result": {"$bytes": "/w=="}}))
    asking.join(PATIENCE)
    assert answers[0].json() == {"$bytes": "/w=="}


# --- what is refused ---


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("told", form(part("audio"), part("loud", b"1")), 422, "loud: there is no such parameter"),
        ("told", form(part("audio"), part("audio")), 422, "audio: it is given twice"),
        ("told", form(part("audio"), part("speed", b"fast")), 422, "speed: not valid JSON"),
        ("told", form(part("audio"), part("language", b"\xff")), 422, "language: it is text"),
        ("told", form(), 422, "audio"),
        ("told", form(part("audio"), part("speed", b'"fast"')), 422, "speed"),
        ("told", form(part("audio"), *[part("tags", b"a")] * 10_000), 413, "1000 fields"),
        ("told", form(part("audio", DATA), end=b""), 400, "not a valid form"),
        ("told", form(part("audio", DATA))[:-20], 400, "closing boundary"),
        ("told", b"", 400, "closing boundary"),
        ("told", b"no form at all", 400, "not a valid form"),
        ("told", form(b"X-Other: a\r\n\r\n"), 400, "Content-Disposition"),
        ("told", form(b'Content-Disposition: attachment; name="audio"\r\n\r\n'), 400, "Content-Disposition"),
        ("told", form(part("audio", DATA, 'Content-Disposition: form-data; name="language"')), 400, "two headers"),
        ("told", form(part("audio", DATA, *[f"X-{n}: a" for n in range(100)])), 400, "header count"),
        ("told", form(part("audio", DATA, "X-Long: " + "a" * 100_000)), 400, "header size"),
        ("told", form(part("audio", DATA, "Content-Type: multipart/mixed; boundary=x")), 400, "audio is a form itself"),
        ("told", form(part("audio", DATA, "Content-Transfer-Encoding: base64")), 400, "Transfer-Encoding"),
        ("told", form(part("language", DATA, "Content-Type: text/plain; charset=latin-1")), 400, "UTF-8"),
        ("told", form(part("AAAA")).replace(b"AAAA", b"\xff\xfe"), 400, "names have to be UTF-8"),
        ("told", form(part("audio", filename="AAAA")).replace(b"AAAA", b"\xff\xfe"), 400, "names have to be UTF-8"),
    ],
)  # fmt: skip
def test_a_form_that_is_none(files_hub: RunningHub, path: str, body: bytes, status: int, words: str) -> None:
    answer = upload(files_hub, path, body)
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
    assert words in answer.json()["detail"]


@pytest.mark.parametrize(
    "boundary", ["", "; boundary=", '; boundary="%s"' % ("b" * 71), "; boundary=b\xe4", "; other=b"]
)
def test_a_boundary_that_is_none(files_hub: RunningHub, boundary: str) -> None:
    answer = upload(files_hub, "told", form(part("audio")), {"Content-Type": "multipart/form-data" + boundary})
    assert error_of(answer) == (400, ErrorCode.PARSE_ERROR)


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/mixed; boundary=b", "a", ""]
)
def test_types_that_pages_can_send_without_asking_are_no_files(
    files_hub: RunningHub, tmp_path: Path, kind: str
) -> None:
    marker = tmp_path / "ran"
    answer = upload(files_hub, f"counted?marker={marker}", b"x", {"Content-Type": kind})
    assert error_of(answer) == (415, ErrorCode.INVALID_REQUEST)
    assert answer.headers["accept-post"] == "application/json, multipart/form-data, application/octet-stream"
    assert not marker.exists()


def test_a_file_for_a_method_that_takes_none_or_several(files_hub: RunningHub) -> None:
    assert error_of(upload(files_hub, "either", b"x", WAV)) == (415, ErrorCode.INVALID_REQUEST)
    assert error_of(upload(files_hub, "sizes", b"x", WAV)) == (415, ErrorCode.INVALID_REQUEST)
    answer = upload(files_hub, "two", b"x", WAV)
    assert error_of(answer) == (422, ErrorCode.INVALID_PARAMS)
    assert "left and right" in answer.json()["detail"]
    assert upload(files_hub, "two", form(part("left", b"123"), part("right", b"1"))).json() == 2
    assert upload(files_hub, "same?data=x", b"x", WAV).status == 422
    assert upload(files_hub, "told?language=%ff", b"x", WAV).status == 422
    assert send(files_hub, "/api/v1/rpc/ping", b"x", WAV).status == 415
    assert upload(files_hub, "same", b"x", WAV | {"Content-Encoding": "gzip"}).status == 415
    assert upload(files_hub, "same", form(part("data")), FORM | {"Content-Encoding": "gzip"}).status == 415


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Host": "evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_form_of_a_foreign_page_runs_nothing(files_hub: RunningHub, tmp_path: Path, headers: dict[str, str]) -> None:
    marker = tmp_path / "ran"
    body = form(part("marker", str(marker).encode()))
    assert error_of(upload(files_hub, "counted", body, FORM | headers)) == (403, ErrorCode.FORBIDDEN)
    assert not marker.exists()
    own = {"Origin": f"http://127.0.0.1:{files_hub.port}", "Sec-Fetch-Site": "same-origin"}
    assert upload(files_hub, "counted", body, FORM | own).status == 200
    assert marker.exists()


def test_who_may_not_call_learns_nothing_of_the_method(tmp_path: Path) -> None:
    digest = hashlib.sha256(b"secret").hexdigest()
    tokens = tmp_path / "tokens.toml"
    tokens.write_text(f'[[tokens]]\nname = "ann"\nsha256 = "{digest}"\nmethods = ["files.same"]\n')
    bearer = {"Authorization": "Bearer secret"}
    with ready_hub("files", cwd=MODULES, env={"TRUNKLINE_TOKENS_FILE": str(tokens)}) as hub:
        answer = upload(hub, "told", form(part("loud", DATA * 1000)), FORM | bearer)
        assert error_of(answer) == (403, ErrorCode.FORBIDDEN)
        assert "ann may not call files.told" in answer.json()["detail"]
        assert upload(hub, "same", form(part("data", b"")), FORM | bearer).status == 200
        assert error_of(upload(hub, "same", form(part("data", b"")))) == (401, ErrorCode.UNAUTHENTICATED)


# --- sizes and patience ---


def test_the_limit_is_that_of_a_message(patient_hub: RunningHub) -> None:
    whole = form(part("data", b"x" * (LIMIT - 100)))
    assert len(whole) <= LIMIT
    assert upload(patient_hub, "same", whole).status == 200
    for body, headers in ((whole + b"x" * LIMIT, FORM), (b"x" * (LIMIT + 1), WAV)):
        answer = upload(patient_hub, "same", body, headers)
        assert answer.status == 413
        assert answer.json()["error"]["data"]["limit"] == "TRUNKLINE_MAX_MESSAGE_BYTES"


def head(length: str, path: str = "same") -> bytes:
    lines = [
        f"POST /api/v1/files/{path} HTTP/1.1",
        "Host: 127.0.0.1",
        f"Content-Type: {FORM['Content-Type']}",
        length,
        "",
        "",
    ]
    return "\r\n".join(lines).encode()


async def test_a_gigabyte_is_refused_when_it_is_announced(patient_hub: RunningHub) -> None:
    async with raw_tcp(patient_hub.port) as socket:
        await socket.write(head("Content-Length: 1000000000"))
        assert (await socket.http_answer()).status == 413


async def test_a_form_that_never_ends(patient_hub: RunningHub, impatient_hub: RunningHub) -> None:
    """Neither in bytes nor in time: a transfer without a length, and one that stands still."""
    before = patient_hub.rss()
    async with raw_tcp(patient_hub.port) as socket:
        await socket.write(head("Transfer-Encoding: chunked"))
        piece = form(part("data", b"x" * 1000))[:-20]
        await socket.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        almost = b"\r\n--b0undar" * 5_000
        for _ in range(40):
            await socket.write(b"%x\r\n%b\r\n" % (len(almost), almost))
        assert (await socket.http_answer()).status == 413
    assert patient_hub.rss() - before < 16 * 2**20
    async with raw_tcp(impatient_hub.port) as socket:
        await socket.write(head("Content-Length: 5000") + form(part("data", b"x"))[:-20])
        assert (await socket.http_answer()).status == 408


async def test_an_upload_that_is_cut_runs_nothing_and_leaves_nothing(files_hub: RunningHub, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    body = form(part("marker", str(marker).encode()), part("data", b"x" * 1_000_000))
    async with raw_tcp(files_hub.port) as socket:
        await socket.write(head(f"Content-Length: {len(body)}", "counted") + body[:-30])
    whole = upload(files_hub, "counted", form(part("marker", str(marker).encode()), part("data", b"abc")))
    assert (whole.json(), marker.read_bytes()) == (3, b"abc")


def test_many_uploads_at_once_take_bounded_memory() -> None:
    """Of 50 times 3 MiB the hub has 16 MiB in part, as much in its queue, and 64 MiB at its executor at most."""
    data = os.urandom(3 * 2**20)
    body = form(part("audio", data, filename="a"))
    sizes = {"MAX_MESSAGE_BYTES": 4 * 2**20, "PARTIAL_BYTES_PER_PRINCIPAL": 16 * 2**20, "QUEUE_BYTES": 16 * 2**20}
    env = {f"TRUNKLINE_{name}": str(size) for name, size in sizes.items()}
    with (
        ready_hub("files", cwd=MODULES, env=env, arguments=("--executors", "1")) as hub,
        ThreadPoolExecutor(MANY) as pool,
    ):
        before = hub.rss()
        asked = [pool.submit(upload, hub, "told", body) for _ in range(MANY)]
        peak = 0
        while not all(each.done() for each in asked):
            peak = max(peak, hub.rss())
            time.sleep(0.02)  # the peak may be at any time
        answers = [each.result() for each in asked]
        assert {answer.status for answer in answers} <= {200, 503}
        assert any(answer.json() == told(data) for answer in answers if answer.status == 200)
        assert peak - before < 200 * 2**20, "all of them would be 350 MiB"
        assert upload(hub, "told", body).json() == told(data)


# --- with curl ---

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


def curl(hub: RunningHub, path: str, *arguments: str) -> bytes:
    command = ["curl", "-sS", *arguments, f"http://127.0.0.1:{hub.port}/api/v1/files/{path}"]
    return subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE).stdout


@needs_curl
def test_curl(files_hub: RunningHub, tmp_path: Path) -> None:
    data = os.urandom(3 * 2**20)
    file = tmp_path / 'spe"ech;.wav'
    file.write_bytes(data)
    quoted = str(file).replace('"', '\\"')
    sent = ["-F", f'audio=@"{quoted}"', "-F", "language=hr", "-F", "tags=a"]
    assert json.loads(curl(files_hub, "told", *sent)) == told(data, language="hr", tags=["a"])
    raw = ["--data-binary", f"@{file}", "-H", "Content-Type: audio/wav"]
    assert json.loads(curl(files_hub, "told?language=hr", *raw)) == told(data, language="hr")
    assert curl(files_hub, "same", *raw, "-H", "Accept: application/octet-stream") == data
    named = json.loads(curl(files_hub, "named", "-F", f'file=@"{quoted}";filename=a b.wav;type=audio/wav'))
    assert named == {"size": len(data), "name": "a b.wav", "media_type": "audio/wav"}
    without_type = json.loads(curl(files_hub, "told", "--data-binary", f"@{file}"))
    assert without_type["status"] == 415
