"""A key set at a URL, from a real server: the start, rotation, unknown keys, and servers that do not answer well."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from typing_extensions import override

from tests.support.hub import RunningHub
from tests.support.peer import peer
from tests.support.timing import until
from trunkline.edge.access.credentials import Credentials, Revocation
from trunkline.edge.access.jwt_tokens import JwtOptions
from trunkline.edge.access.key_set_url import MAX_BYTES, MAX_KIDS, KeyRefresh, fetch, require_trusted
from trunkline.hub.principal import Handshake, Principal
from trunkline_protocol.errors import ErrorCode, RpcError

KEYS = {kid: ec.generate_private_key(ec.SECP256R1()) for kid in ("one", "two", "evil")}
NEVER = 3600.0
Answer = tuple[int, dict[str, str], bytes]


def key_set(*kids: str) -> bytes:
    algorithm = jwt.algorithms.ECAlgorithm(jwt.algorithms.ECAlgorithm.SHA256)
    keys = [json.loads(algorithm.to_jwk(KEYS[kid].public_key())) | {"kid": kid, "use": "sig"} for kid in kids]
    return json.dumps({"keys": keys}).encode()


def signed(kid: str) -> str:
    stated = {"sub": kid, "aud": "hub", "exp": int(time.time()) + 86_400}
    return jwt.encode(stated, KEYS[kid], "ES256", {"kid": kid})


class Issuer(ThreadingHTTPServer):
    """Serves a key set.

    Attributes:
        answer: status, headers and body of the next answers.
        fetches: how often it was asked.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer: Answer = (200, {}, key_set("one"))
        self.fetches = 0
        self.url = f"http://127.0.0.1:{self.server_address[1]}/jwks.json"

    def serve(self, *kids: str) -> None:
        self.answer = (200, {}, key_set(*kids))


class _Handler(SimpleHTTPRequestHandler):
    server: Issuer

    @override
    def do_GET(self) -> None:
        self.server.fetches += 1
        status, headers, body = self.server.answer
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    @override
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with Issuer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def credentials(issuer: Issuer) -> Credentials:
    return Credentials(jwt=JwtOptions(keys_url=issuer.url, algorithms=("ES256",), audience="hub"))


class Refreshed:
    """Credentials that are kept up to date, and the revocations that this means."""

    def __init__(self, issuer: Issuer, seconds: float = NEVER) -> None:
        self.credentials = credentials(issuer)
        self.revocations: list[Revocation] = []
        self.refresh = KeyRefresh(issuer.url, seconds, self._fetched, gap=0.01)
        self.credentials.ask_keys = self.refresh.ask

    def _fetched(self, text: str) -> Callable[[str], bool]:
        self.revocations.append(self.credentials.use_key_set(text))
        return self.credentials.has_kid

    def authenticate(self, kid: str) -> Principal:
        return self.credentials.authenticate(Handshake("/ws", "127.0.0.1:5", {}, signed(kid)))

    def refused(self, kid: str) -> RpcError | None:
        try:
            self.authenticate(kid)
        except RpcError as error:
            return error
        return None

    def code(self, kid: str) -> int:
        error = self.refused(kid)
        return 0 if error is None else error.code


@pytest.fixture
def make(issuer: Issuer) -> Iterator[Callable[..., Refreshed]]:
    made: list[Refreshed] = []

    def factory(seconds: float = NEVER) -> Refreshed:
        made.append(Refreshed(issuer, seconds))
        made[-1].refresh.start()
        return made[-1]

    yield factory
    for each in made:
        each.refresh.stop()


async def test_rotation(issuer: Issuer, make: Callable[..., Refreshed]) -> None:
    hub = make()
    first = hub.authenticate("one")
    issuer.serve("one", "two")
    error = hub.refused("two")
    assert error is not None
    assert (error.code, error.retry_after_ms, error.maybe_executed) == (ErrorCode.WORKER_UNAVAILABLE, 2000, False)
    await until(lambda: hub.code("two") == 0, "the new key is fetched")
    assert not hub.revocations[-1](first), "its key is still there"
    issuer.serve("two")
    hub.refresh.refresh()
    await until(lambda: hub.revocations[-1](first), "the old one is gone")
    gone = hub.revocations[-1]
    assert gone(first)
    assert not gone.is_final(first), "it may come back with a new token"
    assert not gone(hub.authenticate("two"))


