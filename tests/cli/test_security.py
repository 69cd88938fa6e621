"""``trunkline doctor --security``: what each rule finds, and what it leaves alone; that no secret is shown."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.command import trunkline
from trunkline.cli.security.facts import Facts, FileFact, TokenFact, gather
from trunkline.cli.security.findings import BITS, RULES, WEAK_BITS, Finding, bits_of, judge
from trunkline.config import GivenSettings, load_settings
from trunkline.edge.access.tokens import digest_of, new_token

NOW: Final = 1_800_000_000.0
DAY: Final = 86400.0
TOKEN: Final = new_token()[0]
KEY: Final = secrets.token_urlsafe(48)
QUIET: Final = Facts(NOW, user=1000, core_limit=0, unstated_is_granted=False)
"""Of a machine and of tokens that nothing can be said against."""

SAFE: Final[dict[str, Any]] = {
    "token": TOKEN, "audit_file": Path("audit.jsonl"), "max_connections_per_principal": 50,
    "max_calls_per_principal": 50, "rate_limit": 100.0, "max_connections_per_address": 50, "data": Path("/srv/hub"),
}  # fmt: skip
"""Settings that no rule finds fault with."""

OPEN: Final[dict[str, Any]] = {"token": None}
JWT: Final[dict[str, Any]] = {"token": None, "jwt_key": KEY, "jwt_audience": "hub"}
BEYOND: Final[dict[str, Any]] = {"host": "192.0.2.7", "trusted_proxies": ("192.0.2.1",)}


def found(facts: Facts = QUIET, **settings: Any) -> list[Finding]:
    return judge(GivenSettings(**SAFE | settings), facts)


def entry(name: str, **said: Any) -> TokenFact:
    return replace(TokenFact(name, "default", NOW + DAY, is_admin=False, is_limited=True), **said)


def file(use: Any, mode: int, owner: int = 1000, folder_mode: int = 0o755) -> Facts:
    return replace(QUIET, files=(FileFact(use, "/srv/hub/file", mode, owner, folder_mode),))


def tokens(*entries: TokenFact) -> Facts:
    return replace(QUIET, tokens=entries)


def test_where_everything_is_as_it_should_be_nothing_is_found() -> None:
    assert found() == []
    assert found(**BEYOND) == []


CASES: Final[list[tuple[str, str, Facts, dict[str, Any]]]] = [
    ("no-credentials", "medium", QUIET, OPEN),
    ("open-socket", "medium", QUIET, OPEN | {"uds": Path("hub.sock"), "uds_mode": "660"}),
    ("weak-secret", "high", QUIET, {"token": "t0k"}),
    ("weak-secret", "high", QUIET, {"token": "change-me-secret-token-1234567890"}),
    ("weak-secret", "high", QUIET, {"token": "a" * 200}),
    ("weak-secret", "medium", QUIET, {"token": TOKEN[:16]}),
    ("weak-secret", "high", QUIET, JWT | {"jwt_key": "secret" * 8}),
    ("short-jwt-key", "high", QUIET, JWT | {"jwt_key": KEY[:31]}),
    ("jwt-hmac", "low", QUIET, JWT),
    ("expired-tokens", "low", tokens(entry("old", expires=NOW - 1)), {}),
    ("lasting-tokens", "low", tokens(entry("ci", expires=None)), {}),
    ("lasting-tokens", "low", tokens(entry("ci", expires=NOW + 400 * DAY)), {}),
    ("lasting-tokens", "medium", tokens(entry("root", expires=None, is_admin=True)), {}),
    ("everything-granted", "medium", tokens(entry("web", is_limited=False)), {}),
    ("default-is-everything", "medium", replace(QUIET, unstated_is_granted=True), JWT),
    ("hook", "low", QUIET, {"token": None, "authenticate": "mine:check"}),
    ("no-tls", "high", QUIET, {"host": "0.0.0.0"}),
    ("any-origin", "medium", QUIET, {"allowed_origins": ("*",)}),
    ("any-origin", "high", QUIET, OPEN | {"allowed_origins": ("*",)}),
    ("wide-proxies", "high", QUIET, {"trusted_proxies": ("0.0.0.0/0",)}),
    ("wide-proxies", "medium", QUIET, {"trusted_proxies": ("10.0.0.0/8",)}),
    ("wide-proxies", "medium", QUIET, {"trusted_proxies": ("2001:db8::/32",)}),
    ("no-limits", "low", QUIET, {"rate_limit": 0}),
    ("no-limits", "low", QUIET, BEYOND | {"max_connections_per_address": 0}),
    ("no-limits", "low", tokens(entry("a", tenant="a"), entry("b", tenant="b")), {}),
    ("unlimited-logins", "medium", QUIET, {"failed_logins": 0}),
    ("readable-file", "medium", file("tokens file", 0o640), {}),
    ("readable-file", "medium", file("data folder", 0o755), {}),
    ("readable-file", "medium", file("audit file", 0o604), {}),
    ("readable-file", "high", file("TLS key", 0o640), {}),
    ("readable-file", "high", file("TLS key's password", 0o644), {}),
    ("writable-file", "high", file("tokens file", 0o620), {}),
    ("writable-file", "high", file("JWT keys", 0o646), {}),
    ("writable-file", "high", file("configuration file", 0o600, owner=1001), {}),
    ("writable-file", "high", file("methods' folder", 0o700, folder_mode=0o777), {}),
    ("documents-root", "high", QUIET, {"documents_root": "/"}),
    ("documents-root", "high", QUIET, {"documents_root": f"/books{os.pathsep}/srv"}),
    ("root", "high", replace(QUIET, user=0), {}),
    ("core-files", "low", replace(QUIET, core_limit=-1), {}),
    ("debug", "medium", QUIET, {"debug": True}),
    ("debug", "high", QUIET, BEYOND | {"debug": True}),
    ("executor-environment", "medium", QUIET, {"executor_env": ("M*",)}),
    ("executor-environment", "low", QUIET, {"executor_env": ("MY_APP_KEY",)}),
    ("no-audit", "low", QUIET, {"audit_file": None}),
    ("outgoing-plaintext", "medium", QUIET, {"llm_base_url": "http://llm.example/v1", "llm_model": "m"}),
    ("outgoing-plaintext", "low", QUIET, {"otlp_endpoint": "http://collector:4318"}),
    ("not-checked", "medium", replace(QUIET, unknown=("tokens: cannot be read",)), {}),
]


@pytest.mark.parametrize(("code", "severity", "facts", "settings"), CASES)
def test_a_rule_finds(code: str, severity: str, facts: Facts, settings: dict[str, Any]) -> None:
    (finding,) = [each for each in found(facts, **settings) if each.code == code]
    assert finding.severity == severity
    assert finding.what
    assert finding.why
    assert finding.remedy


LEFT_ALONE: Final[list[tuple[str, Facts, dict[str, Any]]]] = [
    ("no-credentials", QUIET, OPEN | {"uds": Path("hub.sock")}),
    ("open-socket", QUIET, OPEN | {"uds": Path("hub.sock")}),
    ("open-socket", QUIET, {"uds": Path("hub.sock"), "uds_mode": "660"}),
    ("weak-secret", QUIET, JWT),
    ("jwt-hmac", QUIET, JWT | {"jwt_key": "-----BEGIN PUBLIC KEY-----\nMFkw"}),
    ("lasting-tokens", tokens(entry("ci")), {}),
    ("everything-granted", tokens(entry("boss", is_limited=False, is_admin=True)), {}),
    ("default-is-everything", replace(QUIET, unstated_is_granted=True), {}),
    ("wide-proxies", QUIET, {"trusted_proxies": ("10.0.0.0/16", "2001:db8:1::/48", "127.0.0.1")}),
    ("no-limits", QUIET, OPEN | {"rate_limit": 0}),
    ("readable-file", file("tokens file", 0o600), {}),
    ("readable-file", file("configuration file", 0o644), {}),
    ("readable-file", file("JWT keys", 0o644), {}),
    ("writable-file", file("tokens file", 0o600, owner=0), {}),
    ("writable-file", file("data folder", 0o700, folder_mode=0o1777), {}),
    ("documents-root", QUIET, {"documents_root": "/srv/hub-documents"}),
    ("core-files", replace(QUIET, core_limit=1), {}),
    ("executor-environment", QUIET, {"executor_env": ("MYAPP_*", "DATABASE_URL")}),
    ("outgoing-plaintext", QUIET, {"llm_base_url": "http://127.0.0.1:11434/v1", "llm_model": "m"}),
]


@pytest.mark.parametrize(("code", "facts", "settings"), LEFT_ALONE)
def test_a_rule_leaves_alone(code: str, facts: Facts, settings: dict[str, Any]) -> None:
    assert code not in {each.code for each in found(facts, **settings)}


def test_every_rule_has_a_case() -> None:
    caught = {rule for rule in RULES for _, _, facts, said in CASES if [*rule(GivenSettings(**SAFE | said), facts)]}
    assert caught == set(RULES)


def test_the_worst_is_first() -> None:
    order = [each.severity for each in found(replace(QUIET, user=0), debug=True, audit_file=None)]
    assert order == ["high", "medium", "low"]


@pytest.mark.parametrize("bits", range(5))
def test_random_secrets_are_strong(bits: int) -> None:
    for _ in range(200):
        assert bits_of(secrets.token_urlsafe(32)) > BITS
        assert bits_of(secrets.token_hex(32)) > BITS
        assert bits_of(secrets.token_hex(16)) > WEAK_BITS


def test_no_rule_shows_a_secret() -> None:
    for secret in ("hunter22-of-this-hub", TOKEN):
        settings = {"token": secret, "jwt_key": secret, "jwt_audience": "hub", "llm_api_key": secret, "debug": True}
        assert secret not in str(found(replace(QUIET, core_limit=-1, user=0), **settings))


@pytest.fixture
def hub_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of a hub, which others may read, with a tokens file of several entries."""
    folder = tmp_path / "hub"
    folder.mkdir(0o755)
    monkeypatch.chdir(folder)
    entries = [("boss", '["admin"]', ""), ("web", '["reader"]', "expires = 2020-01-01"), ("any", "[]", "")]
    (folder / "tokens.toml").write_text(
        '[roles.reader]\nmethods = ["rag.*"]\n'
        + "".join(
            f'[[tokens]]\nname = "{name}"\nsha256 = "{digest_of(name)}"\nroles = {roles}\n{more}\n'
            for name, roles, more in entries
        )
    )
    (folder / "tokens.toml").chmod(0o644)
    (folder / "hub.toml").write_text(f'tokens_file = "tokens.toml"\ntoken = "{TOKEN}"\naudit_file = "gone/audit"\n')
    (folder / "hub.toml").chmod(0o600)
    return folder


