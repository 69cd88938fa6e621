from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.edge.access.credentials import Credentials
from trunkline.edge.access.rules import (
    AccessRules,
    choose_subprotocol,
    find_token,
    host_name,
)
from trunkline.hub.principal import ROLES, Handshake
from trunkline_protocol.errors import ErrorCode, RpcError

anonymous = Credentials().authenticate
with_token = Credentials(token="secret").authenticate

RULES = AccessRules(
    {"localhost", "127.0.0.1", "::1", "Hub.Example"}, {"https://app.example", "http://dev:3000/"}, anonymous
)


def handshake(**headers: str) -> Handshake:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Handshake("/ws", "127.0.0.1:5", named, find_token(named))


def refusal(rules: AccessRules, **headers: str) -> int:
    with pytest.raises(RpcError) as caught:
        rules.admit(handshake(**headers))
    return caught.value.code


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8765", "127.0.0.1:1", "[::1]:8765", "[::1]", "::1", "hub.example:80"]
)
def test_allowed_hosts(host: str) -> None:
    assert RULES.admit(handshake(host=host)).roles == ROLES


@pytest.mark.parametrize(
    "host", ["", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example:8765", "[::2]", "evil:localhost"]
)
def test_other_hosts_are_refused(host: str) -> None:
    assert refusal(RULES, host=host) == ErrorCode.FORBIDDEN


def test_no_host_at_all_is_refused() -> None:
    assert refusal(RULES) == ErrorCode.FORBIDDEN


@pytest.mark.parametrize("origin", ["https://app.example", "HTTPS://APP.example", "http://dev:3000"])
def test_allowed_origins(origin: str) -> None:
    RULES.admit(handshake(host="localhost:8765", origin=origin))


def test_a_page_of_the_hub_itself_is_let_in() -> None:
    RULES.admit(handshake(host="localhost:8765", origin="http://localhost:8765"))


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://localhost:9999",
        "http://localhost:8765.evil.example",
        "https://app.example.evil",
        "http://app.example",
        "null",
        "",
        "http://[bad",
        "localhost:8765",
    ],
)
def test_other_origins_are_refused(origin: str) -> None:
    assert refusal(RULES, host="localhost:8765", origin=origin) == ErrorCode.FORBIDDEN


def test_a_star_allows_all() -> None:
    AccessRules({"*"}, {"*"}, anonymous).admit(handshake(host="any", origin="https://any"))


def test_the_host_is_checked_ahead_of_the_token() -> None:
    rules = AccessRules({"localhost"}, (), with_token)
    assert refusal(rules, host="evil") == ErrorCode.FORBIDDEN


@pytest.mark.parametrize("header", ["Bearer secret", "bearer secret", "BEARER   secret  "])
def test_the_right_token(header: str) -> None:
    rules = AccessRules({"localhost"}, (), with_token)
    assert rules.admit(handshake(host="localhost", authorization=header)).name == "token"


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Bearer wrong", "Basic secret", "secret", "Bearer sécret"])
def test_wrong_tokens(header: str) -> None:
    rules = AccessRules({"localhost"}, (), with_token)
    assert refusal(rules, host="localhost", authorization=header) == ErrorCode.UNAUTHENTICATED


def as_subprotocol(token: str) -> str:
    return "trunkline.bearer." + base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")


@given(st.text(min_size=1))
def test_any_token_travels_as_subprotocol(token: str) -> None:
    headers = {"sec-websocket-protocol": f"trunkline.v1+json, {as_subprotocol(token)}"}
    assert find_token(headers) == token


@given(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=255)))
def test_rubbish_as_subprotocol_is_no_token_and_no_crash(rubbish: str) -> None:
    found = find_token({"sec-websocket-protocol": f"trunkline.bearer.{rubbish}"})
    assert found is None or isinstance(found, str)


def test_the_header_counts_ahead_of_the_subprotocol() -> None:
    assert find_token({"authorization": "Bearer a", "sec-websocket-protocol": as_subprotocol("b")}) == "a"


def test_a_token_is_never_shown() -> None:
    shown = repr(handshake(host="localhost", authorization="Bearer secret"))
    assert "secret" not in shown


def test_subprotocols() -> None:
    assert choose_subprotocol({}) is None
    assert choose_subprotocol({"sec-websocket-protocol": "chat"}) is None
    offered = f"chat, trunkline.v2+json,trunkline.v1+json , {as_subprotocol('t')}"
    assert choose_subprotocol({"sec-websocket-protocol": offered}) == "trunkline.v1+json"
    with pytest.raises(RpcError, match=r"trunkline\.v9") as caught:
        choose_subprotocol({"sec-websocket-protocol": "trunkline.v9+json"})
    assert caught.value.code == ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize(
    ("host", "name"),
    [("a:1", "a"), ("A", "a"), ("[::1]:80", "::1"), ("::1", "::1"), (" b ", "b"), ("", ""), ("fe80::1", "fe80::1")],
)
def test_host_name(host: str, name: str) -> None:
    assert host_name(host) == name