async def test_connections_whose_key_is_gone_are_closed_and_may_come_back(issuer: Issuer) -> None:
    env = {
        "TRUNKLINE_JWT_KEYS_URL": issuer.url,
        "TRUNKLINE_JWT_ALGORITHMS": "ES256",
        "TRUNKLINE_JWT_AUDIENCE": "hub",
    }
    constants = {"trunkline.edge.access.key_set_url:GAP_SECONDS": 0.1}
    with RunningHub(env=env, constants=constants) as hub:
        async with peer(hub.url, {"Authorization": f"Bearer {signed('one')}"}) as connection:
            issuer.serve("two")
            hub.process.send_signal(signal.SIGHUP)
            assert await connection.close_code() == 4001
        async with peer(hub.url, {"Authorization": f"Bearer {signed('two')}"}) as connection:
            await connection.result("rpc.ping")


async def test_it_is_fetched_without_being_asked_for(issuer: Issuer, make: Callable[..., Refreshed]) -> None:
    hub = make(seconds=0.01)
    first = hub.authenticate("one")
    issuer.serve("two")
    await until(lambda: bool(hub.revocations) and hub.revocations[-1](first), "the old key is gone")


async def test_a_key_that_is_nowhere_is_looked_for_once(issuer: Issuer, make: Callable[..., Refreshed]) -> None:
    hub = make()
    assert hub.code("evil") == ErrorCode.WORKER_UNAVAILABLE
    await until(lambda: hub.code("evil") == ErrorCode.UNAUTHENTICATED, "it was looked for")
    fetches = issuer.fetches
    for _ in range(100):
        assert hub.code("evil") == ErrorCode.UNAUTHENTICATED
    assert issuer.fetches == fetches
    issuer.serve("one", "evil")
    hub.refresh.refresh()
    await until(lambda: hub.code("evil") == 0, "keys that have changed are believed")


async def test_names_of_keys_do_not_fill_the_memory(issuer: Issuer) -> None:
    hub = Refreshed(issuer)
    assert [hub.refresh.ask(str(number)) for number in range(MAX_KIDS + 5)].count(True) == MAX_KIDS


@pytest.mark.parametrize(
    "answer",
    [(500, {}, b""), (200, {}, b"no json"), (200, {}, b'{"keys": []}'), (200, {}, b"x" * (MAX_BYTES + 1))],
    ids=["500", "no json", "no keys", "large"],
)
async def test_an_issuer_that_fails_changes_nothing(
    issuer: Issuer,
    make: Callable[..., Refreshed],
    caplog: pytest.LogCaptureFixture,
    answer: Answer,
) -> None:
    hub = make()
    issuer.answer = answer
    hub.refresh.refresh()
    await until(lambda: "the keys stay as they were" in caplog.text, "it is logged")
    assert issuer.url in caplog.text
    assert hub.code("one") == 0
    issuer.serve("one", "two")
    hub.refresh.refresh()
    await until(lambda: hub.code("two") == 0, "it is asked again")


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((404, {}, b""), "answers with status 404"),
        ((302, {"Location": "http://127.0.0.1:1/"}, b""), "answers with status 302"),
        ((200, {}, b"x" * (MAX_BYTES + 1)), f"more than {MAX_BYTES} bytes"),
        ((200, {}, b"\xff"), "is no JSON"),
        ((200, {}, b"[]"), "is no JSON Web Key Set"),
        ((200, {}, b'{"keys": []}'), "no key for ES256"),
    ],
)
def test_a_hub_does_not_start_without_keys(issuer: Issuer, answer: Answer, says: str) -> None:
    issuer.answer = answer
    with pytest.raises(ValueError, match=says) as caught:
        credentials(issuer)
    assert issuer.url in str(caught.value)


def test_nor_where_nobody_answers(issuer: Issuer) -> None:
    with pytest.raises(ValueError, match="cannot be fetched"):
        fetch("http://127.0.0.1:1/jwks.json")


@pytest.mark.parametrize(
    "url",
    [
        "http://id.example/jwks",
        "file:///etc/passwd",
        "https://",
        "jwks.json",
        "ftp://127.0.0.1/x",
        "https://a:b@id.example",
    ],
)
def test_keys_come_from_where_nobody_else_can_put_them(url: str) -> None:
    with pytest.raises(ValueError, match="TRUNKLINE_JWT_KEYS_URL"):
        require_trusted(url)
    require_trusted("https://id.example/jwks")
    require_trusted("http://localhost:8080/jwks")