def test_facts_are_those_of_the_machine(hub_folder: Path) -> None:
    facts = gather(load_settings(hub_folder / "hub.toml"))
    assert {each.name: (each.is_admin, each.is_limited) for each in facts.tokens} == {
        "boss": (True, False), "web": (False, True), "any": (False, False),
    }  # fmt: skip
    assert {each.use: each.mode for each in facts.files} == {"configuration file": 0o600, "tokens file": 0o644}
    assert {each.owner for each in facts.files} == {os.geteuid()}
    assert facts.unstated_is_granted
    assert facts.unknown == ()


def test_what_cannot_be_looked_at_is_said(hub_folder: Path) -> None:
    (hub_folder / "tokens.toml").write_text("[[tokens]]\nname = 'x'\nsha256 = 'short'\n")
    (words,) = gather(load_settings(hub_folder / "hub.toml")).unknown
    assert "tokens[0] ('x').sha256" in words


def test_the_command_ends_with_the_code_of_the_worst(hub_folder: Path) -> None:
    done = trunkline("doctor", "--security", "--config", "hub.toml", cwd=hub_folder)
    assert "readable-file: the tokens file tokens.toml can be read by other users" in done.stdout
    assert "do:  chmod 600 tokens.toml" in done.stdout
    (hub_folder / "tokens.toml").chmod(0o666)
    done = trunkline("doctor", "--security", "--json", "--config", "hub.toml", cwd=hub_folder)
    said = json.loads(done.stdout)
    assert done.returncode == 5
    assert {"severity": "high", "code": "writable-file"}.items() <= said["findings"][0].items()
    assert said["rules"] == len(RULES)
    assert TOKEN not in done.stdout + done.stderr


def test_the_command_says_what_is_wrong_with_the_settings(tmp_path: Path) -> None:
    (tmp_path / "hub.toml").write_text("tokn = 'x'\n")
    done = trunkline("doctor", "--security", "--config", "hub.toml", cwd=tmp_path)
    assert done.returncode == 2
    assert "tokn" in done.stderr
