from __future__ import annotations

import base64
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest

from trunkline.edge.access.credentials import MAX_TOKEN_CHARS, Credentials
from trunkline.edge.access.failed_logins import FailedLogins
from trunkline.edge.access.jwt_tokens import JwtOptions
from trunkline.edge.access.tokens import digest_of, new_token
from trunkline.hub.principal import ANONYMOUS, ROLES, Handshake, Principal
from trunkline.hub.shares import Refusals
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.messages import ActAs

STATIC = "the static token"
# Fixed, for they are in the names of tests, which have to be the same in every process.
LISTED = "a-token-of-these-tests-as-long-as-a-new-one"
EXPIRED = "an-expired-token-of-these-tests-of-that-sort"
LISTED_SHA256 = digest_of(LISTED)
EXPIRED_SHA256 = digest_of(EXPIRED)
SECRET = "a secret that has at least 32 bytes"

FILE = f"""
[roles.reader]
methods = ["rag.*"]

[[tokens]]
name = "listed"
sha256 = "{LISTED_SHA256}"

[[tokens]]
name = "expired"
sha256 = "{EXPIRED_SHA256}"
expires = 2020-01-01
"""


def signed(secret: str = SECRET, **changed: Any) -> str:
    return jwt.encode({"sub": "by jwt", "aud": "hub", "exp": int(time.time()) + 86_400, **changed}, secret, "HS256")


def handshake(token: str | None) -> Handshake:
    return Handshake("/ws", "127.0.0.1:5", {"cookie": "session=1"}, token)


def by_hook(asked: Handshake) -> Principal:
    if asked.token == "known to the hook" or (asked.token is None and "cookie" in asked.headers):
        return Principal("by hook")
    raise RpcError(ErrorCode.UNAUTHENTICATED, f"the hook does not know {asked.token}")


@pytest.fixture
def tokens_file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens.toml"
    path.write_text(FILE)
    path.chmod(0o600)
    return path


@pytest.fixture
def all_ways(tokens_file: Path) -> Credentials:
    options = JwtOptions(key=SECRET, audience="hub")
    return Credentials(token=STATIC, tokens_file=tokens_file, jwt=options, hook=by_hook)


@pytest.fixture
def without_hook(tokens_file: Path) -> Credentials:
    return Credentials(token=STATIC, tokens_file=tokens_file, jwt=JwtOptions(key=SECRET, audience="hub"))


def refusal(ask: Callable[[], Principal]) -> RpcError:
    with pytest.raises(RpcError) as caught:
        ask()
    return caught.value


@pytest.mark.parametrize(
    ("token", "name"),
    [
        (STATIC, "token"),
        (LISTED, "listed"),
        (signed(), "by jwt"),
        ("known to the hook", "by hook"),
        (None, "by hook"),
    ],
    ids=["static token", "tokens file", "JWT", "hook", "no token"],
)
def test_each_way_in(all_ways: Credentials, token: str | None, name: str) -> None:
    principal = all_ways.authenticate(handshake(token))
    assert principal.name == name
    assert principal.credential
    assert not all_ways.is_open


def test_the_static_token_has_every_role(without_hook: Credentials) -> None:
    assert without_hook.authenticate(handshake(STATIC)).roles == ROLES


@pytest.mark.parametrize(
    ("token", "says"),
    [
        (None, "Authorization: Bearer"),
        (None, "trunkline.bearer."),
        (None, "auth {token}"),
        ("wrong", "the token is not valid"),
        (STATIC + " ", "the token is not valid"),
        ("sécret", "the token is not valid"),
        ("\ud800", "the token is not valid"),
        ("", "the token is not valid"),
        (EXPIRED, "the token of 'expired' has expired"),
        (signed(exp=0), "the JWT is refused: it has expired"),
        (signed("another secret that has 32 bytes or more"), "its signature is not valid"),
        ("x" * (MAX_TOKEN_CHARS + 1), "more than 16384 characters"),
    ],
)
def test_each_refusal(without_hook: Credentials, token: str | None, says: str) -> None:
    error = refusal(lambda: without_hook.authenticate(handshake(token)))
    assert error.code == ErrorCode.UNAUTHENTICATED
    assert says in error.message
    assert not token or token not in error.message


@pytest.mark.parametrize("token", [EXPIRED, signed(exp=0), "x" * (MAX_TOKEN_CHARS + 1)])
def test_a_refusal_is_not_appealed_to_the_hook(tokens_file: Path, token: str) -> None:
    options = JwtOptions(key=SECRET, audience="hub")
    generous = Credentials(tokens_file=tokens_file, jwt=options, hook=lambda _: ANONYMOUS)
    assert refusal(lambda: generous.authenticate(handshake(token))).code == ErrorCode.UNAUTHENTICATED
    assert generous.authenticate(handshake("anything else")).name == "anonymous"


