"""Settings that would be passed over, or leave the door open: empty credentials, and names that nothing has."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Final

import pytest
from pydantic import SecretStr

from tests.support.command import requires_failure, trunkline, trunkline_process
from tests.support.hub import RunningHub
from trunkline.config import CREDENTIALS, Settings, load_settings
from trunkline.hosting.admission import credentials
from trunkline.hosting.runtime import ConfigurationError
from trunkline.settings.naming import SettingsError

SERVE: Final = ("serve", "--port", "0", "--packs", "none", "--no-demo")

BY_WHICH_ONE_AUTHENTICATES: Final = (
    "token", "tokens_file", "jwt_key", "jwt_keys_file", "jwt_keys_url", "jwt_algorithms", "jwt_audience", "jwt_issuer",
    "authenticate", "llm_api_key",
)  # fmt: skip


@pytest.fixture(autouse=True)
def no_other_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"TRUNKLINE_{name.upper()}", raising=False)


@pytest.mark.parametrize(
    "origin", ["localhost", "127.0.0.1:5173", "app.example", "https://", "https://app.example/page"]
)
def test_what_no_browser_sends_is_no_origin(origin: str) -> None:
    with pytest.raises(SettingsError, match=r"is no origin such as https://app\.example"):
        load_settings(allowed_origins=("https://good.example", origin))
    for good in (
        "*",
        "loopback",
        "http://localhost:5173",
        "https://app.example/",
        "chrome-extension://abc",
        "tauri://localhost",
    ):
        assert load_settings(allowed_origins=(good,)).allowed_origins == (good,)


# --- empty credentials ---


@pytest.mark.parametrize("blank", ["", " ", "\t\n", "\u00a0"])
@pytest.mark.parametrize("name", BY_WHICH_ONE_AUTHENTICATES)
def test_no_credential_may_be_blank(name: str, blank: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On loopback as elsewhere: who sets it wants it to be asked for."""
    file = tmp_path / "hub.toml"
    file.write_text(f"{name} = {json.dumps(blank)}\n")
    with pytest.raises(SettingsError, match=f"{name}: is empty.*TRUNKLINE_{name.upper()}"):
        load_settings(file)
    with pytest.raises(SettingsError, match=f"{name}: is empty"):
        load_settings(None, **{name: blank})
    monkeypatch.setenv(f"TRUNKLINE_{name.upper()}", blank)
    with pytest.raises(SettingsError, match=f"{name}: is empty"):
        load_settings()


def test_every_secret_is_a_credential() -> None:
    secrets = {name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)}
    assert secrets <= set(CREDENTIALS) == set(BY_WHICH_ONE_AUTHENTICATES)
    with pytest.raises(SettingsError, match="token: is empty"):
        load_settings(token=SecretStr(" "))


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])
def test_a_hub_with_an_empty_token_does_not_start(host: str, tmp_path: Path) -> None:
    done = trunkline_process(*SERVE, "--host", host, env={"TRUNKLINE_TOKEN": ""}, cwd=tmp_path)
    requires_failure(done, 2, "token: is empty", "TRUNKLINE_TOKEN")
    assert not (tmp_path / "data").exists()


