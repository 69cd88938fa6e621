"""The reverse proxies of docs/production.md, as they stand there: what they pass on, and what they do not."""

from __future__ import annotations

import json
import re
import socket
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any, Final

import pytest
import websockets

from tests.interop.reverse_proxies import ReverseProxy, program_of
from tests.support.hub import RunningHub, ready_hub
from tests.support.pages import REPOSITORY, blocks_of
from tests.support.ports import reserved_port
from tests.support.timing import PATIENCE, eventually
from trunkline.defaults import PING_INTERVAL

PAGE: Final = REPOSITORY / "docs" / "production.md"
NAME: Final = "hub.example.com"
TOKEN: Final = "token-of-the-tests-of-the-proxies"
PAGES: Final = {"nginx": "trunkline.nginx.conf", "haproxy": "trunkline.haproxy.cfg", "caddy": "trunkline.Caddyfile"}
FORGED: Final = {
    "X-Forwarded-For": "203.0.113.7",
    "Forwarded": "for=203.0.113.7",
    "X-Real-IP": "203.0.113.7",
    "X-Request-Id": "chosen-by-the-client",
}


def configuration(name: str) -> str:
    (code,) = [block.code for block in blocks_of(PAGE) if block.rule == f"file: {PAGES[name]}"]
    return code


def replaced(text: str, *pairs: tuple[str, str]) -> str:
    """A text with other addresses and files; each of those on the page has to be there."""
    for former, new in pairs:
        assert former in text, f"the page's configuration has no {former!r}"
        text = text.replace(former, new)
    return text