def test_without_jwt_a_jwt_is_one_more_token_that_is_not_valid() -> None:
    assert "the token is not valid" in refusal(lambda: Credentials(token="t").authenticate(handshake(signed()))).message


@pytest.mark.parametrize("token", [STATIC, LISTED, signed(), "known to the hook"])
def test_the_first_call_takes_the_same_tokens(all_ways: Credentials, token: str) -> None:
    logins = FailedLogins(all_ways.authenticate, 0, signed=True, refused=Refusals())
    alone = Handshake("", "peer:1", {}, token)
    assert logins.authenticate(alone).name == all_ways.authenticate(handshake(token)).name
    with pytest.raises(RpcError, match="does not know"):
        logins.authenticate(Handshake("", "peer:1", {}, "wrong"))


@pytest.mark.parametrize("token", [None, "anything"])
def test_with_nothing_configured_everyone_is_anonymous(token: str | None) -> None:
    credentials = Credentials()
    assert credentials.is_open
    assert credentials.authenticate(handshake(token)) is ANONYMOUS
    assert not credentials.reload()(ANONYMOUS)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"token": ""}, "TRUNKLINE_TOKEN is empty"),
        ({"tokens_file": Path("/nonexistent/tokens.toml")}, "cannot be read"),
        ({"jwt": JwtOptions(key="short", audience="hub")}, "too weak"),
    ],
)
def test_what_cannot_work_is_refused_at_start(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Credentials(**options)


def leaking(asked: Handshake) -> Principal:
    raise KeyError(asked.token)


@pytest.mark.parametrize(
    ("hook", "logged"),
    [
        (leaking, "the authenticate hook failed"),
        (lambda _: None, "no Principal"),
        (lambda _: "admin", "no Principal"),
        (lambda _: Principal("a", claims={"key": object()}), "claims cannot be carried"),
        (lambda _: Principal("a", claims={"key": "x" * 5000}), "claims cannot be carried"),
    ],
)
def test_a_hook_that_fails_lets_nobody_in_and_leaks_nothing(
    hook: Any, logged: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        error = refusal(lambda: Credentials(hook=hook).authenticate(handshake("a-secret-token")))
    assert error.code == ErrorCode.INTERNAL_ERROR
    assert error.__cause__ is None
    assert logged in caplog.text
    assert_not_logged(caplog, "a-secret-token")


def test_the_patterns_of_a_hooks_principal_are_filled() -> None:
    def hook(asked: Handshake) -> Principal:
        return Principal(str(asked.token), subscribe=("users.{principal}.>",))

    credentials = Credentials(hook=hook)
    assert credentials.authenticate(handshake("ann")).subscribe == ("users.ann.>",)
    error = refusal(lambda: credentials.authenticate(handshake("*")))
    assert (error.code, "'*' cannot stand" in error.message) == (ErrorCode.UNAUTHENTICATED, True)


def test_where_the_hook_failed_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    refusal(lambda: Credentials(hook=leaking).authenticate(handshake("a-secret-token")))
    assert (vars(caplog.records[0])["error"], __file__ in vars(caplog.records[0])["at"]) == ("KeyError", True)


def test_a_token_in_the_hooks_own_refusal_is_taken_out(all_ways: Credentials) -> None:
    error = refusal(lambda: all_ways.authenticate(handshake("a-secret-token")))
    assert error.message == "the hook does not know <token>"


def assert_not_logged(caplog: pytest.LogCaptureFixture, *secrets: str) -> None:
    shown = "\n".join(f"{record.getMessage()} {vars(record)!r} {record.exc_info!r}" for record in caplog.records)
    for secret in secrets:
        assert secret not in shown


def shown_for(credentials: Credentials, token: str) -> str:
    try:
        return repr(credentials.authenticate(handshake(token)))
    except RpcError as error:
        return f"{error!r} {error} {error.to_wire()}"


def test_no_token_is_ever_logged_or_shown(
    all_ways: Credentials, tokens_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tokens = [
        STATIC,
        LISTED,
        EXPIRED,
        signed(),
        signed(exp=0),
        "wrong-token",
        signed("another secret of 32 bytes or so"),
    ]
    tokens_file.chmod(0o644)
    with caplog.at_level(logging.DEBUG):
        for token in tokens:
            assert token not in shown_for(all_ways, token)
        all_ways.reload()
    assert caplog.records, "the file's mode is warned of, or this test sees nothing"
    assert_not_logged(caplog, SECRET, *tokens)


def test_reload_lets_new_ones_in_and_says_who_has_to_go(all_ways: Credentials, tokens_file: Path) -> None:
    inside = {token: all_ways.authenticate(handshake(token)) for token in (STATIC, LISTED, signed(), None)}
    reader = all_ways.authenticate(handshake(signed(roles=["reader"])))
    fresh, fresh_sha256 = new_token()
    text = FILE.replace(LISTED_SHA256, fresh_sha256).replace('"rag.*"', '"rag.execute"')
    tokens_file.write_text(text)
    revoked = all_ways.reload()
    assert {token for token, principal in inside.items() if revoked(principal)} == {LISTED}
    assert revoked.is_final(inside[LISTED])
    assert revoked(reader)
    assert not revoked.is_final(reader), "the same JWT lets it in again, to what the role means now"
    assert all_ways.authenticate(handshake(fresh)).name == "listed"
    assert refusal(lambda: all_ways.authenticate(handshake(LISTED))).code == ErrorCode.UNAUTHENTICATED
    again = all_ways.authenticate(handshake(signed(roles=["reader"])))
    assert again.methods == ("rag.execute",)
    assert not all_ways.reload()(again)


def test_a_hooks_principal_is_the_hooks_business(tokens_file: Path) -> None:
    credentials = Credentials(tokens_file=tokens_file, hook=lambda _: Principal("h", frozenset({"reader"})))
    principal = credentials.authenticate(handshake("x"))
    tokens_file.write_text("")
    assert not credentials.reload()(principal)


def test_denied_by_default_holds_for_every_way_in(all_ways: Credentials, tokens_file: Path) -> None:
    tokens = (LISTED, signed(), None)
    before = [all_ways.authenticate(handshake(token)) for token in tokens]
    assert all(principal.may_call("text.upper") for principal in before)
    tokens_file.write_text("deny_by_default = true\n" + FILE)
    revoked = all_ways.reload()
    assert all(map(revoked, before)), "their rights are others now"
    assert not any(map(revoked.is_final, before))
    for token in tokens:
        principal = all_ways.authenticate(handshake(token))
        assert (principal.methods, principal.subscribe, principal.publish) == ((), (), ())
        assert not all_ways.reload()(principal)
    static = all_ways.authenticate(handshake(STATIC))
    assert static.methods is None
    acted = all_ways.act_as(static, ActAs("ann"))
    assert (acted.methods, acted.subscribe, acted.publish) == ((), (), ()), "whom a gateway without limits acts as"


def test_a_file_of_defaults_alone_goes_with_a_hook(tokens_file: Path) -> None:
    tokens_file.write_text("deny_by_default = true")
    assert Credentials(tokens_file=tokens_file, hook=by_hook).authenticate(handshake(None)).methods == ()
    with pytest.raises(ValueError, match="has no tokens"):
        Credentials(tokens_file=tokens_file)


def test_the_default_role_is_that_of_jwts_without_one(all_ways: Credentials, tokens_file: Path) -> None:
    before = all_ways.authenticate(handshake(signed()))
    tokens_file.write_text('default_role = "reader"\n' + FILE)
    assert all_ways.reload()(before)
    assert all_ways.authenticate(handshake(signed())).roles == {"reader"}
    assert all_ways.authenticate(handshake(signed(roles=["nobody"]))).roles == frozenset()
    assert all_ways.authenticate(handshake(None)).roles == frozenset(), "a hook says itself what its principals may"


def test_a_broken_file_changes_nothing(without_hook: Credentials, tokens_file: Path) -> None:
    principal = without_hook.authenticate(handshake(LISTED))
    tokens_file.write_text("[[tokens")
    with pytest.raises(ValueError, match="is not TOML"):
        without_hook.reload()
    assert without_hook.authenticate(handshake(LISTED)) == principal


def test_reload_reads_the_keys_again(tmp_path: Path) -> None:
    def write(secret: str) -> None:
        k = base64.urlsafe_b64encode(secret.encode()).decode().rstrip("=")
        path.write_text(json.dumps({"keys": [{"kty": "oct", "k": k}]}))

    path = tmp_path / "jwks.json"
    write(SECRET)
    credentials = Credentials(jwt=JwtOptions(keys_file=path, algorithms=("HS256",), audience="hub"))
    assert credentials.authenticate(handshake(signed())).name == "by jwt"
    write("another secret that has 32 bytes or more")
    credentials.reload()
    assert "signature" in refusal(lambda: credentials.authenticate(handshake(signed()))).message
    assert credentials.authenticate(handshake(signed("another secret that has 32 bytes or more"))).name == "by jwt"