def test_nor_does_one_over_standard_input(tmp_path: Path) -> None:
    done = trunkline_process("stdio", "--packs", "none", env={"TRUNKLINE_JWT_KEY": " "}, cwd=tmp_path, stdin="")
    requires_failure(done, 2, "jwt_key: is empty")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no tokens"),
        ('[roles.reader]\nmethods = ["a.*"]\n', "no tokens"),
        ('[[tokens]]\nname = "ada"\nsha256 = ""\n', "64 hex digits"),
        (f'[[tokens]]\nname = "ada"\nsha256 = "{hashlib.sha256(b"").hexdigest()}"\n', "empty token"),
    ],
    ids=["empty", "roles only", "an empty digest", "the digest of nothing"],
)
def test_a_tokens_file_by_which_nobody_or_anybody_comes_in(text: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "tokens.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=words) as caught:
        credentials(load_settings(tokens_file=file))
    assert str(file) in str(caught.value)


def test_a_tokens_file_may_have_roles_alone_where_jwts_name_them(tmp_path: Path) -> None:
    file = tmp_path / "tokens.toml"
    file.write_text('[roles.reader]\nmethods = ["a.*"]\n')
    key = "an-hmac-secret-of-this-test-with-32-bytes-and-more"
    assert not credentials(load_settings(tokens_file=file, jwt_key=key, jwt_audience="test")).is_open


@pytest.mark.parametrize("text", ["", '{"keys": []}', '{"keys": [{"kty": "oct", "k": ""}]}'])
def test_a_key_file_without_keys(text: str, tmp_path: Path) -> None:
    file = tmp_path / "jwks.json"
    file.write_text(text)
    for algorithm in ("RS256", "HS256"):
        with pytest.raises(ConfigurationError, match="jwks"):
            credentials(load_settings(jwt_keys_file=file, jwt_audience="test", jwt_algorithms=(algorithm,)))


@pytest.mark.parametrize("name", ["NOBODY", "TEXT"])
def test_a_hook_that_is_no_function_opens_nothing(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hook_of_this_test.py").write_text('NOBODY = None\nTEXT = "?"\n')
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigurationError, match=f"hook_of_this_test:{name}.*is not a function"):
        credentials(load_settings(host="0.0.0.0", authenticate=f"hook_of_this_test:{name}"))


# --- names that nothing has ---


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("TRUNKLINE_TOKNE", "TRUNKLINE_TOKEN"),
        ("TRUNKLINE_TOKEN_FILE", "TRUNKLINE_TOKENS_FILE"),
        ("TRUNKLINE_MAX_CONCURENCY", "TRUNKLINE_MAX_CONCURRENCY"),
        ("TRUNKLINE_RATELIMIT", "TRUNKLINE_RATE_LIMIT"),
        ("trunkline_tokne", "TRUNKLINE_TOKEN"),
        ("TRUNKLINE_ULR", "TRUNKLINE_URL"),
    ],
)
def test_a_misspelt_variable_is_refused_and_the_nearest_named(
    given: str, meant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(given, "s3cret")
    with pytest.raises(SettingsError, match=f"{given}: .*{meant}") as caught:
        load_settings()
    assert "s3cret" not in str(caught.value)


def test_one_that_is_like_none_is_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUNKLINE_ZZZZ", "1")
    with pytest.raises(SettingsError, match="TRUNKLINE_ZZZZ: no such setting"):
        load_settings()


@pytest.mark.parametrize(("given", "meant"), [("tokne", "token"), ("max_concurency", "max_concurrency")])
def test_a_misspelt_key_of_the_file_as_well(given: str, meant: str, tmp_path: Path) -> None:
    file = tmp_path / "hub.toml"
    file.write_text(f'{given} = "s3cret"\n')
    with pytest.raises(SettingsError, match=f"{given}: .*did you mean {meant}") as caught:
        load_settings(file)
    assert "s3cret" not in str(caught.value)


def test_all_that_is_wrong_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUNKLINE_TOKNE", "x")
    monkeypatch.setenv("TRUNKLINE_HOST", "0.0.0.0")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert [line.partition(" ")[0] for line in caught.value.problems] == ["TRUNKLINE_TOKNE:", "host"]


def test_variables_that_are_no_settings_of_a_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of clients; what Kubernetes sets for services named trunkline; what methods read."""
    for name, value in {
        "TRUNKLINE_URL": "ws://x/ws",
        "TRUNKLINE_SERVICE_HOST": "10.0.0.1",
        "TRUNKLINE_SERVICE_PORT": "8765",
        "TRUNKLINE_SERVICE_PORT_HTTP": "8765",
        "TRUNKLINE_PORT_8765_TCP": "tcp://10.0.0.1:8765",
        "TRUNKLINE_PORT_8765_TCP_ADDR": "10.0.0.1",
        "TRUNKLINE_HUB_SERVICE_HOST": "10.0.0.1",
        "TRUNKLINE_HUB_PORT": "tcp://10.0.0.1:8765",
    }.items():
        monkeypatch.setenv(name, value)
    load_settings()


def test_what_kubernetes_makes_of_the_port_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUNKLINE_PORT", "tcp://10.0.0.1:8765")
    with pytest.raises(SettingsError, match=r"port: .*enableServiceLinks"):
        load_settings()


@pytest.mark.parametrize(
    "command",
    [SERVE, ("stdio", "--packs", "none"), ("convert-model",), ("call", "rpc.ping", "--url", "ws://127.0.0.1:9/ws")],
)
def test_no_command_passes_over_a_misspelt_variable(command: tuple[str, ...], tmp_path: Path) -> None:
    run = trunkline_process if command[0] in ("serve", "stdio") else trunkline
    done = run(*command, env={"TRUNKLINE_TOKNE": "abc"}, cwd=tmp_path, stdin="")
    requires_failure(done, 2, "TRUNKLINE_TOKNE", "did you mean TRUNKLINE_TOKEN?")
    assert "abc" not in done.stderr


def test_the_doctor_finds_it_and_shows_no_secret(debug_hub: RunningHub) -> None:
    env = {"TRUNKLINE_TOKNE": "s3cret", "TRUNKLINE_JWT_AUDIENCE": "x", "TRUNKLINE_LLM_API_KEY": "s3cret"}
    done = trunkline("doctor", "--url", debug_hub.url, env=env)
    assert done.returncode == 1
    assert "TRUNKLINE_TOKNE" in done.stdout
    assert "TRUNKLINE_JWT_" in done.stdout
    assert "s3cret" not in done.stdout + done.stderr
