"""Which variables executors get: those on a list, and those that TRUNKLINE_EXECUTOR_ENV names. No key is among them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Final

import pytest

from tests.support.hub import MODULES, RunningHub, clean_environment, ready_hub
from tests.support.peer import peer
from trunkline.config import load_settings
from trunkline.executors.environment import executor_environment
from trunkline.settings.naming import SettingsError

SECRET: Final = "a-secret-of-this-test-with-32-bytes-or-more"

SIGN_OR_PAY: Final = {
    "TRUNKLINE_TOKEN": SECRET,
    "TRUNKLINE_JWT_KEY": SECRET,
    "TRUNKLINE_JWT_AUDIENCE": SECRET,
    "TRUNKLINE_LLM_API_KEY": SECRET,
    "OPENAI_API_KEY": SECRET,
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "GITHUB_TOKEN": SECRET,
    "HF_TOKEN": SECRET,
    "OTEL_EXPORTER_OTLP_HEADERS": f"authorization={SECRET}",
    "DATABASE_PASSWORD": SECRET,
    "DATABASE_URL": f"postgres://u:{SECRET}@db",
}


@pytest.fixture(scope="module")
def hub() -> Iterator[RunningHub]:
    """It has secrets; of its variables two are named for methods."""
    env = SIGN_OR_PAY | {
        "TRUNKLINE_EXECUTOR_ENV": "WANTED_KEY, MYAPP_*",
        "TRUNKLINE_LOG_LEVEL": "debug",
        "WANTED_KEY": "wanted",
        "MYAPP_URL": "postgres://db",
        "LC_TIME": "C",
        "https_proxy": "http://proxy:3128",
        "HF_HOME": "/models",
    }
    with ready_hub("surroundings", cwd=MODULES, env=env) as running:
        yield running


async def test_nothing_that_signs_or_pays_reaches_an_executor(hub: RunningHub) -> None:
    async with peer(hub.url, headers={"Authorization": f"Bearer {SECRET}"}) as connection:
        seen = await connection.result("surroundings.environment")
        process = await connection.result("surroundings.process")
    assert not seen.keys() & SIGN_OR_PAY.keys()
    assert not [name for name in seen if name.startswith("TRUNKLINE_")]
    assert SECRET not in str(seen) + str(process), "not in /proc either"
    wanted = {"WANTED_KEY": "wanted", "MYAPP_URL": "postgres://db", "LC_TIME": "C", "HF_HOME": "/models"}
    assert seen.items() >= wanted.items()
    assert seen["https_proxy"] == "http://proxy:3128"
    for name in ("PATH", "HOME", "OMP_NUM_THREADS"):
        assert name in seen


async def test_a_method_that_looks_for_what_was_withheld_says_so(hub: RunningHub) -> None:
    async with peer(hub.url, headers={"Authorization": f"Bearer {SECRET}"}) as connection:
        for name in ("DATABASE_URL", "DATABASE_URL", "NOBODY_HAS_THIS"):
            assert await connection.result("surroundings.read", {"name": name}) is None
    hub.wait_for("DATABASE_URL is set for the hub.*TRUNKLINE_EXECUTOR_ENV")
    assert sum("DATABASE_URL is set" in line for line in hub.stderr) == 1, "once is enough"
    assert "NOBODY_HAS_THIS is" not in hub.words


def test_the_log_names_what_is_withheld_and_shows_nothing_of_it(hub: RunningHub) -> None:
    hub.wait_for(r'variables that look like secrets.*"withheld": \[.*"HF_TOKEN", "OTEL_EXPORTER_OTLP_HEADERS"')
    hub.wait_for(r'variables are not passed to executors.*"DATABASE_PASSWORD", "DATABASE_URL"')
    assert SECRET not in "\n".join([*hub.stdout, *hub.stderr])


def test_the_doctor_names_it_too() -> None:
    env = clean_environment() | {"DATABASE_URL": SECRET, "TRUNKLINE_EXECUTOR_ENV": "WANTED_KEY", "WANTED_KEY": "x"}
    command = [sys.executable, "-m", "trunkline.cli", "doctor", "--url", "ws://127.0.0.1:9/ws"]
    said = subprocess.run(command, env=env, capture_output=True, text=True).stdout
    assert "DATABASE_URL" in said
    assert "TRUNKLINE_EXECUTOR_ENV" in said
    assert "WANTED_KEY" not in said
    assert SECRET not in said


def test_what_is_passed() -> None:
    listed = [
        "PATH",
        "PYTHONPATH",
        "OMP_NUM_THREADS",
        "CUDA_VISIBLE_DEVICES",
        "HF_HUB_OFFLINE",
        "no_proxy",
        "LD_PRELOAD",
    ]
    secrets = ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "OTEL_EXPORTER_OTLP_TRACES_HEADERS", "PYTHON_KEYRING_PASSWORD"]
    others = ["DATABASE_URL", "AWS_PROFILE", "MY_KEY"]
    environment = dict.fromkeys([*listed, *secrets, *others, "TRUNKLINE_TOKEN"], "")
    passed, withheld, on_the_list = executor_environment(environment, ())
    assert sorted(passed) == sorted(listed)
    assert withheld == sorted(secrets + others)
    assert on_the_list == sorted(secrets)
    passed, withheld, _ = executor_environment(environment, ("HF_TOKEN", "MY_*", "TRUNK*"))
    assert passed.keys() - set(listed) == {"HF_TOKEN", "MY_KEY"}, "a star stands for no setting of the hub"
    passed, _, _ = executor_environment(environment, ("TRUNKLINE_TOKEN",))
    assert "TRUNKLINE_TOKEN" in passed, "who names it wants it"


@pytest.mark.parametrize("value", ["*", "A B", "A=1", "1A", "A*B"])
def test_the_setting_names_variables(value: str) -> None:
    with pytest.raises(SettingsError, match="executor_env"):
        load_settings(executor_env=value)


def test_what_it_names_is_no_misspelt_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("TRUNKLINE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TRUNKLINE_MY_DATABASE", "x")
    with pytest.raises(SettingsError, match="TRUNKLINE_MY_DATABASE"):
        load_settings()
    monkeypatch.setenv("TRUNKLINE_EXECUTOR_ENV", "TRUNKLINE_MY_DATABASE")
    load_settings()