def as_run(name: str, folder: Path, port: int, target: int) -> str:
    """The page's configuration with ports and folders of a test, and what a whole installation has around it."""
    text = replaced(configuration(name), ("127.0.0.1:8765", f"127.0.0.1:{target}"), ("/etc/ssl/", f"{folder}/"))
    if name == "nginx":
        temporary = "".join(
            f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        text = replaced(text, ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"))
        return (
            f"daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr warn;\n"
            f"events {{ worker_connections 512; }}\nhttp {{ access_log off; {temporary}\n{text}\n}}\n"
        )
    if name == "haproxy":
        return replaced(text, ("bind :443 ", f"bind 127.0.0.1:{port} "), ("maxconn 20000", "maxconn 500"))
    site = replaced(text, (f"{NAME} {{", f"https://{NAME}:{port} {{\n\tbind 127.0.0.1"))
    return f"{{\n\tadmin off\n\tauto_https disable_redirects\n\tskip_install_trust\n}}\n{site}"


@dataclass(frozen=True)
class Site:
    """A hub at https://hub.example.com."""

    name: str
    port: int
    hub: RunningHub
    audit: Path
    trust: ssl.SSLContext

    def websocket(self, **headers: str) -> websockets.connect:
        """A connection, as the world has it."""
        return websockets.connect(
            f"wss://{NAME}:{self.port}/ws",
            host="127.0.0.1",
            port=self.port,
            ssl=self.trust,
            server_hostname=NAME,
            additional_headers={"Authorization": f"Bearer {TOKEN}", **headers},
        )

    @contextmanager
    def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Iterator[HTTPResponse]:
        """The answer to a request."""
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        connection = HTTPConnection(NAME, self.port, timeout=PATIENCE)
        try:
            connection.sock = self.trust.wrap_socket(plain, server_hostname=NAME)
            with suppress(OSError):  # it answers, and closes, before it has all of a body
                connection.request(method, path, body, {"Authorization": f"Bearer {TOKEN}"} | (headers or {}))
            yield connection.getresponse()
        finally:
            connection.close()

    def call(self, method: str, params: Any, **headers: str) -> tuple[int, dict[str, str], Any]:
        """Status, headers and body of a call over HTTP."""
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        with self.request("POST", "/rpc", body, {"Content-Type": "application/json"} | headers) as answer:
            said = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, said, json.loads(answer.read())


def certificate(folder: Path) -> ssl.SSLContext:
    """Write certificate and key, and both in one file; returns what trusts it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    public = made.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for suffix, content in {"crt": public, "key": private, "pem": public + private}.items():
        (folder / f"{NAME}.{suffix}").write_bytes(content)
    return ssl.create_default_context(cadata=public.decode())


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningHub, Path]]:
    """A hub with the page's settings, as far as they are about the proxy, and its audit file."""
    audit = tmp_path_factory.mktemp("audit") / "audit.jsonl"
    (page,) = [block.code for block in blocks_of(PAGE) if block.rule == "file: production.toml"]
    kept = "\n".join(line for line in page.splitlines() if re.match(r"trusted_proxies|allowed_", line))
    config = audit.with_name("hub.toml")
    config.write_text(kept)
    env = {"TRUNKLINE_TOKEN": TOKEN, "TRUNKLINE_AUDIT_FILE": str(audit)}
    with ready_hub(arguments=("--config", str(config)), env=env) as running:
        yield running, audit


@pytest.fixture(scope="module", params=PAGES)
def site(request: pytest.FixtureRequest, hub: tuple[RunningHub, Path]) -> Iterator[Site]:
    """The hub behind one of the proxies."""
    name: str = request.param
    program = program_of(name)
    with tempfile.TemporaryDirectory(prefix="trunkline-proxy-") as made, reserved_port() as port:
        folder = Path(made)
        folder.chmod(0o755)  # nginx reads and writes as another user
        trust = certificate(folder)
        proxy = ReverseProxy(name, program, folder, port, as_run(name, folder, port, hub[0].port))
        proxy.start()
        try:
            yield Site(name, port, *hub, trust)
        finally:
            proxy.stop()


async def test_calls_and_events_cross(site: Site) -> None:
    async with site.websocket() as connection:
        await connection.send('{"jsonrpc":"2.0","id":1,"method":"debug.echo","params":{"value":"through"}}')
        assert json.loads(await connection.recv())["result"] == "through"
    status, _headers, said = site.call("debug.echo", {"value": "by HTTP"})
    assert (status, said["result"]) == (200, "by HTTP")


async def test_browsers_get_in_from_the_hubs_own_page_and_from_no_other(site: Site) -> None:
    async with site.websocket(Origin=f"https://{NAME}") as connection:
        await connection.send('{"jsonrpc":"2.0","id":1,"method":"rpc.ping"}')
        assert "result" in json.loads(await connection.recv())
    with pytest.raises(websockets.InvalidStatus) as caught:
        async with site.websocket(Origin="https://elsewhere.example"):
            pass
    assert caught.value.response.status_code == 403


def test_what_a_client_says_of_its_address_and_its_id_is_not_believed(site: Site) -> None:
    status, headers, _said = site.call("debug.echo", {"value": site.name}, **FORGED)
    assert status == 200
    own = headers["x-request-id"]
    assert own
    assert "chosen" not in own

    def lines() -> list[dict[str, Any]]:
        return [each for each in map(json.loads, site.audit.read_text().splitlines()) if each.get("request_id") == own]

    eventually(lambda: bool(lines()), "the audit log has the call, by the proxy's id")
    assert "203.0.113.7" not in site.audit.read_text()
    assert {line["peer"].partition(":")[0] for line in lines()} == {"127.0.0.1"}


def test_what_is_too_large_is_refused_before_the_hub_has_it(site: Site) -> None:
    with site.request("POST", "/rpc", b"x" * (17 * 2**20), {"Content-Type": "application/json"}) as answer:
        assert answer.status == 413
    status, _headers, said = site.call("debug.echo", {"value": "x" * (15 * 2**20)})
    assert (status, len(said["result"])) == (200, 15 * 2**20)


def test_events_are_not_buffered(site: Site) -> None:
    with site.request("GET", "/events?topic=proxies.page", headers={"Accept": "text/event-stream"}) as stream:
        assert stream.status == 200
        read_until(stream, "subscribed")
        for number in range(3):
            site.call("publish", {"topic": "proxies.page", "data": f"event {number}"})
            read_until(stream, f"event {number}")


def read_until(stream: HTTPResponse, words: str) -> None:
    while words.encode() not in (line := stream.readline()):
        assert line, "the stream has ended"


@pytest.mark.parametrize("name", ["nginx", "haproxy"])
def test_what_is_silent_is_cut_later_than_the_hub_pings(name: str) -> None:
    found = re.findall(
        r"(?:proxy_read_timeout|timeout client|timeout server|timeout tunnel) +(\d+)s", configuration(name)
    )
    assert len(found) == (1 if name == "nginx" else 3)
    assert min(map(int, found)) >= 2 * PING_INTERVAL
